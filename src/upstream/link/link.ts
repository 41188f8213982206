import * as fs from "node:fs";
import type { Socket } from "bun";
import { ReplicaError } from "../../base/errors.ts";
import type { Endpoint } from "../../config/primary-url.ts";
import { type ConnectTo, dial, type Handlers, resolveHost } from "./dial.ts";

/** What a link reports. Nothing comes after `lost`, nor after `close()`. */
export interface LinkEvents {
  opened(): void;
  bytes(bytes: Uint8Array): void;
  lost(error: ReplicaError): void;
}

/** The peers of a link, and the URL scheme that speaks TLS to each. */
const TLS_SCHEMES = {
  "the primary": "rediss://",
  "the sentinel": "rediss+sentinel://",
  "the node": "rediss+cluster://",
  "the target": "rediss://",
} as const;

/** Who is at the other end, as errors name it. */
export type Peer = keyof typeof TLS_SCHEMES;

export interface TlsFiles {
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly serverName: string | undefined;
  readonly insecure: boolean;
}

/** How much may wait to be sent where nobody says more: a replica sends only short lines. */
const MAX_UNSENT_BYTES = 1024 * 1024;

const TLS_HINT =
  "check --tls-ca, --tls-server-name and the client certificate (--tls-cert, --tls-key)";

/**
 * One connection to a primary, a sentinel or a cluster's node: TCP, TLS or a unix socket. After it is closed or lost it
 * reports nothing: callbacks of a dead connection are dropped here.
 */
export class Link {
  readonly #target: Endpoint;
  readonly #events: LinkEvents;
  readonly #insecure: boolean;
  readonly #peer: Peer;
  readonly #maxUnsentBytes: number;
  #socket: Socket | undefined;
  #unsent: Uint8Array[] = [];
  #unsentBytes = 0;
  #ended = false;
  #deaf = false;
  /** Whether the peer ever sent anything. */
  #heard = false;
  /** Whether all that it sent is an alert of TLS ("RFC 8446, 5.1"), as a server does that expects TLS. */
  #alerted = false;
  #paused = false;
  /** Whether it is not read, until `goOn`. */
  isResting = false;

  /** The address at the other end; undefined before the link is open, and for a unix socket. */
  get peerAddress(): string | undefined {
    return this.#target.kind === "unix" ? undefined : this.#socket?.remoteAddress;
  }

  /** How much waits to be sent. */
  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  /**
   * Starts to connect; the outcome comes as an event, never before this returns.
   * @param maxUnsentBytes with more waiting to be sent the link is lost: the peer doesn't read.
   */
  constructor(
    target: Endpoint,
    tls: TlsFiles,
    events: LinkEvents,
    peer: Peer = "the primary",
    maxUnsentBytes = MAX_UNSENT_BYTES,
  ) {
    this.#maxUnsentBytes = maxUnsentBytes;
    this.#target = target;
    this.#events = events;
    this.#insecure = tls.insecure;
    this.#peer = peer;
    this.#connect(tls).catch((cause: unknown) => this.#break("CONNECT_FAILED", cause));
  }

  async #connect(tls: TlsFiles): Promise<void> {
    const target = this.#target;
    const handlers: Handlers = {
      open: (socket) => this.#onOpen(socket),
      handshake: (socket, success, error) => this.#onHandshake(socket, success, error),
      data: (_socket, bytes) => {
        if (this.#ended || this.#deaf) return;
        this.#alerted = !this.#heard && target.kind === "tcp" && isTlsAlert(bytes);
        this.#heard = true;
        this.#events.bytes(bytes);
      },
      drain: () => this.#flush(),
      end: () => this.#break("LINK_LOST", undefined),
      close: (_socket, error) => this.#break("LINK_LOST", error),
      error: (_socket, error) => this.#break("LINK_LOST", error),
    };
    const failed = (cause: unknown) => this.#break("CONNECT_FAILED", cause);
    const isOver = () => this.#ended;
    if (target.kind === "unix") {
      const connect: ConnectTo = (unix, socket) => Bun.connect({ unix, socket });
      return dial([target.path], connect, handlers, failed, isOver);
    }
    const { host, port } = target;
    const options =
      target.kind === "tls" ? { tls: { serverName: host, ...tlsOptions(tls) } } : undefined;
    const connect: ConnectTo = (hostname, socket) =>
      Bun.connect({ hostname, port, ...options, socket });
    const addresses = await resolveHost(host);
    dial(addresses, connect, handlers, failed, isOver);
  }

