import { describe, expect, test } from "bun:test";
import { ClusterHistory } from "../../src/cluster/ledger/cluster-history.ts";
import { countSlots } from "../../src/cluster/slots/slot-ranges.ts";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { followCluster } from "../support/following-cluster.ts";
import type { RealServer, ServerKind } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KINDS = ["redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"] as const;

type Following = ReturnType<typeof followCluster>;

/** Waits until what every primary has written is kept. */
async function caughtUp(cluster: RealCluster, following: Following): Promise<void> {
  const primaries = await cluster.primaries();
  const offsets = await Promise.all(
    primaries.map(
      async (node) =>
        [node.port, Number((await node.info("replication"))["master_repl_offset"])] as const,
    ),
  );
  for (const [port, offset] of offsets) {
    await until(
      () => {
        const shard = following.live().find(({ view }) => view?.primary.address?.port === port);
        return (shard?.replica?.log?.writtenOffset ?? -1) >= offset;
      },
      { what: `${port} to be kept up to ${offset}` },
    );
  }
}

/** The followed shard whose primary this node is. */
function shardOf(following: Following, node: RealServer): number {
  const found = following.live().find(({ view }) => view?.primary.address?.port === node.port);
  if (found === undefined) throw new Error(`no shard is led by ${node.port}`);
  return found.record.number;
}

async function writeSome(cluster: RealCluster, prefix: string): Promise<void> {
  for (let index = 0; index < 30; index++) await cluster.send("SET", `${prefix}${index}`, index);
}

describe.each<ServerKind>(KINDS)("a cluster of %s", (kind) => {
  test("is followed shard by shard; failovers, seen and missed, are partial resyncs", async () => {
    await using cluster = await startCluster(kind, { shards: 3, replicas: 1 });
    using dir = tempDir("cluster-follow");
    const [one, two, three, oneB, twoB, threeB] = cluster.nodes as [
      RealServer,
      RealServer,
      RealServer,
      RealServer,
      RealServer,
      RealServer,
    ];
    await using following = followCluster(cluster.url(), dir.path);
    await following.connected(3);
    await writeSome(cluster, "a");
    await caughtUp(cluster, following);
    expect(following.resyncs()).toEqual([
      [1, 1, 0],
      [2, 1, 0],
      [3, 1, 0],
    ]);
    const numbers = new Map([one, two, three].map((node) => [node, shardOf(following, node)]));

    // A planned one.
    await cluster.failover(oneB);
    await writeSome(cluster, "b");
    await caughtUp(cluster, following);
    expect(shardOf(following, oneB)).toBe(numbers.get(one)!);

    // A crash.
    await two.kill9();
    await cluster.untilPrimary(twoB);
    await until(
      async () => String(await twoB.send("CLUSTER", "INFO")).includes("cluster_state:ok"),
      { what: "the cluster to be ok" },
    );
    await writeSome(cluster, "c");
    await caughtUp(cluster, following);
    expect(shardOf(following, twoB)).toBe(numbers.get(two)!);
    expect(following.resyncs().map(([, full]) => full)).toEqual([1, 1, 1]);
    expect(following.live().length).toBe(3);

    // One that nobody saw.
    expect(await following.stop()).toBeUndefined();
    await cluster.failover(threeB);
    await writeSome(cluster, "d");
    await using again = followCluster(cluster.url([oneB]), dir.path);
    await again.connected(3);
    await writeSome(cluster, "e");
    await caughtUp(cluster, again);
    expect(again.resyncs().map(([, full]) => full)).toEqual([0, 0, 0]);
    expect(shardOf(again, threeB)).toBe(numbers.get(three)!);
    expect(await again.stop()).toBeUndefined();

    using history = new ClusterHistory(dir.path);
    expect(history.shards.map(({ number, endedMs }) => [number, endedMs])).toEqual([
      [1, undefined],
      [2, undefined],
      [3, undefined],
    ]);
    const layouts = history.layouts(0, Date.now());
    expect(layouts.length).toBe(1);
    const all = [...layouts[0]!.slots.values()].map(countSlots);
    expect(all.reduce((sum, count) => sum + count, 0)).toBe(16_384);
  }, 180_000);
});

