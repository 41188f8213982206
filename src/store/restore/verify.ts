import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";
import { counted } from "../../base/quantity.ts";
import { RdbChecker, type RdbSummary } from "../../rdb/checker.ts";
import { readBlocks } from "../disk/blocks.ts";
import { Catalogue } from "./catalogue.ts";
import type { Damage } from "./damage.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { type Disk, diskError, openToRead } from "../disk/disk.ts";
import { linkTarget } from "../generation/current-link.ts";
import {
  CURRENT,
  DATABASE,
  filesOf,
  generationPath,
  offsetOfByte,
  fileByteOf,
} from "../generation/layout.ts";
import type { PieceCheckers } from "../pieces/piece-checkers.ts";
import { soundLogInPieces } from "./log-in-pieces.ts";
import { type LogFindings, scanLog } from "./log-scan.ts";
import { checkRdbInPieces } from "./rdb-in-pieces.ts";
import { hex64 } from "../../base/hex64.ts";

/** The result of checking one generation. */
export interface GenerationFindings {
  readonly generation: KeptGeneration;
  /** Undefined where the snapshot is damaged. */
  readonly rdb: RdbSummary | undefined;
  readonly log: LogFindings | undefined;
  /** The last offset that a restore can reach; undefined where the snapshot is damaged. */
  readonly restorableOffset: number | undefined;
  readonly damages: readonly Damage[];
}

export interface VerifyOptions {
  readonly disk: Disk;
  readonly signal: AbortSignal;
  /** Called with the bytes of a file that are checked so far. */
  readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
  /** Checks large files on all cores; they read the real disk. Without them one core checks everything. */
  readonly checkers?: PieceCheckers;
}

/**
 * Checks a whole RDB file: its header, its end and its checksum.
 * @throws ReplicaError BAD_PAYLOAD, BAD_CHECKSUM for a damaged one; DISK_FAILED.
 */
export async function verifyRdb(path: string, options: VerifyOptions): Promise<RdbSummary> {
  const { disk, signal, onProgress, checkers } = options;
  const totalBytes = sizeOf(disk, path);
  if (checkers?.pays(totalBytes) === true) {
    const found = await checkRdbInPieces(path, totalBytes, checkers, options);
    if (found !== undefined) return found;
  }
  const checker = new RdbChecker();
  const push = (block: Uint8Array, fromByte: number) => {
    checker.push(block);
    onProgress(path, fromByte + block.length, totalBytes);
  };
  await readBlocks(disk, path, { from: 0, to: Infinity }, push, signal);
  return checker.finish();
}

function sizeOf(disk: Disk, path: string): number {
  try {
    return disk.sizeOf(path);
  } catch (cause) {
    throw diskError("checking", path, cause);
  }
}

/**
 * Checks one generation: that its files exist, that its snapshot is as it was received, and that its log is
 * sound from the first byte to the last durable one.
 * @throws ReplicaError DISK_FAILED; the signal's reason.
 */
export async function verifyGeneration(
  catalogue: Catalogue,
  generation: KeptGeneration,
  options: VerifyOptions,
): Promise<GenerationFindings> {
  const ofBase: Damage[] = [];
  const ofLog: Damage[] = [];
  // Side by side: one waits for the disk while the other is checked.
  const [base, commands] = await Promise.allSettled([
    verifyBase(generation, ofBase, options),
    verifyLog(catalogue, generation, ofLog, options),
  ]);
  if (base.status === "rejected") throw base.reason;
  if (commands.status === "rejected") throw commands.reason;
  const [rdb, log] = [base.value, commands.value];
  const damages = [...ofBase, ...ofLog];
  verifyManifest(generation, damages);
  const logEnd = log === undefined ? generation.baseOffset : restorable(generation, log);
  return {
    generation,
    rdb,
    log,
    restorableOffset: rdb === undefined ? undefined : logEnd,
    damages,
  };
}

/** The last offset up to which the log can be restored. */
function restorable(generation: KeptGeneration, { soundEnd }: LogFindings): number {
  return Math.max(generation.baseOffset, offsetOfByte(generation, soundEnd));
}

/** Checks the snapshot of a generation. Undefined, with the reason in `damages`, where it is not as it was received. */
export async function verifyBase(
  generation: KeptGeneration,
  damages: Damage[],
  options: VerifyOptions,
): Promise<RdbSummary | undefined> {
  const file = filesOf(generation).base;
  const meaning = "nothing of this generation can be restored";
  try {
    const rdb = await verifyRdb(file, options);
    const crc64 = hex64(rdb.crc64);
    const isKept = generation.rdbCrc64 === undefined || generation.rdbCrc64 === crc64;
    if (isKept && rdb.bytes === generation.rdbBytes) return rdb;
    const wanted = generation.rdbCrc64 ?? "none";
    const what = `it has ${counted(rdb.bytes, "byte")} and the checksum ${crc64}; recorded were ${counted(generation.rdbBytes, "byte")} and the checksum ${wanted}`;
    damages.push({ file, byte: undefined, what, meaning });
  } catch (error) {
    const what = noFile(file);
    if (what !== undefined) {
      damages.push({ file, byte: undefined, what, meaning });
    } else if (isDamage(error)) {
      const bytes = fs.statSync(file).size;
      const isShort = bytes < generation.rdbBytes;
      const what = isShort
        ? `it ends at byte ${bytes}, though it had ${counted(generation.rdbBytes, "byte")}`
        : error.message;
      damages.push({ file, byte: isShort ? bytes : undefined, what, meaning });
    } else {
      throw error;
    }
  }
  return undefined;
}

