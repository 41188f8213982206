const FIRST_BYTES = 4096;
/** What is larger is given back to the collector after use. */
const MAX_IDLE_BYTES = 1024 * 1024;

/** Bytes that come in pieces, together. It grows with what comes, never by what is announced. */
export class GrowingBytes {
  #bytes = new Uint8Array(FIRST_BYTES);
  length = 0;

  /** Takes a copy of the next bytes. */
  append(bytes: Uint8Array, from: number, to: number): void {
    const length = this.length + to - from;
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#bytes.length));
      larger.set(this.#bytes.subarray(0, this.length));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes.subarray(from, to), this.length);
    this.length = length;
  }

  /** All that has come; valid until the next `append` or `clear`. */
  get view(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  clear(): void {
    this.length = 0;
    if (this.#bytes.length > MAX_IDLE_BYTES) this.#bytes = new Uint8Array(FIRST_BYTES);
  }
}
