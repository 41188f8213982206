import { logger } from "../../base/logger.ts";
import { type ErrorCode, type ReplicaError, withCause } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import type { State } from "../../session/state.ts";
import { Outage } from "./outage.ts";
import { Breaks, costlyPhase, describeFigures } from "./breaks.ts";
import type { CostlyBreak } from "./causes.ts";
import { backoffMs, type Clock } from "../../base/clock.ts";

/** A link that held this long was a good one: its break begins a new count. */
const STEADY_MS = 10_000;

/** Why an attempt ended, or what failed between two attempts. */
export interface Break {
  readonly error: ReplicaError;
  /** Milliseconds since 1970. */
  readonly atMs: number;
  /** The figures of a resync that broke, and what they say; empty where the break cost the primary nothing. */
  readonly cause: string;
}

/** How an attempt ended. */
export interface EndedAttempt {
  /** The state in which it was broken off. */
  readonly from: State;
  /** Whether it got a full resync. */
  readonly isFull: boolean;
  /** How long its link had been paused, in milliseconds. */
  readonly pausedMs: number;
}

/** The history of the links so far: how long each held, why it broke, and how long to wait before the next. */
export class LinkHistory {
  /** Outages by the code of their first error. */
  readonly counts = new Map<string, number>();
  /** Attempts that ended in an error before their link was up, or at once at the same full disk, by its code. */
  readonly failedAttempts = new Map<string, number>();
  /** Called with each state that the session goes to. */
  onMoved: (state: State) => void = () => undefined;
  /** The one that goes on; undefined while the link is up, and before anything failed. */
  #outage: Outage | undefined;
  /** The one before the link that is up, or was last; it goes on where that ends at once at the same full disk. */
  #before: { readonly outage: Outage; readonly code: ErrorCode; isTold: boolean } | undefined;
  readonly #clock: Clock;
  readonly #breaks = new Breaks();
  #failures = 0;
  #last: Break | undefined;
  /** The break that is still to be explained. */
  #unexplained: CostlyBreak | undefined;
  #isConnected = false;
  /** When the attempt under way connected; undefined before that. */
  #connectedAtMs: number | undefined;
  /** When the link went down; undefined while it is up, and before it first was. */
  #downSinceMs: number | undefined;
  /** The same by the wall clock. */
  #downAtMs: number | undefined;
  /** Since when this attempt's link is in its state, and how long it had been paused by then. */
  #reached: { readonly sinceMs: number; readonly pausedMs: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The last thing that went wrong; it stays when all is well again. */
  get last(): Break | undefined {
    return this.#last;
  }

  /** Why the last attempt ended, with its figures and what they say; empty before the first one did. */
  get lastCause(): string {
    const { error, cause = "" } = this.#last ?? {};
    return withCause(error?.message ?? "", cause);
  }

  /** What went wrong last in the outage that goes on; undefined while there is none. */
  get trouble(): ReplicaError | undefined {
    return this.#outage === undefined ? undefined : this.#last?.error;
  }

  /** The break of the last attempt that the primary is to be asked about; undefined where there is none. */
  get unexplained(): CostlyBreak | undefined {
    return this.#unexplained;
  }

