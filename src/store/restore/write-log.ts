import { invariant } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import { type RdbHeader, replicationAux } from "../../rdb/header.ts";
import { encodeCommands, selectCommand } from "../../resp/encode.ts";
import { FrameScanner } from "../../resp/frame-scanner.ts";
import type { Verb } from "../../resp/verbs.ts";
import { readBlocks } from "../disk/blocks.ts";
import type { Disk } from "../disk/disk.ts";
import { fileByteOf, filesOf, offsetOfByte } from "../generation/layout.ts";
import type { Moment } from "../ledger/ledger-reader.ts";
import { dependsOnReplayTime, expiryRules, type TimeOf } from "../rewrite/expiry-rules.ts";
import { LogRewriter } from "../rewrite/log-rewriter.ts";
import { hasRefusedCommands, RefusedCommands } from "../rewrite/refused-commands.ts";
import type { Catalogue } from "./catalogue.ts";
import { damageError } from "./damage.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { type LogFindings, scanLog } from "./log-scan.ts";
import { headerOf } from "./rdb-header.ts";
import type { RestorePoint } from "./restore-point.ts";
import { noFile, type VerifyOptions } from "./verify.ts";

export interface LogOptions extends Pick<VerifyOptions, "disk" | "signal" | "onProgress"> {
  /**
   * Encoded commands to write behind the log, in pieces that may end anywhere; they begin in database 0, and end outside
   * of a transaction. It is called once, when everything before is written. A piece isn't read any more once the next
   * one is asked for.
   */
  readonly appendix?: (() => AsyncIterable<Uint8Array>) | undefined;
}

