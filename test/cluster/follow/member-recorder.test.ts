import { expect, test } from "bun:test";
import { MemberRecorder } from "../../../src/cluster/follow/member-recorder.ts";
import { ClusterLedger } from "../../../src/cluster/ledger/cluster-ledger.ts";
import type { ClusterNode, ShardView } from "../../../src/cluster/topology/topology.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { tempDir } from "../../support/temp.ts";

function node(id: string, port: number): ClusterNode {
  return {
    id,
    address: { host: "h", port },
    role: "primary",
    primaryId: undefined,
    health: "ok",
    isLoading: false,
    slots: [],
    configEpoch: 1,
    open: [],
  };
}

test("only the nodes of the last view are asked after a start", () => {
  using dir = tempDir("members");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  const records = [1, 2].map((atMs) => ledger.addShard(undefined, atMs));
  const views = new Map<number, ShardView>();
  const book = { shards: records, view: (number: number) => views.get(number) };
  const show = (number: number, primary: ClusterNode, ...replicas: ClusterNode[]) =>
    views.set(number, { shardId: undefined, primary, replicas, slots: [] });
  const ports = (recorder: MemberRecorder) => recorder.addresses().map(({ port }) => port);
  const recorder = new MemberRecorder(ledger);
  show(1, node("a", 1), node("b", 2));
  show(2, node("c", 3));
  recorder.record(book, 1_000);
  expect(ports(recorder).toSorted()).toEqual([1, 2, 3]);
  // One has left, and one has moved.
  show(1, node("a", 1));
  show(2, node("c", 4));
  recorder.record(book, 2_000);
  expect(ports(new MemberRecorder(ledger)).toSorted()).toEqual([1, 4]);
  // What is the same is written again once an hour.
  recorder.record(book, 3_000);
  expect(
    ledger
      .members()
      .map(({ lastMs }) => lastMs)
      .toSorted(),
  ).toEqual([1_000, 2_000, 2_000]);
  recorder.record(book, 2_000 + 60 * 60_000);
  expect(ports(recorder).toSorted()).toEqual([1, 4]);
  ledger.close();
});

test("who left, and where a node has moved to, is known though the clock was set back", () => {
  using dir = tempDir("members");
  const ledger = new ClusterLedger(dir.path, realDisk, true);
  const records = [1, 2].map((atMs) => ledger.addShard(undefined, atMs));
  const views = new Map<number, ShardView>();
  const book = { shards: records, view: (number: number) => views.get(number) };
  const show = (number: number, primary: ClusterNode, ...replicas: ClusterNode[]) =>
    views.set(number, { shardId: undefined, primary, replicas, slots: [] });
  const recorder = new MemberRecorder(ledger);
  show(1, node("a", 1), node("left", 9), node("moved", 3));
  show(2, node("b", 2));
  recorder.record(book, 9_000_000);
  show(1, node("a", 1));
  show(2, node("b", 2), node("moved", 3));
  recorder.record(book, 2_000_000);
  const ports = new MemberRecorder(ledger).addresses().map(({ port }) => port);
  expect(ports.toSorted()).toEqual([1, 2, 3]);
  const [last] = ledger
    .members()
    .filter(({ nodeId }) => nodeId === "moved")
    .toSorted((one, other) => other.lastMs - one.lastMs);
  expect(last!.shard).toBe(2);
  ledger.close();
});
