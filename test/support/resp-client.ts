import { readFileSync } from "node:fs";
import { type CertificateFiles, certificates } from "./tls.ts";
import { type Reply, ReplyError, ReplyReader, encodeCommand } from "./resp.ts";
import { SocketWriter } from "./socket-writer.ts";
import { PATIENCE_MS, within } from "./wait.ts";

export interface RespAddress {
  readonly host?: string;
  readonly port?: number;
  readonly socketPath?: string;
  readonly password?: string;
  readonly username?: string;
  /** TLS, trusting the test CA, or with `insecure` anybody; `client` adds a client certificate. */
  readonly tls?: { readonly client?: CertificateFiles; readonly insecure?: true };
  /** Milliseconds for one reply. Default: PATIENCE_MS. */
  readonly timeoutMs?: number;
}

type Word = string | number | Uint8Array;

/** A plain client: it sends only what it is told to, without a handshake, and doesn't reconnect. */
export class RespClient implements AsyncDisposable {
  /** Messages that the server sent unasked: RESP3 pushes, and replies that no request waits for. */
  readonly pushes: Reply[] = [];
  readonly #waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[] = [];
  readonly #timeoutMs: number;
  readonly #closed = Promise.withResolvers<void>();
  #end: () => void = () => undefined;
  #writer: SocketWriter | undefined;
  #isClosed = false;

  private constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Connects; logs in if the address has a password. */
  static async connect(address: RespAddress): Promise<RespClient> {
    const timeoutMs = address.timeoutMs ?? PATIENCE_MS;
    const client = new RespClient(timeoutMs);
    const reader = new ReplyReader();
    const socket: Bun.SocketHandler = {
      data: (_socket, chunk) => {
        try {
          client.#receive(reader, chunk);
        } catch (error) {
          client.#fail(error instanceof Error ? error : new Error(String(error)));
        }
      },
      drain: () => client.#writer?.drain(),
      close: (_socket, error) => {
        client.#fail(error ?? new Error("the server closed the connection"));
      },
      error: (_socket, error) => {
        client.#fail(error);
      },
    };
    const tls =
      address.tls === undefined
        ? {}
        : {
            tls: {
              ca: readFileSync(certificates.ca, "utf8"),
              rejectUnauthorized: address.tls.insecure !== true,
              ...(address.tls.client === undefined
                ? {}
                : {
                    cert: readFileSync(address.tls.client.cert, "utf8"),
                    key: readFileSync(address.tls.client.key, "utf8"),
                  }),
            },
          };
    const connection =
      address.socketPath === undefined
        ? await Bun.connect({
            hostname: address.host ?? "127.0.0.1",
            port: address.port ?? 6379,
            socket,
            ...tls,
          })
        : await Bun.connect({ unix: address.socketPath, socket, ...tls });
    client.#writer = new SocketWriter(connection);
    client.#end = () => connection.end();
    if (address.password !== undefined) {
      const user = address.username === undefined ? [] : [address.username];
      await client.send("AUTH", ...user, address.password);
    }
    return client;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Resolves when either side has closed the connection. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Sends one command and returns its reply. @throws ReplyError if that is an error. */
  async send(command: string, ...args: Word[]): Promise<Reply> {
    const what = `the reply to ${command}`;
    const [reply] = await within(this.#timeoutMs, what, this.exchange([[command, ...args]]));
    if (reply instanceof ReplyError) throw reply;
    return reply ?? null;
  }

  /** Sends commands as one pipeline and returns their replies in order, errors included. */
  async exchange(commands: readonly (readonly Word[])[]): Promise<Reply[]> {
    const bytes = Buffer.concat(commands.map((words) => encodeCommand(words)));
    return await this.exchangeBytes(bytes, commands.length);
  }

  /** Sends raw bytes and returns the next `count` replies. */
  async exchangeBytes(bytes: Uint8Array, count: number): Promise<Reply[]> {
    const replies: Promise<Reply>[] = [];
    for (let i = 0; i < count; i++) {
      const { promise, resolve, reject } = Promise.withResolvers<Reply>();
      this.#waiting.push({ resolve, reject });
      replies.push(promise);
    }
    const [received] = await Promise.all([Promise.all(replies), this.#written(bytes)]);
    return received;
  }

  /** Sends bytes without waiting for a reply. */
  async write(bytes: Uint8Array | string): Promise<void> {
    await this.#written(typeof bytes === "string" ? Buffer.from(bytes) : bytes);
  }

  close(): void {
    this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.closed;
  }

  async #written(bytes: Uint8Array): Promise<void> {
    if (this.#writer === undefined) throw new Error("not connected");
    await this.#writer.write(bytes);
  }

  #receive(reader: ReplyReader, chunk: Uint8Array): void {
    reader.push(chunk);
    for (let incoming = reader.next(); incoming !== undefined; incoming = reader.next()) {
      const waiting = incoming.push ? undefined : this.#waiting.shift();
      if (waiting === undefined) this.pushes.push(incoming.value);
      else waiting.resolve(incoming.value);
    }
  }

  #fail(error: Error): void {
    this.#isClosed = true;
    this.#writer?.close(error);
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#closed.resolve();
  }
}
