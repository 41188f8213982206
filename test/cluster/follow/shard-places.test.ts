import { expect, test } from "bun:test";
import { ShardBook } from "../../../src/cluster/follow/shard-book.ts";
import { ShardPlaces } from "../../../src/cluster/follow/shard-places.ts";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";
import type { Believed } from "../../../src/cluster/topology/believe.ts";
import { matchShards } from "../../../src/cluster/topology/identify.ts";
import type { ClusterNode, ShardView } from "../../../src/cluster/topology/topology.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { tempDir } from "../../support/temp.ts";

function node(id: string): ClusterNode {
  const nothing = { address: undefined, primaryId: undefined, isLoading: false, configEpoch: 0 };
  return { ...nothing, id, role: "primary", health: "ok", slots: [], open: [] };
}

type Shown = readonly [primary: string, slots: SlotRange | undefined, replica?: string];

function seen(all: readonly Shown[]): Believed {
  const shards = all.map(([id, slots, replica]): ShardView => ({
    shardId: undefined,
    primary: node(id),
    replicas: replica === undefined ? [] : [node(replica)],
    slots: slots === undefined ? [] : [slots],
  }));
  const nodes = shards.flatMap(({ primary, replicas }) => [primary, ...replicas]);
  const topology = {
    myId: undefined,
    epoch: 1,
    isOk: true,
    slotsAssigned: 16_384,
    nodes: new Map(nodes.map((one) => [one.id, one])),
    shards,
  };
  return { from: { host: "h", port: 1 }, topology, open: new Map() };
}

/** A process with a directory of its own; `look` returns the primaries of the shards that it follows then. */
function newProcess(first: number, last: number) {
  const dir = tempDir("shard-places");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  const open = (from: number, to: number) => ({
    book: new ShardBook(ledger),
    places: new ShardPlaces(ledger.others, { first: from, last: to }),
  });
  let on = open(first, last);
  return {
    reopen: (from = first, to = last) => (on = open(from, to)),
    look: (all: readonly Shown[], nowMs: number): string[] => {
      const view = seen(all);
      const { book, places } = on;
      const known = [...book.knownShards, ...places.known];
      const found = matchShards(known, view.topology.shards);
      const { appeared } = book.take(view, found, nowMs);
      const { wanted } = places.take(view, found, appeared, nowMs);
      for (const one of wanted) book.add(one, nowMs, 1);
      return book.shards.map(({ number }) => book.view(number)?.primary.id ?? "");
    },
    [Symbol.dispose]: () => {
      ledger.close();
      dir[Symbol.dispose]();
    },
  };
}

const A: Shown = ["a", [0, 99], "a2"];
const B: Shown = ["b", [100, 199]];
const C: Shown = ["c", [200, 16_383]];

test("a shard stays whose it is, though one with lower slots comes before all; that goes to the last", () => {
  using one = newProcess(0, 0);
  using two = newProcess(1, Infinity);
  const look = (all: readonly Shown[], atMs: number) => [one.look(all, atMs), two.look(all, atMs)];
  expect(look([A, B, C], 1_000)).toEqual([["a"], ["b", "c"]]);
  const fresh: Shown = ["x", [0, 2]];
  const later = [fresh, ["a", [3, 99], "a2"] as const, B, C];
  look(later, 2_000);
  for (const nowMs of [3_000, 30_000]) expect(look(later, nowMs)).toEqual([["a"], ["b", "c", "x"]]);
  // Nor is it taken for a new one after a restart, and a failover of it.
  one.reopen();
  two.reopen();
  const failedOver = [fresh, ["a2", [3, 99]] as const, B, C];
  look(failedOver, 31_000);
  expect(look(failedOver, 60_000)).toEqual([["a2"], ["b", "c", "x"]]);
});

test("those that were others' are followed where the range is changed, and none is given up", () => {
  using one = newProcess(0, 0);
  one.look([A, B, C], 1_000);
  one.reopen(1, 1);
  expect(one.look([A, B, C], 2_000)).toEqual(["a", "b"]);
  one.reopen(1, 1);
  expect(one.look([A, B, C], 3_000)).toEqual(["a", "b"]);
});

test("one whose row could not be written keeps the place that it was given", () => {
  using one = newProcess(2, 2);
  using dir = tempDir("shard-places");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  const places = new ShardPlaces(ledger.others, { first: 2, last: 2 });
  const view = seen([A, B, C]);
  const { shards } = view.topology;
  expect(places.take(view, new Map(), shards, 1_000).wanted).toEqual([shards[2]!]);
  // It wasn't recorded: it is as new as before.
  const known = matchShards(places.known, shards);
  const again = shards.filter((shard) => !known.has(shard));
  expect(places.take(view, known, again, 2_000).wanted).toEqual([shards[2]!]);
  expect(one.look([A, B, C], 1_000)).toEqual(["c"]);
  ledger.close();
});
