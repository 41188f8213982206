import { hex64 } from "../../base/hex64.ts";
import { crc64OfBoth } from "../../rdb/crc64.ts";
import { FrameError } from "../../resp/frame-scanner.ts";
import { readBlocks } from "../disk/blocks.ts";
import type { Disk } from "../disk/disk.ts";
import { fileByteOf, filesOf } from "../generation/layout.ts";
import type { KnownSegment } from "../ledger/ledger-reader.ts";
import { CommandCount, type FoundCommands } from "../pieces/command-count.ts";
import type { Piece } from "../pieces/piece.ts";
import type { PieceCheckers } from "../pieces/piece-checkers.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { checkFirst, type LogFindings } from "./log-scan.ts";

/** A piece of so many runs ends early: joining them takes some 10 ms, during which no signal is seen. */
const MAX_RUNS = 10_000;

/** The bytes of a piece up to `to`, from the run before or the piece's beginning on. */
interface Run {
  readonly to: number;
  /** The segment that they belong to; undefined where none has them. */
  readonly segment: KnownSegment | undefined;
  /** Whether the segment ends with them. */
  readonly isLast: boolean;
}

interface LogPiece extends Piece {
  readonly runs: readonly Run[];
}

/**
 * Scans a log on several cores, and finds in a sound one what `scanLog` finds.
 * @param until a byte of the file.
 * @param onChecked is called with the byte up to which the log is sound so far.
 * @returns undefined where anything is not as it should be: `scanLog` tells what, and where. So what is said of damage
 * never depends on the number of cores.
 * @throws ReplicaError DISK_FAILED; the signal's reason.
 */
export async function soundLogInPieces(
  generation: KeptGeneration,
  segments: Iterable<KnownSegment>,
  until: number,
  checkers: PieceCheckers,
  options: {
    readonly disk: Disk;
    readonly signal: AbortSignal;
    readonly onChecked: (toByte: number) => void;
  },
): Promise<LogFindings | undefined> {
  const path = filesOf(generation).log;
  const plan = new LogPlan(path, segments, generation, until, checkers.pieceBytes);
  const sums = new SegmentSums();
  const commands = new CommandJoin(path, generation, options);
  const isSound = await checkers.check(plan.pieces(), async (piece, findings) => {
    if (findings.bytes < piece.to - piece.from) return false;
    if (!sums.add(piece as LogPiece, findings.crc64s)) return false;
    if (!(await commands.add(piece.commandsTo, findings.commands))) return false;
    options.onChecked(piece.to);
    return true;
  });
  if (!isSound || plan.isOdd) return undefined;
  const { safeCommands, safeCut, verbs, highestDb } = commands.found;
  return {
    commands: Math.max(0, safeCommands - 1),
    verbs,
    highestDb,
    safeCut,
    soundEnd: until,
    bytes: until,
    uncheckedBytes: Math.max(0, until - generation.logHeaderBytes - sums.checkedBytes),
    damage: undefined,
  };
}

/** Divides a log into pieces, and those into runs: a mark's segment may have a few bytes or many pieces. */
class LogPlan {
  readonly #path: string;
  readonly #generation: KeptGeneration;
  readonly #segments: Iterator<KnownSegment>;
  readonly #until: number;
  readonly #pieceBytes: number;
  #segment: KnownSegment | undefined;
  /** Where the pieces so far end. */
  #end = 0;
  /** Whether the segments aren't one after the other. */
  isOdd = false;

  constructor(
    path: string,
    segments: Iterable<KnownSegment>,
    generation: KeptGeneration,
    until: number,
    pieceBytes: number,
  ) {
    this.#path = path;
    this.#segments = segments[Symbol.iterator]();
    this.#generation = generation;
    this.#until = until;
    this.#pieceBytes = pieceBytes;
    this.#next();
  }

