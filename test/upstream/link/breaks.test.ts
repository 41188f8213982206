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

test("raises the ceiling from the third break in the same phase on, up to twelvefold", () => {
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

test("blames the primary's limits, with figures, where the disk kept up", () => {
  const cause = likelyCause("transfer", lost, seen);
  expect(cause).toContain("after 100.0 MiB of 400.0 MiB in 10.0 s, 10.0 MiB/s");
  expect(cause).toContain("client-output-buffer-limit replica");
  expect(cause).toContain("repl-timeout");
});

test("blames the disk, with the time, where the link waited for it", () => {
  const cause = likelyCause("transfer", lost, {
    ...seen,
    transfer: { ...transfer, totalBytes: undefined },
    pausedSeconds: 4,
  });
  expect(cause).toMatch(/after 100\.0 MiB in 10\.0 s.*the disk here: the link waited 4\.0 s/);
});

test("blames a stalling primary or network for silence", () => {
  const silent = new ReplicaError("TIMED_OUT", { message: "silent" });
  expect(likelyCause("transfer", silent, seen)).toContain("--timeout");
});

test("adds only the figures to a failure that has a reason of its own", () => {
  const full = new ReplicaError("DISK_FULL", { message: "full" });
  expect(likelyCause("transfer", full, seen)).toBe(
    "(after 100.0 MiB of 400.0 MiB in 10.0 s, 10.0 MiB/s)",
  );
});
