import type { OpenFile } from "./open-file.ts";

/** Less is not worth a call. */
const LEAST_BYTES = 4 * 1024 * 1024;
/** How far ahead room is reserved at the most. */
const MOST_BYTES = 64 * 1024 * 1024;
/** Where less than this would be left free, nothing is reserved: room that is short is given out by the byte. */
const LEFT_BYTES = 1024 * 1024 * 1024;

/**
 * Reserves room on the disk ahead of a payload that is written from the beginning of its file: as much again as has come, up
 * to 64 MiB, and never more than the payload has, so that what a primary merely announces takes no room.
 */
export class Reservation {
  readonly #file: OpenFile;
  readonly #totalBytes: number;
  #bytes = 0;
  #isOver = false;
  /** How long the file was made isn't known. */
  #isUnknown = false;

  /** @param totalBytes the length of the payload; undefined where it isn't known. */
  constructor(file: OpenFile, totalBytes: number | undefined) {
    this.#file = file;
    this.#totalBytes = totalBytes ?? Infinity;
  }

  /** How long the file is made so far, in bytes, if no more than that is written. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Call it before what ends at byte `end` of the file is written. What the disk refuses, the write after it tells. */
  cover(end: number): void {
    if (this.#isOver || end <= this.#bytes || end < LEAST_BYTES) return;
    const until = Math.min(end + Math.min(end, MOST_BYTES), this.#totalBytes);
    if (until <= this.#bytes) return;
    const bytes = until - this.#bytes;
    try {
      this.#isOver = this.#file.freeBytes < bytes + LEFT_BYTES;
      if (this.#isOver) return;
      this.#isOver = !this.#file.reserve(this.#bytes, bytes);
      if (!this.#isOver) this.#bytes = until;
      // ext4 keeps what it could get of it, and has made the file longer.
      else this.#file.truncate(Math.max(this.#bytes, end));
    } catch {
      this.#isOver = true;
      this.#isUnknown = true;
    }
  }

  /** Cuts off what was reserved and isn't needed, once all `bytes` are written. @throws Error of the disk. */
  end(bytes: number): void {
    if (this.#isUnknown || this.#bytes > bytes) this.#file.truncate(bytes);
  }
}
