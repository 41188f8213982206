import { describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { ReplicaError } from "../../src/base/errors.ts";
import { logger } from "../../src/base/logger.ts";
import { ClusterHistory } from "../../src/cluster/ledger/cluster-history.ts";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { errorOf } from "../support/error-of.ts";
import { follow } from "../support/following.ts";
import { followCluster } from "../support/following-cluster.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

async function small(options = {}): Promise<RealCluster> {
  return await startCluster("valkey-9", { shards: 2, replicas: 0, ...options });
}

describe("a directory", () => {
  test("of one cluster is refused for another, and nothing in it changes", async () => {
    await using cluster = await small();
    await using other = await small();
    using dir = tempDir("cluster-bad");
    await using following = followCluster(cluster.url(), dir.path);
    await following.connected(2);
    await following.stop();
    const wrong = followCluster(other.url(), dir.path);
    const error = (await wrong.ended) as ReplicaError;
    await wrong.stop();
    expect(error).toMatchObject({ code: "PRIMARY_REFUSED", retry: "never" });
    expect(error.message).toContain(`${other.url()} leads to another cluster`);
    expect(error.message).toContain("follow this one into a --dir of its own");
    using history = new ClusterHistory(dir.path);
    expect(history.shards.length).toBe(2);
    await using again = followCluster(cluster.url(), dir.path);
    await again.connected(2);
    expect(again.resyncs().map(([, full]) => full)).toEqual([0, 0]);
  });

  test("of one primary is refused for a cluster, and the other way round", async () => {
    await using cluster = await small();
    using dir = tempDir("cluster-bad");
    await using single = follow(`redis://127.0.0.1:${cluster.nodes[0]!.port}`, realDisk, dir);
    await single.connected();
    await single.stop();
    const refused = errorOf(() => followCluster(cluster.url(), dir.file("data")));
    expect(refused.message).toContain("keeps the data of one primary (replica.db)");

    using other = tempDir("cluster-bad");
    await using following = followCluster(cluster.url(), other.file("data"));
    await following.connected(2);
    await following.stop();
    const url = `redis://127.0.0.1:${cluster.nodes[0]!.port}`;
    const back = errorOf(() => follow(url, realDisk, other));
    expect(back.message).toContain("keeps a whole cluster (cluster.db)");
  });

  test("is one process's at a time", async () => {
    await using cluster = await small();
    using dir = tempDir("cluster-bad");
    await using following = followCluster(cluster.url(), dir.path);
    await following.connected(2);
    expect(errorOf(() => followCluster(cluster.url(), dir.path)).code).toBe("DIRECTORY_IN_USE");
  });
});

test("a server that is no cluster's node ends it, and is told how to be followed", async () => {
  await using server = await startServer("redis-8.0", {});
  using dir = tempDir("cluster-bad");
  await using following = followCluster(`redis+cluster://127.0.0.1:${server.port}`, dir.path);
  const error = (await following.ended) as ReplicaError;
  expect(error).toMatchObject({ code: "PRIMARY_REFUSED", retry: "never" });
  expect(error.message).toContain("follow it alone, with redis://host:port");
});

test("a user that may not ask is told the rule, and follows once it is given", async () => {
  await using cluster = await small();
  const each = async (...words: string[]) => {
    await Promise.all(cluster.nodes.map((node) => node.send(...(words as [string]))));
  };
  await each("ACL", "SETUSER", "repl", "on", ">pw", "+psync", "+replconf", "+ping");
  using dir = tempDir("cluster-bad");
  const url = cluster.url().replace("://", "://repl:pw@");
  await using following = followCluster(url, dir.path);
  await until(() => following.follower.topology.error !== undefined, { what: "a refusal" });
  const message = following.follower.topology.error!.message;
  const rule = /run (ACL SETUSER repl (.*)) on every node/.exec(message)!;
  await each("ACL", "SETUSER", "repl", ...rule[2]!.split(" "));
  await following.connected(2);
  expect(following.follower.topology.error).toBeUndefined();
});

test("a password and TLS are those of every node", async () => {
  await using cluster = await small({
    password: "p:w",
    tls: { clients: "no" },
    args: ["--tls-cluster", "yes", "--tls-replication", "yes"],
  });
  using dir = tempDir("cluster-bad");
  const seed = cluster.nodes[0]!;
  const url = `rediss+cluster://:p%3Aw@127.0.0.1:${seed.tlsPort}`;
  await using following = followCluster(url, dir.path, { flags: { "tls-insecure": "true" } });
  await following.connected(2);
  for (const { replica } of following.live())
    expect(replica!.primary.name).toStartWith("rediss://");
});

describe("one shard's failure", () => {
  test("is its own: the others go on, and it comes back where that helps", async () => {
    await using cluster = await small();
    using dir = tempDir("cluster-bad");
    let isFull = true;
    await using following = followCluster(cluster.url(), dir.path, {
      beforeShard: (number) => {
        if (number === 1 && isFull) throw new ReplicaError("DISK_FULL", { message: "no room" });
      },
    });
    await until(() => following.follower.shards.length === 2, { what: "both shards" });
    await until(() => following.shard(2).replica?.linkState === "up", { what: "shard 2" });
    expect(following.shard(1)).toMatchObject({ state: "failed", error: { code: "DISK_FULL" } });
    isFull = false;
    await following.connected(2);
    expect(following.shard(1).error).toBeUndefined();
  }, 180_000);

  test("that is damage stays until a person has seen to it", async () => {
    await using cluster = await small();
    using dir = tempDir("cluster-bad");
    await using following = followCluster(cluster.url(), dir.path);
    await following.connected(2);
    await following.stop();
    fs.truncateSync(`${dir.path}/shards/0001/replica.db`, 100);
    await using again = followCluster(cluster.url(), dir.path);
    await until(() => again.shard(2).replica?.linkState === "up", { what: "shard 2" });
    await until(() => again.shard(1).state === "failed", { what: "shard 1 to fail" });
    expect(again.shard(1).error!.code).toBe("DIRECTORY_DAMAGED");
  });
});

test("where cluster.db can't be written, the shards that there are go on, and a new one waits", async () => {
  await using cluster = await small();
  using dir = tempDir("cluster-bad");
  const disk = new FaultyDisk();
  await using following = followCluster(cluster.url(), dir.path, { disk });
  await following.connected(2);
  using warn = spyOn(logger, "warn");
  disk.fail({ operation: "syncData", path: dir.file("cluster.db-wal"), code: "ENOSPC" });
  const [one] = cluster.nodes as [RealServer];
  const three = await cluster.add();
  await cluster.openSlot(0, one, three);
  await until(
    () =>
      warn.mock.calls.some(([message]) => message.includes("no shard begins or ends meanwhile")),
    { what: "the failure to be told" },
  );
  await cluster.send("SET", "key", "value");
  await until(() => following.live().every(({ replica }) => replica?.linkState === "up"), {
    what: "the shards to go on",
  });
  expect(following.live().length).toBe(2);
  // A link that breaks meanwhile comes back.
  await one.sendAll([["CLIENT", "KILL", "TYPE", "replica"]]);
  await following.connected(2);
  disk.heal();
  await following.connected(3);
}, 180_000);

test("an old primary that comes back as a replica with a new history is not followed", async () => {
  await using cluster = await startCluster("redis-8.0", { shards: 3, replicas: 1 });
  using dir = tempDir("cluster-bad");
  const [one, two, , oneB] = cluster.nodes as [RealServer, RealServer, RealServer, RealServer];
  await using following = followCluster(cluster.url([two]), dir.path);
  await following.connected(3);
  const led = () => following.live().find(({ view }) => view?.primary.address?.port === oneB.port);
  await one.kill9();
  await cluster.untilPrimary(oneB);
  await until(() => led()?.replica?.linkState === "up", { what: "the new primary to be followed" });
  await one.restart();
  await cluster.settled();
  expect(led()!.replica!.primary.hostAndPort[1]).toBe(oneB.port);
  // The old one takes over again, without a vote: masters just gave theirs.
  await cluster.failover(one, "takeover");
  await until(
    () =>
      following
        .live()
        .some(
          ({ view, replica }) =>
            view?.primary.address?.port === one.port && replica?.linkState === "up",
        ),
    { what: "the old primary to be followed again" },
  );
  expect(following.resyncs().map(([, full]) => full)).toEqual([1, 1, 1]);
  expect(following.live().length).toBe(3);
}, 180_000);

test("healthy replicas are followed where that is asked for", async () => {
  await using cluster = await startCluster("valkey-8.1", { shards: 2, replicas: 1 });
  using dir = tempDir("cluster-bad");
  await until(
    async () => {
      const infos = await Promise.all(
        cluster.nodes.slice(2).map((node) => node.info("replication")),
      );
      return infos.every((info) => Number(info["slave_repl_offset"]) > 0);
    },
    { what: "the replicas to have data" },
  );
  await using following = followCluster(cluster.url(), dir.path, {
    flags: { "cluster-read-from": "replica" },
  });
  await following.connected(2);
  const replicas = new Set(cluster.nodes.slice(2).map(({ port }) => port));
  await until(
    () => following.live().every(({ replica }) => replicas.has(replica!.primary.hostAndPort[1])),
    { what: "replicas to be followed" },
  );
});
