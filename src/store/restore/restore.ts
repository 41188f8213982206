import { dirname, join } from "node:path";
import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { counted } from "../../base/quantity.ts";
import type { Offset } from "../../base/history.ts";
import { type Catalogue, isGone } from "./catalogue.ts";
import { type Disk, diskError, freeBytesAt, writeWhole } from "../disk/disk.ts";
import { fileNames, filesOf, MANIFEST, offsetOfByte, fileByteOf } from "../generation/layout.ts";
import { readFirstDatabase } from "../generation/snapshot-keys.ts";
import type { RestorePoint } from "./restore-point.ts";
import { beginTarget, findTarget, publishTarget, type Readers } from "./restore-target.ts";
import { verifyBase, verifyManifest, type VerifyOptions } from "./verify.ts";
import { type Damage, damageError, describeDamage } from "./damage.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { refuseUnfit, type TargetServer } from "./target-server.ts";
import { type LogOptions, writeLog, type WrittenLog } from "./write-log.ts";

/** `multipart`: Redis 7 and later; `single`: one append-only file that begins with the RDB, Redis 4 and later. */
export type Layout = "multipart" | "single";

/** The folder and the file that a stock server loads by default. */
export const APPEND_DIR = "appendonlydir";
export const SINGLE_FILE = "appendonly.aof";
/** The files in that folder are named as a server names its first ones, whatever the generation's number. */
export const RESTORED = fileNames(1);

export interface RestoreOptions extends VerifyOptions, LogOptions {
  readonly layout: Layout;
  /** Who may read the result; undefined: nobody who couldn't read what it is restored from. */
  readonly mode?: number | undefined;
  /** The server that is to load it; undefined: any of the primary's kind and version, or later. */
  readonly target?: TargetServer | undefined;
}

/** The result of a restore. */
export interface Restored {
  readonly dir: string;
  readonly layout: Layout;
  readonly generation: KeptGeneration;
  /** The offset after the last restored command. */
  readonly offset: Offset;
  /** When that command had arrived, in milliseconds since 1970; undefined where no mark tells. */
  readonly atMs: number | undefined;
  /** Commands after the snapshot, and how many of them were rewritten: they depended on the time of the replay. */
  readonly commands: number;
  readonly rewrittenCommands: number;
  /** Those of them that not every server loads: they were left out. */
  readonly leftOutCommands: number;
  /**
   * How often all keys of some slots are removed, in place of those or of what unfinished migrations brought. One that an
   * appendix has isn't counted.
   */
  readonly sweeps: number;
  /** Commands after all these, from `RestoreOptions.appendix`. */
  readonly appendedCommands: number;
  /** The highest database that the log selects, or that the snapshot begins with; others in the snapshot aren't looked for. */
  readonly highestDb: number;
  readonly rdbBytes: number;
  readonly logBytes: number;
  /** Damage that did not matter for the restore. */
  readonly warnings: readonly string[];
}

/** Says for people what a restore is without, where that is anything. */
export function describeLeftOut({
  leftOutCommands,
  sweeps,
}: Pick<Restored, "leftOutCommands" | "sweeps">): string {
  const instead =
    sweeps === 0
      ? ""
      : `; the keys of slots that had moved are removed in their place (${counted(sweeps, "time")})`;
  return `without ${counted(leftOutCommands, "command")} that not every server loads${instead}`;
}

/**
 * Writes into `target` the files that a stock server starts from. It writes them under a temporary name beside
 * the target, or inside an existing one, checks them on the way, syncs and renames: a restore that fails
 * leaves nothing.
 * @param target a folder that is new or empty, outside of the data directory.
 * @throws ReplicaError USAGE for any other target, and for a server that can't load the snapshot; DIRECTORY_DAMAGED, saying what can still be restored;
 * DISK_FULL, DISK_FAILED; the signal's reason.
 */
export async function restore(
  catalogue: Catalogue,
  point: RestorePoint,
  target: string,
  options: RestoreOptions,
): Promise<Restored> {
  const place = findTarget(target, catalogue.path);
  const { disk, layout } = options;
  const { generation, offset } = point;
  await refuseUnfit(catalogue, point, options);
  // What the file lacks is damage, which is found as it is read.
  const logBytes = fs.statSync(filesOf(generation).log, { throwIfNoEntry: false })?.size ?? 0;
  const copiedBytes = Math.min(logBytes, fileByteOf(generation, offset));
  refuseLongLog(disk, dirname(place.temporary), copiedBytes);
  try {
    beginTarget(place);
    const restored = await write(catalogue, point, place.temporary, options);
    if (isGone(catalogue.path, generation.id)) throw goneError(generation);
    const entry = layout === "multipart" ? APPEND_DIR : SINGLE_FILE;
    await publishTarget(disk, place, entry, readersOf(catalogue, generation, options));
    return { ...restored, dir: place.path };
  } catch (cause) {
    fs.rmSync(place.temporary, { recursive: true, force: true });
    options.signal.throwIfAborted();
    if (isGone(catalogue.path, generation.id)) throw goneError(generation);
    throw diskError("restoring to", place.path, cause);
  }
}

