import type { Clock } from "../base/clock.ts";
import { invariant, ReplicaError, unreachable } from "../base/errors.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
import type { PrimaryTarget } from "../config/primary-url.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import { ackCommand } from "../session/commands.ts";
import type { Effect, Event, StreamStart } from "../session/events.ts";
import { Session } from "../session/session.ts";
import type { FullSyncGrant, State } from "../session/state.ts";
import type { DriverOptions } from "./driver-options.ts";
import { Gathering } from "./link/gathering.ts";
import { Link, type TlsFiles } from "./link/link.ts";
import type { PrimaryLogin } from "./link/primary-login.ts";

/** Takes the payload of a full resync: a new generation, a backup's file, or standard output. */
export interface SnapshotKeeper {
  /**
   * Opens the file of a snapshot, and resolves with its name. A `discard` meanwhile makes it reject.
   * @param events takes its reports from then on.
   */
  open(resync: GrantedResync, events: KeeperEvents): Promise<string>;
  payload(bytes: Uint8Array): void;
  /**
   * Checks, syncs and names the snapshot.
   * @returns where the stream after it stands; undefined where none is kept.
   */
  finish(): Promise<StreamStart | undefined>;
  discard(): void;
  /** True while the link should pause for the disk. */
  readonly congested: boolean;
}

/** Takes the stream after a snapshot. */
export interface StreamKeeper {
  /** The primary continues, under `replid` where that is new. */
  continued(replid: ReplicationId | undefined): void;
  stream(bytes: Uint8Array): void;
  /** Acknowledges once everything up to `offset` is written, or durable with `--ack durable`. */
  acknowledge(offset: Offset): void;
}

/** A full resync that a primary granted. */
export interface GrantedResync {
  readonly primary: PrimaryTarget;
  readonly grant: FullSyncGrant;
  readonly form: BulkForm;
}

/** What a keeper reports while it writes. */
export interface KeeperEvents {
  /** Bytes that waited for the disk are written: the link may go on. */
  hasRoom(): void;
  /** Writing, syncing or checking failed. */
  failed(error: ReplicaError): void;
}

/** See `Driver.attempt`. */
export type Weigh = (info: string | undefined) => void;

/** What an attempt asks for besides a resync. */
export interface AttemptWishes {
  /**
   * Called with what the primary says in INFO before it is asked for anything that costs it a fork, or with undefined
   * where it doesn't say; throws ReplicaError where that can't be kept. Undefined: it isn't asked.
   */
  readonly weigh?: Weigh | undefined;
  /** See `AttemptTerms`. */
  readonly newerThan?: Offset | undefined;
}

export interface DriverEvents {
  /** The attempt is over, broken off in state `from`. */
  failed(error: ReplicaError, from: State): void;
  /** A keeper failed while no link was there to break. */
  failedUnlinked(error: ReplicaError): void;
  note(level: "info" | "warn", message: string): void;
  moved(state: State): void;
  /** Whether somebody else than the primary waits for the stream, so that it is read as it comes. */
  isAwaited(): boolean;
}

/** How often the session sees the clock on its way to a stream. While it follows one, that is once a second. */
const TICK_MS = 100;
/** No tick for so long means that this process stood still. */
const STALL_MS = { onTheWay: 1_100, connected: 1_400 };

/**
 * Joins a session, a link and the keepers: the session decides, the link and the keepers act. What
 * belongs to an attempt that is over carries its epoch, and is dropped.
 */
export class Driver implements KeeperEvents {
  readonly #session: Session;
  readonly #tls: TlsFiles;
  /** The login for the primary; it can change while the driver runs. */
  readonly login: PrimaryLogin;
  readonly #clock: Clock;
  readonly #events: DriverEvents;
  #target: PrimaryTarget | undefined;
  #snapshots: SnapshotKeeper | undefined;
  #streams: StreamKeeper | undefined;
  #weigh: Weigh | undefined;
  #link: Link | undefined;
  readonly #gathering: Gathering;
  #epoch = 0;
  /** Attempts so far: a snapshot's end belongs to one of them, though its link may be gone. */
  #attempts = 0;
  #opening = false;
  #paused = false;
  #pausedAtMs = 0;
  #pausedMs = 0;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #tickedAtMs = 0;
  /** When a byte last came from a primary. */
  #heardMs: number;
  #finishing: Promise<void> = Promise.resolve();

