import { contains, intervalOf, type Offset } from "../../base/history.ts";
import { limits } from "../../config/limits.ts";
import { FrameScanner } from "../../resp/frame-scanner.ts";
import { readBlocks } from "../../store/disk/blocks.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { fileByteOf, filesOf, offsetOfByte } from "../../store/generation/layout.ts";
import { readSnapshotKeys } from "../../store/generation/snapshot-keys.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import type { RestorePoint } from "../../store/restore/restore-point.ts";
import { arrivalTimes } from "../../store/restore/write-log.ts";
import type { TimeOf } from "../../store/rewrite/expiry-rules.ts";
import type { LogPart } from "../../store/rewrite/log-commands.ts";

/** A part of a generation's log, by offsets. */
export interface LogPiece {
  readonly generation: KeptGeneration;
  readonly from: Offset;
  readonly to: Offset;
}

/** A byte between two commands, and the database that is selected there. */
interface SafeCut {
  readonly byte: number;
  readonly db: number;
}

/** A part that begins and ends with a whole command. */
export type WholePart = LogPart & { readonly generation: KeptGeneration };

/**
 * The stream of a shard as its generations hold it, as far as they join with one of them: each continues where the
 * snapshot of the next one begins. Offsets are those of one history.
 */
export class ShardLog {
  readonly #catalogue: Catalogue;
  /** Oldest first, at least one. */
  readonly #chain: readonly KeptGeneration[];
  /** By file and byte: a log may be long, and is read anew for each question. */
  readonly #safeCuts = new Map<string, Map<number, SafeCut>>();

  constructor(catalogue: Catalogue, generation: KeptGeneration) {
    this.#catalogue = catalogue;
    this.#chain = chainOf(catalogue.generations, generation);
  }

  /** The offset from which on the stream is kept. */
  get begin(): Offset {
    return this.#chain[0]!.baseOffset;
  }

  /** When it began to be kept, in milliseconds since 1970; the present where no mark tells. */
  get beginMs(): number {
    return this.#catalogue.earliestMs(this.#chain[0]!.id) ?? Infinity;
  }

  /** Whether it held no key then: all that it got stands in the log. */
  get beginsEmpty(): boolean {
    const keys = readSnapshotKeys(filesOf(this.#chain[0]!).base);
    return keys !== undefined && keys.first === undefined;
  }

  /** What had arrived for certain by some time; the beginning where nothing had. */
  offsetAt(atMs: number): Offset {
    for (const { id, durableOffset } of this.#chain.toReversed()) {
      const moment = this.#catalogue.momentBefore(id, atMs);
      if (moment !== undefined) return Math.min(moment.offset, durableOffset);
    }
    return this.begin;
  }

  /** When the stream up to an offset had arrived, in milliseconds since 1970; Infinity where no mark tells yet. */
  timeOf(offset: Offset): number {
    const piece = this.#pieces().find(({ to }) => to >= offset);
    return (piece && this.#catalogue.momentOf(piece.generation.id, offset)?.atMs) ?? Infinity;
  }

  /** The same by the bytes of a generation's log, to be asked in their order. */
  timesIn(generation: KeptGeneration): TimeOf {
    return arrivalTimes(this.#catalogue, generation);
  }

  /** Where a log is to be cut for an offset. */
  pointAt(offset: Offset): RestorePoint {
    const piece = this.between(offset - 1, offset)[0];
    return { generation: piece?.generation ?? this.#chain[0]!, offset };
  }

  /** The parts of logs that hold the stream between two offsets, in order; less where it isn't kept. */
  between(from: Offset, to: Offset): LogPiece[] {
    return this.#pieces()
      .map((piece) => ({
        ...piece,
        from: Math.max(piece.from, from),
        to: Math.min(piece.to, to),
      }))
      .filter((piece) => piece.from < piece.to);
  }

  /**
   * The same as whole commands: each part from the last safe cut before its begin to the last one before its end.
   * @throws ReplicaError BAD_FRAME for a damaged log; DISK_FAILED; the signal's reason.
   */
  async parts(
    fromOffset: Offset,
    toOffset: Offset,
    { disk, signal }: { readonly disk: Disk; readonly signal: AbortSignal },
  ): Promise<WholePart[]> {
    const parts: WholePart[] = [];
    for (const { generation, from: begin, to: end } of this.between(fromOffset, toOffset)) {
      const path = filesOf(generation).log;
      const first = await this.#safeCutAt(path, fileByteOf(generation, begin), disk, signal);
      const last = await this.#safeCutAt(path, fileByteOf(generation, end), disk, signal);
      const { byte: from, db } = first;
      if (from < last.byte) parts.push({ disk, path, from, db, to: last.byte, signal, generation });
    }
    return parts;
  }

  /** The last safe cut of a log at a byte of its file or before; read from the nearest one that is known. */
  async #safeCutAt(path: string, byte: number, disk: Disk, signal: AbortSignal): Promise<SafeCut> {
    const known = this.#safeCuts.get(path) ?? new Map([[0, { byte: 0, db: 0 }]]);
    this.#safeCuts.set(path, known);
    const found = known.get(byte);
    if (found !== undefined) return found;
    let cut: SafeCut = { byte: 0, db: 0 };
    for (const one of known.values()) if (one.byte <= byte && one.byte > cut.byte) cut = one;
    const fromByte = cut.byte;
    const scanner = new FrameScanner({ limits: limits.frame, fromByte });
    // The scanner begins in database 0, wherever that is.
    let { db } = cut;
    let cutDb = db;
    const scan = (block: Uint8Array) => {
      scanner.push(block);
      while (scanner.next()) {
        if (scanner.verb === "SELECT") ({ db } = scanner);
        if (!scanner.inTransaction) cutDb = db;
      }
    };
    await readBlocks(disk, path, { from: fromByte, to: byte }, scan, signal);
    cut = { byte: scanner.lastSafeCut, db: cutDb };
    known.set(byte, cut);
    return cut;
  }

  #pieces(): LogPiece[] {
    return this.#chain.map((generation, index) => ({
      generation,
      from: generation.baseOffset,
      to: this.#chain[index + 1]?.baseOffset ?? generation.durableOffset,
    }));
  }
}

/** Where the log of a shard is cut. */
export interface Cut {
  readonly log: ShardLog;
  readonly offset: Offset;
}

function chainOf(all: readonly KeptGeneration[], generation: KeptGeneration): KeptGeneration[] {
  const at = all.findIndex(({ id }) => id === generation.id);
  let first = at;
  while (first > 0 && joins(all[first - 1]!, all[first]!)) first--;
  let last = at;
  while (last + 1 < all.length && joins(all[last]!, all[last + 1]!)) last++;
  return all.slice(first, last + 1);
}

/**
 * Whether a generation's log holds the stream up to where the next one's snapshot was taken: in the history that this one
 * was in there. After a failover an old primary may have gone on beside the new one, under an id that both know.
 */
function joins(one: KeptGeneration, { baseOffset, replicationIds }: KeptGeneration): boolean {
  const [first] = replicationIds;
  const interval = first && intervalOf(one.replicationIds, first.replid);
  return (
    interval !== undefined &&
    contains(interval, baseOffset) &&
    baseOffset >= one.baseOffset &&
    baseOffset <= one.durableOffset
  );
}

/** The offset at a byte of a part. */
export function offsetIn(
  { generation }: { readonly generation: KeptGeneration },
  byte: number,
): Offset {
  return offsetOfByte(generation, byte);
}
