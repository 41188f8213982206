import { ReplicaError, unreachable } from "../base/errors.ts";
import type { Offset, ReplicationId } from "../base/history.ts";
import { CommandReader } from "../resp/command-reader.ts";
import type { Backlog } from "./backlog.ts";
import { bulkPayload, type PayloadForm } from "./bulk-payload.ts";
import { type Answer, Handshake, readOffset } from "./handshake.ts";
import type { DemoSnapshot } from "./rdb.ts";
import { SendBuffer } from "./send-buffer.ts";

/** The part of a socket that a connection needs; `write` returns how many bytes it accepted. */
export interface ConnectionSocket {
  readonly remoteAddress: string;
  write(bytes: Uint8Array): number;
  end(): void;
  terminate(): void;
}

/** The primary, as its connections see it. */
export interface ConnectionHost {
  readonly replid: ReplicationId;
  readonly password: string | undefined;
  readonly payloadForm: PayloadForm;
  readonly backlog: Backlog;
  /** Captures the data as of now and counts a full sync. */
  beginFullSync(): { offset: Offset; snapshot: DemoSnapshot };
  /** Counts a partial sync. */
  countPartialSync(): void;
  /** The text of INFO; `section` is in lower case. */
  info(section: string | undefined): string;
  /** The link is closed, by either side. */
  forget(connection: Connection): void;
}

/** The offsets that a replica has acknowledged; 0 until it has. */
export interface ReplicaAck {
  readonly ack: Offset;
  readonly fack: Offset;
  readonly listeningPort: number;
}

type Phase =
  | { readonly at: "client" }
  | {
      readonly at: "preparing";
      readonly offset: Offset;
      readonly snapshot: DemoSnapshot;
      readonly timer: NodeJS.Timeout;
    }
  | {
      readonly at: "payload";
      readonly offset: Offset;
      readonly form: PayloadForm;
      readonly chunks: Iterator<Uint8Array>;
    }
  | { readonly at: "awaiting-ack"; readonly offset: Offset }
  | { readonly at: "streaming"; sentOffset: Offset }
  | { readonly at: "closing" }
  | { readonly at: "closed" };

const LIMITS = {
  // Replicas and redis-cli send only short commands.
  commands: {
    maxLineBytes: 64 * 1024,
    maxArgs: 1024,
    maxArgBytes: 64 * 1024,
    maxCommandBytes: 256 * 1024,
  },
  unsentReplyBytes: 1024 * 1024,
  streamChunkBytes: 64 * 1024,
  // How much one link may send before the others have their turn.
  turnBytes: 4 * 1024 * 1024,
};

// A real primary sends one per second while it forks. This one is ready at once, and sends a few for show.
const KEEPALIVES = 3;
const KEEPALIVE_EVERY_MS = 10;

const NEWLINE = Uint8Array.of(10);
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/** One link to the embedded primary: a client until it sends PSYNC or SYNC, a replica from then on. */
export class Connection {
  readonly #host: ConnectionHost;
  readonly #socket: ConnectionSocket;
  readonly #reader = new CommandReader(LIMITS.commands);
  readonly #handshake: Handshake;
  readonly #unsent: SendBuffer;
  #phase: Phase = { at: "client" };
  #turnScheduled = false;
  #acknowledges = true;
  #ack: Offset = 0;
  #fack: Offset = 0;
  #aliveMs: number;
  #ackMs: number;

  constructor(host: ConnectionHost, socket: ConnectionSocket) {
    this.#host = host;
    this.#socket = socket;
    this.#handshake = new Handshake(host);
    this.#unsent = new SendBuffer((bytes) => socket.write(bytes));
    this.#aliveMs = Date.now();
    this.#ackMs = this.#aliveMs;
  }

  /** Whether the peer has asked for a sync and is still connected. */
  get isReplica(): boolean {
    return this.#replicaState !== undefined;
  }

  /** Whether the replica receives the stream, so that PING and GETACK reach it. */
  get isOnline(): boolean {
    return this.#replicaState === "online";
  }