  constructor(options: DriverOptions, clock: Clock, events: DriverEvents) {
    this.#session = new Session(options);
    this.#tls = options.tls;
    this.login = options.login;
    this.#clock = clock;
    this.#heardMs = clock.monotonicMs();
    this.#gathering = new Gathering(clock);
    this.#events = events;
  }

  /** Where the session stands; it never changes under who holds it. */
  get state(): State {
    return this.#session.state;
  }

  /** The primary whose stream is followed now; undefined while the link isn't up. */
  get connectedTo(): PrimaryTarget | undefined {
    return this.state.at === "connected" ? this.#target : undefined;
  }

  /** Milliseconds since a byte last came from a primary, or since the start; an attempt doesn't begin it anew. */
  get silentMs(): number {
    return this.#clock.monotonicMs() - this.#heardMs;
  }

  /**
   * Begins an attempt with this primary.
   * @param snapshots takes the payload of a full resync.
   * @param streams takes the stream; undefined for a backup, which wants none.
   * @param resume the last byte that is kept, to resume after it.
   * @param wishes what else it asks for.
   * @throws ReplicaError AUTH_FAILED where the password can't be read now; nothing has begun then.
   */
  attempt(
    target: PrimaryTarget,
    snapshots: SnapshotKeeper,
    streams: StreamKeeper | undefined,
    resume: Position | undefined,
    { weigh, newerThan }: AttemptWishes = {},
  ): void {
    const login = this.login.read(target);
    const { withheld } = this.login;
    this.#target = target;
    this.#weigh = weigh;
    this.#snapshots = snapshots;
    this.#streams = streams;
    this.#tickedAtMs = this.#clock.monotonicMs();
    this.#step({ type: "follow" });
    const weighs = weigh !== undefined;
    this.#step({
      type: "attempt",
      nowMs: this.#clock.monotonicMs(),
      resume,
      login,
      withheld,
      weighs,
      newerThan,
    });
  }

  /** Stands ready for an attempt: from here on there is something to follow. */
  follow(): void {
    this.#step({ type: "follow" });
  }

  /** Leaves the primary, in whatever state the link is. */
  leave(): void {
    this.#step({ type: "leave" });
  }

  /** Sends REPLCONF ACK while the stream is followed; never more than the keeper holds. */
  acknowledge(acked: Offset, durable: Offset): void {
    if (this.state.at === "connected") this.#link?.send(ackCommand(acked, durable));
  }

  /** Ends a rest of the link: resolves once what had come by then is read. Undefined where it doesn't rest. */
  endRest(): Promise<void> | undefined {
    return this.#link && this.#gathering.end(this.#link);
  }

  /** Takes no more bytes; what comes from now on was never received. */
  stopReading(): void {
    this.#link?.stopReading();
  }

  /** Closes the link once what was sent has gone out. */
  hangUp(): void {
    this.#link?.closeGently();
  }

  /** Once a second: what is due then while the stream is followed. */
  everySecond(): void {
    if (this.state.at === "connected") this.#tick();
  }

  /** On the way to a stream, limits of less than a second are kept. */
  #keepTicking(): void {
    const { at } = this.state;
    const isOnTheWay = at !== "none" && at !== "connect" && at !== "connected";
    if (isOnTheWay) this.#ticker ??= setInterval(() => this.#tick(), TICK_MS);
    else {
      clearInterval(this.#ticker);
      this.#ticker = undefined;
    }
  }

  #tick(): void {
    const nowMs = this.#clock.monotonicMs();
    // After a stall of our own, what the primary sent still waits in the socket.
    // While the link waits for the disk here, the primary can't be heard.
    if (this.#paused && this.#link !== undefined) this.#heardMs = nowMs;
    const stalled =
      nowMs - this.#tickedAtMs >
      (this.state.at === "connected" ? STALL_MS.connected : STALL_MS.onTheWay);
    this.#tickedAtMs = nowMs;
    this.#step({ type: "tick", nowMs, paused: this.#paused || stalled });
  }

  /** Resolves once no snapshot is being finished, and the session knows the outcome. */
  get finishing(): Promise<void> {
    return this.#finishing;
  }

  #step(event: Event): void {
    const before = this.state.at;
    const epoch = this.#epoch;
    for (const effect of this.#session.step(event)) {
      // An effect may end the attempt (a keeper that fails at once); the remaining effects belong to an attempt that is over.
      if (this.#epoch !== epoch && effect.do !== "failed" && effect.do !== "discard-snapshot")
        continue;
      try {
        this.#perform(effect);
      } catch (error) {
        this.failed(asReplicaError(error));
      }
    }
    if (this.state.at !== before) {
      this.#keepTicking();
      this.#events.moved(this.state);
    }
    this.#pauseOrResume();
  }

  /** Keeping failed, in whatever was being kept for this attempt. */
  failed(error: ReplicaError): void {
    const { at } = this.state;
    if (at === "none" || at === "connect") return this.#events.failedUnlinked(error);
    this.#step({ type: "keep-failed", error });
  }

  /** How long the link of this attempt has been paused so far, in milliseconds. */
  get pausedMs(): number {
    const now = this.#paused ? this.#clock.monotonicMs() - this.#pausedAtMs : 0;
    return this.#pausedMs + now;
  }

  hasRoom(): void {
    this.#pauseOrResume();
  }

  #pauseOrResume(): void {
    const pause = this.#opening || (this.#snapshots?.congested ?? false);
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
      case "weigh":
        return this.#weigh?.(effect.info);
      case "open-snapshot":
        return this.#openSnapshot(effect.grant, effect.form);
      case "payload":
        return this.#snapshots?.payload(effect.bytes);
      case "finish-snapshot":
        return this.#finishSnapshot();
      case "discard-snapshot":
        return this.#snapshots?.discard();
      case "continue":
        return this.#streams?.continued(effect.replid);
      case "stream":
        return this.#streams?.stream(effect.bytes);
      case "acknowledge":
        if (effect.asked) this.#gathering.asked();
        return this.#streams?.acknowledge(effect.offset);
      case "failed":
        return this.#events.failed(effect.error, effect.from);
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
      if (epoch === this.#epoch) this.#step(event());
    };
    const nowMs = () => this.#clock.monotonicMs();
    this.#link = new Link(target, this.#tls, {
      opened: () => mine(() => ({ type: "opened", nowMs: nowMs() })),
      bytes: (bytes) => {
        const { length } = bytes;
        mine(() => {
          this.#heardMs = nowMs();
          return { type: "bytes", nowMs: this.#heardMs, bytes };
        });
        // A unix socket holds too little: the primary would have to wait.
        const mayRest =
          this.state.at === "connected" &&
          target.kind !== "unix" &&
          !this.#paused &&
          !this.#events.isAwaited();
        if (mayRest && epoch === this.#epoch) this.#gathering.after(length, this.#link!);
      },
      lost: (error) => mine(() => ({ type: "lost", error })),
    });
  }

  #openSnapshot(grant: FullSyncGrant, form: BulkForm): void {
    const epoch = this.#epoch;
    this.#opening = true;
    this.#snapshots!.open({ primary: this.#target!, grant, form }, this).then(
      (file) => {
        if (epoch !== this.#epoch) return;
        this.#opening = false;
        this.#step({ type: "snapshot-opened", nowMs: this.#clock.monotonicMs(), file });
      },
      (error: unknown) => {
        if (epoch !== this.#epoch) return;
        this.#opening = false;
        this.#step({ type: "keep-failed", error: asReplicaError(error) });
      },
    );
  }

  #finishSnapshot(): void {
    // Not bound to the link's epoch: a complete payload is kept even if the link breaks now.
    const attempt = this.#attempts;
    const isOver = () => attempt !== this.#attempts || this.state.at !== "transfer";
    this.#finishing = this.#snapshots!.finish().then(
      (stream) => {
        if (isOver()) return;
        this.#step({ type: "snapshot-kept", nowMs: this.#clock.monotonicMs(), stream });
      },
      (error: unknown) => {
        if (isOver()) return;
        this.#step({ type: "keep-failed", error: asReplicaError(error) });
      },
    );
  }
}

function asReplicaError(error: unknown): ReplicaError {
  if (error instanceof ReplicaError) return error;
  throw error;
}
