import { type KeyPlace, PREFIX_LOOK_BYTES } from "./prefix-cut.ts";
import { nthSmallest } from "./select.ts";

/** A prefix that was counted. What it really has is at least `keys`, and at most `maxMissedKeys` more; so for the others. */
export interface PrefixCount {
  /** Empty: the keys without a prefix. */
  readonly prefix: Uint8Array;
  readonly keys: number;
  readonly bytes: number;
  readonly elements: number;
  /** All 0 while the counts are exact. */
  readonly maxMissedKeys: number;
  readonly maxMissedBytes: number;
  readonly maxMissedElements: number;
}

/** How far to look behind a prefix's place. Keys would have to be made for it to be farther away. */
const MAX_PROBES = 512;
/** Of the prefixes, a quarter at most stays for its keys, and a quarter for its bytes. */
const DROPPED_SHARE = 0.75;
/** The places of the table for each prefix, so that most are found at the first look. */
const PLACES_EACH = 2;

/** The counters of one prefix. The first three count since it came in, the others say what it may have had before. */
const KEYS = 0;
const BYTES = 1;
const ELEMENTS = 2;
const MISSED_KEYS = 3;
const MISSED_BYTES = 4;
const MISSED_ELEMENTS = 5;
const FIELDS = 6;

/**
 * Counts keys by prefix, in memory that doesn't grow with their number.
 *
 * Up to `most` prefixes, all counts are exact. Then those that have few keys and few bytes are dropped, half of them at
 * least, and the sketch remembers the most that a dropped one had: a prefix that comes in (again) later may have had as much
 * before. So for every prefix, at any time:
 *
 *   counted ≤ true ≤ counted + missed, and true ≤ `missedKeys` for one that isn't here.
 *
 * It is the sketch of Misra and Gries, with the amortised removal of Anderson et al. ("A high-performance algorithm for
 * identifying frequent items in data streams", 2017), for two weights at once. Each removal takes as much as it adds to
 * `missedKeys` from a quarter of all counters, so that it is at most 4 / `most` of all keys; so for the bytes.
 */
export class PrefixCounts {
  readonly #most: number;
  readonly #seed: number;
  /** The number of a prefix plus 1; 0: free. Open addressing, one place after the other. */
  readonly #places: Int32Array;
  readonly #hashes: Uint32Array;
  /** Where each prefix begins in `#names`, and in the end where the last one ends. */
  readonly #starts: Uint32Array;
  readonly #counters: Float64Array;
  /** To find out what is dropped. */
  readonly #sorting: Float64Array;
  #names = new Uint8Array(64 * 1024);
  #count = 0;
  #isExact = true;
  #missedKeys = 0;
  #missedBytes = 0;
  #missedElements = 0;

  /**
   * @param most how many prefixes are counted at once.
   * @param seed of the hash: whoever makes up keys doesn't know it, so that they can't be made to collide.
   */
  constructor(most: number, seed: number) {
    this.#most = most;
    this.#seed = seed;
    this.#places = new Int32Array(2 ** Math.ceil(Math.log2(most * PLACES_EACH)));
    this.#hashes = new Uint32Array(most);
    this.#starts = new Uint32Array(most + 1);
    this.#counters = new Float64Array(most * FIELDS);
    this.#sorting = new Float64Array(most);
  }

  /** Whether every prefix was counted from its first key on. */
  get isExact(): boolean {
    return this.#isExact;
  }

  /** How many prefixes there are; while the counts are exact, these are all. */
  get size(): number {
    return this.#count;
  }

  /** The most keys that a prefix can have which isn't here. */
  get missedKeys(): number {
    return this.#missedKeys;
  }

  /** The most bytes that a prefix can have which isn't here. */
  get missedBytes(): number {
    return this.#missedBytes;
  }

  /**
   * Adds a key.
   * @param length of its prefix, of at most `PREFIX_LOOK_BYTES`.
   * @param elements 0 where they are unknown.
   */
  add(key: KeyPlace, length: number, bytes: number, elements: number): void {
    const hash = this.#hashOf(key, length);
    let number = this.#find(key, length, hash);
    if (number === undefined) {
      if (this.#count === this.#most) this.#drop();
      number = this.#insert(key, length, hash);
    }
    if (number === undefined) {
      // Its place is crowded. Each prefix that isn't here may be the one with this key.
      this.#isExact = false;
      this.#missedKeys += 1;
      this.#missedBytes += bytes;
      this.#missedElements += elements;
      return;
    }
    const at = number * FIELDS;
    this.#counters[at + KEYS]! += 1;
    this.#counters[at + BYTES]! += bytes;
    this.#counters[at + ELEMENTS]! += elements;
  }

  /** FNV-1a, then mixed so that the low bits depend on all. */
  #hashOf({ keyBuffer, keyStart }: KeyPlace, length: number): number {
    let hash = this.#seed;
    const end = keyStart + length;
    for (let at = keyStart; at < end; at++) hash = Math.imul(hash ^ keyBuffer[at]!, 0x0100_0193);
    hash ^= hash >>> 16;
    hash = Math.imul(hash, 0x85eb_ca6b);
    hash ^= hash >>> 13;
    hash = Math.imul(hash, 0xc2b2_ae35);
    return (hash ^ (hash >>> 16)) >>> 0;
  }