  get ack(): ReplicaAck {
    return { ack: this.#ack, fack: this.#fack, listeningPort: this.#handshake.listeningPort };
  }

  /** The value of this replica's line in `INFO replication` (Redis 7.0, server.c). */
  infoLine(nowMs: number): string {
    const address = this.#handshake.announcedAddress ?? this.#socket.remoteAddress;
    const lagSeconds = this.isOnline ? Math.floor((nowMs - this.#ackMs) / 1000) : 0;
    return (
      `ip=${address},port=${this.#handshake.listeningPort},state=${this.#replicaState ?? "none"},` +
      `offset=${this.#ack},lag=${lagSeconds}`
    );
  }

  /** Handles bytes from the peer. */
  onData(bytes: Uint8Array): void {
    // Any byte is a sign of life, even a bare newline.
    this.#aliveMs = Date.now();
    try {
      this.#reader.push(bytes);
      for (;;) {
        if (this.#phase.at === "closing" || this.#phase.at === "closed") return;
        const args = this.#reader.next();
        if (args === undefined) break;
        this.#onCommand(args.map((arg) => DECODER.decode(arg)));
      }
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      this.#phase = { at: "closing" };
      this.#reply(`-ERR ${error.message}\r\n`);
    }
    this.pump();
  }

  /** Sends as much as the socket accepts: replies, then the payload, then the stream. */
  pump(): void {
    let budgetBytes = LIMITS.turnBytes;
    while (this.#flush()) {
      if (this.#phase.at === "closing") {
        this.#socket.end();
        return;
      }
      const next = this.#nextOutput();
      if (next === undefined) return;
      this.#unsent.append(next);
      budgetBytes -= next.length;
      if (budgetBytes < 0) {
        this.#scheduleTurn();
        return;
      }
    }
  }

  /** Whether the stream has outrun this replica: the backlog no longer holds what it needs next. */
  get isOutrun(): boolean {
    switch (this.#phase.at) {
      case "preparing":
      case "payload":
      case "awaiting-ack":
        return !this.#handshake.rdbOnly && !this.#host.backlog.covers(this.#phase.offset);
      case "streaming":
        return !this.#host.backlog.covers(this.#phase.sentOffset);
      default:
        return false;
    }
  }

  /** How long a replica that should acknowledge has been silent; ms. */
  silenceMs(nowMs: number): number {
    return this.#acknowledges ? nowMs - this.#aliveMs : 0;
  }

  /** Resets the link and drops everything that the socket still holds. */
  reset(): void {
    if (this.#phase.at === "closed") return;
    this.onClose();
    this.#socket.terminate();
  }

  /** Handles the end of the link. */
  onClose(): void {
    if (this.#phase.at === "closed") return;
    if (this.#phase.at === "preparing") clearInterval(this.#phase.timer);
    this.#phase = { at: "closed" };
    this.#unsent.clear();
    this.#host.forget(this);
  }

  get #replicaState(): "wait_bgsave" | "send_bulk" | "online" | undefined {
    switch (this.#phase.at) {
      case "preparing":
        return "wait_bgsave";
      case "payload":
        return "send_bulk";
      case "awaiting-ack":
      case "streaming":
        return "online";
      default:
        return undefined;
    }
  }

  #onCommand(args: readonly string[]): void {
    if (!this.isReplica) {
      this.#onAnswer(this.#handshake.answer(args));
      return;
    }
    // After the sync only REPLCONF is handled: a reply to anything would shift the stream.
    const [name = "", ...rest] = args;
    if (name.toUpperCase() === "REPLCONF") this.#onReplconf(rest);
  }

  #onAnswer(answer: Answer): void {
    switch (answer.type) {
      case "reply":
        this.#reply(answer.text);
        return;
      case "silence":
        return;
      case "sync":
      case "psync":
        // A reply still in flight could be mistaken for part of the stream (Redis, syncCommand).
        if (this.#unsent.lengthBytes > 0) {
          this.#reply("-ERR SYNC and PSYNC are invalid with pending output\r\n");
        } else if (answer.type === "sync") {
          this.#onSync();
        } else {
          this.#onPsync(answer.replid, answer.offset);
        }
        return;
      default:
        unreachable(answer);
    }
  }

  // ACK, optionally followed by FACK. REPLCONF gets no reply here.
  #onReplconf(args: readonly string[]): void {
    for (let at = 0; at + 1 < args.length; at += 2) {
      const option = (args[at] ?? "").toLowerCase();
      const value = args[at + 1] ?? "";
      if (option === "ack") this.#onAck(value);
      else if (option === "fack") this.#fack = Math.max(this.#fack, readOffset(value) ?? 0);
    }
  }

  #onAck(value: string): void {
    const offset = readOffset(value);
    if (offset === undefined) return;
    this.#ack = Math.max(this.#ack, offset);
    this.#ackMs = Date.now();
    // The replica has found the end mark and stored the payload: the stream may begin.
    if (this.#phase.at === "awaiting-ack") {
      this.#phase = { at: "streaming", sentOffset: this.#phase.offset };
    }
  }

  #onSync(): void {
    // Replicas older than PSYNC never acknowledge, so their silence means nothing.
    this.#acknowledges = false;
    this.#prepare(this.#host.beginFullSync());
  }

  #onPsync(replid: string, offset: Offset): void {
    const { backlog } = this.#host;
    const resumes =
      replid === this.#host.replid &&
      offset >= backlog.firstResumeOffset &&
      offset <= backlog.endOffset + 1;
    if (resumes) {
      this.#host.countPartialSync();
      this.#reply(this.#handshake.can("psync2") ? `+CONTINUE ${replid}\r\n` : "+CONTINUE\r\n");
      this.#ackMs = Date.now();
      this.#phase = { at: "streaming", sentOffset: offset - 1 };
      return;
    }
    const sync = this.#host.beginFullSync();
    this.#reply(`+FULLRESYNC ${this.#host.replid} ${sync.offset}\r\n`);
    this.#prepare(sync);
  }

