import { invariant, ReplicaError, unreachable } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";
import { errorWithoutSecret, printableBytes, withoutSecret } from "../base/printable.ts";
import { BulkReader, parseBulkHeader } from "../resp/bulk-reader.ts";
import { GetackFinder } from "../resp/getack-finder.ts";
import { LineReader } from "../resp/line-reader.ts";
import { KEEPALIVE } from "./commands.ts";
import type { Effect, Event, StreamStart } from "./events.ts";
import {
  type AttemptTerms,
  Handshake,
  type HandshakeOptions,
  type HandshakeStep,
} from "./handshake.ts";
import { refuseSilence, type SilenceLimits } from "./silence.ts";
import type { FullSyncGrant, State } from "./state.ts";

/** What a session is given; it reads no setting, clock, file or socket of its own. */
export interface SessionOptions extends HandshakeOptions, SilenceLimits {
  readonly maxLineBytes: number;
}

/** As State, with what only the session itself may use. */
type Inner =
  | Exclude<State, { at: "transfer" }>
  | (Extract<State, { at: "transfer" }> & { readonly reader: BulkReader });

type Transferring = Extract<Inner, { at: "transfer" }>;

/**
 * As often as Redis's replicas acknowledge: once a second (replication.c, replicationCron). The ticks of a second may come
 * a little early.
 */
const ACK_EVERY_MS = 950;
const MINUS = 0x2d;

/**
 * The replica's side of Redis replication as a pure state machine: `step(event)` returns the effects
 * that follow, in order. It is syncWithMaster, readSyncBulkPayload and replicationCron of Redis's
 * replication.c without their sockets and files.
 */