  *pieces(): Generator<LogPiece> {
    for (;;) {
      const from = this.#end;
      const runs: Run[] = [];
      const limit = from + this.#pieceBytes;
      while (this.#end < limit && runs.length < MAX_RUNS && !this.isOdd) {
        const run = this.#run(limit);
        if (run === undefined) break;
        runs.push(run);
        this.#end = run.to;
      }
      if (this.#end === from) return;
      const cuts = runs.slice(0, -1).map((run) => run.to);
      const commandsTo = Math.min(this.#end, this.#until);
      yield { path: this.#path, from, to: this.#end, cuts, commandsTo, runs };
    }
  }

  /** The next run, up to `limit`; undefined at the end. */
  #run(limit: number): Run | undefined {
    const segment = this.#segment;
    if (segment === undefined) {
      const to = Math.min(limit, this.#until);
      return to > this.#end ? { to, segment, isLast: false } : undefined;
    }
    const from = fileByteOf(this.#generation, segment.fromOffset);
    if (this.#end < from) return { to: Math.min(limit, from), segment: undefined, isLast: false };
    const segmentTo = fileByteOf(this.#generation, segment.toOffset);
    const to = Math.min(limit, segmentTo);
    const isLast = to === segmentTo;
    if (isLast) this.#next(segmentTo);
    return { to, segment, isLast };
  }

  /** @param from where the segment before ends: where the next one begins, or before that. */
  #next(from = 0): void {
    const { done, value } = this.#segments.next();
    // A segment that begins after the last wanted byte is not needed.
    const isWanted = done !== true && fileByteOf(this.#generation, value.fromOffset) < this.#until;
    this.#segment = isWanted ? value : undefined;
    if (!isWanted) return;
    if (value.toOffset <= value.fromOffset || fileByteOf(this.#generation, value.fromOffset) < from)
      this.isOdd = true;
  }
}

/** Joins the checksums of runs to those of their segments. */
class SegmentSums {
  /** Of the runs of the present segment so far; undefined before the first. */
  #sum: bigint | undefined;
  checkedBytes = 0;

  /** @returns false where a segment's checksum isn't the one that was recorded. */
  add({ from, runs }: LogPiece, crc64s: BigUint64Array): boolean {
    let at = from;
    for (const [n, { to, segment, isLast }] of runs.entries()) {
      const crc64 = crc64s[n]!;
      if (segment !== undefined) {
        this.#sum = this.#sum === undefined ? crc64 : crc64OfBoth(this.#sum, crc64, to - at);
        this.checkedBytes += to - at;
      }
      if (isLast) {
        if (hex64(this.#sum!) !== segment!.crc64) return false;
        this.#sum = undefined;
      }
      at = to;
    }
    return true;
  }
}

/** Joins the commands of pieces, and scans what lies between: the command that two pieces share. */
class CommandJoin {
  readonly #path: string;
  readonly #disk: Disk;
  readonly #signal: AbortSignal;
  readonly #count: CommandCount;
  /** The byte up to which all is counted or scanned. */
  #at = 0;

  constructor(
    path: string,
    generation: KeptGeneration,
    { disk, signal }: { readonly disk: Disk; readonly signal: AbortSignal },
  ) {
    this.#path = path;
    this.#disk = disk;
    this.#signal = signal;
    this.#count = new CommandCount(0, (first) => checkFirst(first, generation));
  }

  get found(): FoundCommands {
    return this.#count.found;
  }

  /**
   * Adds the commands up to the byte `to`.
   * @returns false where one of them is damaged, or the file ends before.
   * @throws ReplicaError DISK_FAILED; the signal's reason.
   */
  async add(to: number, guessed: FoundCommands | undefined): Promise<boolean> {
    try {
      if (guessed !== undefined) {
        if (!(await this.#scanTo(guessed.from))) return false;
        // The scan from the log's beginning arrived there too: a command does begin there.
        if (this.#count.isAtSafeCut) {
          this.#count.add(guessed);
          this.#at = guessed.to;
          return true;
        }
      }
      return await this.#scanTo(to);
    } catch (error) {
      if (error instanceof FrameError) return false;
      throw error;
    }
  }

  /** Returns false where the file ends before. */
  async #scanTo(to: number): Promise<boolean> {
    const range = { from: this.#at, to };
    const scan = (block: Uint8Array) => this.#count.push(block);
    if (to > this.#at)
      this.#at = await readBlocks(this.#disk, this.#path, range, scan, this.#signal);
    return this.#at >= to;
  }
}
