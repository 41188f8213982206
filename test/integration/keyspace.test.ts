import { describe, expect, test } from "bun:test";
import { realClock } from "../../src/base/clock.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { follow } from "../support/following.ts";
import { RespClient } from "../support/resp-client.ts";
import { ReplyError } from "../support/resp.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const NO_KEYS = "ERR this replica keeps its data on disk and answers no key commands: ";

/** `redis_db_keys` and `redis_db_keys_expiring` as redis_exporter makes them of INFO, without those it adds. */
function exported(info: string): Record<string, [keys: number, expiring: number]> {
  const metrics: Record<string, [number, number]> = {};
  let section = "";
  for (const line of info.split("\n").map((one) => one.trim())) {
    if (line.startsWith("# ")) section = line.slice(2);
    const colon = line.indexOf(":");
    if (section !== "Keyspace" || !line.startsWith("db") || colon < 0) continue;
    // By position: keys, expires, the average time to live, and cached keys.
    const values = line
      .slice(colon + 1)
      .split(",")
      .map((pair) => Number(pair.split("=")[1]));
    expect(values.every(Number.isFinite)).toBe(true);
    metrics[line.slice(0, colon)] = [values[0]!, values[1]!];
  }
  return metrics;
}

/** What DBSIZE says of a database. */
async function sizeOf(client: RespClient, database: number): Promise<string> {
  await client.send("SELECT", database);
  const size = await client.send("DBSIZE").catch((error: unknown) => error);
  if (!(size instanceof ReplyError)) throw new Error(`DBSIZE answers ${String(size)}`);
  expect(size.message).toStartWith(NO_KEYS);
  return size.message.slice(NO_KEYS.length);
}

async function infoOf(client: RespClient): Promise<string> {
  return String(await client.send("INFO", "ALL"));
}

const timeIn = (info: string) => Number(/^keyspace_time:(\d+)\r$/m.exec(info)?.[1]);

async function fill(server: RealServer, database: number, keys: number): Promise<void> {
  await server.sendAll([
    ["SELECT", database],
    ...Array.from({ length: keys }, (_, n) => ["SET", `key:${n}`, "value"] as const),
    ["EXPIRE", "key:0", 100_000],
    ["SELECT", 0],
  ]);
}

/** Waits until exporters draw what they draw of this server. */
async function drawnAs(client: RespClient, server: RealServer): Promise<void> {
  const theirs = exported(String(await server.send("INFO", "ALL")));
  await until(async () => Bun.deepEquals(exported(await infoOf(client)), theirs), {
    what: "the primary's keys in INFO",
  });
}

const sourceIn = (info: string) => /^keyspace_source:(\w+)\r$/m.exec(info)?.[1];

