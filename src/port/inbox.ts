import { giveBack } from "../store/disk/disk.ts";

/** The chunks of a socket that wait to be read, in pieces. */
export class Inbox {
  #chunks: Uint8Array[] = [];
  /** How much of the first chunk was taken. */
  #taken = 0;
  #bytes = 0;

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  /** The next bytes, at most so many; undefined where none wait. The piece before is given back by then. */
  take(most: number): Uint8Array | undefined {
    const [first] = this.#chunks;
    if (first === undefined) return undefined;
    if (this.#taken === first.length) {
      this.#chunks.shift();
      this.#taken = 0;
      giveBack(first);
      return this.take(most);
    }
    const piece = first.subarray(this.#taken, this.#taken + most);
    this.#taken += piece.length;
    this.#bytes -= piece.length;
    return piece;
  }

  /** Nobody reads on; what was taken is looked at no more. */
  clear(): void {
    for (const chunk of this.#chunks) giveBack(chunk);
    this.#chunks = [];
    this.#taken = this.#bytes = 0;
  }
}
