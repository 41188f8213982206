import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { parseInfo } from "../../src/resp/info-text.ts";
import { fillAllTypes } from "../support/fill.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import {
  availableServers,
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { amount, IS_FULL } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const WRONG_KEYS = 4_000;
const SAVES = 3;

/** Restarts a primary without persistence, as a crash would, and waits until the replica follows it again. */
async function restartEmpty(primary: RealServer, client: RespClient): Promise<void> {
  const before = Number(await field(client, "generation"));
  await primary.kill9();
  await primary.restart();
  await until(async () => Number(await field(client, "generation")) > before, {
    what: "another generation",
    timeoutMs: 50_000,
  });
}

async function field(client: RespClient, name: string): Promise<string> {
  const info = parseInfo(String(await client.send("INFO", "everything")));
  return info.get(name) ?? "";
}

/** Waits until the replica has looked at what it keeps: it does once a second where a generation is new. */
async function looked(client: RespClient): Promise<void> {
  const since = Number(await field(client, "uptime_in_seconds"));
  await until(async () => Number(await field(client, "uptime_in_seconds")) > since + 2, {
    what: "another look",
  });
}

/** Takes a new snapshot, and waits until it is current. */
async function save(replica: ReplicaProcess, client: RespClient): Promise<void> {
  const before = await field(client, "generation");
  await client.send("BGSAVE");
  await replica.waitForLine(new RegExp(`replaces generation ${before}:`), 50_000);
}

/** Fills a primary that a replica follows; the moment before it all goes wrong. */
async function fill(primary: RealServer, client: RespClient) {
  for (let n = 0; n < 100; n++) await primary.send("SET", `through the stream:${n}`, n);
  const end = await primary.offset();
  await until(async () => Number(await field(client, "durable_offset")) >= end, { what: "a mark" });
  return { atMs: Date.now(), digest: await primary.digest() };
}

/** Restores a moment with the program, and boots a stock server on it: its digest. */
async function restored(kind: ServerKind, dir: TempDir, data: string, atMs: number) {
  const target = dir.file("restored");
  const argv = ["restore", data, target, "--at", String(atMs / 1000)];
  const { exitCode, stderr } = await runReplica(argv);
  expect([exitCode, stderr]).toEqual([0, stderr]);
  const args = ["--appendonly", "yes", "--aof-load-truncated", "no"];
  await using server = await bootCopyOfDir(kind, target, { args });
  return await server.digest();
}

async function worstDay(kind: ServerKind, restarts: number, isFilledBefore: boolean) {
  using dir = tempDir("empty-restarts");
  const data = dir.file("data");
  await using primary = await startServer(kind);
  if (isFilledBefore) await fillAllTypes(primary, { keys: 3_000, seed: 5 });
  // No setting but where to find it, and where to keep what comes.
  await using replica = startReplica([primary.url(), "--dir", data, "--port", "0"]);
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  await replica.waitForLine(/connected by full resync/);
  await using client = await RespClient.connect({ port: Number(port) });
  if (!isFilledBefore) await fillAllTypes(primary, { keys: 3_000, seed: 5 });
  const { atMs, digest } = await fill(primary, client);
  for (let n = 0; n < restarts; n++) {
    await restartEmpty(primary, client);
    expect(await field(client, "shrunken")).toBe("1");
  }
  await replica.waitForLine(/generation 2 begins with 0 keys .*less than half of generation 1/);
  await primary.sendAll(Array.from({ length: WRONG_KEYS }, (_, n) => ["SET", `wrong:${n}`, "x"]));
  for (let n = 0; n < SAVES; n++) await save(replica, client);
  await looked(client);
  const kept = readdirSync(`${data}/generations`).map(Number);
  expect(kept).toContain(1);
  // Blank ones don't pile up: one of worth, the first blank one, the last three, those saved.
  expect(kept.length).toBeLessThanOrEqual(5 + SAVES);
  expect(await restored(kind, dir, data, atMs)).toBe(digest);
  expect((await replica.stop()).exitCode).toBe(0);
  // Beside an empty snapshot any key is more: that one stays for a day from there on.
  if (!isFilledBefore) return;
  await using again = startReplica([primary.url(), "--dir", data, "--port", "0"]);
  await again.waitForLine(/what is current has less than half of generation 1/);
}

const kinds = IS_FULL ? availableServers() : (["redis-7.0"] as const);

test.concurrent.each(kinds)(
  "%s: three empty restarts, a wrong fill and three BGSAVEs, and the moment before is there",
  async (kind) => await worstDay(kind, 3, true),
  120_000,
);

test.concurrent(
  "the same after many empty restarts, of a primary that was filled through the stream",
  async () =>
    await worstDay("redis-7.0", amount("EMPTY_RESTARTS_REAL", { sample: 3, full: 50 }), false),
  600_000,
);
