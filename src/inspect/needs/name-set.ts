import { latin1At, latin1Of } from "../../resp/frame-words.ts";
import { nameHash } from "./name-hash.ts";

/** Which hashes the names have, as bits: most others needn't be looked up. */
const HASHES = 1 << 20;

/** A set of names, which is asked about millions of others. */
export class NameSet {
  /** One character a byte. */
  readonly #names = new Set<string>();
  readonly #hashes = new Int32Array(HASHES / 32);

  get size(): number {
    return this.#names.size;
  }

  add(name: Uint8Array): void {
    this.#names.add(latin1Of(name));
    const hash = (nameHash(name, 0, name.length) >>> 0) % HASHES;
    this.#hashes[hash >>> 5]! |= 1 << (hash & 31);
  }

  /** Whether a part of some bytes is one of the names. */
  hasAt(bytes: Uint8Array, from: number, to: number): boolean {
    if (this.#names.size === 0) return false;
    const hash = (nameHash(bytes, from, to) >>> 0) % HASHES;
    if ((this.#hashes[hash >>> 5]! & (1 << (hash & 31))) === 0) return false;
    return this.#names.has(latin1At(bytes, from, to));
  }
}
