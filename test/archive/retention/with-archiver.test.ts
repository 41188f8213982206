import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { GENERATIONS } from "../../../src/archive/format/names.ts";
import { ArchiveRetention } from "../../../src/archive/retention/archive-retention.ts";
import { realClock } from "../../../src/base/clock.ts";
import { Bench } from "../writer/bench.ts";
import type { LocalHistory } from "../writer/local-history.ts";
import { names, readArchive } from "../writer/rig.ts";
import { MemoryStore } from "./memory-store.ts";

const DAY = 86_400_000;
const never = new AbortController().signal;
const bench = new Bench();

beforeAll(() => bench.setUp());
afterEach(() => bench.stopAll());
afterAll(() => bench.tearDown());

async function archived(history: LocalHistory, store: MemoryStore): Promise<void> {
  const rig = bench.start(history, store);
  await rig.whole();
  await rig.stop();
}

test("what the archiver wrote goes, oldest first, and the archiver goes on with what is current", async () => {
  const { history } = bench.fresh();
  const store = new MemoryStore();
  store.nowMs = Date.UTC(2026, 11, 1);
  for (let id = 1; id <= 4; id++) {
    history.begin(1_000, id * 100);
    history.grow(id, 50);
    await archived(history, store);
    store.nowMs += DAY;
  }
  const all = await names(store, GENERATIONS);
  const clock = { ...realClock, now: () => store.nowMs };
  const retention = new ArchiveRetention({ store, clock, keepForMs: 1.5 * DAY });
  // The third one began two days ago.
  expect((await retention.runOnce(never)).generations).toEqual(all.slice(0, 2));
  history.grow(4, 50);
  await archived(history, store);
  store.nowMs += DAY;
  const removed = await retention.runOnce(never);
  expect(removed).toMatchObject({ generations: [all[2]], folders: all.slice(0, 2) });
  expect(await names(store, GENERATIONS)).toEqual(all.slice(2));
  const [, current] = await readArchive(store);
  expect(current!.log.equals(history.content(4).log)).toBe(true);
  // A start sends nothing of what was removed again.
  const puts = store.objects.size;
  await archived(history, store);
  expect(store.objects.size).toBe(puts);
});

test("a generation that was retired because its writer was away is archived anew when that comes back", async () => {
  const { history } = bench.fresh();
  const store = new MemoryStore();
  store.nowMs = Date.UTC(2026, 11, 1);
  history.begin(1_000, 100);
  history.grow(1, 50);
  await archived(history, store);
  const [name] = await names(store, GENERATIONS);
  // As if another replica had had all of it.
  store.nowMs += DAY;
  const key = `${GENERATIONS}/${name}`;
  await store.put(`${key}/removed.json`, Buffer.from('{"format":1,"kind":"removed-generation"}'));
  await store.delete(`${key}/base.json`);
  history.grow(1, 50);
  await archived(history, store);
  store.nowMs += DAY;
  const clock = { ...realClock, now: () => store.nowMs };
  await new ArchiveRetention({ store, clock, keepForMs: 0 }).runOnce(never);
  const read = await readArchive(store);
  expect(read.map((one) => one.name)).not.toContain(name);
  expect(read.map(({ log }) => log.equals(history.content(1).log))).toEqual([true]);
});
