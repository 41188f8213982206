import { expect, spyOn, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { ClusterLedger } from "../../src/cluster/ledger/cluster-ledger.ts";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { followCluster } from "../support/following-cluster.ts";
import { startReplica } from "../support/replica-process.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** A node that doesn't answer for a moment isn't to be replaced meanwhile. */
const SLOW = ["--cluster-node-timeout", "60000"];

test("another server at a node's address is not followed; the node itself is, once it is back", async () => {
  await using cluster = await startCluster("redis-7.0", { shards: 2, replicas: 0, args: SLOW });
  using dir = tempDir("cluster-strangers");
  await using following = followCluster(cluster.url(), dir.path);
  await following.connected(2);
  const victim = cluster.nodes[1]!;
  const shard = () =>
    following.live().find(({ view }) => view?.primary.address?.port === victim.port)!;
  const { replid } = shard().replica!.directory;
  await victim.kill9();
  {
    await using other = await startServer("redis-7.0", { port: victim.port });
    await other.send("SET", "alien", "of no cluster");
    await until(() => shard().replica!.links.trouble?.message.includes("isn't node"), {
      what: "the stranger to be told",
    });
    expect(shard().replica!.directory.replid).toBe(replid);
  }
  await victim.restart();
  await following.connected(2);
}, 180_000);

test("a node that was reset is left, and what is written there is not kept", async () => {
  await using cluster = await startCluster("redis-8.0", { shards: 3, replicas: 0 });
  using dir = tempDir("cluster-strangers");
  await using following = followCluster(cluster.url(), dir.path);
  await following.connected(3);
  const lost = cluster.nodes[1]!;
  await lost.send("FLUSHALL");
  await lost.send("CLUSTER", "RESET", "HARD");
  await until(() => following.live().some(({ replica }) => replica?.linkState === "down"), {
    what: "its link to be broken",
  });
  const offset = () => following.live().map(({ replica }) => replica?.log?.writtenOffset);
  const before = offset();
  await lost.send("CLUSTER", "ADDSLOTSRANGE", 0, 16_383);
  await until(async () => String(await lost.send("CLUSTER", "INFO")).includes("state:ok"), {
    what: "the other cluster to work",
  });
  await lost.send("SET", "alien", "of another cluster");
  await until(() => (following.follower.topology.ageMs ?? 9_999) < 500, { what: "another look" });
  expect(following.live().filter(({ replica }) => replica?.linkState === "up").length).toBe(2);
  const down = following.live().findIndex(({ replica }) => replica?.linkState !== "up");
  expect(offset()[down]).toBe(before[down]!);
}, 180_000);

test("a replica that was given to another shard is not followed for the one before", async () => {
  await using cluster = await startCluster("redis-7.0", { shards: 2, replicas: 1, args: SLOW });
  using dir = tempDir("cluster-strangers");
  const [first, second] = cluster.nodes as [RealServer, RealServer];
  const replica = cluster.nodes[2]!;
  await until(async () => (await replica.info("replication"))["master_link_status"] === "up", {
    what: "the replica's link",
  });
  await using following = followCluster(cluster.url(), dir.path, {
    flags: { "cluster-read-from": "replica" },
  });
  const followedAt = (port: number) =>
    following
      .live()
      .filter(
        ({ replica: one, state }) =>
          state === "following" && one?.linkState === "up" && one.primary.hostAndPort[1] === port,
      );
  await until(() => followedAt(replica.port).length === 1, { what: "the replica to be followed" });
  const { number } = followedAt(replica.port)[0]!.record;
  const { replid } = following.shard(number).replica!.directory;
  const info = await replica.info("replication");
  const [mine, other] =
    Number(info["master_port"]) === first.port ? [first, second] : [second, first];
  await replica.send("CLUSTER", "REPLICATE", await cluster.idOf(other));
  await until(() => followedAt(mine.port).some(({ record }) => record.number === number), {
    what: "the primary to be followed",
  });
  expect(following.shard(number).replica!.directory.replid).toBe(replid);
  expect(following.shard(number).replica!.resyncs.full).toBe(1);
}, 180_000);

test("a failover is followed while cluster.db can't be written", async () => {
  await using cluster = await startCluster("redis-8.0", { shards: 2, replicas: 1 });
  using dir = tempDir("cluster-strangers");
  await using following = followCluster(cluster.url(), dir.path);
  await following.connected(2);
  using full = spyOn(ClusterLedger.prototype, "sawLayout").mockImplementation(() => {
    throw new ReplicaError("DISK_FULL", { message: "no room for cluster.db" });
  });
  const heir = cluster.nodes[2]!;
  await cluster.failover(heir);
  await until(
    () =>
      following
        .live()
        .some(
          ({ replica }) =>
            replica?.linkState === "up" && replica.primary.hostAndPort[1] === heir.port,
        ),
    { what: "the new primary to be followed" },
  );
  expect(full).toHaveBeenCalled();
}, 180_000);

test("it ends within two seconds while every node hangs", async () => {
  await using cluster: RealCluster = await startCluster("valkey-9", {
    shards: 3,
    replicas: 0,
    args: SLOW,
  });
  using dir = tempDir("cluster-strangers");
  await using replica = startReplica([
    "follow",
    cluster.url(),
    "--dir",
    dir.file("data"),
    "--port",
    "0",
    "--sync-timeout",
    "3s",
  ]);
  for (const number of [1, 2, 3]) {
    await replica.waitForLine(new RegExp(`link up|connected by full.*shard=${number} `));
  }
  for (const { pid } of cluster.nodes) process.kill(pid, "SIGSTOP");
  try {
    await replica.waitForLine(/no node of the cluster tells where its shards are/);
    const beganMs = performance.now();
    replica.signal("SIGTERM");
    expect(await replica.ended(10_000)).toMatchObject({ exitCode: 0 });
    expect(performance.now() - beganMs).toBeLessThan(2_000);
  } finally {
    for (const { pid } of cluster.nodes) process.kill(pid, "SIGCONT");
  }
}, 180_000);