  #onOpen(socket: Socket): void {
    if (this.#ended) {
      socket.terminate();
      return;
    }
    this.#socket = socket;
    if (this.#paused) socket.pause();
    socket.setNoDelay?.(true);
    if (this.#target.kind !== "tls") this.#events.opened();
  }

  /** A TLS link is open once the certificate is verified, the host name included. */
  #onHandshake(socket: Socket, success: boolean, error: Error | null): void {
    if (this.#ended || this.#target.kind !== "tls") return;
    const problem = error ?? socket.getAuthorizationError?.() ?? null;
    if (this.#insecure ? success || problem !== null : success && problem === null) {
      this.#events.opened();
      return;
    }
    // Bun reports any end before TLS is established this way.
    if (problem !== null && "code" in problem && problem.code === "ECONNRESET") {
      const message = `${this.#peer} closed the link during the TLS handshake: see its log`;
      return this.#lose("LINK_LOST", message, problem);
    }
    this.#failTls(
      problem === null
        ? "the handshake failed"
        : (tlsReasonOf(problem) ?? reasonOf(problem, this.#peer)),
      problem,
    );
  }

  #failTls(reason: string, cause: unknown): void {
    // The peer's first bytes aren't TLS at all.
    if (reason === "wrong version number") {
      const plain = TLS_SCHEMES[this.#peer].replace("rediss", "redis");
      return this.#lose("TLS_FAILED", `${this.#peer} does not speak TLS: use ${plain}`, cause);
    }
    // OpenSSL's word for input that ends too soon: no certificate is to blame for that.
    if (reason.endsWith("alert decode error")) {
      const message = `${this.#peer} closed the link: the TLS data it received ended too soon (${reason})`;
      return this.#lose("LINK_LOST", message, cause);
    }
    this.#lose("TLS_FAILED", `TLS: ${reason}; ${TLS_HINT}`, cause);
  }

  /** Sends all of it, in order; what the kernel doesn't take now goes out on drain. */
  send(bytes: Uint8Array): void {
    if (this.#ended) return;
    this.#unsent.push(bytes);
    this.#unsentBytes += bytes.length;
    this.#flush();
    if (this.#unsentBytes > this.#maxUnsentBytes) {
      this.#lose("LINK_LOST", `${this.#peer} does not read what it is sent`);
    }
  }

  #flush(): void {
    while (this.#socket !== undefined && !this.#ended) {
      const bytes = this.#unsent[0];
      if (bytes === undefined) return;
      const sent = this.#socket.write(bytes);
      if (sent < 0) return; // closed: the event follows
      this.#unsentBytes -= sent;
      if (sent < bytes.length) {
        this.#unsent[0] = bytes.subarray(sent);
        return;
      }
      this.#unsent.shift();
    }
  }

  /** Stops reading; the kernel's buffers fill, and then the peer waits. */
  pause(): void {
    this.#paused = true;
    this.#socket?.pause();
  }

  resume(): void {
    this.#paused = false;
    if (!this.isResting) this.#socket?.resume();
  }

  /** Reads nothing until `goOn`, whatever `resume` says meanwhile. */
  rest(): void {
    this.isResting = true;
    this.#socket?.pause();
  }

  goOn(): void {
    this.isResting = false;
    if (!this.#paused && !this.#ended) this.#socket?.resume();
  }

  /** Reports no more bytes; sending goes on. */
  stopReading(): void {
    this.#deaf = true;
    this.pause();
  }

  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket?.terminate();
  }

  /** Closes once everything that was sent has gone out. */
  closeGently(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket?.end();
  }

  /** The system or the TLS library reports the end of the connection. */
  #break(code: "CONNECT_FAILED" | "LINK_LOST", cause: unknown): void {
    const tls = tlsReasonOf(cause);
    if (tls !== undefined) return this.#failTls(tls, cause);
    const tlsUrl = TLS_SCHEMES[this.#peer];
    if (this.#alerted) return this.#lose("LINK_LOST", `${this.#peer} speaks TLS: use ${tlsUrl}`);
    const why = cause === undefined ? `${this.#peer} closed the link` : reasonOf(cause, this.#peer);
    // A server that expects TLS treats a plain PING this way.
    const mute = code === "LINK_LOST" && this.#target.kind === "tcp" && !this.#heard;
    const hint = mute ? ` before it sent anything: if it expects TLS, use ${tlsUrl}` : "";
    this.#lose(code, why + hint, cause);
  }

  #lose(
    code: "CONNECT_FAILED" | "LINK_LOST" | "TLS_FAILED",
    message: string,
    cause?: unknown,
  ): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket?.terminate();
    this.#events.lost(new ReplicaError(code, { message, cause }));
  }
}

function tlsOptions({ caFile, certFile, keyFile, serverName, insecure }: TlsFiles) {
  const file = (path: string | undefined) => (path === undefined ? undefined : Bun.file(path));
  const given = { ca: file(caFile), cert: file(certFile), key: file(keyFile), serverName };
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  return { ...options, rejectUnauthorized: !insecure };
}

function isTlsAlert(bytes: Uint8Array): boolean {
  return bytes.length === 7 && bytes[0] === 0x15 && bytes[1] === 0x03;
}

/** The TLS library's reason; undefined for any other error. */
function tlsReasonOf(cause: unknown): string | undefined {
  if (!(cause instanceof Error)) return undefined;
  // "error:1000045c:SSL routines:OPENSSL_internal:TLSV1_ALERT_CERTIFICATE_REQUIRED"
  const alert = /SSL routines:.*?([A-Z0-9_]+)$/.exec(cause.message)?.[1];
  if (alert !== undefined) return alert.toLowerCase().replaceAll("_", " ");
  return "code" in cause && cause.code === "ERR_BORINGSSL" ? cause.message : undefined;
}

/** Bun reports a lack of descriptors as a refused connection, or as a name that isn't known. */
const STARVED = /^(?:ECONNREFUSED|ENOTFOUND|EAI_\w+|EMFILE|ENFILE)$/;

function noDescriptorIsFree(): boolean {
  try {
    fs.closeSync(fs.openSync("/dev/null", "r"));
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && /^E[MN]FILE$/.test(String(error.code));
  }
}

function reasonOf(cause: unknown, peer: string): string {
  const raw = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  // Bun's own codes of a failed look-up begin this way.
  const code = raw.replace(/^DNS_/, "");
  const known: Record<string, string> = {
    ECONNREFUSED: "connection refused: nothing listens there",
    ECONNRESET: `${peer} reset the connection`,
    ENOENT: "there is no such socket",
    EACCES: "no permission to open the socket",
    ETIMEDOUT: "the connection timed out",
    EHOSTUNREACH: "the host can't be reached",
    ENETUNREACH: "the network can't be reached",
    ENOTFOUND: "the host's name is not known",
    EAI_AGAIN: "the host's name can't be looked up: no name server answers",
  };
  if (STARVED.test(code) && noDescriptorIsFree()) {
    return "this process has no free file descriptor (EMFILE): raise its limit (ulimit -n, LimitNOFILE)";
  }
  if (known[code] !== undefined) return known[code];
  return cause instanceof Error ? cause.message || code : String(cause);
}
