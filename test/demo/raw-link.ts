/** A bare connection for tests that reads by line or by length, each with a time limit. */
export class RawLink implements Disposable {
  /** Settles when the other side closes or resets the link. */
  readonly closed: Promise<void>;
  readonly #socket: Bun.Socket<undefined>;
  #received: Buffer = Buffer.alloc(0);
  #wake: () => void = () => {};
  #isClosed = false;

  private constructor(socket: Bun.Socket<undefined>, closed: Promise<void>) {
    this.#socket = socket;
    this.closed = closed;
  }

  static async connect(port: number): Promise<RawLink> {
    const closed = Promise.withResolvers<void>();
    let link: RawLink | undefined;
    const onClose = (): void => {
      closed.resolve();
      if (link === undefined) return;
      link.#isClosed = true;
      link.#wake();
    };
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        data: (_, bytes) => {
          if (link === undefined) throw new Error("bytes came before anything was asked");
          link.#received = Buffer.concat([link.#received, bytes]);
          link.#wake();
        },
        close: onClose,
        error: onClose,
      },
    });
    link = new RawLink(socket, closed.promise);
    return link;
  }

  /** Sends text as is. */
  send(text: string): void {
    const sent = this.#socket.write(text);
    if (sent !== Buffer.byteLength(text)) throw new Error(`the socket took ${sent} bytes`);
  }

  /** Sends one byte at a time, each in its own packet as far as the kernel allows. */
  async sendByByte(text: string): Promise<void> {
    for (const character of text) {
      this.send(character);
      await Bun.sleep(1);
    }
  }

  /** The next line, without its line end. */
  async line(): Promise<string> {
    await this.#until(() => this.#received.includes(10));
    const end = this.#received.indexOf(10);
    const line = this.#received.toString("latin1", 0, end).replace(/\r$/, "");
    this.#received = this.#received.subarray(end + 1);
    return line;
  }

  /** The next line that is not a keepalive, and the number of keepalives before it. */
  async lineAfterKeepalives(): Promise<{ line: string; keepalives: number }> {
    for (let keepalives = 0; ; keepalives += 1) {
      const line = await this.line();
      if (line !== "") return { line, keepalives };
    }
  }

  /** Sends a command line and returns the first line of its reply. */
  async ask(text: string): Promise<string> {
    this.send(`${text}\r\n`);
    return await this.line();
  }

  /** Reads exactly this many bytes. */
  async bytes(length: number): Promise<Buffer> {
    await this.#until(() => this.#received.length >= length);
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  /** Reads everything before `mark`, and removes the mark. */
  async until(mark: string): Promise<Buffer> {
    await this.#until(() => this.#received.includes(mark));
    const bytes = await this.bytes(this.#received.indexOf(mark));
    await this.bytes(mark.length);
    return bytes;
  }

  /** The number of bytes received and not read. */
  get unreadBytes(): number {
    return this.#received.length;
  }

  pause(): void {
    this.#socket.pause();
  }

  [Symbol.dispose](): void {
    this.#socket.terminate();
  }

  async #until(holds: () => boolean): Promise<void> {
    const deadline = Date.now() + 5000;
    while (!holds()) {
      if (this.#isClosed) throw new Error("the link was closed");
      if (Date.now() > deadline) {
        throw new Error(
          `waited 5 s; unread: ${JSON.stringify(this.#received.toString("latin1", 0, 200))}`,
        );
      }
      const woken = Promise.withResolvers<void>();
      this.#wake = woken.resolve;
      await Promise.race([woken.promise, Bun.sleep(200)]);
    }
  }
}
