/** 0xad93d23594c935a9 with its bits reversed: the input is reflected, so the table is, too. */
const POLYNOMIAL_REFLECTED = 0x95ac9329ac4bc9b5n;

/** Eight tables of 256 entries in a row, in two halves: numbers of 64 bits would be BigInts. */
const LOW = new Int32Array(8 * 256);
const HIGH = new Int32Array(8 * 256);

function fillTables(): void {
  for (let byte = 0; byte < 256; byte++) {
    let crc = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc & 1n) === 1n ? (crc >> 1n) ^ POLYNOMIAL_REFLECTED : crc >> 1n;
    }
    LOW[byte] = Number(BigInt.asIntN(32, crc));
    HIGH[byte] = Number(BigInt.asIntN(32, crc >> 32n));
  }
  // Table n is table 0 followed by n zero bytes.
  for (let at = 256; at < 8 * 256; at++) {
    const low = LOW[at - 256]!;
    const high = HIGH[at - 256]!;
    const index = low & 0xff;
    LOW[at] = ((low >>> 8) | (high << 24)) ^ LOW[index]!;
    HIGH[at] = (high >>> 8) ^ HIGH[index]!;
  }
}
fillTables();

/**
 * CRC-64/Jones, the checksum at an RDB's end: polynomial 0xad93d23594c935a9, reflected in and out,
 * initial value 0, no final xor ("Redis, crc64.c").
 *
 * Of bytes followed by their own checksum in little-endian order, the CRC is 0 (`isZero`).
 */
export class Crc64 {
  #low = 0;
  #high = 0;

  /** Takes the next bytes, at any alignment, in order. */
  update(bytes: Uint8Array): void {
    // Words can only be viewed at multiples of four.
    const headBytes = Math.min(bytes.length, -bytes.byteOffset & 3);
    const pairs = (bytes.length - headBytes) >>> 3;
    this.#updateBytes(bytes, 0, headBytes);
    if (pairs > 0) {
      this.#updateWords(new Int32Array(bytes.buffer, bytes.byteOffset + headBytes, pairs * 2));
    }
    this.#updateBytes(bytes, headBytes + pairs * 8, bytes.length);
  }

  /** The checksum of everything so far, 0 to 2^64 - 1. */
  get value(): bigint {
    return (BigInt(this.#high >>> 0) << 32n) | BigInt(this.#low >>> 0);
  }

  /** Whether the checksum is 0: so it is behind bytes that end in their own checksum. */
  get isZero(): boolean {
    return (this.#low | this.#high) === 0;
  }

  /** Starts anew. */
  reset(): void {
    this.#low = 0;
    this.#high = 0;
  }

  #updateBytes(bytes: Uint8Array, from: number, to: number): void {
    let low = this.#low;
    let high = this.#high;
    for (let at = from; at < to; at++) {
      const index = (low ^ bytes[at]!) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ LOW[index]!;
      high = (high >>> 8) ^ HIGH[index]!;
    }
    this.#low = low;
    this.#high = high;
  }

  /** Slicing by eight: two words at once. The words are little-endian, as every machine Bun runs on. */
  #updateWords(words: Int32Array): void {
    const LO = LOW;
    const HI = HIGH;
    let low = this.#low;
    let high = this.#high;
    for (let at = 0; at < words.length; at += 2) {
      const a = low ^ words[at]!;
      const b = high ^ words[at + 1]!;
      const i7 = 1792 + (a & 0xff);
      const i6 = 1536 + ((a >>> 8) & 0xff);
      const i5 = 1280 + ((a >>> 16) & 0xff);
      const i4 = 1024 + (a >>> 24);
      const i3 = 768 + (b & 0xff);
      const i2 = 512 + ((b >>> 8) & 0xff);
      const i1 = 256 + ((b >>> 16) & 0xff);
      const i0 = b >>> 24;
      low = LO[i7]! ^ LO[i6]! ^ LO[i5]! ^ LO[i4]! ^ LO[i3]! ^ LO[i2]! ^ LO[i1]! ^ LO[i0]!;
      high = HI[i7]! ^ HI[i6]! ^ HI[i5]! ^ HI[i4]! ^ HI[i3]! ^ HI[i2]! ^ HI[i1]! ^ HI[i0]!;
    }
    this.#low = low;
    this.#high = high;
  }
}

/** The CRC-64/Jones of `bytes`. */
export function crc64(bytes: Uint8Array): bigint {
  const crc = new Crc64();
  crc.update(bytes);
  return crc.value;
}
