import { giveBack, PIECE_BYTES } from "../../store/disk/disk.ts";

/** Chunks from a socket that were not read yet. They are read in pieces. */
export class Inbox {
  #chunks: Uint8Array[] = [];
  /** How many bytes of the first chunk were taken. */
  #taken = 0;
  #bytes = 0;

  /** Bytes that were not taken yet. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What they take in memory: a client may send single bytes. */
  get memoryBytes(): number {
    return this.#bytes + this.#chunks.length * PIECE_BYTES;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  /** Takes the next bytes, at most `maxBytes`; undefined where there are none. Ends the use of the piece before. */
  take(maxBytes: number): Uint8Array | undefined {
    const [first] = this.#chunks;
    if (first === undefined) return undefined;
    if (this.#taken === first.length) {
      this.#chunks.shift();
      this.#taken = 0;
      giveBack(first);
      return this.take(maxBytes);
    }
    const piece = first.subarray(this.#taken, this.#taken + maxBytes);
    this.#taken += piece.length;
    this.#bytes -= piece.length;
    return piece;
  }

  /** Drops everything, including the piece that was taken last. */
  clear(): void {
    for (const chunk of this.#chunks) giveBack(chunk);
    this.#chunks = [];
    this.#taken = this.#bytes = 0;
  }
}
