import { GrowingBytes } from "./growing-bytes.ts";
import type { Fail } from "../values/packed-string.ts";

/** A value that is handed on as it stands in the RDB: a view where it lies in one buffer, else a copy. */
export class WantedValue {
  readonly #fail: Fail;
  readonly #maxBytes: number;
  readonly #collected = new GrowingBytes();
  #isWanted = false;
  /** From where on in the buffer it is still to be collected. */
  #from = 0;

  constructor(fail: Fail, maxBytes: number) {
    this.#fail = fail;
    this.#maxBytes = maxBytes;
  }

  /** Begins a value that is wanted. */
  start(from: number): void {
    this.#isWanted = true;
    this.#from = from;
    this.#collected.clear();
  }

  /** Collects what lies in a buffer that goes; in the next one it goes on at `from`. */
  leave(buffer: Uint8Array, at: number, from: number): void {
    if (!this.#isWanted) return;
    this.#check(at);
    this.#collected.append(buffer, this.#from, at);
    this.#from = from;
  }

  /** Ends a value. @returns it, if it was wanted; valid until the buffer goes or another value begins. */
  end(buffer: Uint8Array, at: number): Uint8Array | undefined {
    if (!this.#isWanted) return undefined;
    this.#isWanted = false;
    this.#check(at);
    if (this.#collected.length === 0) return buffer.subarray(this.#from, at);
    this.#collected.append(buffer, this.#from, at);
    return this.#collected.view;
  }

  #check(at: number): void {
    if (this.#collected.length + at - this.#from <= this.#maxBytes) return;
    this.#fail(at, `a value is longer than the ${this.#maxBytes} bytes that are held`);
  }
}
