import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { ArchiveSource } from "../../../src/archive/reader/archive-source.ts";
import { FileStore } from "../../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import { type Clock, realClock } from "../../../src/base/clock.ts";
import { ClusterArchive } from "../../../src/cluster/archive/cluster-archive.ts";
import { LayoutArchiver } from "../../../src/cluster/archive/layout-archiver.ts";
import { ClusterHistory } from "../../../src/cluster/ledger/cluster-history.ts";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import { writeHistory } from "../../../src/cluster/ledger/write-history.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

const signal = new AbortController().signal;

function rig(clock: Clock = realClock) {
  const dir = tempDir("layouts");
  const path = dir.file("cluster");
  mkdirSync(path);
  const ledger = new ClusterLedger(path, realDisk, true);
  const store = new FileStore(dir.file("archive"), realFolderDisk, realClock);
  const archiver = new LayoutArchiver({
    store,
    dir: path,
    clock,
    everyMs: 10,
    keepForMs: 1_000,
  });
  const stopping = new AbortController();
  return {
    dir,
    path,
    ledger,
    archiver,
    source: new ArchiveSource(store, undefined),
    running: archiver.run(stopping.signal),
    stop: () => stopping.abort(),
    [Symbol.dispose]: () => dir[Symbol.dispose](),
  };
}

function clockOf(): Clock {
  return {
    now: () => realClock.now(),
    monotonicMs: () => realClock.monotonicMs(),
    sleep: (ms, stop) => realClock.sleep(ms, stop),
    random: () => realClock.random(),
  };
}

const whole = (at: number): ReadonlyMap<number, readonly SlotRange[]> =>
  new Map([
    [1, [[0, at]]],
    [2, [[at + 1, 16_383]]],
  ]);

test("what looks at a cluster found comes back from its archive, moment by moment", async () => {
  const about = rig();
  using dir = about.dir;
  const { path, ledger, archiver, source, running, stop } = about;
  const startMs = Date.now() - 100_000;
  const first = ledger.addShard("a".repeat(40), startMs);
  const second = ledger.addShard(undefined, startMs);
  for (let step = 0; step < 700; step++) {
    ledger.sawLayout({ atMs: startMs + step * 100, epoch: step, slots: whole(8_000 + step) });
  }
  ledger.sawOpenSlots(startMs + 500, [{ slot: 8_000, source: 2, target: 1 }]);
  const endMs = startMs + 699 * 100;
  await until(() => (archiver.archivedMs ?? 0) >= endMs, { what: "all layouts to be archived" });
  ledger.sawOpenSlots(startMs + 80_000, []);
  ledger.endShard(2, startMs + 81_000, "it was emptied");
  ledger.sawLayout({ atMs: startMs + 82_000, epoch: 800, slots: new Map([[1, [[0, 16_383]]]]) });
  await until(() => (archiver.archivedMs ?? 0) >= startMs + 82_000, { what: "the rest" });
  stop();
  await running;

  const archive = (await ClusterArchive.open(source, signal))!;
  expect(archive.directories.map(({ name }) => name)).toEqual([first.name]);
  const directory = archive.directories[0]!;
  const history = await archive.history(directory, startMs, Number.MAX_SAFE_INTEGER, signal);
  expect(history.shards.map(({ name }) => name)).toEqual([first.name, second.name]);
  expect(history.shards[0]!.shardId).toBe("a".repeat(40));
  expect(history.shards[1]!.endedWhy).toBe("it was emptied");

  const copy = dir.file("copy");
  mkdirSync(copy);
  writeHistory(copy, realDisk, history);
  using original = new ClusterHistory(path);
  using restored = new ClusterHistory(copy);
  expect(restored.shards).toEqual(original.shards);
  for (let atMs = startMs; atMs < startMs + 90_000; atMs += 777) {
    const [one, other] = [original.layoutAt(atMs)!, restored.layoutAt(atMs)!];
    expect(other.epoch).toBe(one.epoch);
    for (const shard of [1, 2]) {
      expect(other.slots.get(shard) ?? []).toEqual([...(one.slots.get(shard) ?? [])]);
    }
  }
  expect(restored.openSlots(startMs, startMs + 90_000)).toEqual(
    original.openSlots(startMs, startMs + 90_000),
  );
  ledger.close();
});

