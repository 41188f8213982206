import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { freePort, freePortsInARow } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, startServer } from "../support/servers.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SHARDS = 3;

async function readyz(http: number): Promise<string> {
  return await fetch(`http://127.0.0.1:${http}/readyz`).then(
    async (answer) => await answer.text(),
    () => "no answer",
  );
}

/** Follows a cluster, and waits until all of it is ready. */
async function follow(url: string, dir: string, more: readonly string[] = []) {
  const [port, http, relays] = [freePort(), freePort(), freePortsInARow(SHARDS)];
  const replica = startReplica([
    "follow",
    url,
    "--dir",
    dir,
    "--port",
    String(port),
    "--http",
    `127.0.0.1:${http}`,
    "--relay-ports",
    String(relays),
    ...more,
  ]);
  await until(async () => (await readyz(http)) === "ready\n", { what: "all shards to be ready" });
  return { replica, port, http, relays };
}

/** The digest of a stock replica of what a relay serves. */
async function digestFrom(port: number): Promise<string> {
  await using stock = await startServer("redis-8.0", {
    args: ["--replicaof", `127.0.0.1 ${port}`],
  });
  await stock.suppliedFrom(port);
  return await stock.digest();
}

// The relay's stream is that of its primary: a stock replica must know its snapshots.
describe.each(availableServers().filter((kind) => kind === "redis-8.0"))("%s", (kind) => {
  let cluster: RealCluster;
  let dir: TempDir;
  beforeAll(async () => {
    cluster = await startCluster(kind, { shards: SHARDS, replicas: 0 });
    dir = tempDir("cluster");
    for (let key = 0; key < 90; key++) await cluster.send("SET", `key:${key}`, `value ${key}`);
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    dir.remove();
  });

  test("status, INFO, metrics and BGSAVE speak of every shard; each relay feeds a stock replica", async () => {
    const { port, http, relays, ...following } = await follow(cluster.url(), dir.file("all"));
    await using replica = following.replica;
    const shown = await runReplica(["status", `127.0.0.1:${port}`, "--json"]);
    const status = JSON.parse(shown.stdout) as { ready: number; shards: { slots: string }[] };
    expect(status.ready).toBe(1);
    expect(status.shards.map(({ slots }) => slots)).toEqual([
      "0-5461",
      "5462-10923",
      "10924-16383",
    ]);
    const text = await fetch(`http://127.0.0.1:${http}/metrics`).then(async (one) => one.text());
    for (const shard of ["0001", "0002", "0003"]) {
      expect(text).toContain(`replica_link_up{shard="${shard}"} 1`);
    }
    await using client = await RespClient.connect({ port });
    await client.send("BGSAVE");
    const generations = async () =>
      String(await client.send("INFO", "shards")).match(/generation=2,/g)?.length;
    await until(async () => (await generations()) === SHARDS, { what: "new snapshots of all" });
    const primaries = await cluster.primaries();
    for (const [index, primary] of primaries.entries()) {
      expect(await digestFrom(relays + index)).toBe(await primary.digest());
    }
    expect((await replica.stop()).exitCode).toBe(0);
    expect(replica.stderr).toMatch(/connected by full resync.* shard=2/);
  });

  test("--offline serves each shard of the directory, up to a time", async () => {
    const data = dir.file("offline");
    await using following = (await follow(cluster.url(), data)).replica;
    const key = "key:1";
    const before = await Promise.all((await cluster.primaries()).map((one) => one.digest()));
    await Bun.sleep(1_100);
    const at = new Date().toISOString();
    await Bun.sleep(1_100);
    await cluster.send("SET", key, "another value");
    for (const primary of await cluster.primaries()) await primary.acknowledgedBy(1);
    await following.stop();
    const relays = freePortsInARow(SHARDS);
    const args = ["follow", "--offline", "--dir", data, "--port", String(freePort())];
    const refused = await runReplica(args);
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toContain("--relay-ports");
    for (const [more, isBefore] of [
      [[], false],
      [["--at", at], true],
    ] as const) {
      await using offline = startReplica([...args, "--relay-ports", String(relays), ...more]);
      await offline.waitForLine(/serving .*\(--offline\) at/);
      const digests: string[] = [];
      for (let index = 0; index < SHARDS; index++) digests.push(await digestFrom(relays + index));
      const now = await Promise.all((await cluster.primaries()).map((one) => one.digest()));
      expect(digests).toEqual(isBefore ? before : now);
      await offline.stop();
    }
  });

  test("two processes share a cluster by --shards", async () => {
    const one = await follow(cluster.url(), dir.file("one"), ["--shards", "0-1"]);
    await using first = one.replica;
    const other = await follow(cluster.url(), dir.file("other"), ["--shards", "2-"]);
    await using second = other.replica;
    expect(first.isRunning && second.isRunning).toBe(true);
    expect(readdirSync(dir.file("one", "shards"))).toEqual(["0001", "0002"]);
    expect(readdirSync(dir.file("other", "shards"))).toEqual(["0001"]);
    const shown = await runReplica(["status", `127.0.0.1:${other.port}`, "--json"]);
    const { shards } = JSON.parse(shown.stdout) as { shards: { slots: string }[] };
    expect(shards.map(({ slots }) => slots)).toEqual(["10924-16383"]);
  });

  test("one shard's relay port that is taken stops no other", async () => {
    const relays = freePortsInARow(SHARDS);
    const taken = Bun.listen({
      hostname: "127.0.0.1",
      port: relays + 1,
      socket: { data: () => undefined },
    });
    const port = freePort();
    const args = ["follow", cluster.url(), "--dir", dir.file("taken"), "--port", String(port)];
    await using replica = startReplica([...args, "--relay-ports", String(relays)]);
    await replica.waitForLine(/this shard feeds no replica until it is free.* shard=2/);
    const shardsOf = async () => {
      const shown = await runReplica(["status", `127.0.0.1:${port}`, "--json"]);
      return (JSON.parse(shown.stdout) as { shards: { state: string }[] }).shards;
    };
    const areUp = async () => (await shardsOf()).every(({ state }) => state === "connected");
    await until(async () => (await areUp()) && (await shardsOf()).length === SHARDS, {
      what: "all shards, the second without its port",
    });
    taken.stop(true);
    const asked = async () => await RespClient.connect({ port: relays + 1, timeoutMs: 1_000 });
    await using client = await until(asked, { what: "the second shard's port" });
    expect(String(await client.send("INFO", "replication"))).toContain("master_link_status:up");
  });
});