export class Session {
  readonly #options: SessionOptions;
  #state: Inner = { at: "none" };
  #effects: Effect[] = [];
  #handshake: Handshake;
  /** What the attempt logs in with: a peer may repeat it. */
  #secret: string | undefined;
  #lines: LineReader;
  #getack = new GetackFinder();
  /** What came while the temporary file was being opened. */
  #held: Uint8Array[] = [];
  #nowMs = 0;
  #lastIoMs = 0;
  #lastAckMs = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#lines = new LineReader({ maxLineBytes: options.maxLineBytes });
    this.#handshake = this.#newHandshake({ resume: undefined, login: undefined });
  }

  /** Where the session stands. `step` alone changes it, by replacing it: what you hold stays as it is. */
  get state(): State {
    return this.#state;
  }

  /** Takes one event and returns what must be done, in order. Never throws for what a peer sent. */
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
        return this.#onAttempt(event);
      case "opened":
        return this.#onOpened();
      case "bytes":
        return this.#onBytes(event.bytes);
      case "lost":
        return this.#onLost(event.error);
      case "snapshot-opened":
        return this.#onSnapshotOpened(event.file);
      case "snapshot-kept":
        return this.#onSnapshotKept(event.stream);
      case "keep-failed":
        if (this.#state.at === "none" || this.#state.at === "connect") return;
        return this.#fail(event.error);
      case "tick":
        return this.#onTick(event.paused);
      default:
        return unreachable(event);
    }
  }

  /** The one door for moves. */
  #move(next: Inner): void {
    this.#state = next;
  }

  #do(effect: Effect): void {
    this.#effects.push(effect);
  }

  #newHandshake(attempt: AttemptTerms): Handshake {
    this.#secret = attempt.login?.password;
    return new Handshake(this.#options, attempt, ({ level, message }) =>
      this.#do({ do: "note", level, message: withoutSecret(message, this.#secret) }),
    );
  }

  #onAttempt(attempt: Extract<Event, { type: "attempt" }>): void {
    if (this.#state.at === "none") return;
    invariant(this.#state.at === "connect", `an attempt in state ${this.#state.at}`);
    this.#handshake = this.#newHandshake(attempt);
    this.#lines = new LineReader({ maxLineBytes: this.#options.maxLineBytes });
    this.#getack = new GetackFinder();
    this.#held = [];
    this.#lastIoMs = this.#nowMs;
    this.#do({ do: "open-link" });
    this.#move({ at: "connecting" });
  }

  #onOpened(): void {
    // An event that fires after REPLICAOF NO ONE closes the socket and does nothing else.
    if (this.#state.at === "none") return this.#do({ do: "close-link" });
    invariant(this.#state.at === "connecting", `opened in state ${this.#state.at}`);
    this.#onStep(this.#handshake.begin());
  }

  #onLost(error: ReplicaError): void {
    const { state } = this;
    if (state.at === "none") return this.#do({ do: "close-link" });
    if (state.at === "connect") return;
    if (this.#state.at === "transfer" && this.#state.finishing) {
      // The payload is complete: keep it. The next attempt resumes after it.
      this.#do({ do: "close-link" });
      return this.#move({ ...this.#state, lost: this.#state.lost ?? error });
    }
    this.#fail(error);
  }

  /** Every failure on the way closes the socket, gives up the temporary file, and returns to connect. */
  #fail(error: ReplicaError): void {
    const { state } = this;
    this.#abandon();
    this.#do({ do: "failed", error: errorWithoutSecret(error, this.#secret), from: state });
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
      return this.#state.at === "transfer" ? this.#onPayload(bytes) : this.#onStream(bytes);
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
      // Only a complete line counts, a keepalive too: a reply that drips in has its limit.
      this.#lastIoMs = this.#nowMs;
      this.#onLine(line);
      // Nothing else is served while lines are read: a flood of keepalives must not take long.
      if (line.length === 0 && this.#mayMeetKeepalives) this.#lines.skipEmpty();
      const { state } = this;
      if (state.at === "connected") return this.#onStream(this.#lines.rest());
      if (state.at === "receive-bulk-header" && state.waits === "file") {
        this.#held.push(this.#lines.rest());
        return;
      }
    }
  }

  /** Whether the primary may take its time and send keepalives. In no other state does an empty line mean one. */
  get #mayMeetKeepalives(): boolean {
    return this.#state.at === "receive-psync" || this.#state.at === "receive-bulk-header";
  }

  #onLine(line: Uint8Array): void {
    const { state } = this;
    switch (state.at) {
      case "receive-pong":
      case "receive-auth":
      case "receive-port":
      case "receive-ip":
      case "receive-capa":
      case "receive-version":
      case "receive-psync":
        return this.#onStep(this.#handshake.reply(state, line));
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

  #onStep(step: HandshakeStep): void {
    switch (step.next) {
      case "ask":
        this.#send(step.command);
        return this.#move(step.state);
      case "wait":
        return;
      case "weigh":
        this.#do({ do: "weigh", info: step.info });
        return this.#onStep(step.ask);
      case "full":
        if (step.command !== undefined) this.#send(step.command);
        return this.#move({ at: "receive-bulk-header", waits: "line", grant: step.grant });
      case "continue": {
        const { replid, offset } = step.asked;
        this.#do({ do: "continue", replid: step.replid });
        this.#move({ at: "connected", replid: step.replid ?? replid, receivedOffset: offset });
        return this.#acknowledge(offset);
      }
      default:
        return unreachable(step);
    }
  }

  /** Sends a command whose reply has its time limit from now on. */
  #send(command: Uint8Array): void {
    this.#do({ do: "send", bytes: command });
    this.#lastIoMs = this.#nowMs;
  }

  #onBulkHeader(grant: FullSyncGrant, line: Uint8Array): void {
    if (line.length === 0) return; // a keepalive
    // An error may come even after +FULLRESYNC: the primary could not fork.
    if (line[0] === MINUS) {
      throw new ReplicaError("PRIMARY_REFUSED", {
        message: `the primary gave up the full resync: ${printableBytes(line)}`,
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
    const { grant, form } = state;
    const reader = new BulkReader(form);
    this.#lastIoMs = this.#nowMs;
    this.#move({
      at: "transfer",
      grant,
      reader,
      file,
      totalBytes: form.kind === "length" ? form.bytes : undefined,
      readBytes: 0,
      finishing: false,
      lost: undefined,
    });
    const held = this.#held;
    this.#held = [];
    if (reader.complete) this.#finishTransfer();
    for (const bytes of held) this.#onPayload(bytes);
  }

  get #transfer(): Transferring {
    const state = this.#state;
    invariant(state.at === "transfer", `payload in state ${state.at}`);
    return state;
  }

  #onPayload(bytes: Uint8Array): void {
    const transfer = this.#transfer;
    if (transfer.finishing) return this.#onStream(bytes);
    const rest = transfer.reader.push(bytes, (payload) => {
      if (payload.length > 0) this.#do({ do: "payload", bytes: payload });
    });
    const readBytes = transfer.reader.payloadBytes;
    this.#move({ ...transfer, readBytes });
    if (rest === undefined) return;
    this.#finishTransfer();
    this.#onStream(rest);
  }

  #finishTransfer(): void {
    const transfer = this.#transfer;
    this.#move({ ...transfer, finishing: true, totalBytes: transfer.readBytes });
    this.#do({ do: "finish-snapshot" });
  }

  #onSnapshotKept(stream: StreamStart | undefined): void {
    const state = this.#state;
    if (state.at === "none") return;
    invariant(state.at === "transfer" && state.finishing, `a snapshot kept in state ${state.at}`);
    if (this.#options.purpose === "snapshot-only") {
      this.#do({ do: "close-link" });
      return this.#move({ at: "none" });
    }
    if (state.lost !== undefined) {
      this.#do({ do: "failed", error: state.lost, from: state });
      return this.#move({ at: "connect" });
    }
    invariant(stream !== undefined, "a snapshot that is followed has a stream after it");
    // While the snapshot was being finished, a primary that waits for our first ACK had nothing to say.
    this.#lastIoMs = this.#nowMs;
    this.#move({ at: "connected", ...stream });
    // After a $EOF payload the primary sends no stream until it has our first ACK.
    this.#acknowledge(stream.receivedOffset);
  }

  #onStream(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#options.purpose === "snapshot-only") return;
    const state = this.#state;
    if (state.at === "connected" && !Number.isSafeInteger(state.receivedOffset + bytes.length)) {
      throw new ReplicaError("PROTOCOL", { message: "the stream's offset passes 2^53" });
    }
    this.#do({ do: "stream", bytes });
    const asked = this.#getack.find(bytes);
    if (state.at !== "connected") return;
    const before = state.receivedOffset;
    this.#move({ ...state, receivedOffset: before + bytes.length });
    // Doesn't count as this second's ACK: it waits for the disk, and a steady flow of GETACKs would put
    // that one off for ever.
    if (asked > 0) this.#do({ do: "acknowledge", offset: before + asked, asked: true });
  }

  #acknowledge(offset: Offset): void {
    this.#lastAckMs = this.#nowMs;
    this.#do({ do: "acknowledge", offset, asked: false });
  }

  #onTick(paused: boolean): void {
    if (paused) this.#lastIoMs = this.#nowMs;
    refuseSilence(this.#state, this.#nowMs - this.#lastIoMs, this.#options);
    if (!this.#ackIsDue()) return;
    const { state } = this;
    if (state.at === "connected") return this.#acknowledge(0);
    const isKeeping = state.at === "transfer" && state.finishing && state.lost === undefined;
    if (!isKeeping || this.#options.purpose === "snapshot-only") return;
    // The snapshot isn't durable yet, so there is nothing to acknowledge.
    this.#lastAckMs = this.#nowMs;
    this.#do({ do: "send", bytes: KEEPALIVE });
  }

  #ackIsDue(): boolean {
    return this.#nowMs - this.#lastAckMs >= ACK_EVERY_MS;
  }
}
