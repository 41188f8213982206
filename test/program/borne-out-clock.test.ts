import { expect, test } from "bun:test";
import type { ObjectStore } from "../../src/archive/store/object-store.ts";
import type { Clock } from "../../src/base/clock.ts";
import { ArchiveRetention } from "../../src/archive/retention/archive-retention.ts";
import { borneOutClock } from "../../src/program/borne-out-clock.ts";
import { openFolder } from "../archive/reader/rig.ts";
import { AgedArchive, DAY } from "../archive/retention/rig.ts";

const BORNE_OUT_MS = 1_800_000_000_000;

/** A clock that is set and moved by hand. */
function handClock(nowMs: number) {
  const at = { nowMs, monotonicMs: 5_000 };
  const clock = {
    now: () => at.nowMs,
    monotonicMs: () => at.monotonicMs,
    random: () => 0.5,
    sleep: () => Promise.resolve(),
  };
  return { at, clock };
}

test("a clock that is set ahead goes on as time passes; one that is set back is believed", () => {
  const { at, clock } = handClock(BORNE_OUT_MS + 30 * DAY);
  const sober = borneOutClock(clock, BORNE_OUT_MS);
  expect(sober.now()).toBe(BORNE_OUT_MS);
  at.monotonicMs += 1_000;
  at.nowMs += 365 * DAY;
  expect(sober.now()).toBe(BORNE_OUT_MS + 1_000);
  at.nowMs = BORNE_OUT_MS - DAY;
  expect(sober.now()).toBe(BORNE_OUT_MS - DAY);
});

test("in a folder, a clock that is a month ahead removes nothing that is young", async () => {
  await using shelf = await openFolder();
  const archive = await AgedArchive.on(shelf);
  await archive.daily("a", 12);
  const borneOutMs = shelf.clock.now();
  const before = archive.keys();
  // The folder's files, and so its time, are a month ahead as well.
  const { store: folder } = shelf;
  const store: ObjectStore = {
    url: folder.url,
    put: (...args) => folder.put(...args),
    get: (...args) => folder.get(...args),
    list: (...args) => folder.list(...args),
    settle: (...args) => folder.settle(...args),
    delete: (...args) => folder.delete(...args),
    now: () => Promise.resolve(borneOutMs + 30 * DAY),
  };
  const { clock } = handClock(borneOutMs + 30 * DAY);
  const run = (given: Clock, keepForMs: number) =>
    new ArchiveRetention({ store, clock: given, keepForMs }).runOnce(new AbortController().signal);
  const sober = borneOutClock(clock, borneOutMs);
  expect((await run(sober, 20 * DAY)).generations).toEqual([]);
  expect(archive.keys()).toEqual(before);
  expect((await run(clock, 20 * DAY)).generations.length).toBeGreaterThan(5);
});
