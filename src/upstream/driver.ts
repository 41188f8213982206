import { invariant, ReplicaError, unreachable } from "../base/errors.ts";
import type { PrimaryTarget } from "../config/primary-url.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import type { Effect, Event } from "../session/events.ts";
import { Session, type SessionOptions } from "../session/session.ts";
import type { FullSyncGrant, State } from "../session/state.ts";
import type { Clock } from "../base/clock.ts";
import { Link, type TlsFiles } from "./link/link.ts";

/** What takes the bytes of a sync: the data directory of `follow`, or the one file of `backup`. */
export interface Keeper {
  /** Opens the file of a snapshot, and gives its name. A `discard` meanwhile makes it reject. */
  openSnapshot(grant: FullSyncGrant, form: BulkForm): Promise<string>;
  payload(bytes: Uint8Array): void;
  /** Checks, syncs and names the snapshot, and tells where the stream stands after it. */
  finishSnapshot(): Promise<{ replid: ReplicationId | undefined; receivedOffset: Offset }>;
  discardSnapshot(): void;
  /** The primary continues, under `replid` where it is a new one. */
  continued(replid: ReplicationId | undefined): void;
  stream(bytes: Uint8Array): void;
  /** Acknowledge once everything up to `offset` is written, or durable where that is asked for. */
  acknowledge(offset: Offset): void;
  /** True while the link should pause for the disk. */
  readonly congested: boolean;
}

export interface DriverEvents {
  /** The attempt is over. */
  failed(error: ReplicaError): void;
  note(level: "info" | "warn", message: string): void;
  moved(state: State): void;
}

/** How often the clock is shown to the session. */
const TICK_MS = 100;
/** A tick that comes so late says that this process stood still. */
const STALL_MS = 1000;

/**
 * Joins a session, a link and a keeper: what the session decides, the link and the keeper do. What
 * belongs to an attempt that is over carries its epoch, and is dropped.
 */
export class Driver {
  readonly session: Session;
  readonly #keeper: Keeper;
  readonly #tls: TlsFiles;
  readonly #clock: Clock;
  readonly #events: DriverEvents;
  #target: PrimaryTarget | undefined;
  #link: Link | undefined;
  #epoch = 0;
  /** Attempts so far; what a snapshot's end says belongs to one, though its link may be gone. */
  #attempts = 0;
  #opening = false;
  #paused = false;
  #pausedAtMs = 0;
  #pausedMs = 0;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #tickedAtMs = 0;
  #finishing: Promise<void> = Promise.resolve();

  constructor(
    options: SessionOptions & { tls: TlsFiles },
    keeper: Keeper,
    clock: Clock,
    events: DriverEvents,
  ) {
    this.session = new Session(options);
    this.#tls = options.tls;
    this.#keeper = keeper;
    this.#clock = clock;
    this.#events = events;
  }

