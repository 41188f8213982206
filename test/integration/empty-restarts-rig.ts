import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { parseInfo } from "../../src/resp/info-text.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import {
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** The worst day of a primary without persistence. */
export interface WorstDay {
  readonly kind: ServerKind;
  /** The data directory, not there yet. */
  readonly data: string;
  /** What it holds, and whether it does before a replica follows it. */
  readonly right: (primary: RealServer) => Promise<unknown>;
  readonly isFilledBefore: boolean;
  /** How often it restarts empty. */
  readonly restarts: number;
  /** What somebody then fills it with, and how often a new snapshot is taken of that. */
  readonly wrong: (primary: RealServer) => Promise<unknown>;
  readonly saves: number;
  /** More of the command line: what only saves time. */
  readonly more?: readonly string[];
}

/** Restarts a primary without persistence, as a crash would, and waits until the replica follows it again. */
async function restartEmpty(primary: RealServer, client: RespClient): Promise<void> {
  const before = Number(await field(client, "generation"));
  await primary.kill9();
  await primary.restart();
  await until(async () => Number(await field(client, "generation")) > before, {
    what: "another generation",
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
  // On a small disk one may be under way already.
  const before = await until(
    async () => {
      const generation = await field(client, "generation");
      await client.send("BGSAVE");
      return generation;
    },
    { what: "a new snapshot to begin" },
  );
  await replica.waitForLine(new RegExp(`replaces generation ${before}:`));
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

/**
 * Lives through such a day with a replica that has no setting but where to find the primary, and where to keep what
 * comes; restores the moment before, and expects it to be whole.
 * @returns the ids of the generations that are kept in the end, and what the replica said.
 */
export async function worstDay(day: WorstDay): Promise<{ kept: number[]; told: string }> {
  const { kind, data, isFilledBefore } = day;
  using dir = tempDir("worst-day");
  await using primary = await startServer(kind);
  if (isFilledBefore) await day.right(primary);
  await using replica = startReplica([
    primary.url(),
    "--dir",
    data,
    "--port",
    "0",
    ...(day.more ?? []),
  ]);
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  await replica.waitForLine(/connected by full resync/);
  await using client = await RespClient.connect({ port: Number(port) });
  if (!isFilledBefore) await day.right(primary);
  const { atMs, digest } = await fill(primary, client);
  for (let n = 0; n < day.restarts; n++) {
    await restartEmpty(primary, client);
    expect(await field(client, "shrunken")).toBe("1");
  }
  await replica.waitForLine(/generation 2 begins with 0 keys .*less than half of generation 1/);
  await day.wrong(primary);
  for (let n = 0; n < day.saves; n++) await save(replica, client);
  await looked(client);
  const kept = readdirSync(`${data}/generations`).map(Number);
  expect(kept).toContain(1);
  expect(await restored(kind, dir, data, atMs)).toBe(digest);
  expect((await replica.stop()).exitCode).toBe(0);
  return { kept: kept.toSorted((a, b) => a - b), told: replica.stderr };
}
