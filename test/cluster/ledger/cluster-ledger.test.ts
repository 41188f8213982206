import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import fc from "fast-check";
import { ClusterHistory } from "../../../src/cluster/ledger/cluster-history.ts";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import { shardDirectory } from "../../../src/cluster/ledger/cluster-schema.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { tempDir } from "../../support/temp.ts";

type Slots = Record<number, SlotRange[]>;

const DAY_MS = 24 * 60 * 60_000;

function slotsOf(slots: Slots): Map<number, SlotRange[]> {
  return new Map(Object.entries(slots).map(([shard, ranges]) => [Number(shard), ranges]));
}

/** A ledger with so many shards in a folder of its own. */
function ledgerWith(shards: number) {
  const dir = tempDir("cluster-ledger");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  for (let shard = 1; shard <= shards; shard++) ledger.addShard(`id${shard}`, 1_000 + shard);
  return {
    dir: dir.path,
    ledger,
    see: (atMs: number, slots: Slots, epoch = 1) =>
      ledger.sawLayout({ atMs, epoch, slots: slotsOf(slots) }),
    [Symbol.dispose]: () => {
      ledger.close();
      dir[Symbol.dispose]();
    },
  };
}

/** What `read` finds in the history. */
function history<T>(dir: string, read: (history: ClusterHistory) => T): T {
  using opened = new ClusterHistory(dir);
  return read(opened);
}

describe("the shards", () => {
  test("are numbered, named and never forgotten", () => {
    using at = ledgerWith(2);
    at.ledger.endShard(2, 5_000, "its node joined shard 1");
    const third = at.ledger.addShard(undefined, 6_000, 1, "0badcafe");
    expect(third).toMatchObject({ number: 3, name: "0003-0badcafe", shardId: undefined });
    at.ledger.nameShard(3, "id3");
    expect(at.ledger.addShard(undefined, 7_000, 9).number).toBe(9);
    const shards = history(at.dir, (read) => read.shards);
    expect(shards).toEqual(at.ledger.shards());
    expect(shards.map(({ number, shardId, endedMs }) => [number, shardId, endedMs])).toEqual([
      [1, "id1", undefined],
      [2, "id2", 5_000],
      [3, "id3", undefined],
      [9, undefined, undefined],
    ]);
    expect(shards[1]!.endedWhy).toBe("its node joined shard 1");
    expect(new Set(shards.map(({ name }) => name.slice(5))).size).toBe(4);
    expect(shards.every(({ name }) => /^\d{4}-[0-9a-f]{8}$/.test(name))).toBe(true);
  });

  test("end once", () => {
    using at = ledgerWith(1);
    at.ledger.endShard(1, 5_000, "first");
    at.ledger.endShard(1, 6_000, "second");
    expect(at.ledger.shards()[0]).toMatchObject({ endedMs: 5_000, endedWhy: "first" });
  });

  test("have the nodes that were seen in them", () => {
    using at = ledgerWith(2);
    at.ledger.sawMembers(1, 2_000, [{ nodeId: "a", host: "10.0.0.1", port: 7000 }]);
    at.ledger.sawMembers(1, 3_000, [{ nodeId: "a", host: "10.0.0.2", port: 7000 }]);
    at.ledger.sawMembers(2, 4_000, [{ nodeId: "a", host: "10.0.0.2", port: 7000 }]);
    expect(history(at.dir, (read) => read.members())).toEqual([
      { shard: 1, nodeId: "a", host: "10.0.0.2", port: 7000, firstMs: 2_000, lastMs: 3_000 },
      { shard: 2, nodeId: "a", host: "10.0.0.2", port: 7000, firstMs: 4_000, lastMs: 4_000 },
    ]);
  });

  test("have directories with numbers of four digits and more", () => {
    expect(shardDirectory("/d", 1)).toBe("/d/shards/0001");
    expect(shardDirectory("/d", 12_345)).toBe("/d/shards/12345");
  });
});

