/*
 * Invariant: settled ≤ durable. Settled are the bytes whose marks stay as they are. The mark of a segment that goes on is
 * not one of them: the next one replaces it.
 */
import type { Offset } from "../../base/history.ts";
import { Crc64, crc64OfBoth } from "../../rdb/crc64.ts";
import { giveBack } from "../disk/disk.ts";
import type { Segment } from "../ledger/ledger.ts";

/** A place in the log, and the checksum of all that was written from when it was opened up to there. */
interface Place {
  readonly offset: Offset;
  readonly crc64: bigint;
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

/**
 * Divides a log into segments, each with its checksum: a mark covers the one that goes on. What was written since the last
 * mark has a checksum of its own, and joins those before it, so a segment can begin where any mark ended.
 */
export class LogSegments {
  readonly #options: LogSegmentsOptions;
  /** The checksum of what was written since `#summed`: most often so little that it goes through the table. */
  #crc: Crc64;
  #summed: Place;
  /** Written pieces that the checksum does not cover yet. */
  #uncounted: Uint8Array[] = [];
  /** Where the segment begins. */
  #from: Place;
  /** Where the last mark ends, and the one whose sync is in flight. */
  #marked: Place;
  #marking: Place;
  #settledOffset: Offset;
  /** Up to where somebody waits for settled marks. */
  #wantedOffset: Offset = 0;

  constructor(options: LogSegmentsOptions) {
    const { unmarked, durableOffset } = options;
    this.#options = options;
    this.#crc = unmarked.crc;
    this.#summed = { offset: unmarked.fromOffset, crc64: 0n };
    this.#from = this.#marked = this.#marking = this.#summed;
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

  /** Whether somebody waits, and what he waits for is among what is durable up to `durableOffset`. */
  isWanted(durableOffset: Offset): boolean {
    return this.#settledOffset < this.#wantedOffset && this.#wantedOffset <= durableOffset;
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

  /** The segment that ends with what is written, at `writtenOffset`. */
  open(writtenOffset: Offset): Segment {
    return this.#segmentTo(this.#placeAt(writtenOffset));
  }

  /** A sync begins, of all that is written, up to `writtenOffset`. Returns what its mark covers. */
  mark(writtenOffset: Offset): Segment {
    this.#marking = this.#summed = this.#placeAt(writtenOffset);
    this.#crc = new Crc64();
    return this.#segmentTo(this.#marking);
  }

  #placeAt(writtenOffset: Offset): Place {
    this.count();
    const { offset, crc64 } = this.#summed;
    const whole = crc64OfBoth(crc64, this.#crc.value, writtenOffset - offset);
    return { offset: writtenOffset, crc64: whole };
  }

  #segmentTo(end: Place): Segment {
    const { offset, crc64 } = this.#from;
    // The checksum of both parts is that of the first, moved on, XOR that of the second: so is the second's from both.
    return { fromOffset: offset, crc64: crc64OfBoth(crc64, end.crc64, end.offset - offset) };
  }

  /** That mark is durable. */
  marked(): void {
    this.#marked = this.#marking;
  }

  /** The last mark stays as it is: the next one begins where that ended. Call it while no sync is in flight. */
  end(durableOffset: Offset): void {
    this.#from = this.#marked;
    this.settle(durableOffset);
  }
}
