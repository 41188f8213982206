const CR = 0x0d;
const ZERO = 0x30;
/** What small letters have and capitals don't; names have other bytes rarely, and those are compared as a whole. */
const SMALL = 0x20;

/** Names of commands, in letters of any size. They are found in a block without making a string of any other name. */
export class CommandNames {
  readonly #names: ReadonlySet<string>;
  /** In small letters, by their lengths. */
  readonly #byLength = new Map<number, Uint8Array[]>();

  constructor(names: readonly string[]) {
    this.#names = new Set(names.map((name) => name.toUpperCase()));
    for (const name of this.#names) {
      const bytes = Buffer.from(name, "latin1").map((byte) => byte | SMALL);
      this.#byLength.set(bytes.length, [...(this.#byLength.get(bytes.length) ?? []), bytes]);
    }
  }

  /** @param name in upper case. */
  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** Whether a command that begins at a byte may have one of these names; true, too, where its name isn't all there. */
  isAt(block: Uint8Array, start: number): boolean {
    let at = start + 1;
    while (at < block.length && block[at] !== CR) at++;
    // Behind the number of words: a line end and "$".
    at += 3;
    let length = 0;
    for (; at < block.length && block[at] !== CR; at++) length = 10 * length + block[at]! - ZERO;
    const from = at + 2;
    const same = this.#byLength.get(length);
    if (same === undefined) return from > block.length;
    if (from + length > block.length) return true;
    return same.some((name) => isSame(block, from, name));
  }
}

function isSame(block: Uint8Array, from: number, name: Uint8Array): boolean {
  for (let at = 0; at < name.length; at++) {
    if ((block[from + at]! | SMALL) !== name[at]) return false;
  }
  return true;
}