  #prepare(sync: { offset: Offset; snapshot: DemoSnapshot }): void {
    let sent = 0;
    const timer = setInterval(() => {
      if (sent === KEEPALIVES) {
        this.#startPayload();
      } else {
        sent += 1;
        this.#queue(NEWLINE);
      }
      this.pump();
    }, KEEPALIVE_EVERY_MS);
    this.#phase = { at: "preparing", offset: sync.offset, snapshot: sync.snapshot, timer };
  }

  #startPayload(): void {
    if (this.#phase.at !== "preparing") return;
    const { timer, snapshot, offset } = this.#phase;
    clearInterval(timer);
    // Only replicas that announced `capa eof` understand that form.
    const form = this.#handshake.can("eof") ? this.#host.payloadForm : "length";
    this.#phase = { at: "payload", form, offset, chunks: bulkPayload(snapshot, form) };
  }

  #nextOutput(): Uint8Array | undefined {
    if (this.#phase.at === "payload") {
      const chunk = this.#phase.chunks.next();
      if (chunk.done !== true) return chunk.value;
      this.#endPayload(this.#phase.form, this.#phase.offset);
    }
    if (this.#phase.at !== "streaming") return undefined;
    // The host resets this link soon; until then, don't read past what the backlog holds.
    if (this.isOutrun) return undefined;
    const bytes = this.#host.backlog.readAfter(this.#phase.sentOffset, LIMITS.streamChunkBytes);
    if (bytes.length === 0) return undefined;
    this.#phase.sentOffset += bytes.length;
    return bytes;
  }

  #endPayload(form: PayloadForm, offset: Offset): void {
    this.#ackMs = Date.now();
    if (this.#handshake.rdbOnly) {
      this.#phase = { at: "closing" };
      this.#scheduleTurn();
    } else if (form === "eof") {
      this.#phase = { at: "awaiting-ack", offset };
    } else {
      this.#phase = { at: "streaming", sentOffset: offset };
    }
  }

  #reply(text: string): void {
    this.#queue(ENCODER.encode(text));
  }

  // A peer that keeps asking and never reads is disconnected.
  #queue(bytes: Uint8Array): void {
    if (this.#unsent.lengthBytes + bytes.length > LIMITS.unsentReplyBytes) this.reset();
    else this.#unsent.append(bytes);
  }

  /** Whether the kernel has taken everything queued; if not, `drain` calls `pump` again. */
  #flush(): boolean {
    if (this.#phase.at === "closed") return false;
    const accepted = this.#unsent.flush();
    // -1: the socket is gone, and its close event follows.
    if (accepted < 0) return false;
    // A replica is silent while it receives the payload: the bytes it accepts are its sign of life.
    if (accepted > 0 && this.#phase.at === "payload") this.#aliveMs = Date.now();
    return this.#unsent.lengthBytes === 0;
  }

  #scheduleTurn(): void {
    if (this.#turnScheduled) return;
    this.#turnScheduled = true;
    setImmediate(() => {
      this.#turnScheduled = false;
      this.pump();
    });
  }
}