/** Who could read the generation: whoever could enter its folders and read its files. */
export function readersOf(
  { path }: Pick<Catalogue, "path">,
  generation: KeptGeneration,
  { mode }: Pick<RestoreOptions, "mode">,
): Readers {
  if (mode !== undefined) return { mode };
  const { base, log } = filesOf(generation);
  return {
    source: { folders: [path, dirname(generation.dir), generation.dir], files: [base, log] },
  };
}

/** A removed generation may have been partly read: its marks go first, then its files one by one. */
function goneError({ id }: KeptGeneration): ReplicaError {
  return new ReplicaError("DISK_FAILED", {
    retry: "never",
    message: `generation ${id} was removed while it was being restored: restore another generation, or keep more with --keep`,
  });
}

/**
 * Refuses a log larger than the free space. The snapshot is not counted: a reflink takes no space, and only
 * the copy itself tells whether the file system makes one.
 */
function refuseLongLog(disk: Disk, dir: string, logBytes: number): void {
  const free = freeBytesAt(disk, dir);
  if (logBytes <= free) return;
  throw new ReplicaError("DISK_FULL", {
    message: `the log up to that point has ${logBytes} bytes, ${dir} has room for ${free}: make room`,
  });
}

async function write(
  catalogue: Catalogue,
  point: RestorePoint,
  temporary: string,
  options: RestoreOptions,
): Promise<Restored> {
  const { disk, layout } = options;
  const { generation } = point;
  const written =
    layout === "multipart"
      ? await writeFolder(catalogue, point, join(temporary, APPEND_DIR), options)
      : await writeFile(catalogue, point, join(temporary, SINGLE_FILE), options);
  await disk.syncDir(temporary);
  const offset = offsetOfByte(generation, written.findings.safeCut);
  return {
    dir: temporary,
    layout,
    generation,
    offset,
    atMs: (catalogue.momentOf(generation.id, offset) ?? generation.last)?.atMs,
    commands: written.findings.commands,
    rewrittenCommands: written.rewrittenCommands,
    leftOutCommands: written.leftOutCommands,
    sweeps: written.sweeps,
    appendedCommands: written.appendedCommands,
    highestDb: Math.max(
      written.findings.highestDb,
      readFirstDatabase(filesOf(generation).base)?.db ?? 0,
    ),
    rdbBytes: generation.rdbBytes,
    logBytes: written.bytes,
    warnings: warningsOf(generation),
  };
}

/** Writes both files at a time: one waits for the disk, the other for the CPU. */
async function writeFolder(
  catalogue: Catalogue,
  point: RestorePoint,
  dir: string,
  options: RestoreOptions,
): Promise<WrittenLog> {
  const { disk } = options;
  disk.makeDir(dir);
  const log = join(dir, RESTORED.log);
  // Before anything is in flight: a failure here leaves nothing to wait for.
  const to = { path: log, fd: disk.create(log), at: 0 };
  const [base, written] = await Promise.allSettled([
    writeBase(point.generation, join(dir, RESTORED.base), options),
    writeLog(catalogue, point, to, options),
  ]);
  if (base.status === "rejected") throw base.reason;
  if (written.status === "rejected") throw written.reason;
  await writeWhole(disk, join(dir, MANIFEST), new TextEncoder().encode(RESTORED.manifestText));
  return written.value;
}

async function writeFile(
  catalogue: Catalogue,
  point: RestorePoint,
  path: string,
  options: RestoreOptions,
): Promise<WrittenLog> {
  await writeBase(point.generation, path, options);
  const to = { path, fd: options.disk.openExisting(path), at: point.generation.rdbBytes };
  return await writeLog(catalogue, point, to, options);
}

function warningsOf(generation: KeptGeneration): string[] {
  const damages: Damage[] = [];
  verifyManifest(generation, damages);
  return damages.map(describeDamage);
}

/** Copies the snapshot while checking it, and makes the copy durable. */
async function writeBase(
  generation: KeptGeneration,
  to: string,
  options: RestoreOptions,
): Promise<void> {
  const damages: Damage[] = [];
  const [checked, copied] = await Promise.allSettled([
    verifyBase(generation, damages, options),
    options.disk.copy(filesOf(generation).base, to),
  ]);
  if (checked.status === "rejected") throw checked.reason;
  const [damage] = damages;
  if (damage !== undefined) throw damageError(damage);
  if (copied.status === "rejected") throw copied.reason;
  // A copy of a file that is write-protected is so, too.
  fs.chmodSync(to, 0o600);
  const fd = options.disk.openExisting(to);
  try {
    await options.disk.syncData(fd);
  } finally {
    options.disk.close(fd);
  }
}
