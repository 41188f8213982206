import { describe, expect, test } from "bun:test";
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

describe.each(availableServers())("of a primary of %s", (kind) => {
  test("exporters draw the keys of the snapshot, and DBSIZE says how old they are", async () => {
    using dir = tempDir("keyspace");
    await using primary = await startServer(kind);
    await fill(primary, 0, 300);
    const before = Math.floor(Date.now() / 1000);
    await using replica = follow(primary.url(), realDisk, dir);
    await replica.connected();
    await using client = await RespClient.connect({ port: replica.port });

    const info = await infoOf(client);
    expect(exported(info)).toEqual(exported(String(await primary.send("INFO", "ALL"))));
    expect(exported(info)).toEqual({ db0: [300, 1] });
    expect(timeIn(info)).toBeGreaterThanOrEqual(before);
    const when = new Date(timeIn(info) * 1000).toISOString();
    expect(await sizeOf(client, 0)).toBe(
      `its snapshot of ${when} has 300 in db0, and what came after it is not counted`,
    );
    expect(await sizeOf(client, 1)).toBe(
      `its snapshot of ${when} does not say how many are in db1`,
    );

    // A new snapshot tells anew.
    await primary.send(
      "FUNCTION",
      "LOAD",
      "#!lua name=one\nredis.register_function('f', function() return 1 end)",
    );
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

test("before anything is kept, and with an empty snapshot, no database is listed", async () => {
  using dir = tempDir("keyspace");
  await using primary = await startServer("redis-7.0");
  primary.freeze();
  await using replica = follow(primary.url(), realDisk, dir);
  await using client = await RespClient.connect({ port: replica.port });
  expect(exported(await infoOf(client))).toEqual({});
  expect(timeIn(await infoOf(client))).toBe(0);
  expect(await sizeOf(client, 0)).toBe("nothing is kept yet");
  primary.thaw();
  await replica.connected();
  await fill(primary, 0, 10);
  await primary.acknowledgedBy(1);
  expect(exported(await infoOf(client))).toEqual({});
  expect(await sizeOf(client, 9)).toMatch(/ has 0 in db9, and what came after it is not counted$/);
});
