import {
  DISTANCES,
  FOLD_BYTES,
  fold,
  foldMemory,
  HISTORY_BYTES,
  LANE_BYTES,
} from "./crc64-fold.ts";

/** 0xad93d23594c935a9 with its bits reversed: the input is reflected, so the table is too. */
const POLYNOMIAL_REFLECTED = 0x95ac9329ac4bc9b5n;

/** The table of the bytewise CRC, in two halves: 64-bit numbers would be BigInts. */
const LOW = new Int32Array(256);
const HIGH = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let crc = BigInt(byte);
  for (let bit = 0; bit < 8; bit++) {
    crc = (crc & 1n) === 1n ? (crc >> 1n) ^ POLYNOMIAL_REFLECTED : crc >> 1n;
  }
  LOW[byte] = Number(BigInt.asIntN(32, crc));
  HIGH[byte] = Number(BigInt.asIntN(32, crc >> 32n));
}

/** The checksum whose lanes the fold's memory holds. */
const memory: { owner: Crc64 | undefined } = { owner: undefined };

/**
 * CRC-64/Jones, the checksum at an RDB's end: polynomial 0xad93d23594c935a9, reflected in and out,
 * initial value 0, no final xor ("Redis, crc64.c").
 *
 * Folds long runs of bytes into a short one with the same remainder, which goes byte by byte.
 */
export class Crc64 {
  /** Where in the fold's memory the lanes that count begin; the rest follows them. */
  #at = 0;
  /** Bytes after the last whole lane. */
  #restBytes = 0;
  /** Those lanes and the rest, while another checksum has the memory. */
  #kept: Uint8Array = new Uint8Array(HISTORY_BYTES);

  /** Takes the next bytes, of any alignment. */
  update(bytes: Uint8Array): void {
    this.#takeMemory();
    for (let at = 0; at < bytes.length;) {
      if (FOLD_BYTES - this.#at < 2 * LANE_BYTES) this.#moveToFront();
      const piece = bytes.subarray(at, at + FOLD_BYTES - this.#at - this.#restBytes);
      foldMemory.set(piece, HISTORY_BYTES + this.#at + this.#restBytes);
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
    foldMemory.copyWithin(0, this.#at, this.#at + HISTORY_BYTES + this.#restBytes);
    this.#at = 0;
  }

  /** One checksum has it at a time, and usually keeps it: one RDB arrives at a time. */
  #takeMemory(): void {
    const { owner } = memory;
    if (owner === this) return;
    if (owner !== undefined) owner.#kept = owner.#state();
    memory.owner = this;
    foldMemory.set(this.#kept);
    this.#at = 0;
  }

  /** The lanes that count, and the rest after them. */
  #state(): Uint8Array {
    if (memory.owner !== this) return this.#kept;
    return foldMemory.slice(this.#at, this.#at + HISTORY_BYTES + this.#restBytes);
  }

  /** The checksum of everything so far, 0 to 2^64 - 1. */
  get value(): bigint {
    // The history's lanes were added to each other and to the lanes after it; undo the former.
    const state = this.#state();
    const words = new Int32Array(state.slice(0, HISTORY_BYTES).buffer);
    for (let at = words.length - 1; at >= 0; at--) {
      for (const lanes of DISTANCES) {
        const from = at - (lanes * LANE_BYTES) / words.BYTES_PER_ELEMENT;
        if (from >= 0) words[at]! ^= words[from]!;
      }
    }
    let low = 0;
    let high = 0;
    for (const bytes of [new Uint8Array(words.buffer), state.subarray(HISTORY_BYTES)]) {
      for (let at = 0; at < bytes.length; at++) {
        const index = (low ^ bytes[at]!) & 0xff;
        low = ((low >>> 8) | (high << 24)) ^ LOW[index]!;
        high = (high >>> 8) ^ HIGH[index]!;
      }
    }
    return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  }
}

/** The CRC-64/Jones of `bytes`. */
export function crc64(bytes: Uint8Array): bigint {
  const crc = new Crc64();
  crc.update(bytes);
  return crc.value;
}
