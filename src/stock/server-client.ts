import type { Socket } from "bun";
import { ReplicaError } from "../base/errors.ts";
import { encodeCommand } from "../resp/encode.ts";
import { type Reply, ReplyReader } from "../resp/reply-reader.ts";

export type ServerAddress =
  { readonly unix: string } | { readonly hostname: string; readonly port: number };

/**
 * A connection to a server, for commands with short replies. It has no time limits: the caller decides how
 * long a reply may take, and closes the connection.
 */
export class ServerClient {
  readonly #reader: ReplyReader;
  #socket: Socket | undefined;
  #waiting: PromiseWithResolvers<Reply>[] = [];
  #failure: ReplicaError | undefined;

  private constructor(maxReplyBytes: number) {
    this.#reader = new ReplyReader({ maxReplyBytes });
  }

  /** @throws ReplicaError CONNECT_FAILED if nothing listens there. */
  static async connect(address: ServerAddress, maxReplyBytes: number): Promise<ServerClient> {
    const client = new ServerClient(maxReplyBytes);
    const socket = {
      data: (_socket: Socket, chunk: Uint8Array) => client.#receive(chunk),
      close: () => client.#fail("closed the connection without an answer"),
      error: (_socket: Socket, cause: Error) => client.#fail(cause.message, cause),
    };
    try {
      client.#socket = await ("unix" in address
        ? Bun.connect({ unix: address.unix, socket })
        : Bun.connect({ hostname: address.hostname, port: address.port, socket }));
    } catch (cause) {
      client.#fail("takes no connection", cause);
    }
    if (client.#failure !== undefined) throw client.#failure;
    return client;
  }

  /**
   * Sends a short command and returns its reply, which may be an error.
   * @throws ReplicaError CONNECT_FAILED if the connection ends first, PROTOCOL for a malformed reply.
   */
  async ask(...words: string[]): Promise<Reply> {
    if (this.#failure !== undefined) throw this.#failure;
    const waiting = Promise.withResolvers<Reply>();
    this.#waiting.push(waiting);
    this.#socket?.write(encodeCommand(...words));
    return await waiting.promise;
  }

  close(): void {
    this.#socket?.end();
  }

  #receive(chunk: Uint8Array): void {
    try {
      this.#reader.push(chunk);
      for (let reply = this.#reader.next(); reply !== undefined; reply = this.#reader.next()) {
        this.#waiting.shift()?.resolve(reply);
      }
    } catch (caught) {
      if (!(caught instanceof ReplicaError)) throw caught;
      this.#end(caught);
      this.close();
    }
  }

  #fail(what: string, cause?: unknown): void {
    this.#end(new ReplicaError("CONNECT_FAILED", { message: `the server ${what}`, cause }));
  }

  #end(failure: ReplicaError): void {
    this.#failure ??= failure;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}
