import { invariant, ReplicaError, unreachable } from "../base/errors.ts";
import { BulkReader, parseBulkHeader } from "../resp/bulk-reader.ts";
import { encodeCommand } from "../resp/encode.ts";
import { GetackFinder } from "../resp/getack-finder.ts";
import { LineReader } from "../resp/line-reader.ts";
import type { Position } from "../base/history.ts";
import type { Effect, Event } from "./events.ts";
import { printable, readAuth, readPong, readPsync } from "./replies.ts";
import type { FullSyncGrant, State, Transfer } from "./state.ts";

/** What a session is given; it reads no setting, clock, file or socket of its own. */
export interface SessionOptions {
  /** `backup` asks for the snapshot alone (REPLCONF rdb-only, Redis 7.0). */
  readonly purpose: "follow" | "backup";
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Undefined: none is announced, and no address either. */
  readonly listeningPort: number | undefined;
  readonly announceIp: string | undefined;
  /** One handshake reply, and the connect. */
  readonly syncTimeoutMs: number;
  /** Silence after which the link is given up. */
  readonly timeoutMs: number;
  readonly maxLineBytes: number;
}

/**
 * Said to Valkey, which tells its replicas' versions apart to choose what they can load. The bytes
 * are kept as they come, so the newest form is the right one.
 */
const ANNOUNCED_VERSION = "255.255.255";

const KEEPALIVE = new Uint8Array([0x0a]);
const ACK_EVERY_MS = 1000;
const PLUS = 0x2b;
const MINUS = 0x2d;

/**
 * The replica's side of Redis replication as a pure state machine: `step(event)` gives the effects
 * that follow, in order. It is syncWithMaster, readSyncBulkPayload and replicationCron of Redis's
 * replication.c without their sockets and files.
 */
