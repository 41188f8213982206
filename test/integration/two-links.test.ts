import { afterAll, describe, expect, test } from "bun:test";
import { SeededLoad } from "../faults/seeded-load.ts";
import type { Plan } from "../support/fault-plan.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { fillAllTypes } from "../support/fill.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import {
  availableServers,
  bootCopy,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { amount } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { TWO_LINKS } from "../support/two-links.ts";
import { until } from "../support/wait.ts";

const SEED = 7;
const KINDS = availableServers().filter((kind) => kind in TWO_LINKS);
/** Past the handshake of either link, and amid what comes then. */
const AMID_BYTES = 60_000;
const proxy = startFaultProxy();
afterAll(async () => proxy[Symbol.asyncDispose]());

/** A primary whose snapshot takes a second or two. */
async function startPrimary(kind: ServerKind, ...args: string[]): Promise<RealServer> {
  const server = await startServer(kind, { args: [...TWO_LINKS[kind]!, ...args] });
  await fillAllTypes(server, { keys: 2_000, databases: [0, 3, 9], seed: SEED });
  await server.send("CONFIG", "SET", "rdb-key-save-delay", 300);
  return server;
}

/** How many full syncs the primary granted, how many of them on two links, and how many partial ones. */
async function syncs(server: RealServer) {
  const { sync_full: full, sync_partial_ok: partial } = await server.info("stats");
  const twice =
    server.log().match(/will continue with dedicated (?:rdb|RDB) channel/g)?.length ?? 0;
  // Valkey's first link asks for a partial one.
  const own = server.kind.startsWith("valkey") ? twice : 0;
  return { full: Number(full), twice, partial: Number(partial) - own };
}

/** Waits until the primary sees all of its stream acknowledged, and compares the data. */
async function expectEqual(
  server: RealServer,
  replica: ReplicaProcess,
  dir: string,
): Promise<void> {
  await server.acknowledgedBy(1);
  expect((await replica.stop()).exitCode).toBe(0);
  await using copy = await bootCopy(server.kind, dir);
  expect(await copy.digest()).toBe(await server.digest());
}

/** Follows under load, through a proxy where its connections have plans, until the link is up. */
async function followed(
  server: RealServer,
  plans: readonly Plan[] | undefined,
  flags: readonly string[] = [],
) {
  using dir = tempDir("two-links");
  await using load = await SeededLoad.start(server, SEED);
  await using route = await proxy.route(server.port);
  await route.plan(plans ?? []);
  const url = plans === undefined ? server.url() : `redis://127.0.0.1:${route.port}`;
  const args = ["follow", url, "--dir", dir.file("data"), "--port", "0", "--retry-max", "100ms"];
  await using replica = startReplica([...args, ...flags]);
  await replica.waitForLine(/connected by (?:full|partial) resync/);
  await load.stop();
  await expectEqual(server, replica, dir.file("data", "current"));
  return { ...(await syncs(server)), stderr: replica.stderr };
}

describe.each(KINDS)("%s", (kind) => {
  test("the snapshot and the stream come at the same time, and are the primary's data", async () => {
    await using server = await startPrimary(kind);
    expect(await followed(server, undefined)).toMatchObject({ full: 1, twice: 1, partial: 0 });
    // Nothing on its way looked wrong to the primary.
    expect(server.log()).not.toMatch(/error|unexpected|timeout/i);
  });

  test("they come on one link with --sync-links 1, and where the snapshot is on the primary's disk", async () => {
    await using server = await startPrimary(kind);
    const one = await followed(server, undefined, ["--sync-links", "1"]);
    expect(one).toMatchObject({ full: 1, twice: 0 });
    await server.send("CONFIG", "SET", "repl-diskless-sync", "no");
    expect(await followed(server, undefined)).toMatchObject({ full: 2, twice: 0 });
  });

  test("a first link that breaks amid the payload costs no second snapshot", async () => {
    await using server = await startPrimary(kind);
    const breaks: Plan = [
      { direction: "to-replica", afterBytes: AMID_BYTES, effect: { kind: "reset" } },
    ];
    const told = await followed(server, [breaks]);
    expect(told).toMatchObject({ full: 1, twice: 1, partial: 1 });
    expect(told.stderr).toContain("connected by partial resync");
  });

  test("a second link that breaks amid the payload leaves nothing behind, and the next attempt takes two again", async () => {
    await using server = await startPrimary(kind);
    const breaks: Plan = [
      { direction: "to-replica", afterBytes: AMID_BYTES, effect: { kind: "reset" } },
    ];
    const told = await followed(server, [[], breaks]);
    expect(told).toMatchObject({ twice: 2, partial: 0 });
    expect(told.stderr).toContain("the second link: ");
  });

  test("where the second link is refused, the next attempt makes do with one", async () => {
    await using server = await startPrimary(kind);
    using dir = tempDir("two-links");
    await using load = await SeededLoad.start(server, SEED);
    // It is counted once it is served.
    await until(() => load.commands > 0, { what: "the load" });
    const { connected_clients: clients } = await server.info("clients");
    await server.send("CONFIG", "SET", "maxclients", Number(clients) + 1);
    const args = ["follow", server.url(), "--dir", dir.file("data"), "--port", "0"];
    await using replica = startReplica([...args, "--retry-max", "100ms"]);
    await replica.waitForLine(/second link.*max number of clients reached/);
    await replica.waitForLine(/connected by full resync/);
    expect((await syncs(server)).twice).toBe(1);
    await load.stop();
    await expectEqual(server, replica, dir.file("data", "current"));
  });

  test("several full syncs at once are each whole", async () => {
    await using server = await startPrimary(kind);
    using dir = tempDir("two-links");
    await using load = await SeededLoad.start(server, SEED);
    const begin = (name: string) =>
      startReplica(["follow", server.url(), "--dir", dir.file(name), "--port", "0"]);
    await using one = begin("one");
    await until(async () => Number((await syncs(server)).twice) > 0, { what: "the first sync" });
    await using two = begin("two");
    await using three = begin("three");
    for (const replica of [one, two, three]) await replica.waitForLine(/connected by full resync/);
    await load.stop();
    await server.acknowledgedBy(3);
    const digest = await server.digest();
    for (const [name, replica] of Object.entries({ one, two, three })) {
      expect((await replica.stop()).exitCode).toBe(0);
      await using copy = await bootCopy(kind, dir.file(name, "current"));
      expect(await copy.digest()).toBe(digest);
    }
  });
});

/** How fast the link that brings the snapshot is, and the stream, in bytes a second. */
const SLOW_LINK = 5_000_000;
const STREAM = 20_000_000;
/** In a sweep the primary's own limit, and a snapshot that takes longer than that takes to fill. */
const FULL = amount("TWO_LINKS_FULL", { sample: 0, full: 1 }) > 0;
const LIMIT = FULL ? undefined : "replica 16mb 0 0";
const SNAPSHOT_BYTES = FULL ? 100_000_000 : 24_000_000;

/** Writes so many bytes a second until it is disposed of. */
async function streaming(server: RealServer, bytesPerSecond: number) {
  const client = await server.connect();
  const value = "x".repeat(200_000);
  let isOver = false;
  const beganMs = performance.now();
  const run = async () => {
    for (let bytes = 0; !isOver; bytes += value.length) {
      const dueMs = beganMs + (bytes / bytesPerSecond) * 1_000;
      if (dueMs > performance.now()) await Bun.sleep(dueMs - performance.now());
      await client.send("SET", "written", value);
    }
  };
  const running = run();
  return {
    [Symbol.asyncDispose]: async () => {
      isOver = true;
      await running;
      client.close();
    },
  };
}

describe("a snapshot over a slow link, and a stream that fills the output buffer meanwhile", () => {
  const slow: Plan = [
    {
      direction: "to-replica",
      afterBytes: 0,
      effect: { kind: "rate", bytesPerSecond: SLOW_LINK },
    },
  ];

  async function startFull(): Promise<RealServer> {
    const limit = LIMIT === undefined ? [] : ["--client-output-buffer-limit", LIMIT];
    const args = ["--rdbcompression", "no", "--repl-backlog-size", "1mb", ...limit];
    const server = await startServer("redis-8.0", { args });
    await server.send("DEBUG", "POPULATE", SNAPSHOT_BYTES / 100_000, "key", 100_000);
    return server;
  }

  test("break one link again and again, which is told with what to raise", async () => {
    await using server = await startFull();
    using dir = tempDir("two-links");
    await using route = await proxy.route(server.port);
    await route.plan([], slow);
    const args = ["follow", `redis://127.0.0.1:${route.port}`, "--dir", dir.file("data")];
    const flags = ["--port", "0", "--sync-links", "1", "--retry-max", "100ms"];
    await using writing = await streaming(server, STREAM);
    await using replica = startReplica([...args, ...flags]);
    await replica.waitForLine(/2 times in a row/);
    await replica.waitForLine(/raise client-output-buffer-limit replica there/);
    await writing[Symbol.asyncDispose]();
  }, 180_000);

  test("do not break two", async () => {
    await using server = await startFull();
    using dir = tempDir("two-links");
    await using route = await proxy.route(server.port);
    // It is the snapshot that is slow.
    await route.plan([[], slow], slow);
    const args = ["follow", `redis://127.0.0.1:${route.port}`, "--dir", dir.file("data")];
    await using replica = startReplica([...args, "--port", "0"]);
    const writing = await streaming(server, STREAM);
    try {
      await replica.waitForLine(/connected by full resync/);
    } finally {
      await writing[Symbol.asyncDispose]();
    }
    expect((await syncs(server)).full).toBe(1);
    expect(replica.stderr).not.toContain("LINK_LOST");
    await expectEqual(server, replica, dir.file("data", "current"));
  }, 180_000);
});

test.each(KINDS)(
  "a %s that would take two links of ours gets one, and its log tells no error",
  async (kind) => {
    await using primary = await startPrimary(kind);
    using dir = tempDir("two-links");
    await using replica = startReplica([
      "follow",
      primary.url(),
      "--dir",
      dir.file("data"),
      "--port",
      "0",
    ]);
    const [, port] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    await replica.waitForLine(/connected by full resync/);
    await using downstream = await startServer(kind, {
      args: [...TWO_LINKS[kind]!, "--replicaof", "127.0.0.1", port!],
    });
    await until(async () => (await downstream.info("replication"))["master_link_status"] === "up", {
      what: "the downstream to be up",
    });
    await primary.send("SET", "last", 1);
    await until(async () => (await downstream.digest()) === (await primary.digest()), {
      what: "the downstream to have all",
    });
    const lines = downstream.log().split("\n");
    const told = lines.filter((line) => !line.includes("Memory overcommit"));
    expect(told.join("\n")).not.toMatch(/error|fail|warning|unexpected|can't|unable/i);
  },
);