test("a clock that was set back, by minutes or by days, doesn't silence it", async () => {
  let aheadMs = 0;
  using about = rig({ ...clockOf(), now: () => Date.now() + aheadMs });
  const { ledger, archiver, source, running, stop } = about;
  const startMs = Date.now();
  ledger.addShard(undefined, startMs);
  ledger.addShard(undefined, startMs);
  const see = async (atMs: number, epoch: number, archivedMs = atMs) => {
    ledger.sawLayout({ atMs, epoch, slots: whole(8_000 + epoch) });
    const what = `layout ${epoch} to be archived`;
    await until(() => archiver.archivedMs === archivedMs, { what });
  };
  await see(startMs, 1);
  // By minutes: what the looks find has the time of the last one until the clock has caught up.
  aheadMs = -600_000;
  await see(startMs, 2, startMs + 1);
  await see(startMs + 1, 3, startMs + 2);
  // By days: they go back with it.
  aheadMs = -3 * 86_400_000;
  await see(startMs + aheadMs - 2_000, 4);
  await see(startMs + aheadMs - 1_000, 5);
  stop();
  await running;
  const archive = (await ClusterArchive.open(source, signal))!;
  const { layouts } = await archive.history(archive.directories[0]!, 0, startMs + 1e9, signal);
  expect(layouts.map(({ epoch }) => epoch).toSorted()).toEqual([1, 2, 3, 4, 5]);
}, 150_000);

test("while the looks wait for a clock that was set back, what they find goes to the archive all the same", async () => {
  let aheadMs = 0;
  using about = rig({ ...clockOf(), now: () => Date.now() + aheadMs });
  const { ledger, archiver, source, running, stop } = about;
  const startMs = Date.now();
  const slots = whole(8_000);
  ledger.addShard(undefined, startMs);
  ledger.addShard(undefined, startMs);
  ledger.sawLayout({ atMs: startMs - 86_400_000, epoch: 1, slots });
  ledger.sawLayout({ atMs: startMs, epoch: 1, slots });
  await until(() => archiver.archivedMs === startMs, { what: "the layout to be archived" });
  aheadMs = -600_000;
  const archivedAs = async (open: readonly number[], archivedMs: number) => {
    const seen = open.map((slot) => ({ slot, source: 1, target: 2 }));
    ledger.sawOpenSlots(startMs, seen);
    await until(() => archiver.archivedMs === archivedMs, { what: `${archivedMs - startMs}` });
    const archive = (await ClusterArchive.open(source, signal))!;
    const { openSlots } = await archive.history(archive.directories[0]!, startMs, 2e15, signal);
    return openSlots.map(({ slot, untilMs }) => [slot, untilMs]);
  };
  expect(await archivedAs([7], startMs + 1)).toEqual([[7, undefined]]);
  expect(await archivedAs([7, 9], startMs + 2)).toEqual([
    [7, undefined],
    [9, undefined],
  ]);
  expect(await archivedAs([9], startMs + 3)).toEqual([
    [7, startMs],
    [9, undefined],
  ]);
  // The clock has caught up.
  aheadMs = 10_000;
  ledger.sawOpenSlots(startMs, []);
  ledger.sawLayout({ atMs: startMs + 10_000, epoch: 1, slots });
  expect(await archivedAs([], startMs + 10_000)).toEqual([
    [7, startMs],
    [9, startMs],
  ]);
  expect(archiver.error).toBeUndefined();
  stop();
  await running;
}, 150_000);

test("what goes on after a restart is joined to what was archived before", async () => {
  const about = rig();
  using dir = about.dir;
  const { path, ledger, archiver, source, running, stop } = about;
  const startMs = Date.now() - 100_000;
  ledger.addShard(undefined, startMs);
  ledger.addShard(undefined, startMs);
  ledger.sawLayout({ atMs: startMs, epoch: 1, slots: whole(5_000) });
  await until(() => archiver.archivedMs === startMs, { what: "the first layout" });
  stop();
  await running;
  ledger.sawLayout({ atMs: startMs + 1_000, epoch: 2, slots: whole(6_000) });
  const store = new FileStore(dir.file("archive"), realFolderDisk, realClock);
  const again = new LayoutArchiver({
    store,
    dir: path,
    clock: realClock,
    everyMs: 10,
    keepForMs: 1_000,
  });
  const stopping = new AbortController();
  const second = again.run(stopping.signal);
  await until(() => again.archivedMs === startMs + 1_000, { what: "the second layout" });
  stopping.abort();
  await second;
  const archive = (await ClusterArchive.open(source, signal))!;
  expect(archive.directories[0]!.documents).toHaveLength(2);
  const at = await archive.history(archive.directories[0]!, startMs, startMs + 500, signal);
  expect(at.layouts.map(({ epoch }) => epoch)).toEqual([1]);
  const later = await archive.history(archive.directories[0]!, startMs, startMs + 5_000, signal);
  expect(later.layouts.map(({ epoch }) => epoch)).toEqual([1, 2]);
  ledger.close();
});

test("an archive of one primary, and no archive at all, is none of a cluster", async () => {
  using dir = tempDir("layouts");
  const store = new FileStore(dir.file("archive"), realFolderDisk, realClock);
  expect(await ClusterArchive.open(new ArchiveSource(store, undefined), signal)).toBeUndefined();
});
