import { describe, expect, test } from "bun:test";
import { realClock } from "../../src/base/clock.ts";
import { RenewalSchedule, type ScheduledRoom } from "../../src/upstream/renewal-schedule.ts";

const SECOND = 1000;
const HOUR = 3_600 * SECOND;
/** Such as a log that is longer than its snapshot, and longer than any floor. */
const LONG_BYTES = 1_000_000;
/** A disk that asks for nothing. */
const PLENTY: ScheduledRoom = { dueBytes: undefined, leftSeconds: Infinity };

/** A schedule by clocks of the test's. */
function scheduled({ everyMs, ratio = 0 }: { everyMs?: number; ratio?: number }) {
  const clock = { monotonicMs: 0, now: 1_700_000_000_000 };
  const schedule = new RenewalSchedule(
    { ...realClock, now: () => clock.now, monotonicMs: () => clock.monotonicMs, random: () => 1 },
    { snapshotEveryMs: everyMs, snapshotRatio: ratio, snapshotRatioFromBytes: 64 * 1024 },
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
    expect(schedule.next(first, 0, PLENTY)).toBeUndefined();
    pass(1);
    expect(schedule.next(first, 0, PLENTY)).toBe("--snapshot-every");
    expect(schedule.next(current(2), 0, PLENTY)).toBeUndefined();
  });

  test("counts from when the generation was first seen, where the clock was set back", () => {
    const { schedule, clock, current, pass } = scheduled({ everyMs: HOUR });
    const first = current(1);
    expect(schedule.next(first, 0, PLENTY)).toBeUndefined();
    clock.now -= 1_000 * HOUR;
    pass(HOUR - 1);
    expect(schedule.next(first, 0, PLENTY)).toBeUndefined();
    pass(1);
    expect(schedule.next(first, 0, PLENTY)).toBe("--snapshot-every");
  });
});

test("--snapshot-every of many shards is spread: each generation is due earlier, by chance", () => {
  const clock = { monotonicMs: 0, random: 0 };
  const times = { now: () => clock.monotonicMs, monotonicMs: () => clock.monotonicMs };
  const settings = { snapshotEveryMs: HOUR, snapshotRatio: 0, snapshotRatioFromBytes: 0 };
  const schedule = new RenewalSchedule(
    { ...realClock, ...times, random: () => clock.random },
    settings,
    1 / 4,
  );
  const dueAt = (id: number) => {
    const beganMs = clock.monotonicMs;
    const current = { id, currentAtMs: beganMs, rdbBytes: 1 };
    while (schedule.next(current, 0, PLENTY) === undefined) clock.monotonicMs += HOUR / 100;
    schedule.succeeded();
    return (clock.monotonicMs - beganMs) / HOUR;
  };
  expect(dueAt(1)).toBe(1);
  clock.random = 0.4;
  expect(dueAt(2)).toBe(0.9);
  clock.random = 1;
  expect(dueAt(3)).toBe(0.75);
});

describe("--snapshot-ratio", () => {
  test("compares the log with the snapshot, from 64 KiB on", () => {
    const { schedule, current, pass } = scheduled({ ratio: 100 });
    const first = current(1);
    expect(schedule.next(first, 99_999, PLENTY)).toBeUndefined();
    expect(schedule.next(first, 100_000, PLENTY)).toBe("--snapshot-ratio");
    pass(SECOND);
    const tiny = { ...first, rdbBytes: 10 };
    expect(schedule.next(tiny, 64 * 1024 - 1, PLENTY)).toBeUndefined();
    expect(schedule.next(tiny, 64 * 1024, PLENTY)).toBe("--snapshot-ratio");
  });

  test("waits a minute after each new generation", () => {
    const { schedule, current, pass } = scheduled({ ratio: 2 });
    expect(schedule.next(current(1), LONG_BYTES, PLENTY)).toBe("--snapshot-ratio");
    pass(5 * SECOND);
    schedule.succeeded();
    pass(60 * SECOND - 1);
    expect(schedule.next(current(2), LONG_BYTES, PLENTY)).toBeUndefined();
    pass(1);
    expect(schedule.next(current(2), LONG_BYTES, PLENTY)).toBe("--snapshot-ratio");
  });
});

describe("the room on the disk", () => {
  const short = { dueBytes: 500, leftSeconds: Infinity };

  test("asks for one before --snapshot-ratio does, as often as the log has grown", () => {
    const { schedule, current, pass } = scheduled({ ratio: 100 });
    expect(schedule.next(current(1), 499, short)).toBeUndefined();
    expect(schedule.next(current(1), 500, short)).toBe("the room on the disk");
    pass(SECOND);
    schedule.succeeded();
    expect(schedule.next(current(2), 499, short)).toBeUndefined();
    expect(schedule.next(current(2), 500, short)).toBe("the room on the disk");
  });

  test("asks for none with --snapshot-ratio 0, nor where none would fit", () => {
    const { schedule, current } = scheduled({ ratio: 0 });
    expect(schedule.next(current(1), 500, short)).toBeUndefined();
    expect(scheduled({ ratio: 100 }).schedule.next(current(1), 500, PLENTY)).toBeUndefined();
  });

  test("asks again in time before the disk is full", () => {
    const { schedule, current, pass } = scheduled({ ratio: 100 });
    const first = current(1);
    const waits: number[] = [];
    for (const leftSeconds of [Infinity, 100, 10]) {
      for (let n = 0; n < 20; n++) {
        let waited = 0;
        for (; schedule.next(first, 500, { ...short, leftSeconds }) === undefined; waited++)
          pass(SECOND);
        schedule.failed();
        if (n === 19) waits.push(waited);
      }
    }
    expect(waits).toEqual([300, 10, 2]);
  });
});

test("a snapshot that keeps failing is asked for ever more rarely, at least every five minutes", () => {
  const { schedule, current, pass } = scheduled({ ratio: 2 });
  const first = current(1);
  let waited = 0;
  for (let n = 0; n < 20; n++) {
    for (waited = 0; schedule.next(first, LONG_BYTES, PLENTY) === undefined; waited++) pass(SECOND);
    schedule.failed();
  }
  expect(waited).toBe(300);
});

test("the pause counts from the failure, however long that took", () => {
  const { schedule, current, pass } = scheduled({ ratio: 2 });
  const first = current(1);
  for (let n = 0; n < 20; n++) {
    while (schedule.next(first, LONG_BYTES, PLENTY) === undefined) pass(SECOND);
    pass(HOUR);
    schedule.failed();
  }
  pass(299 * SECOND);
  expect(schedule.next(first, LONG_BYTES, PLENTY)).toBeUndefined();
  pass(SECOND);
  expect(schedule.next(first, LONG_BYTES, PLENTY)).toBe("--snapshot-ratio");
});
