import type { KeyEntry } from "./key-entry.ts";

/** Where a key lies. */
export type KeyPlace = Pick<KeyEntry, "keyBuffer" | "keyStart" | "keyEnd">;

/**
 * How much of a key is looked at. What stands behind it is no prefix that anybody reads, and bounds the memory: a key may
 * have 512 MB.
 */
export const PREFIX_LOOK_BYTES = 256;

/** Finds where the prefixes of keys end. */
export class PrefixCut {
  readonly #depth: number;
  readonly #isSeparator = new Uint8Array(256);

  /**
   * @param depth how many separators a prefix has.
   * @param separators each of these bytes is one.
   */
  constructor(depth: number, separators: Uint8Array) {
    this.#depth = depth;
    for (const byte of separators) this.#isSeparator[byte] = 1;
  }

  /**
   * The length of a key's prefix in bytes, its last separator included: up to the separator of that depth, or where the key
   * has fewer, up to its last one. 0 where there is none. Only the first `PREFIX_LOOK_BYTES` are looked at.
   */
  lengthIn({ keyBuffer, keyStart, keyEnd }: KeyPlace): number {
    const end = Math.min(keyEnd, keyStart + PREFIX_LOOK_BYTES);
    let left = this.#depth;
    let prefixEnd = keyStart;
    for (let at = keyStart; at < end && left > 0; at++) {
      if (this.#isSeparator[keyBuffer[at]!] === 0) continue;
      prefixEnd = at + 1;
      left--;
    }
    return prefixEnd - keyStart;
  }
}
