import { describe, expect, test } from "bun:test";
import {
  availableBytes,
  dueBytes,
  longestLogBytes,
  pressureBytes,
  reserveBytes,
  type Room,
} from "../../../src/upstream/room/figures.ts";
import { refuseSnapshotWithoutRoom } from "../../../src/upstream/room/refusal.ts";

const MB = 1_000_000;
const GIB = 1024 ** 3;

function room(mb: { free: number; removable?: number; guarded?: number; log?: number }): Room {
  return {
    freeBytes: mb.free * MB,
    removableBytes: (mb.removable ?? 0) * MB,
    guardedBytes: (mb.guarded ?? 0) * MB,
    logBytes: (mb.log ?? 0) * MB,
  };
}

function snapshot(mb: number, { tail = 0, copy = 0 } = {}) {
  return { bytes: mb * MB, tailBytes: tail * MB, copyBytes: copy * MB };
}

describe("the longest log", () => {
  test("is a quarter of what is free, of what old generations take, and of itself", () => {
    for (const figures of [
      room({ free: 300 }),
      room({ free: 230, log: 70 }),
      room({ free: 30, log: 20, removable: 250 }),
    ]) {
      expect(longestLogBytes(figures, snapshot(0.1), 37 * MB)).toBe(75 * MB);
    }
  });

  test("leaves the guarded generations alone", () => {
    expect(longestLogBytes(room({ free: 100, guarded: 200 }), snapshot(0.1), 0)).toBe(25 * MB);
  });

  test("leaves room for another snapshot, and for the log while that is taken", () => {
    expect(longestLogBytes(room({ free: 260 }), snapshot(160), 10 * MB)).toBe(65 * MB);
    // 260 less 9/8 of 200, less 10.
    expect(longestLogBytes(room({ free: 260 }), snapshot(200), 10 * MB)).toBe(25 * MB);
    const slow = snapshot(160, { tail: 30, copy: 20 });
    expect(longestLogBytes(room({ free: 260 }), slow, 10 * MB)).toBe(20 * MB);
  });

  test("is unknown where no other snapshot fits, or where each would follow the last one at once", () => {
    expect(longestLogBytes(room({ free: 260 }), snapshot(240), 0)).toBeUndefined();
    expect(longestLogBytes(room({ free: 260 }), snapshot(220), 0)).toBeUndefined();
    // It would have fitted, but the log has taken the room meanwhile.
    expect(longestLogBytes(room({ free: 50, log: 250 }), snapshot(60), 0)).toBeUndefined();
  });
});

test("a renewal begins so early that the log stays within its limit, but not before a third of that", () => {
  expect(dueBytes(75 * MB, 0)).toBe(75 * MB);
  expect(dueBytes(75 * MB, 20 * MB)).toBe(50 * MB);
  expect(dueBytes(75 * MB, 60 * MB)).toBe(25 * MB);
});

test("--min-free is what was set, or at most an eighth of the room; old generations give way for no more", () => {
  const small = room({ free: 100, removable: 200 });
  expect(reserveBytes(small, GIB, 1 / 8)).toBe(37.5 * MB);
  expect(reserveBytes(small, 90 * MB, 1)).toBe(90 * MB);
  expect(reserveBytes(room({ free: 1_000_000 }), GIB, 1 / 8)).toBe(GIB);
  expect(pressureBytes(small, 90 * MB, 0)).toBe(37.5 * MB);
  expect(pressureBytes(room({ free: 1_000_000 }), GIB, 0)).toBe(GIB);
  // Even with --min-free 0 the log needs some.
  expect(pressureBytes(room({ free: 1_000_000 }), 0, 0)).toBe(64 * 1024 * 1024);
  expect(pressureBytes(small, 0, 0)).toBe(37.5 * MB);
  // A fast one more, as far as a quarter goes.
  expect(pressureBytes(small, 0, 10 * MB)).toBe(50 * MB);
  expect(pressureBytes(small, 0, 100 * MB)).toBe(75 * MB);
});

test("what can be had includes the guarded generations only where they are asked for", () => {
  const figures = room({ free: 1, removable: 20, guarded: 300, log: 4_000 });
  expect(availableBytes(figures)).toBe(21 * MB);
  expect(availableBytes(figures, true)).toBe(321 * MB);
});

describe("a snapshot over a second link", () => {
  const begin = (figures: Room, mb: number, keptFreeMb: number) =>
    refuseSnapshotWithoutRoom(figures, snapshot(mb), keptFreeMb * MB);

  test("begins where it leaves as much free as is to be kept", () => {
    begin(room({ free: 100 }), 50, 50);
    begin(room({ free: 60, removable: 40 }), 50, 50);
    expect(() => begin(room({ free: 99 }), 50, 50)).toThrow(/would leave less than --min-free/);
  });

  test("begins below that too where the log that it ends is larger, and it fits", () => {
    begin(room({ free: 60, log: 51 }), 50, 50);
    expect(() => begin(room({ free: 60, log: 49 }), 50, 50)).toThrow(/less than --min-free/);
    expect(() => begin(room({ free: 55, log: 51 }), 50, 50)).toThrow(/about 47\.7 MiB doesn't fit/);
    begin(room({ free: 5, removable: 60, log: 51 }), 50, 50);
  });

  test("that takes as many blocks as the log frees nothing", () => {
    expect(() => begin(room({ free: 1, log: 0.004 }), 0.001, 50)).toThrow(/less than --min-free/);
    begin(room({ free: 1, log: 0.005 }), 0.001, 50);
  });
});
