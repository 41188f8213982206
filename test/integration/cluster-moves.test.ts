import { describe, expect, spyOn, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { ClusterLedger } from "../../src/cluster/ledger/cluster-ledger.ts";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { followCluster } from "../support/following-cluster.ts";
import type { RealServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** The ports that lead each shard, by its number. */
function leaders({ live }: ReturnType<typeof followCluster>): [number, number | undefined][] {
  return live().map(({ record, view }) => [record.number, view?.primary.address?.port]);
}

async function untilSynced(replica: RealServer, primary: RealServer): Promise<void> {
  await until(
    async () => {
      const info = await replica.info("replication");
      return info["master_port"] === `${primary.port}` && info["master_link_status"] === "up";
    },
    { what: `${replica.port} to follow ${primary.port}` },
  );
}

/** One node moves from a shard to another one, and becomes its primary. */
async function moveAndLead(cluster: RealCluster, node: RealServer, to: RealServer) {
  await cluster.replicate(node, to);
  await untilSynced(node, to);
  await cluster.failover(node);
  await cluster.settled();
}

test("a replica that moved while nothing ran, and leads another shard, puts no data in the wrong place", async () => {
  // These servers tell no shard ids.
  await using cluster = await startCluster("redis-7.0", { shards: 2, replicas: 0 });
  using dir = tempDir("cluster-moves");
  const [one, two] = cluster.nodes as [RealServer, RealServer];
  const moved = await cluster.add(two);
  await untilSynced(moved, two);
  const seeds = cluster.url([one, two]);
  {
    await using following = followCluster(seeds, dir.path);
    await following.connected(2);
    await until(() => following.shard(2).view?.replicas.length === 1, { what: "the replica" });
    expect(leaders(following)).toEqual([
      [1, one.port],
      [2, two.port],
    ]);
  }
  await moveAndLead(cluster, moved, one);
  await using following = followCluster(seeds, dir.path);
  await following.connected(2);
  expect(leaders(following)).toEqual([
    [1, moved.port],
    [2, two.port],
  ]);
  expect(following.resyncs()).toEqual([
    [1, 0, 1],
    [2, 0, 1],
  ]);
}, 180_000);

test("a shard without slots whose node fails is the same one when that comes back", async () => {
  await using cluster = await startCluster("valkey-8.1", { shards: 3, replicas: 0 });
  using dir = tempDir("cluster-moves");
  const extra = await cluster.add();
  const slot = 0;
  const owner = await cluster.ownerOf(slot);
  await cluster.migrateSlot(slot, owner, extra);
  await using following = followCluster(cluster.url(), dir.path);
  await following.connected(4);
  const number = following.live().find(({ view }) => view?.primary.address?.port === extra.port)!
    .record.number;
  await cluster.migrateSlot(slot, extra, owner);
  await until(() => following.shard(number).view?.slots.length === 0, { what: "no slots" });
  await extra.kill9();
  await until(() => following.shard(number).view === undefined, {
    what: "the node to have failed",
    timeoutMs: 30_000,
  });
  await extra.restart();
  await until(() => following.shard(number).view !== undefined, { what: "the node to be back" });
  await following.connected(4);
  expect(following.live().map(({ record }) => record.number)).toEqual([1, 2, 3, 4]);
}, 180_000);

describe("shards are begun, though cluster.db failed once as they were recorded", () => {
  const failure = () => new ReplicaError("DISK_FULL", { message: "no room" });

  test("by a sync", async () => {
    await using cluster = await startCluster("valkey-9", { shards: 2, replicas: 0 });
    using dir = tempDir("cluster-moves");
    using sync = spyOn(ClusterLedger.prototype, "sync");
    sync.mockImplementationOnce(() => Promise.reject(failure()));
    await using following = followCluster(cluster.url(), dir.path);
    await following.connected(2);
    expect(following.live().map(({ record }) => record.number)).toEqual([1, 2]);
  }, 180_000);

  test("by the second row", async () => {
    await using cluster = await startCluster("valkey-9", { shards: 2, replicas: 0 });
    using dir = tempDir("cluster-moves");
    const real = ClusterLedger.prototype.addShard;
    using add = spyOn(ClusterLedger.prototype, "addShard");
    add.mockImplementationOnce(function (this: ClusterLedger, ...args) {
      add.mockImplementationOnce(() => {
        throw failure();
      });
      return real.apply(this, args);
    });
    await using following = followCluster(cluster.url(), dir.path);
    await following.connected(2);
    expect(following.live().map(({ record }) => record.number)).toEqual([1, 2]);
  }, 180_000);
});

test("two processes share a cluster by --shards, and go on so when a shard gets the lowest slots", async () => {
  await using cluster = await startCluster("redis-7.0", { shards: 3, replicas: 0 });
  using dir = tempDir("cluster-moves");
  const follow = (shards: string, folder: string) =>
    followCluster(cluster.url(), dir.file(folder), { flags: { shards } });
  await using one = follow("0-0", "one");
  await using two = follow("1-", "two");
  await one.connected(1);
  await two.connected(2);
  const fresh = await cluster.add();
  const owner = await cluster.ownerOf(0);
  for (const slot of [0, 1]) await cluster.migrateSlot(slot, owner, fresh);
  await two.connected(3);
  const ports = (following: typeof one) => leaders(following).map(([, port]) => port);
  expect(ports(one)).toEqual([owner.port]);
  expect(ports(two)).not.toContain(owner.port);
  expect(ports(two)).toContain(fresh.port);
}, 180_000);