describe.each(availableServers())("of a primary of %s", (kind) => {
  test("exporters draw what the primary says, also down a chain, and its last word after its end", async () => {
    using dir = tempDir("keyspace");
    await using primary = await startServer(kind);
    // The snapshot is empty: what it says of itself would be wrong from the first command on.
    await using replica = follow(primary.url(), realDisk, dir);
    await replica.connected();
    await using client = await RespClient.connect({ port: replica.port });
    await fill(primary, 0, 300);
    await fill(primary, 9, 20);
    // It is asked each 10 s, and at once by a new link.
    await primary.send("CLIENT", "KILL", "TYPE", "replica");
    await drawnAs(client, primary);
    expect(exported(await infoOf(client))).toEqual({ db0: [300, 1], db9: [20, 1] });
    expect(await sizeOf(client, 9)).toMatch(/^its primary had 20 in db9 at \S+$/);
    expect(await sizeOf(client, 5)).toMatch(/^its primary had 0 in db5 at \S+$/);

    using below = tempDir("keyspace");
    await using next = follow(`redis://127.0.0.1:${replica.port}`, realDisk, below);
    await next.connected();
    await using lower = await RespClient.connect({ port: next.port });
    await drawnAs(lower, primary);

    await primary.kill9();
    await until(() => replica.replica.state.at !== "connected", { what: "the end of the link" });
    const info = await infoOf(client);
    expect(exported(info)).toEqual({ db0: [300, 1], db9: [20, 1] });
    expect(sourceIn(info)).toBe("primary");
    const when = new Date(timeIn(info) * 1000).toISOString().slice(0, 19);
    expect(await sizeOf(client, 0)).toStartWith(`its primary had 300 in db0 at ${when}`);
  });

  test("exporters draw the snapshot's keys of a primary that may not be asked, and DBSIZE says how old they are", async () => {
    using dir = tempDir("keyspace");
    await using primary = await startServer(kind);
    await primary.send("ACL", "SETUSER", "copier", "on", ">secret", "+psync", "+replconf", "+ping");
    await fill(primary, 0, 300);
    const before = Math.floor(Date.now() / 1000);
    const url = `redis://copier:secret@127.0.0.1:${primary.port}`;
    await using replica = follow(url, realDisk, dir, { unprotected: "true" });
    await replica.connected();
    await using client = await RespClient.connect({ port: replica.port });

    const info = await infoOf(client);
    expect(exported(info)).toEqual({ db0: [300, 1] });
    expect(sourceIn(info)).toBe("snapshot");
    expect(timeIn(info)).toBeGreaterThanOrEqual(before);
    const when = new Date(timeIn(info) * 1000).toISOString();
    expect(await sizeOf(client, 0)).toBe(
      `its snapshot of ${when} has 300 in db0, and what came after it is not counted`,
    );
    expect(await sizeOf(client, 1)).toBe(
      `its snapshot of ${when} does not say how many are in db1`,
    );

    // A new snapshot tells anew.
    const library = "#!lua name=one\nredis.register_function('f', function() return 1 end)";
    await primary.send("FUNCTION", "LOAD", library);
    await primary.send("FLUSHDB");
    await fill(primary, 3, 70);
    await client.send("BGSAVE");
    await until(async () => exported(await infoOf(client))["db3"], { what: "the new count" });
    expect(exported(await infoOf(client))).toEqual({ db3: [70, 1] });
    expect(await sizeOf(client, 0)).toMatch(/ has 0 in db0, /);
    expect(await sizeOf(client, 3)).toMatch(/ has 70 in db3, /);
    expect(await sizeOf(client, 4)).toMatch(/ does not say how many are in db4$/);
  });
});

test("the primary's last word is kept though nobody read it, and though its clock is an hour ahead", async () => {
  using dir = tempDir("keyspace");
  await using primary = await startServer("redis-7.0");
  await fill(primary, 3, 5);
  const hourBehind = { ...realClock, now: () => realClock.now() - 3_600_000 };
  await using replica = follow(primary.url(), realDisk, dir, {}, undefined, hourBehind);
  await replica.connected();
  await fill(primary, 0, 10);
  await primary.acknowledgedBy(1);
  // It is asked each 10 s, and at once by a new link.
  await primary.send("CLIENT", "KILL", "TYPE", "replica");
  const { supply } = replica.replica;
  await until(() => supply.facts?.keyspace?.databases.length === 2, { what: "the answer" });
  await replica.connected();
  replica.replica.leave();
  await until(() => replica.replica.endedStream !== undefined, { what: "the end of the stream" });
  await using client = await RespClient.connect({ port: replica.port });
  const info = await infoOf(client);
  expect(exported(info)).toEqual({ db0: [10, 1], db3: [5, 1] });
  expect(sourceIn(info)).toBe("primary");

  // What replaced the data since then has its own word: that of another primary, which may not be asked.
  await using other = await startServer("redis-7.0");
  await other.send("ACL", "SETUSER", "default", "-info");
  await fill(other, 1, 7);
  await client.send("REPLICAOF", "127.0.0.1", other.port);
  await until(() => replica.replica.resyncs.full === 2, { what: "the other snapshot" });
  await replica.connected();
  expect(exported(await infoOf(client))).toEqual({ db1: [7, 1] });
  expect(sourceIn(await infoOf(client))).toBe("snapshot");
});

test("before anything is kept, and with an empty snapshot alone, no database is listed", async () => {
  using dir = tempDir("keyspace");
  await using primary = await startServer("redis-7.0");
  primary.freeze();
  await using replica = follow(primary.url(), realDisk, dir, { "ask-primary": "no" });
  await using client = await RespClient.connect({ port: replica.port });
  const unknown = await infoOf(client);
  expect(exported(unknown)).toEqual({});
  expect([sourceIn(unknown), timeIn(unknown)]).toEqual(["unknown", 0]);
  expect(await sizeOf(client, 0)).toBe("nothing is kept yet");
  primary.thaw();
  await replica.connected();
  await fill(primary, 0, 10);
  await primary.acknowledgedBy(1);
  expect(exported(await infoOf(client))).toEqual({});
  expect(await sizeOf(client, 9)).toMatch(/ has 0 in db9, and what came after it is not counted$/);
});
