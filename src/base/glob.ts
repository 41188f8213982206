const BYTES = 256;
const BITS = 32;

/** One item of a pattern: a star, or the bytes that it matches. */
type Item = "*" | readonly number[];

const ANY = Array.from({ length: BYTES }, (_, byte) => byte);

/**
 * A glob pattern as Redis reads it ("util.c, stringmatchlen"): `*`, `?`, `[a-z]`, `[^a]`, and `\` before a literal
 * byte. Text is latin1, one character a byte.
 *
 * All places in the pattern that the text could have reached are followed at once, as bits. So a match takes one
 * step a character for every 32 items of the pattern, whatever both are; nothing is ever tried again.
 */
export class Glob {
  readonly #pattern: string;
  /** Without its stars. */
  readonly #items: number;
  readonly #words: number;
  /** So many words for each byte; bit i: item i matches that byte. */
  readonly #matching: Int32Array;
  /** Bit i: a star follows the first i items. */
  readonly #stars: Int32Array;
  /** Bit i: the first i items match what was looked at so far. */
  readonly #reached: Int32Array;

  constructor(pattern: string) {
    this.#pattern = pattern;
    const items = [...itemsOf(pattern)];
    this.#items = items.filter((item) => item !== "*").length;
    this.#words = Math.floor(this.#items / BITS) + 1;
    this.#matching = new Int32Array(BYTES * this.#words);
    this.#stars = new Int32Array(this.#words);
    this.#reached = new Int32Array(this.#words);
    let at = 0;
    for (const item of items) {
      const [word, bit] = [Math.floor(at / BITS), 1 << (at % BITS)];
      if (item === "*") {
        this.#stars[word]! |= bit;
        continue;
      }
      for (const byte of item) this.#matching[byte * this.#words + word]! |= bit;
      at++;
    }
  }

  /** Whether the whole text matches. */
  matches(text: string): boolean {
    // Redis looks at no pattern then, not even at a star.
    if (text === "") return this.#pattern === "";
    this.#begin();
    for (let at = 0; at < text.length; at++) if (!this.#goOn(text.charCodeAt(at))) return false;
    return this.#isThrough;
  }

  /** The same for bytes: those of `buffer` from `start` to before `end`. */
  matchesBytes(buffer: Uint8Array, start = 0, end = buffer.length): boolean {
    if (start === end) return this.#pattern === "";
    this.#begin();
    for (let at = start; at < end; at++) if (!this.#goOn(buffer[at]!)) return false;
    return this.#isThrough;
  }

  #begin(): void {
    this.#reached.fill(0);
    this.#reached[0] = 1;
  }

  /** Looks at the next byte. @returns false where nothing that follows can match any more. */
  #goOn(byte: number): boolean {
    const reached = this.#reached;
    const row = byte * this.#words;
    let carried = 0;
    let left = 0;
    for (let word = 0; word < this.#words; word++) {
      const before = reached[word]!;
      const passed = before & this.#matching[row + word]!;
      const now = (passed << 1) | carried | (before & this.#stars[word]!);
      reached[word] = now;
      left |= now;
      carried = passed >>> (BITS - 1);
    }
    return left !== 0;
  }

  get #isThrough(): boolean {
    return (this.#reached[this.#words - 1]! & (1 << (this.#items % BITS))) !== 0;
  }
}

function* itemsOf(pattern: string): Generator<Item> {
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!;
    if (char === "*") {
      yield "*";
    } else if (char === "?") {
      yield ANY;
    } else if (char === "[") {
      const { item, end } = classFrom(pattern, at + 1);
      yield item;
      at = end;
    } else {
      if (char === "\\" && at + 1 < pattern.length) at++;
      yield [pattern.charCodeAt(at)];
    }
  }
}

/**
 * A class `[…]`, from after its `[`, and the place of its `]`. One that isn't closed ends with the pattern; a range
 * takes any byte after its `-`, even a `]`.
 */
function classFrom(pattern: string, from: number): { item: Item; end: number } {
  const negated = pattern[from] === "^";
  const isIn = ANY.map(() => false);
  let at = negated ? from + 1 : from;
  for (; at < pattern.length && pattern[at] !== "]"; at++) {
    const isEscaped = pattern[at] === "\\" && at + 1 < pattern.length;
    if (isEscaped) at++;
    const isRange = !isEscaped && pattern[at + 1] === "-" && at + 2 < pattern.length;
    const ends = [pattern.charCodeAt(at), pattern.charCodeAt(isRange ? at + 2 : at)] as const;
    isIn.fill(true, Math.min(...ends), Math.max(...ends) + 1);
    if (isRange) at += 2;
  }
  return { item: ANY.filter((byte) => isIn[byte] !== negated), end: at };
}

/** The longest run of bytes that stands in every text that a pattern matches, as latin1; empty where there is none. */
export function longestLiteral(pattern: string): string {
  let longest = "";
  let run = "";
  for (const item of itemsOf(pattern)) {
    run = item !== "*" && item.length === 1 ? run + String.fromCharCode(item[0]!) : "";
    if (run.length > longest.length) longest = run;
  }
  return longest;
}
