import { describe, expect, test } from "bun:test";
import { realClock } from "../../src/base/clock.ts";
import { RenewalSchedule } from "../../src/upstream/renewal-schedule.ts";

const SECOND = 1000;
const HOUR = 3_600 * SECOND;
/** Such as a log that is longer than its snapshot, and longer than any floor. */
const LONG_BYTES = 1_000_000;

/** A schedule by clocks of the test's. */
function scheduled({ everyMs, ratio = 0 }: { everyMs?: number; ratio?: number }) {
  const clock = { monotonicMs: 0, now: 1_700_000_000_000 };
  const schedule = new RenewalSchedule(
    { ...realClock, now: () => clock.now, monotonicMs: () => clock.monotonicMs, random: () => 1 },
    { snapshotEveryMs: everyMs, snapshotRatio: ratio },
  );
  const current = (id: number) => ({ id, currentAtMs: clock.now, rdbBytes: 1000 });
  const pass = (ms: number) => {
    clock.monotonicMs += ms;
    clock.now += ms;
  };
  return { schedule, clock, current, pass };
}

describe("--snapshot-every", () => {
  test("counts from when the generation became current, even before this process", () => {
    const { schedule, current, pass } = scheduled({ everyMs: HOUR });
    const first = current(1);
    pass(HOUR - 1);
    expect(schedule.next(first, 0)).toBeUndefined();
    pass(1);
    expect(schedule.next(first, 0)).toBe("--snapshot-every");
    expect(schedule.next(current(2), 0)).toBeUndefined();
  });

  test("counts from when the generation was first seen, where the clock was set back", () => {
    const { schedule, clock, current, pass } = scheduled({ everyMs: HOUR });
    const first = current(1);
    expect(schedule.next(first, 0)).toBeUndefined();
    clock.now -= 1_000 * HOUR;
    pass(HOUR - 1);
    expect(schedule.next(first, 0)).toBeUndefined();
    pass(1);
    expect(schedule.next(first, 0)).toBe("--snapshot-every");
  });
});

describe("--snapshot-ratio", () => {
  test("compares the log with the snapshot, from 64 KiB on", () => {
    const { schedule, current, pass } = scheduled({ ratio: 100 });
    const first = current(1);
    expect(schedule.next(first, 99_999)).toBeUndefined();
    expect(schedule.next(first, 100_000)).toBe("--snapshot-ratio");
    pass(SECOND);
    const tiny = { ...first, rdbBytes: 10 };
    expect(schedule.next(tiny, 64 * 1024 - 1)).toBeUndefined();
    expect(schedule.next(tiny, 64 * 1024)).toBe("--snapshot-ratio");
  });

  test("waits a minute after each new generation", () => {
    const { schedule, current, pass } = scheduled({ ratio: 2 });
    expect(schedule.next(current(1), LONG_BYTES)).toBe("--snapshot-ratio");
    pass(5 * SECOND);
    schedule.succeeded();
    pass(60 * SECOND - 1);
    expect(schedule.next(current(2), LONG_BYTES)).toBeUndefined();
    pass(1);
    expect(schedule.next(current(2), LONG_BYTES)).toBe("--snapshot-ratio");
  });
});

test("a snapshot that keeps failing is asked for ever more rarely, at least every five minutes", () => {
  const { schedule, current, pass } = scheduled({ ratio: 2 });
  const first = current(1);
  let waited = 0;
  for (let n = 0; n < 20; n++) {
    for (waited = 0; schedule.next(first, LONG_BYTES) === undefined; waited++) pass(SECOND);
    schedule.failed();
  }
  expect(waited).toBe(300);
});