describe("the layouts", () => {
  test("cost a row only where they changed, and are confirmed now and then", () => {
    using at = ledgerWith(2);
    expect(at.see(10_000, { 1: [[0, 99]], 2: [[100, 16_383]] })).toBe(true);
    expect(at.see(11_000, { 1: [[0, 99]], 2: [[100, 16_383]] })).toBe(false);
    expect(at.see(15_000, { 1: [[0, 99]], 2: [[100, 16_383]] })).toBe(true);
    expect(at.see(16_000, { 1: [[0, 100]], 2: [[101, 16_383]] }, 2)).toBe(true);
    const layouts = history(at.dir, (read) => read.layouts(0, 1e6));
    expect(layouts.map(({ atMs, confirmedMs, epoch }) => [atMs, confirmedMs, epoch])).toEqual([
      [10_000, 15_000, 1],
      [16_000, 16_000, 2],
    ]);
  });

  test("are found by time", () => {
    using at = ledgerWith(2);
    at.see(10_000, { 1: [[0, 16_383]] });
    at.see(20_000, { 1: [[0, 99]], 2: [[100, 16_383]] });
    at.see(30_000, { 2: [[0, 16_383]] });
    history(at.dir, (read) => {
      expect(read.layoutAt(9_999)).toBeUndefined();
      expect(read.layoutAt(10_000)!.slots).toEqual(slotsOf({ 1: [[0, 16_383]] }));
      const middle = slotsOf({ 1: [[0, 99]], 2: [[100, 16_383]] });
      expect(read.layoutAt(29_999)!.slots).toEqual(middle);
      expect(read.layoutAt(1e9)!.slots).toEqual(slotsOf({ 1: [], 2: [[0, 16_383]] }));
      const after = [0, 10_000, 29_999, 30_000].map((atMs) => read.layoutAfter(atMs)?.atMs);
      expect(after).toEqual([10_000, 20_000, 30_000, undefined]);
      expect(read.layouts(15_000, 20_000).map(({ atMs }) => atMs)).toEqual([10_000, 20_000]);
      expect(read.layouts(25_000, 26_000).map(({ slots }) => slots)).toEqual([middle]);
    });
  });

  test("are the same after a restart", () => {
    using at = ledgerWith(2);
    at.see(10_000, { 1: [[0, 16_383]] });
    at.ledger.close();
    const again = new ClusterLedger(at.dir, realDisk, false);
    const slots = slotsOf({ 1: [[0, 16_383]] });
    expect(again.sawLayout({ atMs: 11_000, epoch: 1, slots })).toBe(false);
    again.close();
    expect(history(at.dir, (read) => read.layouts(0, 1e6)).length).toBe(1);
  });

  test("whatever changes, each time has the layout that was seen last", () => {
    const ranges = fc.constantFrom<SlotRange[][]>(
      [],
      [[0, 5]],
      [
        [0, 5],
        [9, 9],
      ],
      [[7, 16_383]],
    );
    const looks = fc.array(
      fc.record({ wait: fc.nat(3_000), slots: fc.array(ranges, { maxLength: 3 }) }),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(looks, (steps) => {
        using at = ledgerWith(3);
        let atMs = 10_000;
        const seen = steps.map(({ wait, slots }) => {
          atMs += wait + 1;
          const now = Object.fromEntries(slots.map((one, index) => [index + 1, one]));
          at.see(atMs, now);
          return { atMs, now };
        });
        history(at.dir, (read) => {
          for (const { atMs: when, now } of seen) {
            const found = read.layoutAt(when)!.slots;
            for (const shard of [1, 2, 3]) expect(found.get(shard) ?? []).toEqual(now[shard] ?? []);
          }
        });
      }),
      { numRuns: 25 },
    );
  });

  test("found after the clock was set back have what changed before, too", () => {
    using at = ledgerWith(4);
    const first: Slots = { 1: [[0, 9]], 2: [[10, 19]], 3: [[20, 29]], 4: [[30, 39]] };
    at.see(10_000, first);
    at.see(20_000, { ...first, 1: [[0, 8]], 2: [[9, 19]] });
    // The clock is set back here.
    const last: Slots = { 1: [[0, 8]], 2: [[9, 19]], 3: [[20, 28]], 4: [[29, 39]] };
    at.see(15_000, last);
    history(at.dir, (read) => {
      expect(read.layouts(12_000, 18_000).map(({ atMs }) => atMs)).toEqual([10_000, 15_000]);
      expect(read.layouts(12_000, 18_000).at(-1)!.slots).toEqual(slotsOf(last));
      expect(read.layouts(12_000, 30_000).at(-1)!.slots).toEqual(slotsOf(last));
      expect(read.layoutAt(18_000)!.slots).toEqual(slotsOf(last));
    });
  });

  test("are thinned to one a second once they are a day old, and no later time has another layout for it", () => {
    using at = ledgerWith(2);
    const times = [10_000, 10_300, 10_600, 11_200, 13_000, 13_999, 14_000];
    for (const [index, atMs] of times.entries()) {
      at.see(
        atMs,
        index % 2 === 0 ? { 1: [[0, index]] } : { 1: [[0, index]], 2: [[9, 9 + index]] },
      );
    }
    const before = history(at.dir, (read) =>
      [10_999, 12_000, 13_999, 14_000].map((atMs) => read.layoutAt(atMs)),
    );
    expect(at.ledger.thin(14_000)).toBe(false);
    expect(history(at.dir, (read) => read.layouts(0, 1e6)).length).toBe(times.length);
    at.ledger.thin(14_001 + DAY_MS);
    history(at.dir, (read) => {
      expect(read.layouts(0, 1e6).map(({ atMs }) => atMs)).toEqual([
        10_600, 11_200, 13_999, 14_000,
      ]);
      const slots = (layout: (typeof before)[number]) =>
        [1, 2].map((shard) => layout!.slots.get(shard) ?? []);
      expect([10_999, 12_000, 13_999, 14_000].map((atMs) => slots(read.layoutAt(atMs)))).toEqual(
        before.map(slots),
      );
    });
    expect(at.see(20_000, { 1: [[0, 6]] })).toBe(true);
    expect(history(at.dir, (read) => read.layouts(0, 1e6)).length).toBe(4);
  });

  test("are forgotten with the open slots of their time, once no restore needs them", () => {
    using at = ledgerWith(2);
    at.see(10_000, { 1: [[0, 9]], 2: [[10, 19]] });
    at.see(20_000, { 1: [[0, 8]], 2: [[10, 19]] });
    at.see(30_000, { 1: [[0, 7]], 2: [[10, 19]] });
    at.see(40_000, { 1: [[0, 7]], 2: [[10, 18]] });
    const open = (slot: number) => ({ slot, source: 1, target: 2 });
    at.ledger.sawOpenSlots(10_000, [open(1), open(2)]);
    at.ledger.sawOpenSlots(20_000, [open(2)]);
    at.ledger.sawOpenSlots(30_000, [open(3)]);
    const before = history(at.dir, (read) => read.layouts(35_000, 50_000));
    at.ledger.forgetBefore(35_000, 100);
    history(at.dir, (read) => {
      expect(read.layouts(0, 50_000)).toEqual(before);
      expect(read.layoutAt(34_999)?.atMs).toBe(30_000);
      expect(read.layoutAt(29_999)).toBeUndefined();
      expect(read.openSlots(0, 50_000).map(({ slot }) => slot)).toEqual([3]);
    });
    // What is newer stays, and what holds now always does.
    at.ledger.forgetBefore(1_000_000, 100);
    history(at.dir, (read) => {
      expect(read.layouts(0, 50_000).map(({ atMs }) => atMs)).toEqual([40_000]);
      expect(read.layoutAt(50_000)?.slots.get(1)).toEqual([[0, 7]]);
    });
    at.see(50_000, { 1: [[0, 6]], 2: [[10, 18]] });
    history(at.dir, (read) => expect(read.layoutAt(50_000)?.slots.get(2)).toEqual([[10, 18]]));
  });

  test("and of closed slots only so many are kept", () => {
    using at = ledgerWith(2);
    at.see(10_000, {});
    for (let slot = 0; slot < 10; slot++) {
      at.ledger.sawOpenSlots(20_000 + slot, [{ slot, source: 1, target: 2 }]);
    }
    at.ledger.forgetBefore(0, 3);
    history(at.dir, (read) =>
      expect(read.openSlots(0, 1e6).map(({ slot }) => slot)).toEqual([7, 8, 9]),
    );
  });

  test("raise the highest epoch, which never falls", () => {
    using at = ledgerWith(1);
    expect(at.ledger.highestEpoch()).toBe(0);
    at.see(10_000, {}, 7);
    at.see(11_000, {}, 5);
    expect(at.ledger.highestEpoch()).toBe(7);
  });
});

