import { invariant, ReplicaError, unreachable } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";
import { errorWithoutSecret, withoutSecret } from "../base/printable.ts";
import { GetackFinder } from "../resp/getack-finder.ts";
import { LineReader } from "../resp/line-reader.ts";
import { KEEPALIVE } from "./commands.ts";
import { Core, firstOf } from "./core.ts";
import type { Effect, Event, StreamStart } from "./events.ts";
import { FullSync } from "./full-sync.ts";
import {
  type AttemptTerms,
  Handshake,
  type HandshakeOptions,
  type HandshakeStep,
} from "./handshake.ts";
import { refuseSilence, type SilenceLimits } from "./silence.ts";
import type { State } from "./state.ts";

/** What a session is given; it reads no setting, clock, file or socket of its own. */
export interface SessionOptions extends HandshakeOptions, SilenceLimits {
  readonly maxLineBytes: number;
}

/**
 * As often as Redis's replicas acknowledge: once a second (replication.c, replicationCron). The ticks of a second may come
 * a little early.
 */
const ACK_EVERY_MS = 950;

/**
 * The replica's side of Redis replication as a pure state machine: `step(event)` returns the effects
 * that follow, in order. It is syncWithMaster and replicationCron of Redis's replication.c without their sockets and
 * files; what comes from the grant of a full sync to the end of its payload is in `FullSync`.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #core = new Core();
  readonly #sync: FullSync;
  #handshake: Handshake;
  #attempt: AttemptTerms = { resume: undefined, login: undefined };
  #lines: LineReader;
  #getack = new GetackFinder();
  #lastAckMs = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#sync = new FullSync(this.#core, options, {
      stream: (bytes) => this.#onStream(bytes),
      fail: (error) => this.#fail(error),
      refusedPayload: (grant, line) => this.#handshake.refusedPayload(grant, line),
    });
    this.#lines = new LineReader({ maxLineBytes: options.maxLineBytes });
    this.#handshake = this.#newHandshake(this.#attempt);
  }

  /** Where the session stands. `step` alone changes it, by replacing it: what you hold stays as it is. */
  get state(): State {
    return this.#core.state;
  }

  /** See `Handshake.mayAcknowledge`. */
  get mayAcknowledge(): boolean {
    return this.#handshake.mayAcknowledge;
  }

  /** Takes one event and returns what must be done, in order. Never throws for what a peer sent. */
  step(event: Event): readonly Effect[] {
    if ("nowMs" in event) this.#core.nowMs = event.nowMs;
    try {
      this.#on(event);
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      this.#fail(error);
    }
    return this.#core.takeEffects();
  }

  #on(event: Event): void {
    switch (event.type) {
      case "follow":
        if (this.#core.state.at === "none") this.#core.move({ at: "connect" });
        return;
      case "leave":
        this.#abandon();
        return this.#core.move({ at: "none" });
      case "attempt":
        return this.#onAttempt(event);
      case "opened":
        return this.#onOpened();
      case "bytes":
        return this.#onBytes(event.bytes);
      case "lost":
        return this.#onLost(event.error);
      case "second-opened":
        return this.#sync.secondOpened();
      case "second-bytes":
        return this.#sync.second(event.bytes);
      case "second-lost":
        return this.#sync.secondLost(event.error);
      case "snapshot-opened":
        return this.#sync.opened(event.file);
      case "snapshot-kept":
        return this.#onSnapshotKept(event.stream);
      case "keep-failed":
        if (this.#core.state.at === "none" || this.#core.state.at === "connect") return;
        return this.#fail(event.error);
      case "tick":
        return this.#onTick(event.paused, event.secondPaused === true);
      default:
        return unreachable(event);
    }
  }

  /** What the attempt logs in with: a peer may repeat it. */
  get #secret(): string | undefined {
    return this.#attempt.login?.password;
  }

  #newHandshake(attempt: AttemptTerms): Handshake {
    this.#attempt = attempt;
    return new Handshake(this.#options, attempt, ({ level, message }) =>
      this.#core.do({ do: "note", level, message: withoutSecret(message, this.#secret) }),
    );
  }

  #onAttempt(attempt: Extract<Event, { type: "attempt" }>): void {
    if (this.#core.state.at === "none") return;
    invariant(this.#core.state.at === "connect", `an attempt in state ${this.#core.state.at}`);
    this.#handshake = this.#newHandshake(attempt);
    this.#lines = new LineReader({ maxLineBytes: this.#options.maxLineBytes });
    this.#getack = new GetackFinder();
    this.#sync.reset();
    this.#core.lastIoMs = this.#core.nowMs;
    this.#core.do({ do: "open-link" });
    this.#core.move({ at: "connecting" });
  }

  #onOpened(): void {
    // An event that fires after REPLICAOF NO ONE closes the socket and does nothing else.
    if (this.#core.state.at === "none") return this.#core.do({ do: "close-link" });
    invariant(this.#core.state.at === "connecting", `opened in state ${this.#core.state.at}`);
    this.#onStep(this.#handshake.begin());
  }

  #onLost(error: ReplicaError): void {
    const { state } = this;
    if (state.at === "none") return this.#core.do({ do: "close-link" });
    if (state.at === "connect" || this.#sync.lost(error)) return;
    this.#fail(error);
  }

  /** Every failure on the way closes the socket, gives up the temporary file, and returns to connect. */
  #fail(cause: ReplicaError): void {
    const { state } = this;
    const error = this.#handshake.endedBy(cause, state);
    this.#abandon();
    this.#core.do({ do: "failed", error: errorWithoutSecret(error, this.#secret), from: state });
    this.#core.move({ at: "connect" });
  }

  #abandon(): void {
    const { state } = this;
    if (state.at === "none" || state.at === "connect") return;
    this.#sync.reset();
    this.#core.do({ do: "close-link" });
    const opening = state.at === "receive-bulk-header" && state.waits === "file";
    if (opening || state.at === "transfer") this.#core.do({ do: "discard-snapshot" });
  }

  #onBytes(bytes: Uint8Array): void {
    if (this.#core.state.at === "none") return this.#core.do({ do: "close-link" });
    // What was still under way when the attempt ended.
    if (this.#core.state.at === "connect") return;
    const first = firstOf(this.#core.state);
    if (first !== undefined) return this.#sync.first(first, bytes);
    if (this.#core.state.at === "transfer" || this.#core.state.at === "connected") {
      this.#core.lastIoMs = this.#core.nowMs;
      return this.#core.state.at === "transfer" ? this.#sync.payload(bytes) : this.#onStream(bytes);
    }
    if (this.#core.state.at === "receive-bulk-header" && this.#core.state.waits === "file")
      return this.#sync.hold(bytes);
    this.#lines.push(bytes);
    this.#readLines();
  }

  #readLines(): void {
    for (;;) {
      const line = this.#lines.next();
      if (line === undefined) return; // the rest comes with the next chunk
      // Only a complete line counts, a keepalive too: a reply that drips in has its limit.
      this.#core.lastIoMs = this.#core.nowMs;
      this.#onLine(line);
      // It is read in another way from here on.
      if (firstOf(this.#core.state) !== undefined) return;
      // Nothing else is served while lines are read: a flood of keepalives must not take long.
      if (line.length === 0 && this.#mayMeetKeepalives) this.#lines.skipEmpty();
      const { state } = this;
      if (state.at === "connected") return this.#onStream(this.#lines.rest());
      if (state.at === "receive-bulk-header" && state.waits === "file")
        return this.#sync.hold(this.#lines.rest());
    }
  }

  /** Whether the primary may take its time and send keepalives. In no other state does an empty line mean one. */
  get #mayMeetKeepalives(): boolean {
    return this.#core.state.at === "receive-psync" || this.#core.state.at === "receive-bulk-header";
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
        return this.#onStep(this.#handshake.reply(state, line));
      case "receive-psync":
        invariant(state.second === undefined, "a full sync on two links reads its lines itself");
        return this.#onStep(this.#handshake.reply(state, line));
      case "receive-bulk-header":
        return this.#sync.header(state.grant, line);
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
        this.#core.send(step.command);
        return this.#core.move(step.state);
      case "wait":
        return;
      case "weigh":
        this.#core.do({ do: "weigh", info: step.info });
        return this.#onStep(step.ask);
      case "full":
        if (step.command !== undefined) this.#core.send(step.command);
        this.#core.move({ at: "receive-bulk-header", waits: "line", grant: step.grant });
        return step.header && this.#sync.header(step.grant, step.header);
      case "two-links":
        return this.#sync.openSecond(step.two, this.#attempt, this.#lines);
      case "continue": {
        const { replid, offset } = step.asked;
        this.#core.do({ do: "continue", replid: step.replid });
        this.#core.move({ at: "connected", replid: step.replid ?? replid, receivedOffset: offset });
        return this.#acknowledge(offset);
      }
      default:
        return unreachable(step);
    }
  }

  #onSnapshotKept(stream: StreamStart | undefined): void {
    const state = this.#core.state;
    if (state.at === "none") return;
    invariant(state.at === "transfer" && state.finishing, `a snapshot kept in state ${state.at}`);
    if (this.#options.purpose === "snapshot-only") {
      this.#core.do({ do: "close-link" });
      return this.#core.move({ at: "none" });
    }
    if (state.lost !== undefined) {
      this.#core.do({ do: "failed", error: state.lost, from: state });
      return this.#core.move({ at: "connect" });
    }
    invariant(stream !== undefined, "a snapshot that is followed has a stream after it");
    // While the snapshot was being finished, a primary that waits for our first ACK had nothing to say.
    this.#core.lastIoMs = this.#core.nowMs;
    this.#core.move({ at: "connected", ...stream });
    // After a $EOF payload the primary sends no stream until it has our first ACK.
    this.#acknowledge(stream.receivedOffset);
  }

  #onStream(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#options.purpose === "snapshot-only") return;
    const state = this.#core.state;
    if (state.at === "connected" && !Number.isSafeInteger(state.receivedOffset + bytes.length)) {
      throw new ReplicaError("PROTOCOL", { message: "the stream's offset passes 2^53" });
    }
    this.#core.do({ do: "stream", bytes });
    const asked = this.#getack.find(bytes);
    if (state.at !== "connected") return;
    const before = state.receivedOffset;
    this.#core.move({ ...state, receivedOffset: before + bytes.length });
    // Doesn't count as this second's ACK: it waits for the disk, and a steady flow of GETACKs would put
    // that one off for ever.
    if (asked > 0) this.#core.do({ do: "acknowledge", offset: before + asked, asked: true });
  }

  #acknowledge(offset: Offset): void {
    this.#lastAckMs = this.#core.nowMs;
    this.#core.do({ do: "acknowledge", offset, asked: false });
  }

  #onTick(paused: boolean, secondPaused: boolean): void {
    const first = firstOf(this.#core.state);
    if (first === undefined ? paused : secondPaused) this.#core.lastIoMs = this.#core.nowMs;
    refuseSilence(this.#core.state, this.#core.nowMs - this.#core.lastIoMs, this.#options);
    const silence = this.#sync.silenceOfFirst(paused);
    if (silence !== undefined) this.#onLost(silence);
    if (!this.#ackIsDue()) return;
    const { state } = this;
    if (state.at === "connected") return this.#acknowledge(0);
    const isLinked = state.at === "transfer" && state.lost === undefined;
    const isKeeping = isLinked && (state.finishing || first?.does === "stream");
    if (!isKeeping || this.#options.purpose === "snapshot-only") return;
    // The snapshot isn't durable yet, so there is nothing to acknowledge.
    this.#lastAckMs = this.#core.nowMs;
    this.#core.do({ do: "send", bytes: KEEPALIVE });
  }

  #ackIsDue(): boolean {
    return this.#core.nowMs - this.#lastAckMs >= ACK_EVERY_MS;
  }
}
