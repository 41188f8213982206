import { Database } from "bun:sqlite";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { RdbChecker } from "../../src/rdb/checker.ts";
import type { Random } from "../support/fill.ts";
import type { ReplicaProcess } from "../support/replica-process.ts";
import type { RealServer } from "../support/servers.ts";

const BASE = ".base.rdb";

/** The aim of a kill. The phase that it hit is determined afterwards. */
export type Aim = "anywhere" | "handshake" | "payload" | "finishing" | "stream";
/** The phase in which the kill hit the replica. */
export type Phase = "start" | "handshake" | "bulk header" | "payload" | "finishing" | "stream";

/** The primary's counters. */
export interface Counted {
  readonly full: number;
  readonly partial: number;
  readonly refused: number;
  readonly connections: number;
}

export async function counted(server: RealServer): Promise<Counted> {
  const stats = await server.info("stats");
  return {
    full: Number(stats["sync_full"]),
    partial: Number(stats["sync_partial_ok"]),
    refused: Number(stats["sync_partial_err"]),
    connections: Number(stats["total_connections_received"]),
  };
}

/** Whether the next start will find a whole generation. */
export function keepsSomethingWhole(dir: string): boolean {
  const path = join(dir, "replica.db");
  if (!existsSync(path)) return false;
  const db = new Database(path, { readonly: true });
  try {
    return db.query("SELECT 1 FROM generations WHERE state = 'current'").get() !== null;
  } catch (error) {
    // It was killed before it had created its tables.
    if (error instanceof Error && error.message.includes("no such table")) return false;
    throw error;
  } finally {
    db.close();
  }
}

function filesOfGenerations(dir: string): string[] {
  const generations = join(dir, "generations");
  try {
    return readdirSync(generations, { recursive: true, encoding: "utf8" }).map((name) =>
      join(generations, name),
    );
  } catch {
    // The folder may disappear meanwhile.
    return [];
  }
}

function temporaryIn(dir: string): string | undefined {
  return filesOfGenerations(dir).find((path) => /\/temp-\d+\.\d+\.rdb$/.test(path));
}

function isWholeRdb(path: string): boolean {
  const checker = new RdbChecker();
  try {
    checker.push(readFileSync(path));
    checker.finish();
    return true;
  } catch {
    return false;
  }
}

/** Determines the phase of the kill from the primary's counters and the files. */
export function phaseOf(
  replica: ReplicaProcess,
  dir: string,
  before: Counted,
  after: Counted,
): Phase {
  if (/connected by (full|partial) resync/.test(replica.stderr)) return "stream";
  if (after.partial > before.partial) return "stream";
  if (after.full > before.full) {
    // Promoted in the database, but not logged yet.
    if (keepsSomethingWhole(dir)) return "finishing";
    const temporary = temporaryIn(dir);
    if (temporary !== undefined) return isWholeRdb(temporary) ? "finishing" : "payload";
    return filesOfGenerations(dir).some((path) => path.endsWith(BASE))
      ? "finishing"
      : "bulk header";
  }
  return after.connections > before.connections ? "handshake" : "start";
}

/** Polls without pauses, for moments that last only a few milliseconds. */
export async function soon(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const startedMs = performance.now();
  while (!(await condition())) {
    if (performance.now() - startedMs > 50_000) throw new Error(`waited for ${what}, in vain`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Waits for the aimed-at moment, and then for a random time. */
export async function waitFor(
  aim: Aim,
  replica: ReplicaProcess,
  server: RealServer,
  dir: string,
  before: Counted,
  random: Random,
): Promise<void> {
  let delayMs = 0;
  switch (aim) {
    case "anywhere":
      delayMs = random.below(700);
      break;
    case "handshake":
      await soon(
        "a connection",
        async () => (await counted(server)).connections > before.connections,
      );
      delayMs = random.below(3);
      break;
    case "payload":
      await soon("a temporary file", () => temporaryIn(dir) !== undefined);
      delayMs = random.below(60);
      break;
    case "finishing":
      await soon("a whole snapshot", () =>
        filesOfGenerations(dir).some((path) => path.endsWith(BASE)),
      );
      delayMs = Math.max(0, random.below(5) - 2);
      break;
    case "stream":
      await replica.waitForLine(/connected by/);
      delayMs = random.below(400);
      break;
  }
  if (delayMs > 0) await Bun.sleep(delayMs);
}