  /** Adds to the last failure what was found out about it. */
  explain(text: string): void {
    this.#unexplained = undefined;
    if (this.#last === undefined || text === "") return;
    const { cause } = this.#last;
    this.#last = { ...this.#last, cause: cause === "" ? text : `${cause}; ${text}` };
  }

  /** What to log about the attempt that failed just now: only for debugging, where it says nothing new. */
  takeNews(): { readonly level: "warn" | "debug"; readonly text: string } {
    const { error, cause } = this.#last ?? {};
    const news = error && this.#outage?.line(error, this.lastCause, cause !== "");
    return news === undefined
      ? { level: "debug", text: this.lastCause }
      : { level: "warn", text: news };
  }

  /**
   * The outage that the link which is up now has ended; undefined where there was none, or it was asked before. One
   * that came back before has ended once the link has held for a while.
   */
  ended(): Outage | undefined {
    if (!this.#isConnected) return undefined;
    const code = this.#last?.error.code;
    if (this.#outage !== undefined && code !== undefined)
      this.#before = { outage: this.#outage, code, isTold: false };
    this.#outage = undefined;
    const before = this.#before;
    if (before === undefined || before.isTold) return undefined;
    if (before.outage.isFlapping && this.#heldMs <= STEADY_MS) return undefined;
    before.isTold = true;
    return before.outage;
  }

  /** Logs what the outage cost that `ended` gives. @param isFull whether the link got a full resync. */
  tellEnded(isFull: boolean): void {
    const outage = this.ended();
    if (outage !== undefined) logger.info(`link up ${outage.cost(isFull)}`);
  }

  /** Whether the link that is up, or was last, came up in an outage that had come back before. */
  get isFlapping(): boolean {
    return (this.#outage ?? this.#before?.outage)?.isFlapping === true;
  }

  /** How long the link has been up, in milliseconds; -Infinity while it isn't. */
  get #heldMs(): number {
    return this.#clock.monotonicMs() - (this.#connectedAtMs ?? Infinity);
  }

  /** Seconds since the link was last up; undefined while it is up, and before it first was. */
  get downSeconds(): number | undefined {
    const sinceMs = this.#downSinceMs;
    return sinceMs === undefined
      ? undefined
      : Math.floor((this.#clock.monotonicMs() - sinceMs) / 1000);
  }

  /** When the link went down, in milliseconds since 1970; undefined while it is up, and before it first was. */
  get downAtMs(): number | undefined {
    return this.#downAtMs;
  }

  /**
   * The session is in another state.
   * @param pausedMs how long the link has been paused so far, in milliseconds.
   */
  moved(state: State, pausedMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    if (state.at !== "none" && state.at !== "connect" && state.at !== "connecting") {
      this.#reached = { sinceMs: nowMs, pausedMs };
    }
    if (state.at === "connected") {
      this.#connectedAtMs = nowMs;
      this.#downSinceMs = undefined;
      this.#downAtMs = undefined;
    } else if (this.#isConnected) {
      this.#downSinceMs = nowMs;
      this.#downAtMs = this.#clock.now();
    }
    this.#isConnected = state.at === "connected";
    this.onMoved(state);
  }

  /**
   * An attempt ended.
   * @returns whether it had been connected, and whether its error is neither the last one nor one that this outage has
   * told.
   */
  failed(error: ReplicaError, ended: EndedAttempt): { wasConnected: boolean; isAnother: boolean } {
    const wasConnected = this.#connectedAtMs !== undefined;
    const held = this.#heldMs > STEADY_MS;
    if (held) {
      this.#failures = 0;
      this.#reached = undefined;
    }
    this.#connectedAtMs = undefined;
    this.#failures++;
    if (wasConnected && !held) this.#goOn(error);
    if (this.#outage === undefined) {
      this.#outage = new Outage(this.#clock);
      add(this.counts, error.code);
    }
    if (!wasConnected) {
      this.#outage.failedAttempts++;
      add(this.failedAttempts, error.code);
    }
    const isLast = error.message === this.#last?.error.message;
    const isAnother = !isLast && this.#outage.isNew(error);
    this.#unexplained = undefined;
    this.note(error, this.#blame(error, ended));
    this.#reached = undefined;
    return { wasConnected, isAnother };
  }

  /** A link ended at once. At a full disk it ends each time: that is one outage, however often it comes up. */
  #goOn(error: ReplicaError): void {
    if (error.code !== "DISK_FULL" || this.#before?.code !== error.code) return;
    const { outage } = this.#before;
    outage.isFlapping = true;
    outage.failedAttempts++;
    add(this.failedAttempts, error.code);
    this.#outage = outage;
  }

  /** Something failed while there was no link that could break. */
  note(error: ReplicaError, cause = ""): void {
    this.#last = { error, atMs: this.#clock.now(), cause };
  }

  /** Counts a break of a resync that cost the primary a fork, and returns its figures. */
  #blame(error: ReplicaError, { from, isFull, pausedMs }: EndedAttempt): string {
    const reached = this.#reached;
    const phase = reached === undefined ? undefined : costlyPhase(error, from, isFull);
    if (reached === undefined || phase === undefined) {
      // It cost the primary nothing: the next costly break begins a new count.
      this.#breaks.clear();
      return "";
    }
    this.#breaks.add(phase);
    // An established link may break once for any reason.
    if (phase === "connected" && this.#breaks.count === 1) return "";
    const seen = {
      offset: offsetOf(from),
      transfer: from.at === "transfer" ? from : undefined,
      seconds: (this.#clock.monotonicMs() - reached.sinceMs) / 1000,
      pausedSeconds: (pausedMs - reached.pausedMs) / 1000,
    };
    this.#unexplained = { phase, error, seen };
    const times = this.#breaks.count > 1 ? `; ${this.#breaks.count} times in a row` : "";
    // In parentheses: "make room after 0.0 s" would read as other advice.
    const figures = describeFigures(seen);
    const isOwn = error.code !== "TIMED_OUT" && error.code !== "LINK_LOST";
    return `${isOwn ? `(${figures})` : figures}${times}`;
  }

  /** Starts afresh: another primary is followed. */
  forget(): void {
    this.#failures = 0;
    this.#outage = undefined;
    this.#before = undefined;
    this.#unexplained = undefined;
    this.#breaks.clear();
  }

  /** How long to wait before the next attempt: at most `ceilingMs`, except in a storm of costly breaks. */
  waitMs(ceilingMs: number): number {
    return backoffMs(this.#failures, ceilingMs * this.#breaks.factor, () => this.#clock.random());
  }
}

/** The last byte of the stream that came by then, or that the snapshot covers. */
function offsetOf(state: State): Offset | undefined {
  if (state.at === "connected") return state.receivedOffset;
  if (state.at !== "receive-bulk-header" && state.at !== "transfer") return undefined;
  if (state.grant.by !== "psync") return undefined;
  const streamedBytes = state.first?.does === "stream" ? state.first.streamedBytes : 0;
  return state.grant.position.offset + streamedBytes;
}

function add(counts: Map<string, number>, code: string): void {
  counts.set(code, (counts.get(code) ?? 0) + 1);
}
