/** A table of this size is never more than three quarters full. */
const FIRST_SLOTS = 1024;
const SLOT_BYTES = 4;
/** What marks a free slot. */
const FREE = 0;

/**
 * Remembers names by 32 bits of a hash: 12 million of them in 64 MiB. It takes a few others for remembered, one of 350 where
 * it is full; never the other way round.
 */
export class NameHashes {
  readonly #maxBytes: number;
  #slots = new Uint32Array(FIRST_SLOTS);
  /** How many hashes it holds. */
  size = 0;

  /** @param maxBytes the memory that it may take. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** @returns false where there is no room for it. */
  add(name: Uint8Array): boolean {
    const hash = hashOf(name);
    const slot = place(this.#slots, hash);
    if (this.#slots[slot] === hash) return true;
    if (4 * (this.size + 1) > 3 * this.#slots.length) {
      if (!this.#grow()) return false;
      this.#slots[place(this.#slots, hash)] = hash;
    } else this.#slots[slot] = hash;
    this.size++;
    return true;
  }

  has(name: Uint8Array): boolean {
    const hash = hashOf(name);
    return this.#slots[place(this.#slots, hash)] === hash;
  }

  #grow(): boolean {
    const slots = this.#slots.length * 2;
    if (slots * SLOT_BYTES > this.#maxBytes) return false;
    const grown = new Uint32Array(slots);
    for (const hash of this.#slots) if (hash !== FREE) grown[place(grown, hash)] = hash;
    this.#slots = grown;
    return true;
  }
}

function hashOf(name: Uint8Array): number {
  const hash = Bun.hash.xxHash32(name);
  return hash === FREE ? 1 : hash;
}

/** Where a hash stands, or is to be put. */
function place(slots: Uint32Array, hash: number): number {
  const last = slots.length - 1;
  let slot = hash & last;
  while (slots[slot] !== FREE && slots[slot] !== hash) slot = (slot + 1) & last;
  return slot;
}