describe.each<ServerKind>(KINDS)("a cluster of %s that is resharded", (kind) => {
  test("gets a new shard, loses one that is emptied, and never another one's data", async () => {
    await using cluster = await startCluster(kind, { shards: 2, replicas: 0 });
    using dir = tempDir("cluster-follow");
    await using following = followCluster(cluster.url(), dir.path);
    const [one, two] = cluster.nodes as [RealServer, RealServer];
    await following.connected(2);
    await writeSome(cluster, "a");
    const [first, second] = [shardOf(following, one), shardOf(following, two)];

    // A node comes, and takes over a few slots with their keys: it is followed from the first open slot on.
    const three = await cluster.add();
    const slot = 0;
    await cluster.openSlot(slot, one, three);
    await following.connected(3);
    const third = shardOf(following, three);
    expect(third).toBe(3);
    await cluster.migrateKeys(slot, one, three, 100);
    await cluster.closeSlot(slot, one, three);
    await cluster.migrateSlot(1, one, three);
    await until(() => countSlots(following.shard(third).view?.slots ?? []) === 2, {
      what: "the new shard to own two slots",
    });

    // It is emptied: it stays a shard for as long as its node is a primary.
    for (const owned of [0, 1]) await cluster.migrateSlot(owned, three, one);
    await until(() => following.shard(third).view?.slots.length === 0, { what: "no slots" });
    expect(following.shard(third).state).toBe("following");
    await writeSome(cluster, "b");
    await caughtUp(cluster, following);
    expect(following.resyncs().map(([, full]) => full)).toEqual([1, 1, 1]);

    // Its node joins another shard.
    await three.send("CLUSTER", "REPLICATE", await cluster.idOf(two));
    await until(() => following.shard(third).state === "ended", { what: "the shard to end" });
    expect(following.shard(third).record.endedWhy).toContain(`became a replica of shard ${second}`);
    await writeSome(cluster, "c");
    await caughtUp(cluster, following);
    expect(following.resyncs()).toEqual([
      [first, 1, 0],
      [second, 1, 0],
    ]);
    expect(await following.stop()).toBeUndefined();
    {
      await using again = followCluster(cluster.url(), dir.path);
      await again.connected(2);
      expect(again.shard(third)).toMatchObject({ state: "ended", replica: undefined });
      expect(again.shard(third).record.endedWhy).toContain("became a replica");
    }

    using history = new ClusterHistory(dir.path);
    const open = history.openSlots(0, Date.now());
    expect(open[0]).toMatchObject({ slot, source: first, target: third });
    expect(open.every(({ untilMs }) => untilMs !== undefined)).toBe(true);
    const layouts = history.layouts(0, Date.now());
    const counts = (shard: number) =>
      layouts.map(({ slots }) => countSlots(slots.get(shard) ?? []));
    expect(Math.max(...counts(third))).toBe(2);
    expect(counts(third).at(-1)).toBe(0);
    for (const { slots } of layouts) {
      const all = [...slots.values()].map(countSlots);
      expect(all.reduce((sum, count) => sum + count, 0)).toBe(16_384);
    }
  }, 180_000);
});

test("with one snapshot at a time every shard gets its turn, also for the next one", async () => {
  await using cluster = await startCluster("redis-7.0", { shards: 3, replicas: 0 });
  using dir = tempDir("cluster-follow");
  const flags = { "cluster-snapshots": "1" };
  await using following = followCluster(cluster.url(), dir.path, { flags });
  await following.connected(3);
  const renewals = following.live().map(({ replica }) => replica!.renewal);
  for (const renewal of renewals) renewal.begin("a test");
  await Promise.all(renewals.map((renewal) => renewal.ended));
  expect(renewals.map(({ counts }) => counts)).toEqual([1, 2, 3].map(() => ({ ok: 1, failed: 0 })));
  expect(following.follower.waitingSnapshots).toBe(0);
}, 180_000);

test("the snapshots that --snapshot-every asks for take their turns as well", async () => {
  // Each takes a second at least.
  const args = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "1"];
  await using cluster = await startCluster("redis-7.0", { shards: 3, replicas: 0, args });
  using dir = tempDir("cluster-follow");
  const flags = { "cluster-snapshots": "1", "snapshot-every": "1s" };
  await using following = followCluster(cluster.url(), dir.path, { flags });
  await following.connected(3);
  const renewals = following.live().map(({ replica }) => replica!.renewal);
  let most = 0;
  await until(
    () => {
      most = Math.max(most, renewals.filter(({ state }) => state.at !== "none").length);
      return renewals.every(({ counts }) => counts.ok > 0);
    },
    { what: "a new snapshot of each shard", timeoutMs: 30_000 },
  );
  expect(most).toBe(1);
}, 180_000);
