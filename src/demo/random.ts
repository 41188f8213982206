/** Pseudo-random numbers: the same seed gives the same sequence (mulberry32). Not for secrets. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** The next whole number, 0 to 2^32 - 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** The next whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return this.next() % limit;
  }

  /** `length` characters from an alphabet of 64 ASCII characters. */
  text(length: number): string {
    let text = "";
    for (let at = 0; at < length; at += 1) text += ALPHABET[this.below(ALPHABET.length)];
    return text;
  }

  /** Fills `target` with characters from the same alphabet. */
  fillText(target: Uint8Array): void {
    for (let at = 0; at < target.length; at += 1) {
      target[at] = ALPHABET.charCodeAt(this.below(ALPHABET.length));
    }
  }
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** 40 random hexadecimal characters that no other call returns: a replication id, an EOF mark. */
export function randomHex40(): string {
  return crypto.getRandomValues(new Uint8Array(20)).toHex();
}
