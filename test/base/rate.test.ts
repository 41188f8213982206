import { expect, test } from "bun:test";
import fc from "fast-check";
import { Rate } from "../../src/base/rate.ts";

/** A rate after these samples, each with the seconds since the one before. */
function after(...samples: [seconds: number, bytes: number, of?: string][]): number {
  let nowMs = 1_000_000;
  const rate = new Rate(() => nowMs);
  for (const [seconds, bytes, of] of samples) {
    nowMs += seconds * 1000;
    rate.sample(bytes, of);
  }
  return rate.bytesPerSecond;
}

test("reports bytes per second from the second sample on", () => {
  expect(after()).toBe(0);
  expect(after([0, 700])).toBe(0);
  expect(after([0, 700], [2, 1700])).toBe(500);
  expect(after([0, 700], [0, 1700])).toBe(0);
});

test("looks back five seconds only", () => {
  const burst: [number, number][] = [
    [0, 0],
    [1, 1_000_000],
  ];
  const quiet = (seconds: number) =>
    Array.from({ length: seconds }, (): [number, number] => [1, 1_000_000]);
  expect(after(...burst, ...quiet(4))).toBe(200_000);
  expect(after(...burst, ...quiet(5))).toBe(0);
  // If samples are rare, the oldest one is older than that.
  expect(after([0, 0], [10, 1000])).toBe(100);
});

test("starts over if the total shrinks or counts something else", () => {
  expect(after([0, 5000], [1, 100])).toBe(0);
  expect(after([0, 5000], [1, 100], [1, 300])).toBe(200);
  expect(after([0, 100, "a"], [1, 90_000, "b"])).toBe(0);
  expect(after([0, 100, "a"], [1, 90_000, "b"], [1, 90_500, "b"])).toBe(500);
});

test("is never negative, nor more than the steepest step", () => {
  const step = fc.tuple(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 0, max: 1_000_000 }));
  fc.assert(
    fc.property(fc.array(step, { minLength: 2, maxLength: 50 }), (steps) => {
      let total = 0;
      const samples = steps.map(([seconds, bytes]): [number, number] => [
        seconds,
        (total += bytes),
      ]);
      const rate = after(...samples);
      const steepest = Math.max(...steps.map(([seconds, bytes]) => bytes / seconds));
      expect(rate).toBeGreaterThanOrEqual(0);
      expect(rate).toBeLessThanOrEqual(steepest + 1e-6);
    }),
  );
});
