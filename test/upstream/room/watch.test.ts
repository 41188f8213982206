import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import { realClock } from "../../../src/base/clock.ts";
import { RoomWatch, type RoomWatchOptions } from "../../../src/upstream/room/watch.ts";

const MB = 1_000_000;
const GIB = 1024 ** 3;
const HOUR = 3_600;

/** A watch over a disk that the test fills. */
function watched({ ratio = 4 } = {}) {
  const disk = { free: 300 * MB, removable: 0, guarded: 0, log: 0, snapshot: 100_000 };
  const state = {
    ms: 0,
    stream: 0,
    snapshot: 0,
    failure: undefined as string | undefined,
    tookSeconds: undefined as number | undefined,
    isGone: false,
    looks: 0,
  };
  const notes: string[] = [];
  const directory = {
    path: "/data",
    get freeBytes() {
      state.looks++;
      if (state.isGone) throw new ReplicaError("DISK_FAILED", { message: "gone" });
      return disk.free;
    },
    get current() {
      return { id: 1, rdbBytes: disk.snapshot };
    },
    keeping: {
      freeableBytes: (evenGuarded: boolean) => disk.removable + (evenGuarded ? disk.guarded : 0),
    },
    note: (kind: string, what: string) => notes.push(`${kind}: ${what}`),
  } as unknown as RoomWatchOptions["directory"];
  const watch = new RoomWatch({
    directory,
    clock: { ...realClock, monotonicMs: () => state.ms },
    settings: { minFreeBytes: GIB, minFreeShare: 1 / 8, snapshotRatio: ratio },
    logBytes: () => disk.log,
    received: () => state,
    renewalFailure: () => state.failure,
    renewalLacked: () => undefined,
    renewalTook: () =>
      state.tookSeconds === undefined
        ? undefined
        : { seconds: state.tookSeconds, sinceForkSeconds: 0 },
  });
  /** Writes for some seconds; the log grows. */
  const write = (seconds: number, bytesPerSecond: number) => {
    for (let second = 0; second < seconds; second++) {
      state.ms += 1000;
      state.stream += bytesPerSecond;
      disk.log += bytesPerSecond;
      disk.free -= bytesPerSecond;
      watch.sample();
    }
  };
  return { watch, disk, state, notes, write };
}

test("a small disk whose log is renewed has no end, and asks for that early enough", () => {
  const { watch, state, write } = watched();
  write(2, 5 * MB);
  expect(watch.leftSeconds).toBe(Infinity);
  expect(watch.alarm).toBeUndefined();
  // Before the first one nobody knows how long it takes: a third of a quarter.
  expect(watch.dueBytes).toBe(25 * MB);
  state.tookSeconds = 4;
  // 4 s at this rate, and a quarter more.
  expect(watch.dueBytes).toBeCloseTo(75 * MB - 1.25 * 4 * 5 * MB, -3);
});

describe("an hour before the disk is full", () => {
  test.each([
    ["NOPERM", {}, 100_000, /new snapshots fail: NOPERM/],
    [undefined, { ratio: 0 }, 100_000, /--snapshot-ratio 0 lets the log grow/],
    [undefined, {}, 290 * MB, /another snapshot of 276\.6 MiB doesn't fit beside what is kept/],
  ])("says why: %p %p %p", (failure, options, snapshot, why) => {
    const { watch, disk, state, notes, write } = watched(options);
    state.failure = failure;
    disk.snapshot = snapshot;
    write(2, 10_000);
    expect(watch.leftSeconds).toBeGreaterThan(8 * HOUR);
    expect(watch.alarm).toBeUndefined();
    let seconds = 2;
    for (; watch.alarm === undefined; seconds += 60) write(60, 10_000);
    expect(watch.leftSeconds).toBeLessThanOrEqual(HOUR);
    expect(watch.leftSeconds).toBeGreaterThan(HOUR - 120);
    expect(watch.alarm).toMatch(
      /the disk will be full in 59 min at the present rate of 9\.8 KiB\/s/,
    );
    expect(watch.alarm).toMatch(why);
    expect(notes).toHaveLength(1);
    // Room comes, by hand or by a new snapshot.
    disk.free += 3_000 * MB;
    write(1, 10_000);
    expect(watch.alarm).toBeUndefined();
    expect(notes.at(-1)).toBe("room: the disk is no longer about to be full");
  });

  test("a full disk stays full, though nothing can be written to it any more", () => {
    const { watch, disk, state, notes, write } = watched();
    write(2, 5 * MB);
    // The log is closed: it failed.
    disk.free = disk.log = 0;
    write(120, 0);
    expect(watch.leftSeconds).toBe(0);
    expect(watch.alarm).toMatch(/^the disk is full, and another snapshot of .* doesn't fit/);
    expect(notes).toHaveLength(1);
    disk.free = 200 * MB;
    state.ms += 1000;
    watch.sample();
    expect(watch.leftSeconds).toBe(Infinity);
    expect(notes.at(-1)).toBe("room: the disk is no longer about to be full");
  });

  test("counts what old generations give as free, even the guarded ones", () => {
    const { watch, disk, state, write } = watched();
    state.failure = "NOPERM";
    disk.free = 10 * MB;
    disk.removable = 30 * MB;
    disk.guarded = 60 * MB;
    write(10, 10_000);
    expect(watch.leftSeconds).toBeCloseTo(9_990, 0);
  });

  test("is never where nothing is written", () => {
    const { watch, state, write } = watched();
    state.failure = "NOPERM";
    write(90, 0);
    expect(watch.leftSeconds).toBe(Infinity);
  });
});

test("a burst counts by what it is over a minute", () => {
  const { watch, state, write } = watched();
  state.failure = "NOPERM";
  write(60, 1000);
  write(1, 600_000);
  // Some 11 KB/s over the minute, not 600.
  expect(watch.leftSeconds).toBeGreaterThan(6 * HOUR);
});

test("a disk to which nothing is written is looked at every ten seconds", () => {
  const { watch, disk, state, write } = watched();
  write(2, 10);
  state.looks = 0;
  disk.free = 200 * MB;
  write(9, 0);
  expect(state.looks).toBe(0);
  write(1, 0);
  expect(state.looks).toBe(1);
  expect(watch.figures?.freeBytes).toBe(200 * MB);
  write(9, 0);
  expect(state.looks).toBe(1);
  write(3, 10);
  expect(state.looks).toBe(4);
  watch.forget();
  write(1, 0);
  expect(state.looks).toBe(5);
  state.snapshot += MB;
  write(1, 0);
  expect(state.looks).toBe(6);
});

test("a disk that can't be looked at raises no alarm of its own", () => {
  const { watch, state, write } = watched();
  state.failure = "NOPERM";
  write(60, 5 * MB);
  expect(watch.alarm).toBeDefined();
  state.isGone = true;
  write(1, 0);
  expect(watch.alarm).toBeUndefined();
  expect(watch.dueBytes).toBeUndefined();
  expect(watch.figures).toBeUndefined();
});
