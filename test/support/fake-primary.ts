import { FakePeer } from "./fake-peer.ts";
import { tlsOptions, type CertificateFiles } from "./tls.ts";
import { PATIENCE_MS, within } from "./wait.ts";

/** The first bytes of a link that only asks for INFO, after a login or without one. */
const SIDE_LINK =
  /^(?:\*[23]\r\n\$4\r\nAUTH\r\n(?:\$\d+\r\n[^\r]*\r\n){1,2})?\*2\r\n\$4\r\nINFO\r\n/;

/** One step of a script, where a function would be too much. */
export type Step =
  /** The other side must send this text, or a match, next. */
  | { readonly expect: string | RegExp }
  /** The other side must send a command that begins with these words, in any case. */
  | { readonly command: readonly string[] }
  | { readonly send: string | Uint8Array }
  | { readonly sendInChunks: string | Uint8Array; readonly size: number }
  | { readonly handshake: HandshakeAnswer }
  | { readonly waitMs: number }
  | { readonly untilClosed: true }
  | { readonly close: true }
  | { readonly reset: true };

/** The steps of one connection, or a function. The connection stays open after the last step. */
export type Script = readonly Step[] | ((peer: FakePeer) => Promise<void> | void);

export interface FakePrimaryOptions {
  /** A unix socket instead of a TCP port. */
  readonly socketPath?: string;
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** Default: a free port. */
  readonly port?: number;
  readonly tls?: { readonly certificate: CertificateFiles; readonly clients?: "no" | "yes" };
  /**
   * Begins a script at the connect. By default it begins with the first bytes, as a replica speaks first, and a link
   * that only asks for INFO gets none.
   */
  readonly speaksFirst?: boolean;
  /** Milliseconds for each expectation. Default: PATIENCE_MS. */
  readonly timeoutMs?: number;
}

export interface HandshakeAnswer {
  readonly replid: string;
  readonly offset: number;
  /** Instead of `+FULLRESYNC replid offset`; without CRLF. */
  readonly psyncReply?: string;
  /** The password that AUTH must give; any other gets -WRONGPASS. */
  readonly password?: string;
  /** Replies that replace the usual ones, by command name ("PING", "REPLCONF capa"); without CRLF. */
  readonly replies?: Readonly<Record<string, string>>;
}

/**
 * Answers the handshake as a primary does, up to PSYNC or SYNC; PSYNC gets `+FULLRESYNC`.
 * @returns every command received, PSYNC or SYNC included.
 */
export async function standardHandshake(
  peer: FakePeer,
  answer: HandshakeAnswer,
): Promise<string[][]> {
  const commands: string[][] = [];
  for (;;) {
    const words = await peer.readCommand();
    commands.push(words);
    const name = (words[0] ?? "").toUpperCase();
    const option = words[1] ?? "";
    const told = answer.replies?.[`${name} ${option}`] ?? answer.replies?.[name];
    if (name === "PSYNC") {
      const reply = answer.psyncReply ?? `+FULLRESYNC ${answer.replid} ${answer.offset}`;
      await peer.send(`${told ?? reply}\r\n`);
      return commands;
    }
    if (name === "SYNC") return commands;
    await peer.send(`${told ?? usualReply(name, words, answer.password)}\r\n`);
  }
}

/** Answers as a server that knows nothing but SYNC, until that comes. */
export async function untilSync(peer: FakePeer): Promise<void> {
  for (let name = ""; ; await peer.send(`-ERR unknown command '${name}'\r\n`)) {
    name = (await peer.readCommand())[0] ?? "";
    if (name.toUpperCase() === "SYNC") return;
  }
}

function usualReply(name: string, words: readonly string[], password: string | undefined): string {
  switch (name) {
    case "PING":
      return "+PONG";
    case "REPLCONF":
      return "+OK";
    case "AUTH":
      if (password !== undefined && words.at(-1) !== password) {
        return "-WRONGPASS invalid username-password pair or user is disabled.";
      }
      return "+OK";
    default:
      return `-ERR unknown command '${words[0] ?? ""}'`;
  }
}

/** Frames a snapshot as `$<length>` and its bytes: the disk-based form. */
export function bulkPayload(rdb: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`$${rdb.length}\r\n`), rdb]);
}

/** Frames a snapshot as `$EOF:<mark>`, its bytes and the mark: the diskless form. */
export function eofPayload(rdb: Uint8Array, mark = "0123456789abcdef0123456789abcdef01234567") {
  return Buffer.concat([Buffer.from(`$EOF:${mark}\r\n`), rdb, Buffer.from(mark)]);
}

async function play(script: Script, peer: FakePeer): Promise<void> {
  if (typeof script === "function") {
    await script(peer);
    return;
  }
  for (const step of script) await playStep(step, peer);
}

async function playStep(step: Step, peer: FakePeer): Promise<void> {
  if ("expect" in step) await peer.expect(step.expect);
  else if ("command" in step) await peer.expectCommand(...step.command);
  else if ("send" in step) await peer.send(step.send);
  else if ("sendInChunks" in step) await peer.sendInChunks(step.sendInChunks, step.size);
  else if ("handshake" in step) await standardHandshake(peer, step.handshake);
  else if ("waitMs" in step) await Bun.sleep(step.waitMs);
  else if ("untilClosed" in step) await peer.untilClosed();
  else if ("close" in step) await peer.close();
  else await peer.reset();
}

