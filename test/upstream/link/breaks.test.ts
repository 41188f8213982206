import { expect, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import { Breaks, likelyCause } from "../../../src/upstream/link/breaks.ts";

const lost = new ReplicaError("LINK_LOST", { message: "the primary closed the link" });
const mebibyte = 1024 * 1024;
const transfer = { readBytes: 100 * mebibyte, totalBytes: 400 * mebibyte };
const seen = {
  transfer,
  seconds: 10,
  pausedSeconds: 0,
};

test("the ceiling is raised from the third break in the same phase on, up to twelve times", () => {
  const breaks = new Breaks();
  const factors = Array.from({ length: 8 }, () => {
    breaks.add("transfer");
    return breaks.factor;
  });
  expect(factors).toEqual([1, 1, 2, 4, 8, 12, 12, 12]);
  breaks.add("another");
  expect(breaks.factor).toBe(1);
  breaks.add("another");
  breaks.clear();
  expect([breaks.count, breaks.factor]).toEqual([0, 1]);
});

test("a link that breaks while the disk keeps up: the primary's limits, with the figures", () => {
  const cause = likelyCause("transfer", lost, seen);
  expect(cause).toContain("after 100.0 MiB of 400.0 MiB in 10.0 s, 10.0 MiB/s");
  expect(cause).toContain("client-output-buffer-limit replica");
  expect(cause).toContain("repl-timeout");
});

test("a link that waited for the disk: the disk, and for how long", () => {
  const cause = likelyCause("transfer", lost, {
    ...seen,
    transfer: { ...transfer, totalBytes: undefined },
    pausedSeconds: 4,
  });
  expect(cause).toMatch(/after 100\.0 MiB in 10\.0 s.*the disk here: for 4\.0 s the link waited/);
});

test("silence: a primary or a network that stalls", () => {
  const silent = new ReplicaError("TIMED_OUT", { message: "silent" });
  expect(likelyCause("transfer", silent, seen)).toContain("--timeout");
});

test("what failed for a reason of its own gets the figures alone, set apart", () => {
  const full = new ReplicaError("DISK_FULL", { message: "full" });
  expect(likelyCause("transfer", full, seen)).toBe(
    "(after 100.0 MiB of 400.0 MiB in 10.0 s, 10.0 MiB/s)",
  );
});
