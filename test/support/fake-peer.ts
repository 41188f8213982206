import { ByteQueue, encodeCommand } from "./resp.ts";
import { SocketWriter } from "./socket-writer.ts";
import { within } from "./wait.ts";

/** Bytes of each direction kept for the transcript. */
const TRANSCRIPT_BYTES = 1024 * 1024;

/** The other side closed the connection although the script expected more of it. */
export class PeerGone extends Error {}

interface ListenerSocket {
  write(data: Uint8Array): number;
  end(): void;
  terminate(): void;
  pause(): void;
  resume(): void;
}

/** The fake primary's end of one connection. */
export class FakePeer {
  /** Number of this connection, from 0. */
  readonly index: number;
  readonly #socket: ListenerSocket;
  readonly #writer: SocketWriter;
  readonly #timeoutMs: number;
  readonly #unread = new ByteQueue();
  readonly #received: Uint8Array[] = [];
  readonly #sent: Uint8Array[] = [];
  readonly #closed = Promise.withResolvers<void>();
  #receivedBytes = 0;
  #sentBytes = 0;
  #isClosed = false;
  #wake: () => void = () => undefined;

  constructor(socket: ListenerSocket, index: number, timeoutMs: number) {
    this.#socket = socket;
    this.#writer = new SocketWriter(socket);
    this.index = index;
    this.#timeoutMs = timeoutMs;
  }

