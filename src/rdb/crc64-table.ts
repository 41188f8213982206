/** 0xad93d23594c935a9 with its bits reversed: the input is reflected, so the table is too. In two halves of 32 bits. */
const POLYNOMIAL_LOW = 0xac4bc9b5 | 0;
const POLYNOMIAL_HIGH = 0x95ac9329 | 0;

/** The bytes of one step: as many as the remainder has. */
const WORD_BYTES = 8;

/**
 * The tables, in two halves: 64-bit numbers would be BigInts, which are slow. Entry `256 × n + byte` is the remainder of that
 * byte with n zero bytes after it, so eight bytes take one step.
 */
const LOW = new Int32Array(WORD_BYTES * 256);
const HIGH = new Int32Array(WORD_BYTES * 256);
for (let byte = 0; byte < 256; byte++) {
  let low = byte;
  let high = 0;
  for (let bit = 0; bit < 8; bit++) {
    const isDivided = (low & 1) === 1;
    low = (low >>> 1) | (high << 31);
    high >>>= 1;
    if (isDivided) {
      low ^= POLYNOMIAL_LOW;
      high ^= POLYNOMIAL_HIGH;
    }
  }
  LOW[byte] = low;
  HIGH[byte] = high;
}
for (let at = 256; at < LOW.length; at++) {
  const low = LOW[at - 256]!;
  const high = HIGH[at - 256]!;
  LOW[at] = ((low >>> 8) | (high << 24)) ^ LOW[low & 0xff]!;
  HIGH[at] = (high >>> 8) ^ HIGH[low & 0xff]!;
}

/** A remainder: the state of the CRC after some bytes, and its value. */
export class Remainder {
  low = 0;
  high = 0;

  /** Takes the next bytes, eight at a time. */
  update(bytes: Uint8Array): void {
    let { low, high } = this;
    let at = 0;
    for (const whole = bytes.length - WORD_BYTES; at <= whole; at += WORD_BYTES) {
      const a = (low & 0xff) ^ bytes[at]!;
      const b = ((low >>> 8) & 0xff) ^ bytes[at + 1]!;
      const c = ((low >>> 16) & 0xff) ^ bytes[at + 2]!;
      const d = (low >>> 24) ^ bytes[at + 3]!;
      const e = (high & 0xff) ^ bytes[at + 4]!;
      const f = ((high >>> 8) & 0xff) ^ bytes[at + 5]!;
      const g = ((high >>> 16) & 0xff) ^ bytes[at + 6]!;
      const h = (high >>> 24) ^ bytes[at + 7]!;
      low =
        LOW[1792 + a]! ^
        LOW[1536 + b]! ^
        LOW[1280 + c]! ^
        LOW[1024 + d]! ^
        (LOW[768 + e]! ^ LOW[512 + f]! ^ LOW[256 + g]! ^ LOW[h]!);
      high =
        HIGH[1792 + a]! ^
        HIGH[1536 + b]! ^
        HIGH[1280 + c]! ^
        HIGH[1024 + d]! ^
        (HIGH[768 + e]! ^ HIGH[512 + f]! ^ HIGH[256 + g]! ^ HIGH[h]!);
    }
    for (; at < bytes.length; at++) {
      const index = (low ^ bytes[at]!) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ LOW[index]!;
      high = (high >>> 8) ^ HIGH[index]!;
    }
    this.low = low;
    this.high = high;
  }

  /** Takes that many zero bytes, whose number may be large: each of its bits costs a multiplication. */
  skip(zeroBytes: number): void {
    for (let [left, n] = [zeroBytes, 0]; left > 0; [left, n] = [Math.floor(left / 2), n + 1]) {
      if (left % 2 === 1) this.#multiply(powerOf(n));
    }
  }

  /** Multiplies two polynomials, whose lowest term is the highest bit. */
  #multiply(other: Remainder): void {
    let [fromLow, fromHigh] = [this.low, this.high];
    let { low, high } = other;
    this.low = this.high = 0;
    for (let bit = 0; bit < 64; bit++) {
      if (fromHigh < 0) {
        this.low ^= low;
        this.high ^= high;
      }
      fromHigh = (fromHigh << 1) | (fromLow >>> 31);
      fromLow <<= 1;
      const isDivided = (low & 1) === 1;
      low = (low >>> 1) | (high << 31);
      high >>>= 1;
      if (isDivided) {
        low ^= POLYNOMIAL_LOW;
        high ^= POLYNOMIAL_HIGH;
      }
    }
  }

  squared(): Remainder {
    const square = Remainder.of(this.value);
    square.#multiply(this);
    return square;
  }

  static of(value: bigint): Remainder {
    const remainder = new Remainder();
    remainder.low = Number(BigInt.asIntN(32, value));
    remainder.high = Number(BigInt.asIntN(32, value >> 32n));
    return remainder;
  }

  /** 0 to 2^64 - 1. */
  get value(): bigint {
    return (BigInt(this.high >>> 0) << 32n) | BigInt(this.low >>> 0);
  }
}

/** What 1, 2, 4, 8 … zero bytes multiply a remainder by; the first is x^8. */
const POWERS = [Remainder.of(1n << 55n)];

function powerOf(n: number): Remainder {
  while (POWERS.length <= n) POWERS.push(POWERS.at(-1)!.squared());
  return POWERS[n]!;
}
