import { expect, test } from "bun:test";
import { counted, formatAge, formatProgress } from "../../src/base/quantity.ts";

test.each([
  [0, "0 s"],
  [59.9, "59 s"],
  [60, "1 min"],
  [3599, "59 min"],
  [3600, "1 h 0 min"],
  [86_399, "23 h 59 min"],
  [86_400, "1 d 0 h"],
  [1e7, "115 d 17 h"],
])("%d seconds are %p", (seconds, text) => {
  expect(formatAge(seconds)).toBe(text);
});

test("a count agrees with its noun", () => {
  expect([0, 1, 2].map((count) => counted(count, "byte"))).toEqual([
    "0 bytes",
    "1 byte",
    "2 bytes",
  ]);
});

test("formats progress with and without a known length", () => {
  expect(formatProgress(512, 2048, 256)).toBe(" 25%  512 B of 2.0 KiB  256 B/s  0:06 left");
  expect(formatProgress(512, 2048, 0)).toBe(" 25%  512 B of 2.0 KiB  0 B/s  --:-- left");
  expect(formatProgress(512, undefined, 256)).toBe("512 B  256 B/s");
  expect(formatProgress(512, 2048, 256, 4096)).toBe(" 25%  512 B of 2.0 KiB  256 B/s  0:06 left");
});

test("time left in days, once it is long", () => {
  const left = (seconds: number) => formatProgress(0, seconds, 1).split("  ").at(-1);
  expect([3599, 359_999, 360_000, 8_640_000].map(left)).toEqual([
    "59:59 left",
    "99:59:59 left",
    "4 d left",
    "100 d left",
  ]);
});

test("says of an estimate that it is one", () => {
  const shown = (bytesPerSecond: number) => formatProgress(512, undefined, bytesPerSecond, 2048);
  expect(shown(256)).toBe("512 B of about 2.0 KiB  256 B/s  0:06 left (estimate)");
  expect(shown(0)).toBe("512 B of about 2.0 KiB  0 B/s  --:-- left (estimate)");
});
