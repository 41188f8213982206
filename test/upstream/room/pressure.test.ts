import { expect, test } from "bun:test";
import type { Room } from "../../../src/upstream/room/figures.ts";
import { Pressure, type PressureOptions } from "../../../src/upstream/room/pressure.ts";

const MB = 1_000_000;

/** A disk of the test's, on which an eighth of the room is kept free. */
function pressed(figures: { free: number; removable?: number; guarded?: number; log?: number }) {
  const disk: Room = {
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
      },
    },
  } as unknown as PressureOptions["directory"];
  const room = {
    figures: disk,
    look: () => disk,
    forget: () => undefined,
    pressureBytes: () => total / 8,
    reserveBytes: () => total / 8,
  } as unknown as PressureOptions["room"];
  const pressure = new Pressure({ directory, room });
  return { pressure, wanted };
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
