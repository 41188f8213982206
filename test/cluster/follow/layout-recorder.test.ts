import { expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { LayoutRecorder } from "../../../src/cluster/follow/layout-recorder.ts";
import { ShardBook } from "../../../src/cluster/follow/shard-book.ts";
import { ClusterHistory } from "../../../src/cluster/ledger/cluster-history.ts";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import type { Believed } from "../../../src/cluster/topology/believe.ts";
import type { ClusterNode, ShardView } from "../../../src/cluster/topology/topology.ts";
import { countSlots, type SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { tempDir } from "../../support/temp.ts";

function viewOf(shards: readonly ShardView[]): Believed {
  const slotsAssigned = shards.reduce((sum, { slots }) => sum + countSlots(slots), 0);
  const topology = {
    myId: undefined,
    epoch: 1,
    isOk: true,
    slotsAssigned,
    nodes: new Map(),
    shards,
  };
  return { from: { host: "h", port: 1 }, topology, open: new Map() };
}

/** A shard with one node, which bears this letter. */
function shardOf(letter: string, slots: readonly SlotRange[]): ShardView {
  const primary: ClusterNode = {
    id: letter.repeat(40),
    address: { host: "h", port: 1 },
    role: "primary",
    primaryId: undefined,
    health: "ok",
    isLoading: false,
    slots,
    configEpoch: 1,
    open: [],
  };
  return { shardId: undefined, primary, replicas: [], slots };
}

test("a gap is recorded once it has lasted for three seconds, whatever the wall clock says", () => {
  using dir = tempDir("layouts");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  const book = new ShardBook(ledger);
  const recorder = new LayoutRecorder(ledger, false, realClock);
  const view = viewOf([]);
  const isNews = (atMs: number, passedMs: number) => recorder.record(view, book, atMs, passedMs);
  expect(isNews(1_000_000, 0)).toBe(false);
  // The clock is set forward, and back.
  expect(isNews(9_000_000, 2_999)).toBe(false);
  expect(isNews(500_000, 3_000)).toBe(true);
  ledger.close();
});

test("a clock that is set back gives no slot to another shard at a moment before, also after a restart", () => {
  using dir = tempDir("layouts");
  const at = (minutes: number) => 50_000_000 + minutes * 60_000;
  const before = [shardOf("a", [[0, 99]]), shardOf("b", [[100, 16_383]])];
  const after = [shardOf("a", [[0, 98]]), shardOf("b", [[99, 16_383]])];
  const look = (shards: readonly ShardView[], minutes: number, isFirst: boolean) => {
    const ledger = new ClusterLedger(dir.path, realDisk, isFirst);
    const book = new ShardBook(ledger);
    const recorder = new LayoutRecorder(ledger, false, realClock);
    if (isFirst) for (const shard of shards) book.add(shard, at(0), 1);
    book.take(
      viewOf(shards),
      new Map(shards.map((shard, index) => [shard, index + 1])),
      at(minutes),
    );
    recorder.record(viewOf(shards), book, at(minutes), at(minutes));
    ledger.close();
  };
  look(before, 0, true);
  look(before, 30, false);
  // Twenty minutes are told twice from here on. The marks of the shards wait for the clock.
  look(after, 10, false);
  using history = new ClusterHistory(dir.path);
  const slotsAt = (minutes: number) => history.layoutAt(at(minutes))!.slots.get(1);
  expect([slotsAt(20), slotsAt(29)]).toEqual([[[0, 99]], [[0, 99]]]);
  expect(slotsAt(30)).toEqual([[0, 98]]);
});