/** A primary that does what its scripts say, including what no primary should do. */
export class FakePrimary implements AsyncDisposable {
  readonly host: string;
  /** The port; 0 on a unix socket. */
  readonly port: number;
  /** The URL for the command line: `redis://`, `rediss://` or `unix://`. */
  readonly url: string;
  /** Every connection that followed, in order; those that only ask for INFO are refused, and are none of them. */
  readonly peers: FakePeer[] = [];
  readonly #scripts: Promise<void>[] = [];
  readonly #failures: Error[] = [];
  readonly #stopListening: () => void;

  /** See `fakePrimary`. */
  constructor(scriptFor: (index: number) => Script | undefined, options: FakePrimaryOptions) {
    const begin = (socket: Bun.Socket<FakePeer | undefined>): FakePeer => {
      const peer = new FakePeer(socket, this.peers.length, options.timeoutMs ?? PATIENCE_MS);
      socket.data = peer;
      this.peers.push(peer);
      if (options.socketPath === undefined) socket.setNoDelay(true);
      const script = scriptFor(peer.index);
      if (script === undefined) {
        this.#failures.push(new Error(`no script is left for connection ${peer.index + 1}`));
        socket.terminate();
      } else this.#scripts.push(this.#run(script, peer));
      return peer;
    };
    const wantsCertificate = options.tls?.clients === "yes";
    const { speaksFirst = false } = options;
    const handler: Bun.SocketHandler<FakePeer | undefined> = {
      open: (socket) => {
        if (speaksFirst && options.tls === undefined) begin(socket);
      },
      handshake: (socket, _success, authorizationError) => {
        // Without a valid certificate there is no connection.
        if (wantsCertificate && authorizationError !== null) socket.terminate();
        else if (speaksFirst) begin(socket);
      },
      data: (socket, chunk) => {
        if (socket.data === undefined && SIDE_LINK.test(chunk.toString("latin1"))) {
          socket.write("-NOPERM this fake primary answers no questions\r\n");
        } else (socket.data ?? begin(socket)).onData(chunk);
      },
      drain: (socket) => {
        socket.data?.onDrain();
      },
      close: (socket) => {
        // Without a byte from the other side it never began.
        socket.data?.onClose();
      },
      error: () => undefined,
    };
    const tls =
      options.tls === undefined
        ? {}
        : {
            tls: {
              ...tlsOptions(options.tls.certificate),
              requestCert: wantsCertificate,
              rejectUnauthorized: wantsCertificate,
            },
          };
    this.host = options.host ?? "127.0.0.1";
    if (options.socketPath !== undefined) {
      const listener = Bun.listen<FakePeer | undefined>({
        unix: options.socketPath,
        socket: handler,
        ...tls,
      });
      this.port = 0;
      this.url = `unix://${options.socketPath}`;
      this.#stopListening = () => {
        listener.stop();
      };
    } else {
      const { host: hostname } = this;
      const port = options.port ?? 0;
      const listener = Bun.listen<FakePeer | undefined>({
        hostname,
        port,
        socket: handler,
        ...tls,
      });
      this.port = listener.port;
      const shownHost = hostname.includes(":") ? `[${hostname}]` : hostname;
      this.url = `${options.tls === undefined ? "redis" : "rediss"}://${shownHost}:${this.port}`;
      this.#stopListening = () => {
        listener.stop();
      };
    }
  }

  /** The failures of the scripts so far. */
  get failures(): readonly Error[] {
    return this.#failures;
  }

  /**
   * Waits until the scripts of all connections so far have ended.
   * @throws Error the first failure of a script.
   */
  async finished(timeoutMs = PATIENCE_MS): Promise<void> {
    await within(timeoutMs, "the scripts to end", Promise.all(this.#scripts));
    const [failure] = this.#failures;
    if (failure !== undefined) throw failure;
  }

  /** Stops accepting connections; open ones stay. */
  stopListening(): void {
    this.#stopListening();
  }

  /** Stops listening and resets every connection. */
  async stop(): Promise<void> {
    this.#stopListening();
    for (const peer of this.peers) if (!peer.isClosed) await peer.reset();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(script: Script, peer: FakePeer): Promise<void> {
    try {
      await play(script, peer);
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error));
      failure.message = `connection ${peer.index + 1}: ${failure.message}`;
      this.#failures.push(failure);
      if (!peer.isClosed) await peer.reset();
    }
  }
}

/**
 * Listens on a free loopback port, unless `options` says otherwise. Plays one script on every connection,
 * or a list of scripts, one per connection; a connection past the last script is refused. A connection
 * stays open when its script has ended. `finished()` reports failures.
 */
export function fakePrimary(
  script: Script | { readonly connections: readonly Script[] },
  options: FakePrimaryOptions = {},
): FakePrimary {
  const scriptFor = (index: number): Script | undefined =>
    typeof script === "object" && "connections" in script ? script.connections[index] : script;
  return new FakePrimary(scriptFor, options);
}