test("open slots are known from the first look that saw them to the first that didn't", () => {
  using at = ledgerWith(3);
  const one = { slot: 5, source: 1, target: 2 };
  const other = { slot: 6, source: 3, target: 2 };
  expect(at.ledger.sawOpenSlots(10_000, [one, other])).toBe(true);
  expect(at.ledger.sawOpenSlots(11_000, [one, other])).toBe(false);
  expect(at.ledger.sawOpenSlots(12_000, [], (source) => source === 1)).toBe(true);
  expect(at.ledger.sawOpenSlots(13_000, [one, other])).toBe(true);
  history(at.dir, (read) => {
    expect(read.openSlots(10_500, 11_500)).toEqual([
      { ...one, fromMs: 10_000, untilMs: 12_000 },
      { ...other, fromMs: 10_000, untilMs: undefined },
    ]);
    expect(read.openSlots(12_500, 12_600).map(({ slot }) => slot)).toEqual([6]);
    expect(read.openSlots(13_000, 1e6).map(({ slot }) => slot)).toEqual([6, 5]);
    expect(read.openSlots(0, 9_999)).toEqual([]);
  });
});

describe("the database", () => {
  test("of a newer program is refused, to read and to write", () => {
    using at = ledgerWith(1);
    at.ledger.close();
    using db = new Database(`${at.dir}/cluster.db`);
    db.run("PRAGMA user_version = 99");
    const newer = /cluster\.db was written by a newer replica \(format 99, this one knows 1\)/;
    expect(() => new ClusterLedger(at.dir, realDisk, false)).toThrow(newer);
    expect(() => new ClusterHistory(at.dir)).toThrow(newer);
  });

  test("that is missing or empty is refused where there are shards", () => {
    using dir = tempDir("cluster-ledger");
    const missing = /cluster\.db is missing or empty/;
    expect(() => new ClusterLedger(dir.path, realDisk, false)).toThrow(missing);
    expect(() => new ClusterHistory(dir.path)).toThrow(missing);
    fs.writeFileSync(dir.file("cluster.db"), "");
    expect(() => new ClusterLedger(dir.path, realDisk, false)).toThrow(missing);
    expect(() => new ClusterHistory(dir.path)).toThrow(missing);
  });

  test("is damaged where its slots can't be", () => {
    using at = ledgerWith(1);
    at.see(10_000, { 1: [[0, 9]] });
    at.ledger.close();
    using db = new Database(`${at.dir}/cluster.db`);
    db.run("UPDATE layout_slots SET slots = '9-0'");
    expect(() => history(at.dir, (read) => read.layoutAt(1e6))).toThrow(
      /damaged: it holds the slots "9-0"/,
    );
  });

  test("is read while it is written, and durable after a sync", async () => {
    using at = ledgerWith(1);
    at.see(10_000, { 1: [[0, 9]] });
    await at.ledger.sync();
    using read = new ClusterHistory(at.dir);
    at.see(20_000, { 1: [[0, 10]] });
    at.ledger.event("layout", "slot 10 came", 20_000);
    expect(read.layouts(0, 1e6).length).toBe(2);
  });
});
