import { expect, test } from "bun:test";
import type { Room } from "../../../src/upstream/room/figures.ts";
import { Pressure, type PressureOptions } from "../../../src/upstream/room/pressure.ts";

const MB = 1_000_000;

/** A disk of the test's, on which an eighth of the room is kept free. */
function pressed(figures: {
  free: number;
  removable?: number;
  guarded?: number;
  log?: number;
  /** What a removal gives. */
  gives?: number;
  /** Whether the file system shows that at once. */
  shows?: boolean;
}) {
  const disk: { -readonly [Name in keyof Room]: Room[Name] } = {
    freeBytes: figures.free * MB,
    removableBytes: (figures.removable ?? 0) * MB,
    guardedBytes: (figures.guarded ?? 0) * MB,
    logBytes: (figures.log ?? 0) * MB,
  };
  const wanted: { mb: number; why: string; evenGuarded: boolean }[] = [];
  const total = disk.freeBytes + disk.removableBytes + disk.logBytes;
  const directory = {
    path: "/data",
    keeping: {
      freeRoom: async (one: { freeBytes: number; why: string; evenGuarded: boolean }) => {
        const { freeBytes, why, evenGuarded } = one;
        wanted.push({ mb: freeBytes / MB, why, evenGuarded });
        const removedBytes = freeBytes > disk.freeBytes ? (figures.gives ?? 0) * MB : 0;
        disk.removableBytes -= removedBytes;
        if (figures.shows === true) disk.freeBytes += removedBytes;
        return { removedBytes, freeBytes: disk.freeBytes };
      },
    },
  } as unknown as PressureOptions["directory"];
  const room = {
    figures: disk,
    look: () => ({ ...disk }),
    forget: () => undefined,
    pressureBytes: () => total / 8,
    reserveBytes: () => total / 8,
  } as unknown as PressureOptions["room"];
  let nowMs = 0;
  const clock = { monotonicMs: () => nowMs } as unknown as PressureOptions["clock"];
  const pressure = new Pressure({ directory, room, clock });
  const passSeconds = (seconds: number) => void (nowMs += seconds * 1000);
  return { pressure, wanted, disk, passSeconds };
}

test("old generations stay while an eighth of the room is free", async () => {
  const { pressure, wanted } = pressed({ free: 40, removable: 200, log: 60 });
  pressure.tick();
  await pressure.stop();
  expect(wanted).toEqual([]);
  expect(pressure.isLow).toBe(false);
});

test("below that, they give way", async () => {
  const { pressure, wanted } = pressed({ free: 30, removable: 200, guarded: 50, log: 70 });
  pressure.tick();
  await pressure.stop();
  expect(wanted).toEqual([{ mb: 37.5, why: "the log", evenGuarded: false }]);
});

test("guarded ones give way only once half of it is gone, and nothing else is left", async () => {
  const early = pressed({ free: 20, guarded: 50, log: 220 });
  early.pressure.tick();
  await early.pressure.stop();
  expect(early.wanted).toEqual([]);
  expect(early.pressure.isLow).toBe(true);
  const late = pressed({ free: 14, guarded: 50, log: 226 });
  late.pressure.tick();
  await late.pressure.stop();
  expect(late.wanted).toEqual([{ mb: 15, why: "the log", evenGuarded: true }]);
});

test("as much is asked for as can be had: what is out of reach would remove nothing", async () => {
  const { pressure, wanted } = pressed({ free: 10, removable: 6, guarded: 100, log: 0 });
  await pressure.makeRoom(40 * MB, "a new snapshot", false);
  await pressure.makeRoom(40 * MB, "a full resync of 40 MB", true);
  expect(wanted).toEqual([
    { mb: 15, why: "a new snapshot", evenGuarded: false },
    { mb: 40, why: "a full resync of 40 MB", evenGuarded: true },
  ]);
});

test("a full disk is low on room, though a share of nothing is nothing", async () => {
  const { pressure } = pressed({ free: 0 });
  pressure.tick();
  await pressure.stop();
  expect(pressure.isLow).toBe(true);
});

test("what was removed counts as free for half a minute, until the file system shows it", async () => {
  const { pressure, wanted, disk, passSeconds } = pressed({
    free: 30,
    removable: 200,
    guarded: 50,
    log: 70,
    gives: 20,
  });
  const tick = async () => {
    pressure.tick();
    await pressure.stop();
    return wanted.splice(0).map(({ mb }) => mb);
  };
  expect(await tick()).toEqual([37.5]);
  passSeconds(29);
  expect(await tick()).toEqual([]);
  // The log has taken 15 of it: 35 are left of 50, and 20 of them aren't shown.
  disk.logBytes += 15 * MB;
  disk.freeBytes -= 15 * MB;
  expect(await tick()).toEqual([17.5]);
  // That gave 20 more.
  expect(await tick()).toEqual([]);
  passSeconds(30);
  expect(await tick()).toEqual([37.5]);
});

test("where it is shown at once, only what is free counts, whoever takes it", async () => {
  const { pressure, wanted, disk } = pressed({
    free: 30,
    removable: 200,
    log: 70,
    gives: 20,
    shows: true,
  });
  pressure.tick();
  await pressure.stop();
  disk.freeBytes = 36 * MB;
  pressure.tick();
  await pressure.stop();
  expect(wanted.map(({ mb }) => mb)).toEqual([37.5, 37.5]);
});
