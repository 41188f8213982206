/** The encodings that keep a whole value, or a part of one, in one string. */
export type PackedKind = "listpack" | "ziplist" | "zipmap" | "intset";

/** They, by the numbers that stand for them in a program. */
export const PACKED_KINDS: readonly PackedKind[] = ["listpack", "ziplist", "zipmap", "intset"];

/** The bytes before the first entry, which hold the count. */
export const PACKED_HEAD_BYTES: Readonly<Record<PackedKind, number>> = {
  listpack: 6,
  ziplist: 10,
  zipmap: 1,
  intset: 8,
};
/** The longest of them. */
export const MAX_PACKED_HEAD_BYTES = 10;

/** The count that means: too many for two bytes, count them. */
const UNKNOWN_COUNT = 0xffff;
/** The same in a zipmap, whose count has one byte. */
const UNKNOWN_ZIPMAP_COUNT = 254;

/** What a head says of the count: this is what it says where only a walk can tell. */
export const COUNT_IT = -1;
/** And this where it is malformed. */
export const MALFORMED = -2;

/**
 * How many entries a packed value holds, as its head says ("Redis, listpack.c, ziplist.c, intset.c, zipmap.c"): fields
 * and values of a hash count as two.
 * @param at where the head begins; all of it is there.
 * @param length of the whole value.
 * @returns COUNT_IT where only a walk can tell, MALFORMED where the head contradicts the length.
 */
export function packedCount(
  kind: PackedKind,
  bytes: Uint8Array,
  at: number,
  length: number,
): number {
  switch (kind) {
    case "listpack": {
      if (uint32(bytes, at) !== length || length < 7) return MALFORMED;
      const count = bytes[at + 4]! | (bytes[at + 5]! << 8);
      return count === UNKNOWN_COUNT ? COUNT_IT : count;
    }
    case "ziplist": {
      if (uint32(bytes, at) !== length || length < 11) return MALFORMED;
      const count = bytes[at + 8]! | (bytes[at + 9]! << 8);
      return count === UNKNOWN_COUNT ? COUNT_IT : count;
    }
    case "intset": {
      const width = uint32(bytes, at);
      if (width !== 2 && width !== 4 && width !== 8) return MALFORMED;
      const count = uint32(bytes, at + 4);
      return 8 + count * width === length ? count : MALFORMED;
    }
    case "zipmap": {
      const count = bytes[at]!;
      return count >= UNKNOWN_ZIPMAP_COUNT ? COUNT_IT : 2 * count;
    }
  }
}

function uint32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
  );
}

/** What comes next in a packed value that is walked. */
const HEAD = 0;
const ENTRY = 1;
const LENGTH = 2;
const PREVIOUS_LENGTH = 3;
const FREE_BYTES = 4;
const END = 5;

/** Counts the entries of a packed value as its bytes come. */
export class PackedWalk {
  readonly #kind: "listpack" | "ziplist" | "zipmap";
  #expects = HEAD;
  /** Bytes that are passed over before what is expected. */
  #skipBytes: number;
  /** Of a length that has several bytes: how many are to come, and what they make so far. */
  #lengthBytes = 0;
  #lengthRead = 0;
  #length = 0;
  #isBigEndian = false;
  /** Bytes of a listpack's entry before those that are counted by its length. */
  #headBytes = 0;
  /** How many entries have begun. */
  count = 0;

  constructor(kind: "listpack" | "ziplist" | "zipmap") {
    this.#kind = kind;
    this.#skipBytes = PACKED_HEAD_BYTES[kind];
  }

  /** Whether the end has come, and nothing is missing or left. */
  get isWhole(): boolean {
    return this.#expects === END;
  }

