/** The most that an instruction of LZF makes (264 bytes) of the least that it takes (3). */
export const MAX_LZF_RATIO = 88;
/** How far back an instruction can reach. */
const WINDOW_BYTES = 8192;

/**
 * Undoes LZF ("liblzf, lzf_d.c"): a control byte below 32 announces as many bytes as they are, and one; any other a
 * length and a distance back. Fills `out` as far as whole bytes of input reach.
 * @returns how many bytes of `out` are filled; -1 where the input is malformed.
 */
export function undoLzf(input: Uint8Array, from: number, to: number, out: Uint8Array): number {
  let at = from;
  let filled = 0;
  while (at < to && filled < out.length) {
    const control = input[at]!;
    at++;
    if (control < 32) {
      const end = Math.min(filled + control + 1, out.length, filled + to - at);
      while (filled < end) out[filled++] = input[at++]!;
      continue;
    }
    let length = (control >>> 5) + 2;
    if (length === 9) {
      if (at >= to) return filled;
      length += input[at++]!;
    }
    if (at >= to) return filled;
    let source = filled - ((control & 0x1f) << 8) - input[at++]! - 1;
    if (source < 0) return -1;
    const end = Math.min(filled + length, out.length);
    while (filled < end) out[filled++] = out[source++]!;
  }
  return filled;
}

/** Where a stream of LZF is: what the next byte means. */
const CONTROL = 0;
const LITERAL = 1;
const LONG_LENGTH = 2;
const DISTANCE = 3;

/** Undoes LZF as it comes, with no more memory than it can reach back. */
export class LzfStream {
  readonly #window = new Uint8Array(2 * WINDOW_BYTES);
  #filled = 0;
  #told = 0;
  #expects = CONTROL;
  #length = 0;
  #high = 0;
  /** How many bytes have come out. */
  bytes = 0;

  /**
   * Takes the next bytes of the input, and hands on what they make.
   * @param take called with a view that is valid until it returns.
   * @returns false where the input is malformed.
   */
  push(
    input: Uint8Array,
    from: number,
    to: number,
    take: (bytes: Uint8Array, from: number, to: number) => void,
  ): boolean {
    let at = from;
    while (at < to) {
      const byte = input[at]!;
      switch (this.#expects) {
        case CONTROL:
          at++;
          if (byte < 32) {
            this.#length = byte + 1;
            this.#expects = LITERAL;
          } else {
            this.#length = (byte >>> 5) + 2;
            this.#high = (byte & 0x1f) << 8;
            this.#expects = this.#length === 9 ? LONG_LENGTH : DISTANCE;
          }
          break;
        case LITERAL: {
          const count = Math.min(this.#length, to - at);
          this.#makeRoom(count, take);
          for (let left = count; left > 0; left--) this.#window[this.#filled++] = input[at++]!;
          this.bytes += count;
          this.#length -= count;
          if (this.#length === 0) this.#expects = CONTROL;
          break;
        }
        case LONG_LENGTH:
          at++;
          this.#length += byte;
          this.#expects = DISTANCE;
          break;
        default:
          at++;
          if (!this.#copyBack(this.#high + byte + 1, take)) return false;
          this.#expects = CONTROL;
      }
    }
    this.#tell(take);
    return true;
  }

  /** Whether the input may end here. */
  get isWhole(): boolean {
    return this.#expects === CONTROL;
  }

  #copyBack(
    distance: number,
    take: (bytes: Uint8Array, from: number, to: number) => void,
  ): boolean {
    if (distance > this.bytes) return false;
    this.#makeRoom(this.#length, take);
    const window = this.#window;
    let source = this.#filled - distance;
    for (let left = this.#length; left > 0; left--) window[this.#filled++] = window[source++]!;
    this.bytes += this.#length;
    return true;
  }

  #makeRoom(count: number, take: (bytes: Uint8Array, from: number, to: number) => void): void {
    if (this.#filled + count <= this.#window.length) return;
    this.#tell(take);
    const kept = Math.min(WINDOW_BYTES, this.#filled);
    this.#window.copyWithin(0, this.#filled - kept, this.#filled);
    this.#filled = kept;
    this.#told = kept;
  }

  #tell(take: (bytes: Uint8Array, from: number, to: number) => void): void {
    if (this.#told < this.#filled) take(this.#window, this.#told, this.#filled);
    this.#told = this.#filled;
  }
}
