import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { backoffMs, realClock } from "../../src/base/clock.ts";

describe("backoffMs", () => {
  test("doubles from 100 ms up to the ceiling", () => {
    const longest = [1, 2, 3, 4, 5, 6, 7, 100].map((failures) =>
      backoffMs(failures, 5000, () => 0.999_999),
    );
    expect(longest).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  });

  test("waits a random part of that, at least half", () => {
    expect(backoffMs(3, 5000, () => 0)).toBe(200);
    expect(backoffMs(3, 5000, () => 0.5)).toBe(300);
  });

  test("never exceeds the ceiling, and never falls below half of the doubled value", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.integer({ min: 1, max: 3_600_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, maxMs, chance) => {
          const ms = backoffMs(failures, maxMs, () => chance);
          const grown = Math.min(maxMs, 100 * 2 ** Math.min(failures - 1, 20));
          expect(ms).toBeGreaterThanOrEqual(Math.floor(grown / 2));
          expect(ms).toBeLessThanOrEqual(maxMs);
          expect(Number.isInteger(ms)).toBe(true);
        },
      ),
    );
  });
});

describe("realClock.sleep", () => {
  test("returns at once when aborted, before or during the sleep", async () => {
    await realClock.sleep(60_000, AbortSignal.abort());
    const controller = new AbortController();
    const sleeping = realClock.sleep(60_000, controller.signal);
    controller.abort();
    await sleeping;
  });

  test("monotonicMs never runs backwards", () => {
    const before = realClock.monotonicMs();
    expect(realClock.monotonicMs()).toBeGreaterThanOrEqual(before);
  });
});