/** An open file, its path, and the byte to write from. */
export interface Destination {
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

/** What became of the commands of a log. */
interface RewrittenCommands {
  readonly rewrittenCommands: number;
  readonly leftOutCommands: number;
  readonly sweeps: number;
}

const AS_THEY_WERE: RewrittenCommands = { rewrittenCommands: 0, leftOutCommands: 0, sweeps: 0 };

interface CopiedLog extends RewrittenCommands {
  readonly findings: Pick<LogFindings, "commands" | "safeCut" | "highestDb">;
}

export interface WrittenLog extends CopiedLog {
  readonly bytes: number;
  readonly appendedCommands: number;
}

/**
 * Writes the log, up to the last safe cut before the point, and the appendix to the destination and makes it durable.
 * Closes the file in any case.
 */
export async function writeLog(
  catalogue: Catalogue,
  point: RestorePoint,
  to: Destination,
  options: LogOptions,
): Promise<WrittenLog> {
  try {
    const writer = new Appender(options.disk, to);
    const copied = await copyLog(catalogue, point, writer, options);
    const appendedCommands = await writeAppendix(writer, options);
    await options.disk.syncData(to.fd);
    return { ...copied, bytes: writer.bytes, appendedCommands };
  } finally {
    options.disk.close(to.fd);
  }
}

async function copyLog(
  catalogue: Catalogue,
  point: RestorePoint,
  writer: Appender,
  options: LogOptions,
): Promise<CopiedLog> {
  const { generation, offset } = point;
  const until = fileByteOf(generation, offset);
  const header = headerOf(filesOf(generation).base);
  /** Once it needs rewriting, the log is written in a second pass, up to the safe cut that the first one finds. */
  let isRewritten = false;
  const findings = await scanSoundLog(catalogue, point, options, (block, fromByte, verbs) => {
    isRewritten ||= needsRewriting(header, verbs);
    return isRewritten
      ? undefined
      : writer.write([block.subarray(0, Math.max(0, until - fromByte))]);
  });
  if (findings === undefined) {
    const { streamDb } = replicationAux(header);
    await writer.write([selectCommand(streamDb)]);
    return {
      findings: { commands: 0, safeCut: until, highestDb: streamDb },
      ...AS_THEY_WERE,
    };
  }
  if (isRewritten) {
    const how = { header, findings, timeOf: arrivalTimes(catalogue, generation) };
    return { findings, ...(await rewriteLog(generation, how, writer, options)) };
  }
  writer.cut(findings.safeCut);
  return { findings, ...AS_THEY_WERE };
}

/**
 * Scans the log up to the point, for a restore that needs all of it.
 * @param onBlock as in `scanLog`.
 * @returns undefined where the log is missing, and the point is the snapshot itself.
 * @throws ReplicaError DIRECTORY_DAMAGED, saying up to where it can be restored; DISK_FAILED; the signal's reason.
 */
export async function scanSoundLog(
  catalogue: Catalogue,
  { generation, offset }: RestorePoint,
  { disk, signal, onProgress }: Pick<LogOptions, "disk" | "signal" | "onProgress">,
  onBlock: Parameters<typeof scanLog>[4],
): Promise<LogFindings | undefined> {
  const until = fileByteOf(generation, offset);
  const file = filesOf(generation).log;
  const missing = noFile(file);
  if (missing !== undefined) {
    if (offset === generation.baseOffset) return undefined;
    const meaning = `only the snapshot can be restored (--generation ${generation.id} --offset ${generation.baseOffset})`;
    throw damageError({ file, byte: undefined, what: missing, meaning });
  }
  const segments = catalogue.segments(generation.id);
  const look: typeof onBlock = (block, fromByte, verbs) => {
    onProgress(file, Math.min(fromByte + block.length, until), until);
    return onBlock(block, fromByte, verbs);
  };
  const findings = await scanLog(disk, generation, segments, until, look, signal);
  if (findings.damage === undefined) return findings;
  const { from, what } = findings.damage;
  const last = Math.max(generation.baseOffset, offsetOfByte(generation, findings.soundEnd));
  const meaning = `everything up to offset ${last} can be restored (--generation ${generation.id} --offset ${last})`;
  throw damageError({ file, byte: from, what, meaning });
}

/** Returns what tells when the file up to a byte had arrived; asked for bytes in their order. */
export function arrivalTimes(catalogue: Catalogue, generation: KeptGeneration): TimeOf {
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

/** Whether the log can't be loaded as it came, by every server and at any time. */
function needsRewriting(header: RdbHeader, verbs: ReadonlySet<Verb>): boolean {
  return dependsOnReplayTime(header, verbs) || hasRefusedCommands(verbs);
}

interface RewriteHow {
  readonly header: RdbHeader;
  readonly findings: Pick<LogFindings, "safeCut" | "verbs">;
  readonly timeOf: TimeOf;
}

async function rewriteLog(
  generation: KeptGeneration,
  { header, findings: { safeCut, verbs }, timeOf: time }: RewriteHow,
  writer: Appender,
  { disk, signal }: LogOptions,
): Promise<RewrittenCommands> {
  writer.cut(0);
  const refused = new RefusedCommands(header);
  const rewriter = new LogRewriter([...expiryRules(header, verbs, time), refused]);
  const path = filesOf(generation).log;
  // One write each block: the pieces between rewritten commands may be a few bytes each.
  const rewrite = (block: Uint8Array) => writer.write([Buffer.concat(rewriter.push(block))]);
  await readBlocks(disk, path, { from: 0, to: safeCut }, rewrite, signal);
  const last = refused.atEnd();
  if (last.length > 0) await writer.write([encodeCommands(last)]);
  const { leftOutCommands, sweeps } = refused;
  const rewrittenCommands = rewriter.replacedCommands - leftOutCommands;
  return { rewrittenCommands, leftOutCommands, sweeps };
}

/** Pieces of an appendix are gathered up to this size, so that thousands of short commands are one write. */
const APPENDIX_BYTES = 256 * 1024;

/** Writes what comes behind the log. @returns how many commands that were. */
async function writeAppendix(writer: Appender, { appendix, signal }: LogOptions): Promise<number> {
  if (appendix === undefined) return 0;
  const logBytes = writer.bytes;
  const scanner = new FrameScanner({ limits: limits.frame });
  const gathered = new Uint8Array(APPENDIX_BYTES);
  const select = selectCommand(0);
  let bytes = 0;
  let commands = 0;
  const flush = async () => {
    if (bytes > 0) await writer.write([gathered.subarray(0, bytes)]);
    bytes = 0;
  };
  for await (const piece of appendix()) {
    signal.throwIfAborted();
    if (writer.bytes + bytes === logBytes) {
      gathered.set(select);
      bytes = select.length;
    }
    scanner.push(piece);
    while (scanner.next()) commands++;
    if (bytes + piece.length > gathered.length) await flush();
    if (piece.length > gathered.length) {
      await writer.write([piece]);
    } else {
      gathered.set(piece, bytes);
      bytes += piece.length;
    }
  }
  await flush();
  invariant(scanner.atBoundary && !scanner.inTransaction, "an appendix holds whole commands");
  return commands;
}
