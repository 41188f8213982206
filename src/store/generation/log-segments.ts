/*
 * Invariant: settled ≤ durable. Settled are the bytes whose marks stay as they are. The mark of a segment that goes on is
 * not one of them: the next one replaces it.
 */
import type { Offset } from "../../base/history.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import { giveBack } from "../disk/disk.ts";
import type { Segment } from "../ledger/ledger.ts";

/** A segment as a sync finds it. */
export interface MarkedSegment {
  readonly segment: Segment;
  /** Whether no later mark covers it. */
  readonly isLast: boolean;
}

export interface LogSegmentsOptions {
  /** The bytes after the last mark that the log has already: none, unless a kill left some. */
  readonly unmarked: { readonly fromOffset: Offset; readonly crc: Crc64 };
  /** The last offset that a mark covers. */
  readonly durableOffset: Offset;
  /** Asked with each mark, and in pauses: whether the segment is long enough for the next mark to begin another. */
  readonly segmentEnds: () => boolean;
  /** Called after more of the marks is settled. */
  readonly onSettled: () => void;
}

/** Divides a log into segments, each with its checksum: a mark covers the one that goes on. */
export class LogSegments {
  readonly #options: LogSegmentsOptions;
  /** Written pieces that the segment's checksum does not cover yet. */
  #uncounted: Uint8Array[] = [];
  #fromOffset: Offset;
  #crc: Crc64;
  #settledOffset: Offset;
  /** Up to where somebody waits for settled marks. */
  #wantedOffset: Offset = 0;

  constructor(options: LogSegmentsOptions) {
    const { unmarked, durableOffset } = options;
    this.#options = options;
    this.#fromOffset = unmarked.fromOffset;
    this.#crc = unmarked.crc;
    this.#settledOffset = durableOffset;
  }

  get settledOffset(): Offset {
    return this.#settledOffset;
  }

  /** All marks up to `offset` stay as they are. */
  settle(offset: Offset): void {
    if (offset <= this.#settledOffset) return;
    this.#settledOffset = offset;
    this.#options.onSettled();
  }

  /** Somebody waits until the marks up to `offset` are settled. */
  want(offset: Offset): void {
    this.#wantedOffset = offset;
  }

  /** Whether somebody waits, and what he waits for is among what is durable up to `offset`. */
  isWanted(offset: Offset): boolean {
    return this.#settledOffset < this.#wantedOffset && this.#wantedOffset <= offset;
  }

  /** These pieces were written, and are freed once they are counted. */
  wrote(pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) this.#uncounted.push(piece);
  }

  /** Takes what was written into the checksum. */
  count(): void {
    for (const piece of this.#uncounted) {
      this.#crc.update(piece);
      giveBack(piece);
    }
    this.#uncounted = [];
  }

  /** The segment that ends with what is written. */
  get open(): Segment {
    this.count();
    return { fromOffset: this.#fromOffset, crc64: this.#crc.value };
  }

  /** A sync begins, of all that is written, up to `writtenOffset`. Returns what its mark covers. */
  mark(writtenOffset: Offset): MarkedSegment {
    const segment = this.open;
    const isLast = this.#options.segmentEnds() || this.isWanted(writtenOffset);
    if (isLast) this.begin(writtenOffset);
    return { segment, isLast };
  }

  /** Where the last mark covers all that is written: it stays as it is. */
  end(writtenOffset: Offset): void {
    this.begin(writtenOffset);
    this.settle(writtenOffset);
  }

  /** What is written after `writtenOffset`, where the log ends now, is another segment. */
  begin(writtenOffset: Offset): void {
    this.count();
    this.#fromOffset = writtenOffset;
    this.#crc = new Crc64();
  }
}
