import { invariant } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";

/**
 * The last bytes of the replication stream, addressed by offset. Replicas resume from it, and attached
 * replicas are fed from it: one that needs older bytes is too slow.
 */
export class Backlog {
  /** How far back a replica may resume. */
  readonly resumeBytes: number;
  readonly #ring: Uint8Array;
  #endOffset: Offset = 0;

  /** @param sizes.outputBytes how far behind an attached replica may be, if more than `resumeBytes`. */
  constructor(sizes: { resumeBytes: number; outputBytes: number }) {
    this.resumeBytes = sizes.resumeBytes;
    this.#ring = new Uint8Array(Math.max(sizes.resumeBytes, sizes.outputBytes));
  }

  /** The offset of the last byte; 0 if there is none. */
  get endOffset(): Offset {
    return this.#endOffset;
  }

  /** The first offset that a replica may resume from. */
  get firstResumeOffset(): Offset {
    return Math.max(0, this.#endOffset - this.resumeBytes) + 1;
  }

  /** Whether everything after `offset` can still be read. */
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

  /** A copy of the bytes after `offset`, at most `maxBytes`; empty at the end. */
  readAfter(offset: Offset, maxBytes: number): Uint8Array {
    invariant(this.covers(offset), `the backlog does not hold what follows offset ${offset}`);
    const at = offset % this.#ring.length;
    const available = Math.min(this.#endOffset - offset, maxBytes, this.#ring.length - at);
    return this.#ring.slice(at, at + available);
  }
}
