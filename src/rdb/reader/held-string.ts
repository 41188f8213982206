import { GrowingBytes } from "./growing-bytes.ts";
import {
  INT8,
  LZF,
  NO_LENGTH,
  readInteger,
  readStringHead,
  stringHead,
  TOO_FEW,
} from "../values/length.ts";
import { MAX_LZF_RATIO, undoLzf } from "../values/lzf.ts";
import type { Fail } from "../values/packed-string.ts";

/** Up to this size what a compressed string makes goes into memory that is used again. */
const SCRATCH_BYTES = 64 * 1024;

/** A string that is looked at: it is held whole, or passed over where it is longer than it may be. */
export class HeldString {
  readonly #fail: Fail;
  readonly #pieces = new GrowingBytes();
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  #isWithin = false;
  #left = 0;
  #isCompressed = false;
  #plainBytes = 0;
  /** Whether it lies in the buffer that is read. */
  #isForeign = false;

  isDone = true;
  /** Whether it was longer than it may be. */
  isTooLong = false;
  /** How long it is, uncompressed. */
  length = 0;
  /** Where it lies once it is done, unless it is too long. Valid until the buffer that is read goes, or the next one. */
  buffer: Uint8Array = this.#scratch;
  from = 0;
  to = 0;

  constructor(fail: Fail) {
    this.#fail = fail;
  }

  /** Begins a string. */
  start(): void {
    this.isDone = false;
    this.isTooLong = false;
    this.#isWithin = false;
    this.#isForeign = false;
  }

  /**
   * Takes what is there of the string.
   * @returns how far; TOO_FEW where more bytes are needed.
   */
  run(bytes: Uint8Array, from: number, to: number, maxBytes: number): number {
    let at = from;
    if (!this.#isWithin) {
      const end = readStringHead(bytes, at, to);
      if (end === TOO_FEW) return TOO_FEW;
      if (end === NO_LENGTH) this.#fail(at, `no string begins with 0x${bytes[at]!.toString(16)}`);
      if (stringHead.first >= INT8 && stringHead.first < LZF) return this.#integer(bytes, end, to);
      this.#begin(at, maxBytes);
      if (end + this.#left <= to) {
        if (!this.isTooLong) this.#finish(bytes, end, end + this.#left, from);
        this.#isForeign = !this.isTooLong && !this.#isCompressed;
        this.isDone = true;
        return end + this.#left;
      }
      at = end;
    }
    const end = Math.min(to, at + this.#left);
    if (!this.isTooLong) this.#pieces.append(bytes, at, end);
    this.#left -= end - at;
    if (this.#left === 0) {
      const { view } = this.#pieces;
      if (!this.isTooLong) this.#finish(view, 0, view.length, at);
      this.isDone = true;
    }
    return end;
  }

  /** Copies the string where it lies in the buffer that is read. */
  keep(): void {
    if (!this.#isForeign) return;
    this.#isForeign = false;
    this.#pieces.clear();
    this.#pieces.append(this.buffer, this.from, this.to);
    this.#show(this.#pieces.view, 0, this.#pieces.length);
  }

  #begin(at: number, maxBytes: number): void {
    this.#isWithin = true;
    this.#isCompressed = stringHead.first === LZF;
    this.#left = stringHead.bytes;
    this.#plainBytes = stringHead.plainBytes;
    this.length = stringHead.plainBytes;
    this.isTooLong = Math.max(this.#left, this.#plainBytes) > maxBytes;
    this.#pieces.clear();
    if (this.#isCompressed && this.#plainBytes > this.#left * MAX_LZF_RATIO) {
      this.#malformed(at);
    }
  }

  #finish(bytes: Uint8Array, from: number, to: number, at: number): void {
    if (!this.#isCompressed) {
      this.#show(bytes, from, to);
      return;
    }
    const isSmall = this.#plainBytes <= SCRATCH_BYTES;
    const buffer = isSmall ? this.#scratch : new Uint8Array(this.#plainBytes);
    const out = buffer.subarray(0, this.#plainBytes);
    if (undoLzf(bytes, from, to, out) !== this.#plainBytes) this.#malformed(at);
    this.#show(buffer, 0, this.#plainBytes);
  }

  #integer(bytes: Uint8Array, at: number, to: number): number {
    const { first, bytes: length } = stringHead;
    if (at + length > to) return TOO_FEW;
    const text = String(readInteger(first, bytes, at));
    for (let place = 0; place < text.length; place++) {
      this.#scratch[place] = text.charCodeAt(place);
    }
    this.length = text.length;
    this.#show(this.#scratch, 0, text.length);
    this.isDone = true;
    return at + length;
  }

  #show(buffer: Uint8Array, from: number, to: number): void {
    this.buffer = buffer;
    this.from = from;
    this.to = to;
  }

  #malformed(at: number): never {
    this.#fail(at, `a compressed string of ${this.#plainBytes} bytes is malformed`);
  }
}
