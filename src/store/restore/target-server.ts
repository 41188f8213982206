import * as fs from "node:fs";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { counted } from "../../base/quantity.ts";
import type { RdbHeader } from "../../rdb/header.ts";
import { formatOf, serverOf } from "../../rdb/made-by.ts";
import {
  formFor,
  isAtLeast,
  isSameRelease,
  loadersOf,
  loadsRdb,
  type RdbFormat,
  type Release,
  releaseName,
} from "../../rdb/releases.ts";
import type { Disk } from "../disk/disk.ts";
import { fileByteOf, filesOf, offsetOfByte } from "../generation/layout.ts";
import { knowersOf, type NewerCommand, newerCommands } from "../rewrite/newer-commands.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { soundHeaderOf } from "./rdb-header.ts";
import type { RestorePoint } from "./restore-point.ts";

/** The server that is to load a restore. */
export interface TargetServer extends Release {
  /** Set where it is started on the result: what it can't load then is the answer to a question, not a wrong argument. */
  readonly isStarted?: true;
}

/** The first Redis with an append-only directory, and the first that takes a snapshot in its append-only file. */
const FIRST_MULTIPART = 7;
const FIRST_PREAMBLE = 4;

/** Reads `redis-8.0`, `valkey-9.1`. @throws ReplicaError USAGE for anything else. */
export function parseTargetServer(text: string): TargetServer {
  const match = /^(redis|valkey)-(\d{1,3})\.(\d{1,3})$/.exec(text);
  const product = match?.[1] === "redis" ? "Redis" : "Valkey";
  const target: TargetServer = { product, major: Number(match?.[2]), minor: Number(match?.[3]) };
  if (match !== null && (product === "Redis" || isAtLeast(target, 7, 2))) return target;
  throw usageError(
    `--for is ${JSON.stringify(text.slice(0, 100))}: it takes a server and its version, such as redis-8.0, redis-7.2 or valkey-9.1`,
  );
}

/** Its name for people: `Redis 8.0`. */
export function targetName(target: TargetServer): string {
  return releaseName(target);
}

/** Refuses a server that is not the one named as the target. @throws ReplicaError USAGE. */
export function refuseOther(target: TargetServer, server: TargetServer): void {
  if (isSameRelease(target, server)) return;
  throw usageError(
    `the server to start is ${targetName(server)}, but --for names ${targetName(target)}: give one that is, with --server PATH`,
  );
}

/** Something that a server can't load. RESTORE_UNUSABLE where it was to be started on it, else USAGE. */
export function cannotLoad(target: TargetServer, what: string): ReplicaError {
  const message = `${targetName(target)} can't ${what}`;
  if (target.isStarted !== true) return usageError(message);
  return new ReplicaError("RESTORE_UNUSABLE", { retry: "never", message });
}

/**
 * Refuses a server that can't load what is to be restored.
 * @param header of the snapshot.
 * @param others names generations whose snapshots it can load, for people; empty where there is none.
 * @throws ReplicaError as `cannotLoad`, which names the servers that can, and what to do.
 */
export function refuseUnloadable(
  header: RdbFormat,
  layout: "multipart" | "single",
  target: TargetServer,
  others = "",
): void {
  if (!loadsRdb(target, header)) {
    const own = header.magic === "VALKEY" ? "Valkey's own " : "";
    const [what, then] =
      target.isStarted === true
        ? [`read the snapshot's format (${formatOf(header)})`, "; give a newer one with --server"]
        : [`load the snapshot, which is an RDB of ${own}version ${header.version}`, ""];
    const can = `${what}: ${loadersOf(header)} can`;
    throw cannotLoad(target, can + then + others + olderForm(header, target));
  }
  if (target.major < FIRST_PREAMBLE) {
    throw cannotLoad(target, "load a snapshot inside an append-only file: Redis 4.0 and later can");
  }
  if (target.major < FIRST_MULTIPART && layout === "multipart") {
    throw cannotLoad(
      target,
      "load an append-only directory: restore with --layout single, or for Redis 7.0 or later",
    );
  }
}

/** How the next snapshot can be one that the server loads; empty where it can't. */
function olderForm({ magic }: RdbFormat, target: TargetServer): string {
  if (magic !== "VALKEY" || formFor(target) !== "common") return "";
  const name = `${target.product.toLowerCase()}-${target.major}.${target.minor}`;
  return `; a new snapshot is one that it can read if the replica, or a backup, takes it with --rdb-for ${name}`;
}

/** How many commands are named that a server doesn't know. */
const MAX_NAMED = 5;

export interface FitOptions {
  readonly disk: Disk;
  readonly layout: "multipart" | "single";
  /** Undefined: any of the primary's kind and version, or later. */
  readonly target?: TargetServer | undefined;
  readonly signal: AbortSignal;
}

/**
 * Refuses a server that can't load what is to be restored, before anything is written: by the snapshot's format, then by the
 * commands of the log, which is read for that only where the primary may have known more commands than the server.
 * @param kept what else could be restored instead.
 * @throws ReplicaError as `cannotLoad`; DISK_FAILED; the signal's reason. Damage is no error here: it is told as it is read.
 */
export async function refuseUnfit(
  kept: { readonly generations: readonly KeptGeneration[] },
  { generation, offset }: RestorePoint,
  { disk, layout, target, signal }: FitOptions,
): Promise<void> {
  const header = target && soundHeaderOf(filesOf(generation).base);
  if (target === undefined || header === undefined) return;
  refuseUnloadable(header, layout, target, othersFor(target, kept.generations));
  if (isAsNewAs(target, header, generation)) return;
  const path = filesOf(generation).log;
  const logBytes = fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  const to = Math.min(logBytes, fileByteOf(generation, offset));
  const newer = await newerCommands({ disk, path, from: 0, to, signal }, target);
  const [first] = newer;
  if (first === undefined) return;
  const before = offsetOfByte(generation, Math.min(...newer.map(({ firstByte }) => firstByte)));
  const other = target.isStarted === true ? "give another one with --server" : "name another one";
  throw cannotLoad(
    target,
    `load the log up to offset ${offset}, since it doesn't know ${listed(newer, generation)}: ${other}, or restore what came before (--generation ${generation.id} --offset ${before})`,
  );
}

function listed(newer: readonly NewerCommand[], generation: KeptGeneration): string {
  const named = newer.slice(0, MAX_NAMED).map(({ name, count, firstByte, since }) => {
    const at = offsetOfByte(generation, firstByte);
    return `${name} (${counted(count, "time")}, first after offset ${at}; ${knowersOf(since)} do)`;
  });
  const more = newer.length - named.length;
  return named.join(", ") + (more === 0 ? "" : ` and ${more} more`);
}

/** Whether the server surely knows what the primary knew, as far as is known which server that was all the time. */
function isAsNewAs(target: Release, header: RdbHeader, generation: KeptGeneration): boolean {
  const [product, version = ""] = (serverOf(header) ?? "").split(" ");
  const [major = NaN, minor = NaN] = version.split(".").map(Number);
  if (product !== target.product.toLowerCase() || generation.replicationIds.length > 1)
    return false;
  return isAtLeast(target, major, minor);
}

/** Names the newest generation whose snapshot the server loads; empty where there is none. */
function othersFor(target: Release, generations: readonly KeptGeneration[]): string {
  const other = generations.findLast((one) => {
    const header = soundHeaderOf(filesOf(one).base);
    return header !== undefined && loadsRdb(target, header);
  });
  if (other === undefined) return "";
  return `; it can load the snapshot of generation ${other.id} (--generation ${other.id})`;
}
