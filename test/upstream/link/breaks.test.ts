import { expect, test } from "bun:test";
import { Breaks, describeFigures } from "../../../src/upstream/link/breaks.ts";

const mebibyte = 1024 * 1024;
const transfer = { readBytes: 100 * mebibyte, totalBytes: 400 * mebibyte };
const seen = {
  offset: 100,
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

test("tells how far it came, and how fast; how long the disk held it up where that was long", () => {
  expect(describeFigures(seen)).toBe("after 100.0 MiB of 400.0 MiB in 10.0 s, 10.0 MiB/s");
  expect(
    describeFigures({
      ...seen,
      transfer: { ...transfer, totalBytes: undefined },
      pausedSeconds: 4,
    }),
  ).toBe("after 100.0 MiB in 10.0 s, 10.0 MiB/s, of which the link waited 4.0 s for the disk here");
  expect(describeFigures({ ...seen, transfer: undefined })).toBe("after 10.0 s");
});
