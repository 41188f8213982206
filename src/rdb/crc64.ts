import {
  DISTANCES,
  FOLD_BYTES,
  fold,
  foldMemory,
  HISTORY_BYTES,
  LANE_BYTES,
} from "./crc64-fold.ts";

/** 0xad93d23594c935a9 with its bits reversed: the input is reflected, so the table is, too. */
const POLYNOMIAL_REFLECTED = 0x95ac9329ac4bc9b5n;

/** The table of the bytewise CRC in two halves: numbers of 64 bits would be BigInts. */
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

/**
 * CRC-64/Jones, the checksum at an RDB's end: polynomial 0xad93d23594c935a9, reflected in and out,
 * initial value 0, no final xor ("Redis, crc64.c").
 *
 * Long runs of bytes are folded into a short one of the same remainder; that one goes byte by byte.
 */
export class Crc64 {
  /** The last lanes, folded; what lies before them no longer counts. */
  readonly #history = new Uint8Array(HISTORY_BYTES);
  /** The bytes behind them that are less than a lane. */
  readonly #rest = new Uint8Array(LANE_BYTES);
  #restBytes = 0;

  /** Takes the next bytes, at any alignment, in order. */
  update(bytes: Uint8Array): void {
    if (this.#restBytes + bytes.length < LANE_BYTES) {
      this.#rest.set(bytes, this.#restBytes);
      this.#restBytes += bytes.length;
      return;
    }
    foldMemory.set(this.#history);
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + FOLD_BYTES - this.#restBytes);
      foldMemory.set(this.#rest.subarray(0, this.#restBytes), HISTORY_BYTES);
      foldMemory.set(piece, HISTORY_BYTES + this.#restBytes);
      this.#fold(this.#restBytes + piece.length);
      at += piece.length;
    }
    this.#history.set(foldMemory.subarray(0, HISTORY_BYTES));
  }

  #fold(bytes: number): void {
    this.#restBytes = bytes % LANE_BYTES;
    const folded = bytes - this.#restBytes;
    const end = HISTORY_BYTES + folded;
    if (folded > 0) fold(folded);
    this.#rest.set(foldMemory.subarray(end, end + this.#restBytes));
    foldMemory.copyWithin(0, folded, end);
  }

  /** The checksum of everything so far, 0 to 2^64 - 1. */
  get value(): bigint {
    // The history's lanes were added to each other, and to lanes behind it; the former is undone.
    const words = new Int32Array(this.#history.slice().buffer);
    for (let at = words.length - 1; at >= 0; at--) {
      for (const lanes of DISTANCES) {
        const from = at - (lanes * LANE_BYTES) / words.BYTES_PER_ELEMENT;
        if (from >= 0) words[at]! ^= words[from]!;
      }
    }
    let low = 0;
    let high = 0;
    for (const bytes of [new Uint8Array(words.buffer), this.#rest.subarray(0, this.#restBytes)]) {
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