export class Session {
  readonly #options: SessionOptions;
  #state: State = { at: "none" };
  #effects: Effect[] = [];
  #lines: LineReader;
  #getack = new GetackFinder();
  /** What came while the temporary file was being opened. */
  #held: Uint8Array[] = [];
  #resume: Position | undefined;
  #nowMs = 0;
  #lastIoMs = 0;
  #lastAckMs = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#lines = new LineReader({ maxLineBytes: options.maxLineBytes });
  }

  /** The state, for INFO and ROLE; changed by `step` alone. */
  get state(): State {
    return this.#state;
  }

  /** When the primary was last heard, in the milliseconds of the events. */
  get lastIoMs(): number {
    return this.#lastIoMs;
  }

  /** Takes one event and gives what is to be done, in order. Never throws for what a peer sent. */
  step(event: Event): readonly Effect[] {
    this.#effects = [];
    if ("nowMs" in event) this.#nowMs = event.nowMs;
    try {
      this.#on(event);
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      this.#fail(error);
    }
    return this.#effects;
  }

  #on(event: Event): void {
    switch (event.type) {
      case "follow":
        if (this.#state.at === "none") this.#move({ at: "connect" });
        return;
      case "leave":
        this.#abandon();
        return this.#move({ at: "none" });
      case "attempt":
        return this.#onAttempt(event.resume);
      case "opened":
        return this.#onOpened();
      case "bytes":
        return this.#onBytes(event.bytes);
      case "lost":
        return this.#onLost(event.error);
      case "snapshot-opened":
        return this.#onSnapshotOpened(event.file);
      case "snapshot-synced":
        if (this.#state.at === "transfer") this.#state.syncedBytes = event.bytes;
        return;
      case "snapshot-kept":
        return this.#onSnapshotKept(event);
      case "snapshot-failed":
        if (this.#state.at === "none" || this.#state.at === "connect") return;
        return this.#fail(event.error);
      case "tick":
        return this.#onTick(event.paused);
      default:
        return unreachable(event);
    }
  }

  /** The one door for moves. */
  #move(next: State): void {
    this.#state = next;
  }

  #do(effect: Effect): void {
    this.#effects.push(effect);
  }

  #ask(next: State, ...command: (string | number)[]): void {
    this.#do({ do: "send", bytes: encodeCommand(...command) });
    this.#lastIoMs = this.#nowMs;
    this.#move(next);
  }

  #onAttempt(resume: Position | undefined): void {
    if (this.#state.at === "none") return;
    invariant(this.#state.at === "connect", `an attempt in state ${this.#state.at}`);
    this.#resume = this.#options.purpose === "backup" ? undefined : resume;
    this.#lines = new LineReader({ maxLineBytes: this.#options.maxLineBytes });
    this.#getack = new GetackFinder();
    this.#held = [];
    this.#lastIoMs = this.#nowMs;
    this.#do({ do: "open-link" });
    this.#move({ at: "connecting" });
  }

  #onOpened(): void {
    // What fires after REPLICAOF NO ONE closes the socket and does nothing else.
    if (this.#state.at === "none") return this.#do({ do: "close-link" });
    invariant(this.#state.at === "connecting", `opened in state ${this.#state.at}`);
    // PING goes alone: a primary that accepts but does not answer is found out before any long step.
    this.#ask({ at: "receive-pong" }, "PING");
  }

  #onLost(error: ReplicaError): void {
    const { at } = this.#state;
    if (at === "none") return this.#do({ do: "close-link" });
    if (at === "connect") return;
    if (this.#state.at === "transfer" && this.#state.finishing) {
      // The payload is whole: it is kept, and the next attempt resumes behind it.
      this.#do({ do: "close-link" });
      this.#state.lost ??= error;
      return;
    }
    this.#fail(error);
  }

  /** Every failure on the way closes the socket, gives up the temporary file, returns to connect. */
  #fail(error: ReplicaError): void {
    this.#abandon();
    this.#do({ do: "failed", error });
    this.#move({ at: "connect" });
  }

  #abandon(): void {
    const { state } = this;
    if (state.at === "none" || state.at === "connect") return;
    this.#held = [];
    this.#do({ do: "close-link" });
    const opening = state.at === "receive-bulk-header" && state.waits === "file";
    if (opening || state.at === "transfer") this.#do({ do: "discard-snapshot" });
  }

  #onBytes(bytes: Uint8Array): void {
    if (this.#state.at === "none") return this.#do({ do: "close-link" });
    // What was still under way when the attempt ended.
    if (this.#state.at === "connect") return;
    if (this.#state.at === "transfer" || this.#state.at === "connected") {
      this.#lastIoMs = this.#nowMs;
      if (this.#state.at === "transfer") return this.#onPayload(this.#state, bytes);
      return this.#onStream(bytes);
    }
    if (this.#state.at === "receive-bulk-header" && this.#state.waits === "file") {
      this.#held.push(bytes);
      return;
    }
    this.#lines.push(bytes);
    this.#readLines();
  }

  #readLines(): void {
    for (;;) {
      const line = this.#lines.next();
      if (line === undefined) return; // the rest comes with the next chunk
      // A whole line, a keepalive too; a reply that comes byte by byte has its limit.
      this.#lastIoMs = this.#nowMs;
      this.#onLine(line);
      const { state } = this;
      if (state.at === "connected") return this.#onStream(this.#lines.rest());
      if (state.at === "receive-bulk-header" && state.waits === "file") {
        this.#held.push(this.#lines.rest());
        return;
      }
    }
  }

  #onLine(line: Uint8Array): void {
    const { state } = this;
    switch (state.at) {
      case "receive-pong":
        return this.#onPong(line);
      case "receive-auth":
        readAuth(line);
        return this.#askPort();
      case "receive-port":
        this.#passOver("REPLCONF listening-port", line);
        return this.#askIp();
      case "receive-ip":
        this.#passOver("REPLCONF ip-address", line);
        return this.#askCapa();
      case "receive-capa":
        return this.#onCapa(state.asked, line);
      case "receive-version":
        this.#passOver("REPLCONF version", line);
        return this.#askPsync();
      case "receive-psync":
        return this.#onPsync(state.asked, line);
      case "receive-bulk-header":
        return this.#onBulkHeader(state.grant, line);
      case "connecting":
        throw new ReplicaError("PROTOCOL", { message: "bytes came before the link was open" });
      case "none":
      case "connect":
      case "transfer":
      case "connected":
        throw new Error(`invariant broken: a line in state ${state.at}`);
      default:
        return unreachable(state);
    }
  }

  #onPong(line: Uint8Array): void {
    const pong = readPong(line);
    const { username, password } = this.#options;
    if (password !== undefined) {
      const login = username === undefined ? [password] : [username, password];
      return this.#ask({ at: "receive-auth" }, "AUTH", ...login);
    }
    if (pong === "log-in" && !printable(line).startsWith("-NOPERM")) {
      throw new ReplicaError("AUTH_FAILED", {
        message: `the primary wants a password (${printable(line)}): set --password-file or REPLICA_PASSWORD`,
      });
    }
    this.#askPort();
  }

  #askPort(): void {
    const { listeningPort } = this.#options;
    if (listeningPort === undefined) return this.#askCapa();
    this.#ask({ at: "receive-port" }, "REPLCONF", "listening-port", listeningPort);
  }

  #askIp(): void {
    const { announceIp } = this.#options;
    if (announceIp === undefined) return this.#askCapa();
    this.#ask({ at: "receive-ip" }, "REPLCONF", "ip-address", announceIp);
  }

  #askCapa(): void {
    this.#ask({ at: "receive-capa", asked: "capa" }, "REPLCONF", "capa", "eof", "capa", "psync2");
  }

  #onCapa(asked: "capa" | "rdb-only", line: Uint8Array): void {
    this.#passOver(`REPLCONF ${asked}`, line);
    if (asked === "capa" && this.#options.purpose === "backup") {
      return this.#ask({ at: "receive-capa", asked: "rdb-only" }, "REPLCONF", "rdb-only", 1);
    }
    this.#ask({ at: "receive-version" }, "REPLCONF", "version", ANNOUNCED_VERSION);
  }

  /** Old servers and managed services refuse some of REPLCONF; none of it is needed. */
  #passOver(what: string, line: Uint8Array): void {
    if (line[0] === PLUS) return;
    if (line[0] !== MINUS) {
      throw new ReplicaError("PROTOCOL", {
        message: `the primary answers ${what} with "${printable(line)}"`,
      });
    }
    // Only Valkey knows this one; its refusal is the rule elsewhere, and no news.
    if (what === "REPLCONF version") return;
    this.#do({
      do: "note",
      level: "info",
      message: `(non-critical) the primary refuses ${what}: ${printable(line)}`,
    });
  }

  #askPsync(): void {
    const resume = this.#resume;
    const from = resume === undefined ? ["?", -1] : [resume.replid, resume.offset + 1];
    this.#ask({ at: "receive-psync", asked: resume }, "PSYNC", ...from);
  }

  #onPsync(asked: Position | undefined, line: Uint8Array): void {
    if (line.length === 0) return; // a keepalive: good for the time-out and for nothing else
    const reply = readPsync(line);
    switch (reply.kind) {
      case "full":
        return this.#move({
          at: "receive-bulk-header",
          waits: "line",
          grant: { by: "psync", position: reply.position },
        });
      case "partial":
        if (asked === undefined) {
          throw new ReplicaError("PROTOCOL", {
            message: "the primary continues a stream that was not asked for",
          });
        }
        this.#do({ do: "continue", replid: reply.replid });
        this.#move({
          at: "connected",
          replid: reply.replid ?? asked.replid,
          receivedOffset: asked.offset,
        });
        return this.#acknowledge(asked.offset);
      case "unknown-command":
        this.#do({
          do: "note",
          level: "warn",
          message: "the primary does not know PSYNC: falling back to SYNC",
        });
        return this.#ask(
          { at: "receive-bulk-header", waits: "line", grant: { by: "sync" } },
          "SYNC",
        );
      default:
        return unreachable(reply);
    }
  }

  #onBulkHeader(grant: FullSyncGrant, line: Uint8Array): void {
    if (line.length === 0) return;
    if (line[0] === MINUS) {
      throw new ReplicaError("PRIMARY_REFUSED", {
        message: `the primary gave up the sync: ${printable(line)}`,
      });
    }
    const form = parseBulkHeader(line);
    this.#do({ do: "open-snapshot", grant, form });
    this.#move({ at: "receive-bulk-header", waits: "file", grant, form });
  }

  #onSnapshotOpened(file: string): void {
    const { state } = this;
    if (state.at === "none" || state.at === "connect") return;
    invariant(
      state.at === "receive-bulk-header" && state.waits === "file",
      `a snapshot opened in state ${state.at}`,
    );
    const transfer: Extract<State, { at: "transfer" }> = {
      at: "transfer",
      grant: state.grant,
      reader: new BulkReader(state.form),
      file,
      totalBytes: state.form.kind === "length" ? state.form.bytes : undefined,
      readBytes: 0,
      syncedBytes: 0,
      lastByteAtMs: this.#nowMs,
      finishing: false,
      lost: undefined,
    };
    this.#lastIoMs = this.#nowMs;
    this.#move(transfer);
    const held = this.#held;
    this.#held = [];
    if (transfer.reader.complete) this.#finish(transfer);
    for (const bytes of held) this.#onPayload(transfer, bytes);
  }

  #onPayload(transfer: Transfer, bytes: Uint8Array): void {
    if (transfer.finishing) return this.#onStream(bytes);
    transfer.lastByteAtMs = this.#nowMs;
    const rest = transfer.reader.push(bytes, (payload) => {
      if (payload.length > 0) this.#do({ do: "payload", bytes: payload });
    });
    transfer.readBytes = transfer.reader.payloadBytes;
    if (rest === undefined) return;
    this.#finish(transfer);
    this.#onStream(rest);
  }

  #finish(transfer: Transfer): void {
    transfer.finishing = true;
    transfer.totalBytes = transfer.readBytes;
    this.#do({ do: "finish-snapshot" });
  }

  #onSnapshotKept(event: Extract<Event, { type: "snapshot-kept" }>): void {
    const { state } = this;
    if (state.at === "none") return;
    invariant(state.at === "transfer" && state.finishing, `a snapshot kept in state ${state.at}`);
    if (this.#options.purpose === "backup") {
      this.#do({ do: "close-link" });
      return this.#move({ at: "none" });
    }
    if (state.lost !== undefined) {
      this.#do({ do: "failed", error: state.lost });
      return this.#move({ at: "connect" });
    }
    // While we were finishing, a primary that waits for our first ACK had nothing to say.
    this.#lastIoMs = this.#nowMs;
    this.#move({ at: "connected", replid: event.replid, receivedOffset: event.receivedOffset });
    // After a $EOF payload the primary sends no stream until it has our first ACK.
    this.#acknowledge(event.receivedOffset);
  }

  #onStream(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#options.purpose === "backup") return;
    const { state } = this;
    if (state.at === "connected" && !Number.isSafeInteger(state.receivedOffset + bytes.length)) {
      throw new ReplicaError("PROTOCOL", { message: "the stream's offset passes 2^53" });
    }
    this.#do({ do: "stream", bytes });
    const asked = this.#getack.find(bytes);
    if (state.at !== "connected") return;
    const before = state.receivedOffset;
    state.receivedOffset += bytes.length;
    // Not the ACK of this second: it waits for the disk, and while they come often, it waits for ever.
    if (asked > 0) this.#do({ do: "acknowledge", offset: before + asked });
  }

  #acknowledge(offset: number): void {
    this.#lastAckMs = this.#nowMs;
    this.#do({ do: "acknowledge", offset });
  }

  #onTick(paused: boolean): void {
    const { state } = this;
    if (paused) this.#lastIoMs = this.#nowMs;
    const silentMs = this.#nowMs - this.#lastIoMs;
    switch (state.at) {
      case "none":
      case "connect":
        return;
      case "connecting":
      case "receive-pong":
      case "receive-auth":
      case "receive-port":
      case "receive-ip":
      case "receive-capa":
      case "receive-version":
      case "receive-psync":
        return this.#limit(silentMs, this.#options.syncTimeoutMs, "--sync-timeout");
      case "receive-bulk-header":
        if (state.waits === "file") return;
        return this.#limit(silentMs, this.#options.timeoutMs, "--timeout");
      case "transfer":
        if (!state.finishing) return this.#limit(silentMs, this.#options.timeoutMs, "--timeout");
        if (this.#ackIsDue() && state.lost === undefined && this.#options.purpose === "follow") {
          // Refreshes our liveness at the primary without acknowledging what isn't durable yet.
          this.#lastAckMs = this.#nowMs;
          this.#do({ do: "send", bytes: KEEPALIVE });
        }
        return;
      case "connected":
        this.#limit(silentMs, this.#options.timeoutMs, "--timeout");
        if (this.#ackIsDue()) this.#acknowledge(0);
        return;
      default:
        return unreachable(state);
    }
  }

  #ackIsDue(): boolean {
    return this.#nowMs - this.#lastAckMs >= ACK_EVERY_MS;
  }

  #limit(silentMs: number, limitMs: number, setting: string): void {
    if (silentMs < limitMs) return;
    const { at } = this.#state;
    throw new ReplicaError("TIMED_OUT", {
      message:
        at === "connecting"
          ? `no connection within ${limitMs} ms (${setting})`
          : `the primary was silent for ${limitMs} ms in state ${at} (${setting}${at === "receive-psync" ? "; one that forks slowly needs more" : ""})`,
    });
  }
}