  /** Everything the other side sent, up to 1 MiB. */
  get received(): Buffer {
    return Buffer.concat(this.#received);
  }

  /** Everything sent to it, up to 1 MiB. */
  get sent(): Buffer {
    return Buffer.concat(this.#sent);
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Resolves when either side has closed the connection. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Bytes received that no expectation has consumed yet. */
  get unread(): Buffer {
    return this.#unread.bytes;
  }

  /**
   * Consumes the next bytes: exactly this text, or a match that begins at the first byte.
   * @returns the consumed bytes as latin1 text.
   * @throws Error with the bytes received instead, or on timeout.
   */
  async expect(pattern: string | RegExp): Promise<string> {
    const shown = typeof pattern === "string" ? JSON.stringify(pattern) : String(pattern);
    return await this.#take(shown, () => {
      const text = this.#unread.bytes.toString("latin1");
      if (typeof pattern === "string") {
        if (text.startsWith(pattern)) return { value: pattern, bytes: pattern.length };
        if (pattern.startsWith(text)) return undefined;
        throw new Error(`expected ${shown}, received ${excerpt(text)}`);
      }
      const match = new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, "")).exec(text);
      if (match === null) return undefined;
      if (match.index !== 0) {
        throw new Error(`expected ${shown} next, received ${excerpt(text)}`);
      }
      return { value: match[0], bytes: match[0].length };
    });
  }

  /** Consumes `count` bytes. */
  async readBytes(count: number): Promise<Buffer> {
    return await this.#take(`${count} bytes`, () => {
      const { bytes } = this.#unread;
      if (bytes.length < count) return undefined;
      return { value: Buffer.from(bytes.subarray(0, count)), bytes: count };
    });
  }

  /** Consumes a line and returns it without its line end. */
  async readLine(): Promise<string> {
    return await this.#take("a line", () => {
      const end = this.#unread.bytes.indexOf("\n");
      if (end < 0) return undefined;
      const line = this.#unread.bytes.toString("utf8", 0, end).replace(/\r$/, "");
      return { value: line, bytes: end + 1 };
    });
  }

  /** Consumes a command, sent as an array or inline; skips bare newlines before it. */
  async readCommand(): Promise<string[]> {
    return await this.#take("a command", () => takeCommand(this.#unread.bytes));
  }

  /** Consumes a command that must begin with these words, in any case; returns all its words. */
  async expectCommand(...words: string[]): Promise<string[]> {
    const command = await this.readCommand();
    const same = words.every((word, i) => word.toLowerCase() === command[i]?.toLowerCase());
    if (!same) throw new Error(`expected ${words.join(" ")}, received ${command.join(" ")}`);
    return command;
  }

  /** Consumes commands until an acknowledgement reaches `offset`; returns its offsets. */
  async readAck(offset: number): Promise<{ ack: number; fack: number | undefined }> {
    for (;;) {
      const words = await this.readCommand();
      if (words[0]?.toUpperCase() !== "REPLCONF" || words[1]?.toUpperCase() !== "ACK") continue;
      const ack = Number(words[2]);
      const fack = words[3]?.toUpperCase() === "FACK" ? Number(words[4]) : undefined;
      if (ack >= offset) return { ack, fack };
    }
  }

  /** Sends `bytes`; resolves when the kernel has taken all of them. */
  async send(bytes: string | Uint8Array): Promise<void> {
    const data = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    if (this.#sentBytes + data.length <= TRANSCRIPT_BYTES) this.#sent.push(data);
    this.#sentBytes += data.length;
    await this.#writer.write(data);
  }

  /** Sends a command as an array of bulk strings: a piece of a replication stream. */
  async sendCommand(...words: (string | number | Uint8Array)[]): Promise<void> {
    await this.send(encodeCommand(words));
  }

  /** Sends `size` bytes per write, with a turn of the event loop after each. */
  async sendInChunks(bytes: string | Uint8Array, size: number): Promise<void> {
    const data = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    for (let at = 0; at < data.length; at += size) {
      await this.send(data.subarray(at, at + size));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Stops reading until `resume`. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Closes the connection with FIN. */
  async close(): Promise<void> {
    this.#socket.end();
    await this.closed;
  }

  /** Resets the connection (RST). */
  async reset(): Promise<void> {
    this.#socket.terminate();
    await this.closed;
  }

  /** Waits until the other side closes. @throws Error on timeout. */
  async untilClosed(timeoutMs = this.#timeoutMs): Promise<void> {
    await within(timeoutMs, "the other side to close", this.closed);
  }

  /** For the listener: bytes arrived. */
  onData(chunk: Uint8Array): void {
    if (this.#receivedBytes + chunk.length <= TRANSCRIPT_BYTES) this.#received.push(chunk);
    this.#receivedBytes += chunk.length;
    this.#unread.push(chunk);
    this.#wake();
  }

  /** For the listener: the socket is writable again. */
  onDrain(): void {
    this.#writer.drain();
  }

  /** For the listener: the connection is closed. */
  onClose(): void {
    this.#isClosed = true;
    this.#writer.close(new PeerGone("the other side has closed the connection"));
    this.#closed.resolve();
    this.#wake();
  }

  async #take<T>(what: string, look: () => { value: T; bytes: number } | undefined): Promise<T> {
    const deadlineMs = performance.now() + this.#timeoutMs;
    for (;;) {
      const found = look();
      if (found !== undefined) {
        this.#unread.drop(found.bytes);
        return found.value;
      }
      const came = excerpt(this.#unread.bytes.toString("latin1"));
      if (this.#isClosed) throw new PeerGone(`expected ${what}, received ${came}, then the end`);
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) {
        throw new Error(`expected ${what} within ${this.#timeoutMs} ms, received ${came}`);
      }
      await this.#more(leftMs);
    }
  }

  async #more(timeoutMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, timeoutMs);
    await promise;
    clearTimeout(timer);
  }
}

function excerpt(text: string): string {
  if (text === "") return "nothing";
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

function takeCommand(bytes: Buffer): { value: string[]; bytes: number } | undefined {
  let at = 0;
  while (bytes[at] === 0x0a || bytes[at] === 0x0d) at++;
  const line = (from: number): { text: string; next: number } | undefined => {
    const end = bytes.indexOf("\r\n", from);
    return end < 0 ? undefined : { text: bytes.toString("utf8", from, end), next: end + 2 };
  };
  const head = line(at);
  if (head === undefined) return undefined;
  if (!head.text.startsWith("*")) return { value: head.text.split(/ +/), bytes: head.next };
  const words: string[] = [];
  at = head.next;
  for (let left = Number(head.text.slice(1)); left > 0; left--) {
    const length = line(at);
    if (length === undefined) return undefined;
    if (!/^\$\d+$/.test(length.text)) throw new Error(`not a bulk string: ${excerpt(length.text)}`);
    const end = length.next + Number(length.text.slice(1));
    if (bytes.length < end + 2) return undefined;
    words.push(bytes.toString("utf8", length.next, end));
    at = end + 2;
  }
  return { value: words, bytes: at };
}