  /** Takes the next bytes. @returns false where they are malformed. */
  push(bytes: Uint8Array, from: number, to: number): boolean {
    let at = from;
    for (;;) {
      const skipped = Math.min(this.#skipBytes, to - at);
      this.#skipBytes -= skipped;
      at += skipped;
      if (at === to) return true;
      if (!this.#take(bytes[at]!)) return false;
      at++;
    }
  }

  #take(byte: number): boolean {
    if (this.#expects === LENGTH) return this.#takeLength(byte);
    if (this.#expects === END) return false;
    if (this.#expects === FREE_BYTES) {
      this.#skipBytes = this.#length + byte;
      this.#expects = ENTRY;
      return true;
    }
    if (this.#expects === HEAD) {
      this.#expects = this.#kind === "ziplist" ? PREVIOUS_LENGTH : ENTRY;
    }
    if (this.#expects === PREVIOUS_LENGTH) {
      if (byte === 0xff) {
        this.#expects = END;
        return true;
      }
      this.#skipBytes = byte === 0xfe ? 4 : 0;
      this.#expects = ENTRY;
      return true;
    }
    switch (this.#kind) {
      case "listpack":
        return this.#listpackEntry(byte);
      case "ziplist":
        return this.#ziplistEntry(byte);
      case "zipmap":
        return this.#zipmapEntry(byte);
    }
  }

  #takeLength(byte: number): boolean {
    const place = this.#isBigEndian ? this.#lengthBytes - 1 : this.#lengthRead;
    this.#length += byte * 256 ** place;
    this.#lengthRead++;
    this.#lengthBytes--;
    if (this.#lengthBytes === 0) this.#pass(this.#length);
    return true;
  }

  #expectLength(lengthBytes: number, isBigEndian: boolean, high: number, headBytes: number): true {
    this.#expects = LENGTH;
    this.#lengthBytes = lengthBytes;
    this.#lengthRead = 0;
    this.#length = high * 256 ** lengthBytes;
    this.#isBigEndian = isBigEndian;
    this.#headBytes = headBytes;
    return true;
  }

  /** Passes over what an entry holds, and in a listpack over the length behind it. */
  #pass(length: number): true {
    switch (this.#kind) {
      case "listpack": {
        const bytes = this.#headBytes + length;
        const backBytes =
          bytes <= 127 ? 1 : bytes < 16383 ? 2 : bytes < 2097151 ? 3 : bytes < 268435455 ? 4 : 5;
        this.#skipBytes = length + backBytes;
        this.#expects = ENTRY;
        return true;
      }
      case "ziplist":
        this.#skipBytes = length;
        this.#expects = PREVIOUS_LENGTH;
        return true;
      case "zipmap":
        if (this.count % 2 === 0) {
          // A value: before it stands how many bytes behind it are free.
          this.#length = length;
          this.#expects = FREE_BYTES;
          return true;
        }
        this.#skipBytes = length;
        this.#expects = ENTRY;
        return true;
    }
  }

  #listpackEntry(byte: number): boolean {
    if (byte === 0xff) {
      this.#expects = END;
      return true;
    }
    this.count++;
    this.#headBytes = 1;
    if (byte < 0x80) return this.#pass(0);
    if (byte < 0xc0) return this.#pass(byte & 0x3f);
    if (byte < 0xe0) return this.#pass(1);
    if (byte < 0xf0) return this.#expectLength(1, true, byte & 0x0f, 2);
    if (byte === 0xf0) return this.#expectLength(4, false, 0, 5);
    if (byte === 0xf1) return this.#pass(2);
    if (byte === 0xf2) return this.#pass(3);
    if (byte === 0xf3) return this.#pass(4);
    return byte === 0xf4 && this.#pass(8);
  }

  #ziplistEntry(byte: number): boolean {
    this.count++;
    if (byte < 0x40) return this.#pass(byte);
    if (byte < 0x80) return this.#expectLength(1, true, byte & 0x3f, 2);
    if (byte === 0x80) return this.#expectLength(4, true, 0, 5);
    if (byte === 0xc0) return this.#pass(2);
    if (byte === 0xd0) return this.#pass(4);
    if (byte === 0xe0) return this.#pass(8);
    if (byte === 0xf0) return this.#pass(3);
    if (byte === 0xfe) return this.#pass(1);
    return byte >= 0xf1 && byte <= 0xfd && this.#pass(0);
  }

  #zipmapEntry(byte: number): boolean {
    if (byte === 0xff) {
      this.#expects = END;
      return this.count % 2 === 0;
    }
    this.count++;
    if (byte < 254) return this.#pass(byte);
    return this.#expectLength(4, false, 0, 5);
  }
}
