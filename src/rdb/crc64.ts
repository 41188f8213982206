import { DISTANCES, FOLD_BYTES, HISTORY_BYTES, LANE_BYTES, sharedFolder } from "./crc64-fold.ts";
import { Remainder } from "./crc64-table.ts";

/**
 * From how many bytes on the fold pays. Its lanes cost the time of some 60 KiB by table to reduce to a value
 * at the end, and a log has thousands of segments that are shorter.
 */
export const FOLD_FROM_BYTES = 64 * 1024;

/** The bytes of a remainder: it goes into the fold by adding it to as many of the bytes after it. */
const REMAINDER_BYTES = 8;

/** The checksum whose lanes the fold's memory holds. */
const memory: { owner: Crc64 | undefined } = { owner: undefined };

/**
 * CRC-64/Jones, the checksum at an RDB's end: polynomial 0xad93d23594c935a9, reflected in and out,
 * initial value 0, no final xor ("Redis, crc64.c").
 *
 * Few bytes go through a table. Many are folded into a short run with the same remainder, and that goes
 * through the table.
 */
export class Crc64 {
  /** The bytes before the fold: all of them, until there are `FOLD_FROM_BYTES`. */
  readonly #before = new Remainder();
  #beforeBytes = 0;
  #isFolded = false;
  /** Where in the fold's memory the lanes that count begin; the rest follows them. */
  #at = 0;
  /** Bytes after the last whole lane. */
  #restBytes = 0;
  /** Those lanes and the rest, while another checksum has the memory. */
  #kept: Uint8Array | undefined;

  /** Takes the next bytes, of any alignment. */
  update(bytes: Uint8Array): void {
    if (this.#isFolded) {
      this.#takeMemory();
      this.#fold(bytes);
      return;
    }
    const isShort = this.#beforeBytes + bytes.length < FOLD_FROM_BYTES;
    if (isShort || bytes.length < REMAINDER_BYTES) {
      this.#before.update(bytes);
      this.#beforeBytes += bytes.length;
      return;
    }
    this.#isFolded = true;
    this.#takeMemory();
    this.#fold(this.#withRemainder(bytes.subarray(0, REMAINDER_BYTES)));
    this.#fold(bytes.subarray(REMAINDER_BYTES));
  }

  /** Takes the next `bytes` bytes by their own checksum, which somebody else has computed. */
  append(crc64: bigint, bytes: number): void {
    const whole = Remainder.of(crc64OfBoth(this.value, crc64, bytes));
    if (memory.owner === this) memory.owner = undefined;
    this.#kept = undefined;
    this.#isFolded = false;
    this.#restBytes = 0;
    this.#before.low = whole.low;
    this.#before.high = whole.high;
    // It counts again from here: what follows may be short.
    this.#beforeBytes = 0;
  }

  /** The remainder of all bytes before is the state in which these are met: added to them, it is in them. */
  #withRemainder(bytes: Uint8Array): Uint8Array {
    const { low, high } = this.#before;
    const first = Uint8Array.from(bytes);
    const view = new DataView(first.buffer);
    view.setInt32(0, view.getInt32(0, true) ^ low, true);
    view.setInt32(4, view.getInt32(4, true) ^ high, true);
    return first;
  }

  #fold(bytes: Uint8Array): void {
    const { memory: lanes, fold } = sharedFolder();
    for (let at = 0; at < bytes.length;) {
      if (FOLD_BYTES - this.#at < 2 * LANE_BYTES) this.#moveToFront();
      const room = FOLD_BYTES - this.#at - this.#restBytes;
      // A view of a small array costs more than its checksum.
      const piece = at === 0 && bytes.length <= room ? bytes : bytes.subarray(at, at + room);
      lanes.set(piece, HISTORY_BYTES + this.#at + this.#restBytes);
      at += piece.length;
      const end = this.#at + this.#restBytes + piece.length;
      this.#restBytes = end % LANE_BYTES;
      const folded = end - this.#restBytes;
      if (folded > this.#at) fold(this.#at, folded);
      this.#at = folded;
    }
  }

  /** Whole lanes are folded, so the lanes that count end where the rest begins. */
  #moveToFront(): void {
    sharedFolder().memory.copyWithin(0, this.#at, this.#at + HISTORY_BYTES + this.#restBytes);
    this.#at = 0;
  }

  /** One checksum has it at a time, and usually keeps it: one RDB arrives at a time. */
  #takeMemory(): void {
    const { owner } = memory;
    if (owner === this) return;
    if (owner !== undefined) owner.#kept = owner.#state();
    memory.owner = this;
    const { memory: lanes } = sharedFolder();
    if (this.#kept === undefined) lanes.fill(0, 0, HISTORY_BYTES);
    else lanes.set(this.#kept);
    this.#kept = undefined;
    this.#at = 0;
  }

  /** The lanes that count, and the rest after them, in bytes of their own. */
  #state(): Uint8Array {
    const end = this.#at + HISTORY_BYTES + this.#restBytes;
    return this.#kept ?? sharedFolder().memory.slice(this.#at, end);
  }

  /** The checksum of everything so far, 0 to 2^64 - 1. */
  get value(): bigint {
    if (!this.#isFolded) return this.#before.value;
    const state = this.#state();
    const lanes = state.slice(0, HISTORY_BYTES);
    unfold(new Int32Array(lanes.buffer));
    const remainder = new Remainder();
    remainder.update(lanes);
    remainder.update(state.subarray(HISTORY_BYTES));
    return remainder.value;
  }
}

const WORDS_BACK = Int32Array.from(DISTANCES, (lanes) => (lanes * LANE_BYTES) / 4).sort();

/** The history's lanes were added to each other and to the lanes after it; undoes the former. */
function unfold(words: Int32Array): void {
  for (let at = words.length - 1; at >= 0; at--) {
    // Nearest first: where one lies before the beginning, so do the others.
    for (let n = 0; n < WORDS_BACK.length && WORDS_BACK[n]! <= at; n++) {
      words[at]! ^= words[at - WORDS_BACK[n]!]!;
    }
  }
}

/** The CRC-64/Jones of `bytes`. */
export function crc64(bytes: Uint8Array): bigint {
  const crc = new Crc64();
  crc.update(bytes);
  return crc.value;
}

/** The CRC-64/Jones of two runs of bytes, one after the other, by their own and the length of the second, in bytes. */
export function crc64OfBoth(first: bigint, second: bigint, secondBytes: number): bigint {
  const remainder = Remainder.of(first);
  remainder.skip(secondBytes);
  return remainder.value ^ second;
}
