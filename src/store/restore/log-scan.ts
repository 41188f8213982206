import { Crc64 } from "../../rdb/crc64.ts";
import { FrameError, type FrameScanner } from "../../resp/frame-scanner.ts";
import type { Verb } from "../../resp/verbs.ts";
import { readBlocks } from "../disk/blocks.ts";
import { CommandCount } from "../pieces/command-count.ts";
import type { KnownSegment } from "../ledger/ledger-reader.ts";
import type { Disk } from "../disk/disk.ts";
import { filesOf, fileByteOf } from "../generation/layout.ts";
import type { KeptGeneration } from "./kept-generation.ts";
import { hex64 } from "../../base/hex64.ts";

/** The result of scanning a log. */
export interface LogFindings {
  /** Commands up to `safeCut`, without the SELECT at the beginning. */
  readonly commands: number;
  /** The verbs of the commands up to `until`, as far as `Verb` names them. */
  readonly verbs: ReadonlySet<Verb>;
  /** The highest database that they select. */
  readonly highestDb: number;
  /** The last safe cut at `until` or before: the byte after a whole command outside a transaction. */
  readonly safeCut: number;
  /** The byte up to which the log is sound: `until`, or where the damage or its checksum begins. */
  readonly soundEnd: number;
  /** Bytes scanned, and how many of them no checksum covers. */
  readonly bytes: number;
  readonly uncheckedBytes: number;
  /** Undefined where the log is sound. */
  readonly damage: LogDamage | undefined;
}

export interface LogDamage {
  /** The range of bytes that contains it; a single byte where a command itself is damaged. */
  readonly from: number;
  readonly to: number;
  readonly what: string;
}

/**
 * Scans a generation's log from its beginning: every command up to `until`, and every byte by its checksum, up
 * to the end of the segment that covers `until`.
 * @param until a byte of the file.
 * @param onBlock gets each scanned block, the byte of the file where it begins, and the verbs so far.
 * @throws ReplicaError DISK_FAILED; the signal's reason. Damage is part of the result, not an error.
 */
export async function scanLog(
  disk: Disk,
  generation: KeptGeneration,
  segments: Iterable<KnownSegment>,
  until: number,
  onBlock: (bytes: Uint8Array, fromByte: number, verbs: ReadonlySet<Verb>) => Promise<void> | void,
  signal: AbortSignal,
): Promise<LogFindings> {
  const count = new CommandCount(0, (first) => checkFirst(first, generation));
  const checker = new SegmentChecker(segments, generation, until);
  let damage: LogDamage | undefined;
  const look = async (bytes: Uint8Array, fromByte: number) => {
    await checker.push(bytes, fromByte, signal);
    count.push(bytes.subarray(0, Math.max(0, until - fromByte)));
  };
  const path = filesOf(generation).log;
  const read = await readBlocks(
    disk,
    path,
    { from: 0, to: Infinity },
    async (block, fromByte) => {
      try {
        await look(block, fromByte);
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
        damage = { from: error.byte, to: error.byte, what: error.message };
        return false;
      }
      await onBlock(block, fromByte, count.found.verbs);
      const end = fromByte + block.length;
      return checker.damage === undefined && end < Math.max(until, checker.end);
    },
    signal,
  );
  const wanted = Math.max(until, checker.end);
  const bytes = Math.min(read, wanted);
  // A damaged command names its byte; a checksum only names its segment.
  damage ??= checker.damage;
  if (damage === undefined && bytes < wanted) {
    damage = {
      from: bytes,
      to: bytes,
      what: `it ends at byte ${bytes}, though it was durable up to byte ${wanted}`,
    };
  }
  const { safeCommands, verbs, highestDb } = count.found;
  const safeCut = Math.min(count.found.safeCut, damage?.from ?? Infinity);
  const soundEnd = damage === undefined ? until : Math.min(safeCut, checker.provenEnd);
  return {
    commands: Math.max(0, safeCommands - 1),
    verbs,
    highestDb,
    safeCut,
    soundEnd,
    bytes,
    uncheckedBytes: Math.max(0, bytes - generation.logHeaderBytes - checker.checkedBytes),
    damage,
  };
}

/**
 * The log begins with a SELECT of the snapshot's stream database, and the stream follows at once.
 * @throws FrameError where its first command is another one.
 */
export function checkFirst(scanner: FrameScanner, generation: KeptGeneration): void {
  const isSelect = scanner.verb === "SELECT" && scanner.db === generation.streamDb;
  if (isSelect && scanner.end === generation.logHeaderBytes) return;
  throw new FrameError(
    0,
    `it does not begin with the SELECT ${generation.streamDb} that was written`,
  );
}

/** A block of 1 MiB may hold hundreds of thousands of short segments; so many take some 10 ms. */
const SEGMENTS_A_TURN = 10_000;

/** Checks the bytes of a log against the checksums of its marks. */
class SegmentChecker {
  readonly #generation: KeptGeneration;
  readonly #segments: Iterator<KnownSegment>;
  readonly #until: number;
  #segment: KnownSegment | undefined;
  #crc = new Crc64();
  checkedBytes = 0;
  damage: LogDamage | undefined;

  constructor(segments: Iterable<KnownSegment>, generation: KeptGeneration, until: number) {
    this.#segments = segments[Symbol.iterator]();
    this.#generation = generation;
    this.#until = until;
    this.#next();
  }

  #next(): void {
    const { done, value } = this.#segments.next();
    this.#crc = new Crc64();
    // A segment that begins after the last wanted byte is not needed.
    const isWanted = done !== true && fileByteOf(this.#generation, value.fromOffset) < this.#until;
    this.#segment = isWanted ? value : undefined;
  }

  /** The byte at which the present segment ends; 0 where there is none. */
  get end(): number {
    return this.#segment === undefined ? 0 : fileByteOf(this.#generation, this.#segment.toOffset);
  }

  /** The byte up to which every checksum matched: where the present, or the damaged, segment begins. */
  get provenEnd(): number {
    const segment = this.#segment;
    return segment === undefined ? Infinity : fileByteOf(this.#generation, segment.fromOffset);
  }

  /** @throws the signal's reason. */
  async push(bytes: Uint8Array, fromByte: number, signal: AbortSignal): Promise<void> {
    const blockEnd = fromByte + bytes.length;
    let left = SEGMENTS_A_TURN;
    while (this.#segment !== undefined && this.damage === undefined) {
      const from = fileByteOf(this.#generation, this.#segment.fromOffset);
      const to = this.end;
      const begin = Math.max(from, fromByte);
      if (begin < Math.min(to, blockEnd)) {
        this.#crc.update(bytes.subarray(begin - fromByte, to - fromByte));
      }
      if (to > blockEnd) return;
      this.#compare(this.#segment, from, to);
      if (this.damage === undefined) this.#next();
      if (--left > 0) continue;
      left = SEGMENTS_A_TURN;
      // A signal is only seen between turns.
      await Bun.sleep(0);
      signal.throwIfAborted();
    }
  }

  #compare({ crc64 }: KnownSegment, from: number, to: number): void {
    const found = hex64(this.#crc.value);
    if (found === crc64) {
      this.checkedBytes += to - from;
      return;
    }
    const what = `bytes ${from} to ${to} have the checksum ${found}, but ${crc64} was recorded`;
    this.damage = { from, to, what };
  }
}
