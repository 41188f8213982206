import { dirname, join } from "node:path";
import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { replicationAux } from "../../rdb/header.ts";
import type { Offset } from "../../base/history.ts";
import { selectCommand } from "../../resp/encode.ts";
import { readBlocks } from "../disk/blocks.ts";
import { type Catalogue, isGone } from "./catalogue.ts";
import { type Disk, diskError, freeBytesAt, writeWhole } from "../disk/disk.ts";
import { fileNames, filesOf, MANIFEST, offsetOfByte, fileByteOf } from "../generation/layout.ts";
import { ExpiryRewriter } from "./expiry-rewriter.ts";
import { dependsOnReplayTime, type ExpiryRule, expiryRules, type TimeOf } from "./expiry-rules.ts";
import { type LogFindings, scanLog } from "./log-scan.ts";
import type { RestorePoint } from "./restore-point.ts";
import type { Moment } from "../ledger/ledger-reader.ts";
import { beginTarget, findTarget, publishTarget, type Readers } from "./restore-target.ts";
import { noFile, verifyBase, verifyManifest, type VerifyOptions } from "./verify.ts";
import { type Damage, damageError, describeDamage } from "./damage.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { headerOf } from "./rdb-header.ts";

/** `multipart`: Redis 7 and later; `single`: one append-only file that begins with the RDB, Redis 4 and later. */
export type Layout = "multipart" | "single";

/** The folder and the file that a stock server loads by default. */
export const APPEND_DIR = "appendonlydir";
export const SINGLE_FILE = "appendonly.aof";
/** The files in that folder are named as a server names its first ones, whatever the generation's number. */
export const RESTORED = fileNames(1);

export interface RestoreOptions extends VerifyOptions {
  readonly layout: Layout;
  /** Who may read the result; undefined: nobody who couldn't read what it is restored from. */
  readonly mode?: number | undefined;
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
  readonly rdbBytes: number;
  readonly logBytes: number;
  /** Damage that did not matter for the restore. */
  readonly warnings: readonly string[];
}

/**
 * Writes into `target` the files that a stock server starts from. It writes them under a temporary name beside
 * the target, or inside an existing one, checks them on the way, syncs and renames: a restore that fails
 * leaves nothing.
 * @param target a folder that is new or empty, outside of the data directory.
 * @throws ReplicaError USAGE for any other target; DIRECTORY_DAMAGED, saying what can still be restored;
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
function readersOf(
  { path }: Catalogue,
  generation: KeptGeneration,
  { mode }: RestoreOptions,
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

/** An open file, its path, and the byte to write from. */
interface Destination {
  readonly fd: number;
  readonly path: string;
  readonly at: number;
}

/** Appends pieces to a file. */
class Appender {
  readonly #disk: Disk;
  readonly #to: Destination;
  bytes = 0;

  constructor(disk: Disk, to: Destination) {
    this.#disk = disk;
    this.#to = to;
  }

  async write(pieces: Uint8Array[]): Promise<void> {
    await this.#disk.write(this.#to.fd, pieces, this.#to.at + this.bytes);
    for (const piece of pieces) this.bytes += piece.length;
  }

  /** Cuts what was written to its first `bytes` bytes. */
  cut(bytes: number): void {
    if (bytes < this.bytes) this.#disk.truncate(this.#to.path, this.#to.at + bytes);
    this.bytes = bytes;
  }
}

interface WrittenLog {
  readonly findings: Pick<LogFindings, "commands" | "safeCut">;
  readonly bytes: number;
  readonly rewrittenCommands: number;
}

/**
 * Writes the log, up to the last safe cut before the point, to the destination and makes it durable.
 * Closes the file in any case.
 */
async function writeLog(
  catalogue: Catalogue,
  point: RestorePoint,
  to: Destination,
  options: RestoreOptions,
): Promise<WrittenLog> {
  try {
    const written = await copyLog(catalogue, point, to, options);
    await options.disk.syncData(to.fd);
    return written;
  } finally {
    options.disk.close(to.fd);
  }
}

async function copyLog(
  catalogue: Catalogue,
  { generation, offset }: RestorePoint,
  to: Destination,
  options: RestoreOptions,
): Promise<WrittenLog> {
  const until = fileByteOf(generation, offset);
  const { base, log: file } = filesOf(generation);
  const writer = new Appender(options.disk, to);
  const header = headerOf(base);
  const missing = noFile(file);
  if (missing !== undefined) {
    if (offset > generation.baseOffset) {
      const meaning = `only the snapshot can be restored (--generation ${generation.id} --offset ${generation.baseOffset})`;
      throw damageError({ file, byte: undefined, what: missing, meaning });
    }
    await writer.write([selectCommand(replicationAux(header).streamDb)]);
    const findings = { commands: 0, safeCut: until };
    return { findings, bytes: writer.bytes, rewrittenCommands: 0 };
  }
  /** Once it needs rewriting, the log is written in a second pass, up to the safe cut that the first one finds. */
  let isRewritten = false;
  const segments = catalogue.segments(generation.id);
  const findings = await scanLog(
    options.disk,
    generation,
    segments,
    until,
    (block, fromByte, verbs) => {
      options.onProgress(file, Math.min(fromByte + block.length, until), until);
      isRewritten ||= dependsOnReplayTime(header, verbs);
      return isRewritten
        ? undefined
        : writer.write([block.subarray(0, Math.max(0, until - fromByte))]);
    },
    options.signal,
  );
  if (findings.damage !== undefined) {
    const { from, what } = findings.damage;
    const last = Math.max(generation.baseOffset, offsetOfByte(generation, findings.soundEnd));
    const meaning = `everything up to offset ${last} can be restored (--generation ${generation.id} --offset ${last})`;
    throw damageError({ file, byte: from, what, meaning });
  }
  if (isRewritten) {
    const rules = expiryRules(header, findings.verbs, timeOf(catalogue, generation));
    return await rewriteLog(generation, findings, rules, writer, options);
  }
  writer.cut(findings.safeCut);
  return { findings, bytes: findings.safeCut, rewrittenCommands: 0 };
}

/** Returns what tells when the file up to a byte had arrived; asked for bytes in their order. */
function timeOf(catalogue: Catalogue, generation: KeptGeneration): TimeOf {
  let moments: readonly Moment[] = [];
  let next = 0;
  return (end) => {
    const offset = offsetOfByte(generation, end);
    while (next < moments.length && moments[next]!.offset < offset) next++;
    if (next === moments.length)
      [moments, next] = [catalogue.momentsFrom(generation.id, offset), 0];
    const moment = moments[next];
    return moment && { atMs: moment.atMs, until: fileByteOf(generation, moment.offset) };
  };
}

async function rewriteLog(
  generation: KeptGeneration,
  findings: Pick<LogFindings, "commands" | "safeCut">,
  rules: readonly ExpiryRule[],
  writer: Appender,
  { disk, signal }: RestoreOptions,
): Promise<WrittenLog> {
  writer.cut(0);
  const rewriter = new ExpiryRewriter(rules);
  const path = filesOf(generation).log;
  const range = { from: 0, to: findings.safeCut };
  // One write each block: the pieces between rewritten commands may be a few bytes each.
  const rewrite = (block: Uint8Array) => writer.write([Buffer.concat(rewriter.push(block))]);
  await readBlocks(disk, path, range, rewrite, signal);
  return { findings, bytes: writer.bytes, rewrittenCommands: rewriter.rewrittenCommands };
}
