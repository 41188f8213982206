import {
  INT8,
  LZF,
  lengthRead,
  readInteger,
  readLength,
  readStringHead,
  stringHead,
} from "../values/length.ts";
import { MAX_LZF_RATIO, undoLzf } from "../values/lzf.ts";
import { contentError } from "./content-error.ts";

/** Reads a value as it stands in an RDB, all of whose bytes are there, from its beginning to its end. */
export class ValueBytes {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Whether nothing is left. */
  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** A number in the form of a length. @throws ReplicaError BAD_PAYLOAD, as all that follow. */
  length(): number {
    this.#at = this.#found(readLength(this.#bytes, this.#at, this.#bytes.length));
    return lengthRead.value;
  }

  /** Passes over such a number, which may have no exact one here. @returns its bytes, as a view: servers have one form of each. */
  lengthBytes(): Uint8Array {
    const from = this.#at;
    this.length();
    return this.#bytes.subarray(from, this.#at);
  }

  /** So many bytes, as a view. */
  take(count: number): Uint8Array {
    const end = this.#at + count;
    if (end > this.#bytes.length) throw tooShort();
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  /** A time in milliseconds, or any other number of 64 bits with a sign. */
  int64(): bigint {
    const bytes = this.take(8);
    return new DataView(bytes.buffer, bytes.byteOffset).getBigInt64(0, true);
  }

  /** A double. */
  double(): number {
    const bytes = this.take(8);
    return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
  }

  /** A string in any of its forms, as the bytes that it stands for. */
  string(): Uint8Array {
    this.stringHead();
    const { first, bytes, plainBytes } = stringHead;
    const taken = this.take(bytes);
    if (first !== LZF) {
      return first < INT8 ? taken : Buffer.from(String(readInteger(first, taken, 0)));
    }
    if (plainBytes > bytes * MAX_LZF_RATIO) throw contentError("a compressed string is malformed");
    const plain = new Uint8Array(plainBytes);
    if (undoLzf(taken, 0, bytes, plain) !== plainBytes) {
      throw contentError("a compressed string is malformed");
    }
    return plain;
  }

  /** What stands before the bytes of the string that is next. */
  peekString(): { readonly first: number; readonly bytes: number; readonly plainBytes: number } {
    this.#found(readStringHead(this.#bytes, this.#at, this.#bytes.length));
    return { ...stringHead };
  }

  /** Passes over what stands before a string's bytes, which are to be taken next. */
  stringHead(): void {
    this.#at = this.#found(readStringHead(this.#bytes, this.#at, this.#bytes.length));
  }

  #found(end: number): number {
    if (end < 0) throw tooShort();
    return end;
  }
}

function tooShort(): Error {
  return contentError("a value is malformed: it ends too early, or holds a length that is none");
}