  /** Begins an attempt with this primary, resuming behind `resume` where that is known. */
  attempt(target: PrimaryTarget, resume: Position | undefined): void {
    this.#target = target;
    this.#tickedAtMs = this.#clock.monotonicMs();
    this.#ticker ??= setInterval(() => this.#tick(), TICK_MS);
    this.step({ type: "follow" });
    this.step({ type: "attempt", nowMs: this.#clock.monotonicMs(), resume });
  }

  /** Leaves the primary, in whatever state the link is, and stops the clock. */
  leave(): void {
    clearInterval(this.#ticker);
    this.#ticker = undefined;
    this.step({ type: "leave" });
  }

  /** Sends what the keeper's cursors say; nothing where there is no link. */
  send(bytes: Uint8Array): void {
    this.#link?.send(bytes);
  }

  /** Takes no more bytes; what comes from now on was never received. */
  stopReading(): void {
    this.#link?.stopReading();
  }

  /** Closes the link after what was sent last has gone out. */
  hangUp(): void {
    this.#link?.closeGently();
  }

  #tick(): void {
    const nowMs = this.#clock.monotonicMs();
    // Where we were stopped or held up ourselves, what the primary sent still waits in the socket.
    const stalled = nowMs - this.#tickedAtMs > STALL_MS;
    this.#tickedAtMs = nowMs;
    this.step({ type: "tick", nowMs, paused: this.#paused || stalled });
  }

  /** Resolves once no snapshot is being finished, and the session knows how that went. */
  get finishing(): Promise<void> {
    return this.#finishing;
  }

  /** Takes an event and does what follows from it. */
  step(event: Event): void {
    const before = this.session.state;
    const epoch = this.#epoch;
    for (const effect of this.session.step(event)) {
      // An effect may end the attempt (a keeper that fails at once); the rest is then of the dead.
      if (this.#epoch !== epoch && effect.do !== "failed" && effect.do !== "discard-snapshot")
        continue;
      try {
        this.#perform(effect);
      } catch (error) {
        this.keeperFailed(asReplicaError(error));
      }
    }
    if (this.session.state.at !== before.at) this.#events.moved(this.session.state);
    this.#pauseOrResume();
  }

  /** The keeper's disk failed, in whatever it does for this attempt. */
  keeperFailed(error: ReplicaError): void {
    this.step({ type: "snapshot-failed", error });
  }

  /** For how long the link of this attempt was paused, in milliseconds. */
  get pausedMs(): number {
    const now = this.#paused ? this.#clock.monotonicMs() - this.#pausedAtMs : 0;
    return this.#pausedMs + now;
  }

  /** The keeper wrote what had waited. */
  keeperHasRoom(): void {
    this.#pauseOrResume();
  }

  #pauseOrResume(): void {
    const pause = this.#opening || this.#keeper.congested;
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.#pausedAtMs = this.#clock.monotonicMs();
    else this.#pausedMs += this.#clock.monotonicMs() - this.#pausedAtMs;
    if (pause) this.#link?.pause();
    else this.#link?.resume();
  }

  #perform(effect: Effect): void {
    switch (effect.do) {
      case "open-link":
        return this.#openLink();
      case "close-link":
        this.#epoch++;
        this.#link?.close();
        this.#link = undefined;
        this.#opening = false;
        return;
      case "send":
        return this.#link?.send(effect.bytes);
      case "note":
        return this.#events.note(effect.level, effect.message);
      case "open-snapshot":
        return this.#openSnapshot(effect.grant, effect.form);
      case "payload":
        return this.#keeper.payload(effect.bytes);
      case "finish-snapshot":
        return this.#finishSnapshot();
      case "discard-snapshot":
        return this.#keeper.discardSnapshot();
      case "continue":
        return this.#keeper.continued(effect.replid);
      case "stream":
        return this.#keeper.stream(effect.bytes);
      case "acknowledge":
        return this.#keeper.acknowledge(effect.offset);
      case "failed":
        return this.#events.failed(effect.error);
      default:
        return unreachable(effect);
    }
  }

  #openLink(): void {
    const target = this.#target;
    invariant(target !== undefined, "a link of no attempt");
    const epoch = ++this.#epoch;
    this.#attempts++;
    this.#paused = false;
    this.#pausedMs = 0;
    const mine = (event: () => Event) => {
      if (epoch === this.#epoch) this.step(event());
    };
    const nowMs = () => this.#clock.monotonicMs();
    this.#link = new Link(target, this.#tls, {
      opened: () => mine(() => ({ type: "opened", nowMs: nowMs() })),
      bytes: (bytes) => mine(() => ({ type: "bytes", nowMs: nowMs(), bytes })),
      lost: (error) => mine(() => ({ type: "lost", error })),
    });
  }

  #openSnapshot(grant: FullSyncGrant, form: BulkForm): void {
    const epoch = this.#epoch;
    this.#opening = true;
    this.#keeper.openSnapshot(grant, form).then(
      (file) => {
        if (epoch !== this.#epoch) return;
        this.#opening = false;
        this.step({ type: "snapshot-opened", nowMs: this.#clock.monotonicMs(), file });
      },
      (error: unknown) => {
        if (epoch !== this.#epoch) return;
        this.#opening = false;
        this.step({ type: "snapshot-failed", error: asReplicaError(error) });
      },
    );
  }

  #finishSnapshot(): void {
    // Not bound to the link's epoch: a payload that is whole is kept even if the link breaks now.
    const attempt = this.#attempts;
    const isOver = () => attempt !== this.#attempts || this.session.state.at !== "transfer";
    this.#finishing = this.#keeper.finishSnapshot().then(
      (where) => {
        if (isOver()) return;
        this.step({ type: "snapshot-kept", nowMs: this.#clock.monotonicMs(), ...where });
      },
      (error: unknown) => {
        if (isOver()) return;
        this.step({ type: "snapshot-failed", error: asReplicaError(error) });
      },
    );
  }
}

function asReplicaError(error: unknown): ReplicaError {
  if (error instanceof ReplicaError) return error;
  throw error;
}
