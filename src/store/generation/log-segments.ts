import type { Offset } from "../../base/history.ts";
import { Crc64 } from "../../rdb/crc64.ts";
import { giveBack } from "../disk/disk.ts";
import type { Segment } from "../ledger/ledger.ts";

/** Divides a log into segments, each with its checksum: a mark covers the one that goes on. */
export class LogSegments {
  /** Written pieces that the segment's checksum does not cover yet. */
  #uncounted: Uint8Array[] = [];
  #fromOffset: Offset;
  #crc: Crc64;

  /** @param unmarked the bytes that no mark covers: none, unless a kill left some. */
  constructor(unmarked: { readonly fromOffset: Offset; readonly crc: Crc64 }) {
    this.#fromOffset = unmarked.fromOffset;
    this.#crc = unmarked.crc;
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

  /** What is written after `writtenOffset`, where the log ends now, is another segment. */
  begin(writtenOffset: Offset): void {
    this.count();
    this.#fromOffset = writtenOffset;
    this.#crc = new Crc64();
  }
}
