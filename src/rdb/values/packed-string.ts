import { LZF, NO_LENGTH, readStringHead, stringHead, TOO_FEW } from "./length.ts";
import { LzfStream, MAX_LZF_RATIO, undoLzf } from "./lzf.ts";
import {
  COUNT_IT,
  MALFORMED,
  MAX_PACKED_HEAD_BYTES,
  PACKED_HEAD_BYTES,
  PACKED_KINDS,
  packedCount,
  type PackedKind,
  PackedWalk,
} from "./packed.ts";

/** Ends the reading. `at` is a position in the buffer that is read. */
export type Fail = (at: number, what: string) => never;

/** What a byte of a head takes at most where it is compressed: itself, and a byte that announces it. */
const COMPRESSED_HEAD_RATIO = 2;

/**
 * A string of packed entries, compressed or not: takes their count from its head, or counts them as it passes where the
 * head has no room for it.
 */
export class PackedString {
  readonly #fail: Fail;
  readonly #head = new Uint8Array(MAX_PACKED_HEAD_BYTES);
  #kind: PackedKind = "listpack";
  #walk = new PackedWalk("listpack");
  #lzf: LzfStream | undefined;
  /** Bytes of the string that are still to be walked. */
  #left = 0;
  /** Whether the count is known. */
  isDone = true;
  count = 0;
  /** How many bytes follow its head in the RDB, and how many it has uncompressed. */
  bytes = 0;
  plainBytes = 0;

  constructor(fail: Fail) {
    this.#fail = fail;
  }

  /**
   * Begins with a string.
   * @returns where its bytes begin, from where on it is to be walked unless `isDone`; TOO_FEW, NO_LENGTH.
   */
  start(bytes: Uint8Array, at: number, to: number, kind: number): number {
    const end = readStringHead(bytes, at, to);
    if (end < 0) return end;
    const isCompressed = stringHead.first === LZF;
    // A number is no packed string.
    if (stringHead.first > 0xbf && !isCompressed) return NO_LENGTH;
    this.#kind = PACKED_KINDS[kind]!;
    this.bytes = stringHead.bytes;
    this.plainBytes = stringHead.plainBytes;
    const headBytes = PACKED_HEAD_BYTES[this.#kind];
    if (this.plainBytes < headBytes) this.#malformed(at);
    let count: number;
    if (isCompressed) {
      if (this.plainBytes > this.bytes * MAX_LZF_RATIO) this.#malformed(at);
      const needed = Math.min(this.bytes, headBytes * COMPRESSED_HEAD_RATIO);
      if (end + needed > to) return TOO_FEW;
      const head = this.#head.subarray(0, headBytes);
      if (undoLzf(bytes, end, end + needed, head) !== headBytes) this.#malformed(at);
      count = packedCount(this.#kind, head, 0, this.plainBytes);
    } else {
      if (end + headBytes > to) return TOO_FEW;
      count = packedCount(this.#kind, bytes, end, this.plainBytes);
    }
    if (count === MALFORMED) this.#malformed(at);
    this.isDone = count !== COUNT_IT;
    this.count = count;
    if (!this.isDone && this.#kind !== "intset") {
      this.#walk = new PackedWalk(this.#kind);
      this.#lzf = isCompressed ? new LzfStream() : undefined;
      this.#left = this.bytes;
    }
    return end;
  }

  /** Walks over what is there of the string. @returns how far. */
  walk(bytes: Uint8Array, from: number, to: number): number {
    const end = Math.min(to, from + this.#left);
    if (!this.#take(bytes, from, end)) this.#malformed(from);
    this.#left -= end - from;
    if (this.#left > 0) return end;
    if (!this.#walk.isWhole || !this.#isUndone()) this.#malformed(from);
    this.isDone = true;
    this.count = this.#walk.count;
    return end;
  }

  #isUndone(): boolean {
    return this.#lzf === undefined || (this.#lzf.isWhole && this.#lzf.bytes === this.plainBytes);
  }

  #take(bytes: Uint8Array, from: number, to: number): boolean {
    if (this.#lzf === undefined) return this.#walk.push(bytes, from, to);
    let isSound = true;
    const take = (plain: Uint8Array, at: number, end: number) => {
      isSound &&= this.#walk.push(plain, at, end);
    };
    const isLzf = this.#lzf.push(bytes, from, to, take);
    return isLzf && isSound && this.#lzf.bytes <= this.plainBytes;
  }

  #malformed(at: number): never {
    this.#fail(at, `a ${this.#kind} of ${this.plainBytes} bytes is malformed`);
  }
}
