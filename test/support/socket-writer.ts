/** The part of Bun's socket that `SocketWriter` needs. */
interface WritableSocket {
  write(data: Uint8Array, byteOffset?: number, byteLength?: number): number;
}

/** Writes to a Bun socket in order. The socket may take only a part; the rest follows on `drain`. */
export class SocketWriter {
  readonly #socket: WritableSocket;
  readonly #queue: { bytes: Uint8Array; resolve: () => void; reject: (error: Error) => void }[] =
    [];
  #closed: Error | undefined;

  constructor(socket: WritableSocket) {
    this.#socket = socket;
  }

  /** Resolves when the kernel has taken all of `bytes`. */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (bytes.length === 0) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#queue.push({ bytes, resolve, reject });
    if (this.#queue.length === 1) this.drain();
    return promise;
  }

  drain(): void {
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      const taken = this.#socket.write(head.bytes);
      if (taken < 0) {
        this.close(new Error("the other side has closed the connection"));
        return;
      }
      if (taken < head.bytes.length) {
        head.bytes = head.bytes.subarray(taken);
        return;
      }
      this.#queue.shift();
      head.resolve();
    }
  }

  close(reason: Error): void {
    this.#closed ??= reason;
    for (const { reject } of this.#queue.splice(0)) reject(reason);
  }
}
