const search = Buffer.prototype.indexOf;

/**
 * Finds a constant run of bytes in a stream whose chunks may split it anywhere.
 *
 * A *match length* is the number of the needle's first bytes that the stream ends with so far. Those bytes
 * equal the needle's own beginning, so nothing of an earlier chunk needs to be kept.
 */
export class Needle {
  readonly bytes: Uint8Array;
  /** For each prefix, the length of its longest proper prefix that is also its suffix (Knuth, Morris, Pratt). */
  readonly #borders: Uint16Array;

  /** @param bytes 1 to 65535 bytes; copied. */
  constructor(bytes: Uint8Array) {
    this.bytes = Uint8Array.from(bytes);
    this.#borders = new Uint16Array(bytes.length + 1);
    let border = 0;
    for (let length = 1; length < bytes.length; length++) {
      border = this.step(border, this.bytes[length]!);
      this.#borders[length + 1] = border;
    }
  }

  /**
   * The match length after one more byte; `bytes.length` is the needle itself.
   * @param matchLength before it, below `bytes.length`.
   */
  step(matchLength: number, byte: number): number {
    let length = matchLength;
    while (length > 0 && this.bytes[length] !== byte) length = this.#borders[length]!;
    return this.bytes[length] === byte ? length + 1 : 0;
  }

  /** The position of the first whole needle in `chunk` at or after `from`; -1 where there is none. */
  indexIn(chunk: Uint8Array, from: number): number {
    // Only Buffer searches natively for more than one byte. A view of the chunk would cost more than the search: the array of
    // a small chunk has no buffer until somebody asks for it.
    return search.call(chunk, this.bytes, from);
  }

  /** The match length at the end of `chunk`, of a match that begins at or after `from`. */
  matchLengthAtEnd(chunk: Uint8Array, from: number): number {
    const tail = Math.max(from, chunk.length - this.bytes.length + 1);
    const first = chunk.indexOf(this.bytes[0]!, tail);
    if (first === -1) return 0;
    let matchLength = 0;
    for (let at = first; at < chunk.length; at++) {
      matchLength = this.step(matchLength, chunk[at]!);
    }
    return matchLength;
  }
}