function isDamage(error: unknown): error is ReplicaError {
  return (
    error instanceof ReplicaError && (error.code === "BAD_PAYLOAD" || error.code === "BAD_CHECKSUM")
  );
}

async function verifyLog(
  catalogue: Catalogue,
  generation: KeptGeneration,
  damages: Damage[],
  options: VerifyOptions,
): Promise<LogFindings | undefined> {
  const file = filesOf(generation).log;
  const missing = noFile(file);
  if (missing !== undefined) {
    const meaning = `of this generation, only the snapshot can be restored (--generation ${generation.id} --offset ${generation.baseOffset})`;
    damages.push({ file, byte: undefined, what: missing, meaning });
    return undefined;
  }
  const until = fileByteOf(generation, generation.durableOffset);
  const findings = await logFindings(catalogue, generation, until, options);
  if (findings.damage !== undefined) {
    const { from, what } = findings.damage;
    const offset = restorable(generation, findings);
    const meaning = `of this generation, everything up to offset ${offset} can be restored (--generation ${generation.id} --offset ${offset})`;
    damages.push({ file, byte: from, what, meaning });
  }
  const foreignBytes = sizeOf(options.disk, file) - until;
  // Only then: a replica may have started or stopped since the catalogue was read.
  if (foreignBytes > 0 && isAtRest(catalogue.path, generation)) {
    const what = `${counted(foreignBytes, "byte")} at its end did not come from replica`;
    const meaning = "everything that was durable can be restored; the next start cuts that off";
    damages.push({ file, byte: until, what, meaning });
  }
  return findings;
}

/** Scans a log up to the byte `until`: a large one on all cores, and on one again if it isn't sound. */
async function logFindings(
  catalogue: Catalogue,
  generation: KeptGeneration,
  until: number,
  { disk, signal, onProgress, checkers }: VerifyOptions,
): Promise<LogFindings> {
  const file = filesOf(generation).log;
  const onChecked = (toByte: number) => onProgress(file, Math.min(toByte, until), until);
  if (checkers?.pays(until) === true) {
    const segments = catalogue.segments(generation.id);
    const how = { disk, signal, onChecked };
    const found = await soundLogInPieces(generation, segments, until, checkers, how);
    if (found !== undefined) return found;
  }
  const segments = catalogue.segments(generation.id);
  const onBlock = (block: Uint8Array, fromByte: number) => onChecked(fromByte + block.length);
  return await scanLog(disk, generation, segments, until, onBlock, signal);
}

function isAtRest(path: string, generation: KeptGeneration): boolean {
  using now = new Catalogue(path);
  return now.isAtRest(generation);
}

/** The first bytes of a file, of which there may be any number. @throws Error of the disk. */
function beginningOf(file: string, bytes: number): string {
  const fd = openToRead(file);
  try {
    const buffer = Buffer.alloc(bytes);
    return buffer.toString("latin1", 0, fs.readSync(fd, buffer, 0, bytes, null));
  } finally {
    fs.closeSync(fd);
  }
}

/** Why there is nothing to read at this path; a pipe or a device there may have no end. */
export function noFile(path: string): string | undefined {
  const about = fs.statSync(path, { throwIfNoEntry: false });
  if (about === undefined) return "it is missing";
  return about.isFile() ? undefined : "it is no file";
}

/** Adds to `damages` where the manifest isn't the one that was written. */
export function verifyManifest(generation: KeptGeneration, damages: Damage[]): void {
  const { manifest: file, manifestText: wanted } = filesOf(generation);
  const meaning = "a stock server can't start from this folder itself; a restore writes a new one";
  const missing = noFile(file);
  if (missing !== undefined) {
    damages.push({ file, byte: undefined, what: missing, meaning });
    return;
  }
  let found: string;
  try {
    found = beginningOf(file, wanted.length + 1);
  } catch (cause) {
    throw diskError("reading", file, cause);
  }
  if (found === wanted) return;
  const byte = [...wanted].findIndex((character, at) => found[at] !== character);
  const what = "it is not the manifest that was written";
  damages.push({ file, byte: byte === -1 ? wanted.length : byte, what, meaning });
}

/**
 * Checks the database and the link `current`, whatever the state of the files.
 * @throws ReplicaError of the database; the signal's reason.
 */
export async function verifyCatalogue(
  catalogue: Catalogue,
  signal: AbortSignal,
): Promise<Damage[]> {
  const file = join(catalogue.path, DATABASE);
  const damages: Damage[] = [...catalogue.losses];
  const meaning = "its times, offsets and checksums may be wrong";
  for (const what of await catalogue.databaseComplaints(signal)) {
    damages.push({ file, byte: undefined, what, meaning });
  }
  const current = catalogue.generations.find(({ state }) => state === "current");
  const link = join(catalogue.path, CURRENT);
  const target = linkTarget(catalogue.path);
  const isRight = catalogue.cutShort !== undefined || target === generationPath(current?.id ?? 0);
  if (current !== undefined && !isRight) {
    const what = target === undefined ? "it is missing" : `it points at ${printable(target)}`;
    const means = `generation ${current.id} is the current one; the next start points the link at it`;
    damages.push({ file: link, byte: undefined, what, meaning: means });
  }
  return damages;
}