  #find(key: KeyPlace, length: number, hash: number): number | undefined {
    const mask = this.#places.length - 1;
    for (let probe = 0; probe < MAX_PROBES; probe++) {
      const place = this.#places[(hash + probe) & mask]!;
      if (place === 0) return undefined;
      const number = place - 1;
      if (this.#hashes[number] === hash && this.#isAt(number, key, length)) return number;
    }
    return undefined;
  }

  #isAt(number: number, { keyBuffer, keyStart }: KeyPlace, length: number): boolean {
    const start = this.#starts[number]!;
    if (this.#starts[number + 1]! - start !== length) return false;
    for (let at = 0; at < length; at++)
      if (this.#names[start + at] !== keyBuffer[keyStart + at]) return false;
    return true;
  }

  /** @returns undefined where its place is crowded. */
  #insert(key: KeyPlace, length: number, hash: number): number | undefined {
    const number = this.#count;
    if (!this.#take(hash, number)) return undefined;
    const start = this.#starts[number]!;
    this.#makeRoom(start + length);
    const { keyBuffer, keyStart } = key;
    for (let at = 0; at < length; at++) this.#names[start + at] = keyBuffer[keyStart + at]!;
    this.#starts[number + 1] = start + length;
    const at = number * FIELDS;
    this.#counters[at + KEYS] = 0;
    this.#counters[at + BYTES] = 0;
    this.#counters[at + ELEMENTS] = 0;
    this.#counters[at + MISSED_KEYS] = this.#missedKeys;
    this.#counters[at + MISSED_BYTES] = this.#missedBytes;
    this.#counters[at + MISSED_ELEMENTS] = this.#missedElements;
    this.#count++;
    return number;
  }

  /** Takes a free place for a prefix. */
  #take(hash: number, number: number): boolean {
    const mask = this.#places.length - 1;
    for (let probe = 0; probe < MAX_PROBES; probe++) {
      const place = (hash + probe) & mask;
      if (this.#places[place] !== 0) continue;
      this.#places[place] = number + 1;
      this.#hashes[number] = hash;
      return true;
    }
    return false;
  }

  #makeRoom(bytes: number): void {
    if (bytes <= this.#names.length) return;
    const names = new Uint8Array(
      Math.min(this.#most * PREFIX_LOOK_BYTES, Math.max(bytes, this.#names.length * 2)),
    );
    names.set(this.#names);
    this.#names = names;
  }

  /** The most that a prefix can have. @param field `KEYS`, `BYTES` or `ELEMENTS`. */
  #upTo(number: number, field: number): number {
    const at = number * FIELDS + field;
    return this.#counters[at]! + this.#counters[at + FIELDS / 2]!;
  }

  /** Drops what has few keys and few bytes: half of the prefixes at least. */
  #drop(): void {
    const enoughKeys = this.#quantile(KEYS);
    const enoughBytes = this.#quantile(BYTES);
    this.#isExact = false;
    this.#places.fill(0);
    const count = this.#count;
    this.#count = 0;
    for (let number = 0; number < count; number++) {
      const [keys, bytes] = [this.#upTo(number, KEYS), this.#upTo(number, BYTES)];
      const isKept = keys > enoughKeys || bytes > enoughBytes;
      if (isKept && this.#move(number)) continue;
      this.#missedKeys = Math.max(this.#missedKeys, keys);
      this.#missedBytes = Math.max(this.#missedBytes, bytes);
      this.#missedElements = Math.max(this.#missedElements, this.#upTo(number, ELEMENTS));
    }
  }

  /** What three quarters of the prefixes don't exceed. */
  #quantile(field: number): number {
    const all = this.#sorting.subarray(0, this.#count);
    for (let number = 0; number < all.length; number++) all[number] = this.#upTo(number, field);
    return nthSmallest(all, Math.ceil(all.length * DROPPED_SHARE) - 1);
  }

  /** Moves a prefix to the end of those that are kept so far, which is its own place or one before it. */
  #move(number: number): boolean {
    const to = this.#count;
    const [start, end] = [this.#starts[number]!, this.#starts[number + 1]!];
    if (!this.#take(this.#hashes[number]!, to)) return false;
    const begin = this.#starts[to]!;
    this.#names.copyWithin(begin, start, end);
    // Of those behind it, the start of the next one is still needed.
    if (to < number) this.#starts[to + 1] = begin + end - start;
    this.#counters.copyWithin(to * FIELDS, number * FIELDS, (number + 1) * FIELDS);
    this.#count++;
    return true;
  }

  /** All prefixes that are here. The views of their bytes are valid until the next key is added. */
  *all(): Generator<PrefixCount> {
    for (let number = 0; number < this.#count; number++) yield this.#countOf(number);
  }

  #countOf(number: number): PrefixCount {
    const counter = (field: number) => this.#counters[number * FIELDS + field]!;
    return {
      prefix: this.#names.subarray(this.#starts[number], this.#starts[number + 1]),
      keys: counter(KEYS),
      bytes: counter(BYTES),
      elements: counter(ELEMENTS),
      maxMissedKeys: counter(MISSED_KEYS),
      maxMissedBytes: counter(MISSED_BYTES),
      maxMissedElements: counter(MISSED_ELEMENTS),
    };
  }
}
