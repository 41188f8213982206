const NOTHING = new Uint8Array(0);

/** Bytes that a socket has not accepted yet. They are few, so one array holds them. */
export class SendBuffer {
  readonly #write: (bytes: Uint8Array) => number;
  #unsent: Uint8Array = NOTHING;

  /** @param write takes what it can and returns how many bytes that was; -1 if the socket is gone. */
  constructor(write: (bytes: Uint8Array) => number) {
    this.#write = write;
  }

  get lengthBytes(): number {
    return this.#unsent.length;
  }

  append(bytes: Uint8Array): void {
    if (this.#unsent.length === 0) {
      this.#unsent = bytes;
      return;
    }
    const joined = new Uint8Array(this.#unsent.length + bytes.length);
    joined.set(this.#unsent);
    joined.set(bytes, this.#unsent.length);
    this.#unsent = joined;
  }

  /** Writes as much as the socket accepts and returns the number of bytes; -1 if the socket is gone. */
  flush(): number {
    if (this.#unsent.length === 0) return 0;
    const accepted = this.#write(this.#unsent);
    if (accepted > 0) this.#unsent = this.#unsent.subarray(accepted);
    return accepted;
  }

  clear(): void {
    this.#unsent = NOTHING;
  }
}
