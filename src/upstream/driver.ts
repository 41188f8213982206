import type { Clock } from "../base/clock.ts";
import { invariant, ReplicaError, unreachable } from "../base/errors.ts";
import type { Offset, Position } from "../base/history.ts";
import { type PrimaryTarget, sameEndpoint } from "../config/primary-url.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import { ackCommand, KEEPALIVE } from "../session/commands.ts";
import type { Effect, Event } from "../session/events.ts";
import { ofSecondLink } from "../session/full-sync.ts";
import { Session } from "../session/session.ts";
import type { FullSyncGrant, State } from "../session/state.ts";
import type { DriverOptions } from "./driver-options.ts";
import type {
  AttemptWishes,
  DriverEvents,
  KeeperEvents,
  SnapshotKeeper,
  StreamKeeper,
  Weigh,
} from "./driver-options.ts";
import { refusesTwo, tookTwo } from "./link/breaks.ts";
import { Gathering, PacedLink } from "./link/gathering.ts";
import { Link, type TlsFiles } from "./link/link.ts";
import type { PrimaryLogin } from "./link/primary-login.ts";

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
  readonly #peerTerms: DriverOptions["peerTerms"];
  /** The login for the primary; it can change while the driver runs. */
  readonly login: PrimaryLogin;
  readonly #clock: Clock;
  readonly #events: DriverEvents;
  #target: PrimaryTarget | undefined;
  #snapshots: SnapshotKeeper | undefined;
  #streams: StreamKeeper | undefined;
  #weigh: Weigh | undefined;
  #link: PacedLink | undefined;
  /** Brings the payload of a full sync that takes two links. */
  #second: PacedLink | undefined;
  readonly #syncLinks: 1 | 2;
  /** Of the link that was closed last. */
  #pausedMs = 0;
  /** Two links have failed: the next attempt makes do with one. */
  #isOneEnough = false;
  readonly #gathering: Gathering;
  #epoch = 0;
  /** Attempts so far: a snapshot's end belongs to one of them, though its link may be gone. */
  #attempts = 0;
  #opening = false;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #tickedAtMs = 0;
  /** When a byte last came from a primary. */
  #heardMs: number;
  #finishing: Promise<void> = Promise.resolve();

  constructor(options: DriverOptions, clock: Clock, events: DriverEvents) {
    this.#session = new Session(options);
    this.#tls = options.tls;
    this.#syncLinks = options.syncLinks;
    this.#peerTerms = options.peerTerms;
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
    if (!this.#target || !sameEndpoint(target, this.#target)) this.#isOneEnough = false;
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
      links: this.#isOneEnough ? 1 : this.#syncLinks,
      peer: this.#peerTerms(target),
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
    if (this.state.at !== "connected") return;
    // An empty line is no command, and says that this replica is alive ("Redis 7.0, networking.c, processInlineBuffer").
    this.#link?.link.send(this.#session.mayAcknowledge ? ackCommand(acked, durable) : KEEPALIVE);
  }

  /** Ends a rest of the link: resolves once what had come by then is read. Undefined where it doesn't rest. */
  endRest(): Promise<void> | undefined {
    return this.#link && this.#gathering.end(this.#link.link);
  }

  /** Takes no more bytes; what comes from now on was never received. */
  stopReading(): void {
    this.#link?.link.stopReading();
    this.#second?.link.stopReading();
  }

  /** Closes the link once what was sent has gone out. */
  hangUp(): void {
    this.#link?.link.closeGently();
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
    const paused = this.#link?.isForDisk === true;
    const secondPaused = this.#second?.isForDisk === true;
    if (paused || secondPaused) this.#heardMs = nowMs;
    const stalled =
      nowMs - this.#tickedAtMs >
      (this.state.at === "connected" ? STALL_MS.connected : STALL_MS.onTheWay);
    this.#tickedAtMs = nowMs;
    this.#step({
      type: "tick",
      nowMs,
      paused: paused || stalled,
      secondPaused: secondPaused || stalled,
    });
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
    if (this.state.at === "connected") this.#isOneEnough = false;
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

  /** How long the link that brings the payload, or else the stream, has waited for the disk so far, in milliseconds. */
  get pausedMs(): number {
    return (this.#second ?? this.#link)?.pausedMs ?? this.#pausedMs;
  }

  hasRoom(): void {
    this.#pauseOrResume();
  }

  #pauseOrResume(): void {
    const { state } = this;
    const payload = this.#opening || (this.#snapshots?.congested ?? false);
    const stream = this.#streams?.streamCongested ?? false;
    const first = "first" in state ? state.first : undefined;
    if (first === undefined) return this.#link?.pause(payload || stream);
    this.#second?.pause(payload);
    // Until there is a file for it, the stream waits in the socket.
    const isEarly = first.does === "stream" && state.at !== "transfer";
    this.#link?.pause(stream || isEarly, stream);
  }

  #perform(effect: Effect): void {
    switch (effect.do) {
      case "open-link":
        return this.#openLink();
      case "close-link":
        this.#epoch++;
        this.#close("second");
        this.#close("first");
        this.#opening = false;
        return;
      case "close-one":
        return this.#close(effect.link);
      case "send":
        return this.#link?.link.send(effect.bytes);
      case "open-second":
        return this.#openSecond();
      case "send-second":
        return this.#second?.link.send(effect.bytes);
      case "note":
        return this.#events.note(effect.level, effect.message);
      case "weigh":
        return this.#weigh?.(effect.info);
      case "open-snapshot":
        return this.#openSnapshot(effect.grant, effect.form, effect.beside === true);
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
        if (tookTwo(effect.from)) this.#isOneEnough = refusesTwo(effect.error, effect.from);
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
    const mine = (event: () => Event) => {
      if (epoch === this.#epoch) this.#step(event());
    };
    const nowMs = () => this.#clock.monotonicMs();
    const link = new Link(target, this.#tls, {
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
          !paced.isPaused &&
          !this.#events.isAwaited();
        if (mayRest && epoch === this.#epoch) this.#gathering.after(length, link);
      },
      lost: (error) => mine(() => ({ type: "lost", error })),
    });
    const paced = (this.#link = new PacedLink(link, this.#clock));
  }

  #openSecond(): void {
    const epoch = this.#epoch;
    const mine = (event: () => Event) => epoch === this.#epoch && this.#step(event());
    const nowMs = () => this.#clock.monotonicMs();
    const { target, tls } = this.#ofSecond();
    const link = new Link(target, tls, {
      opened: () => void mine(() => ({ type: "second-opened", nowMs: nowMs() })),
      bytes: (bytes) =>
        void mine(() => {
          this.#heardMs = nowMs();
          return { type: "second-bytes", nowMs: this.#heardMs, bytes };
        }),
      lost: (error) => void mine(() => ({ type: "second-lost", error: ofSecondLink(error) })),
    });
    this.#second = new PacedLink(link, this.#clock);
  }

  /** The same server as the first link's: its name may stand for others, too, who know nothing of that link. */
  #ofSecond(): { readonly target: PrimaryTarget; readonly tls: TlsFiles } {
    const target = this.#target!;
    const address = this.#link?.link.peerAddress;
    if (target.kind === "unix" || address === undefined) return { target, tls: this.#tls };
    const serverName = this.#tls.serverName ?? target.host;
    return { target: { ...target, host: address }, tls: { ...this.#tls, serverName } };
  }

  #close(link: "first" | "second"): void {
    const closing = link === "first" ? this.#link : this.#second;
    if (link === "second") this.#second = undefined;
    else this.#link = undefined;
    if (closing !== undefined && (link === "second" || this.#second === undefined))
      this.#pausedMs = closing.pausedMs;
    closing?.link.close();
  }

  #openSnapshot(grant: FullSyncGrant, form: BulkForm, beside: boolean): void {
    const epoch = this.#epoch;
    this.#opening = true;
    this.#snapshots!.open({ primary: this.#target!, grant, form, beside }, this).then(
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
