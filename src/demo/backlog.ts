import { invariant } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";

/**
 * The last bytes of the replication stream, addressed by offset. It is at once what a replica may
 * resume from and what attached replicas still have to get: whoever falls out of it is too slow.
 */
export class Backlog {
  /** How far back a replica may resume. */
  readonly resumeBytes: number;
  readonly #ring: Uint8Array;
  #endOffset: Offset = 0;

  /** `outputBytes`: how far behind an attached replica may be, where that is more than `resumeBytes`. */
  constructor(sizes: { resumeBytes: number; outputBytes: number }) {
    this.resumeBytes = sizes.resumeBytes;
    this.#ring = new Uint8Array(Math.max(sizes.resumeBytes, sizes.outputBytes));
  }

  /** The offset of the last byte; 0 before the first. */
  get endOffset(): Offset {
    return this.#endOffset;
  }

  /** The first offset that a replica may ask to resume from. */
  get firstResumeOffset(): Offset {
    return Math.max(0, this.#endOffset - this.resumeBytes) + 1;
  }

  /** Whether the byte after `offset`, and all from there on, can still be read. */
  covers(offset: Offset): boolean {
    return offset <= this.#endOffset && offset >= this.#endOffset - this.#ring.length;
  }

  append(bytes: Uint8Array): void {
    invariant(bytes.length <= this.#ring.length, "a command longer than the whole backlog");
    const at = this.#endOffset % this.#ring.length;
    const head = Math.min(bytes.length, this.#ring.length - at);
    this.#ring.set(bytes.subarray(0, head), at);
    this.#ring.set(bytes.subarray(head), 0);
    this.#endOffset += bytes.length;
  }

  /** A copy of what comes after `offset`, up to `maxBytes`; empty at the end. */
  readAfter(offset: Offset, maxBytes: number): Uint8Array {
    invariant(this.covers(offset), `the backlog does not hold what follows offset ${offset}`);
    const at = offset % this.#ring.length;
    const available = Math.min(this.#endOffset - offset, maxBytes, this.#ring.length - at);
    return this.#ring.slice(at, at + available);
  }
}
