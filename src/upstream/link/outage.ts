import type { ReplicaError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import { formatAge } from "../../base/quantity.ts";

/** How often an outage that goes on is told: each minute for ten minutes, then each ten minutes. */
const TELL_EVERY_MS = 60_000;
const SELDOM_AFTER_MS = 600_000;
const TELL_SELDOM_EVERY_MS = 600_000;
/** As many different errors of one outage are told at once; more may be one whose text varies. */
const MAX_TOLD_ERRORS = 8;

/**
 * One time without a link, however many attempts it takes: from the break, or the first failed attempt, to the next
 * link that is up; a link that ends at once at the same full disk ends none. It decides what of that is worth a line in
 * the log.
 */
export class Outage {
  /** Attempts that failed since it began; the link that broke is none of them. */
  failedAttempts = 0;
  /** Whether a link that was up in between ended at once for the same reason. */
  isFlapping = false;
  readonly #clock: Clock;
  readonly #sinceMs: number;
  readonly #sinceAtMs: number;
  #toldAtMs = -Infinity;
  readonly #told = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sinceMs = clock.monotonicMs();
    this.#sinceAtMs = clock.now();
  }

  get #lastedMs(): number {
    return this.#clock.monotonicMs() - this.#sinceMs;
  }

  /** Whether an error is the first of its kind in this outage, as far as those are told. */
  isNew(error: ReplicaError): boolean {
    return !this.#told.has(error.message) && this.#told.size < MAX_TOLD_ERRORS;
  }

  /**
   * The line about an attempt that failed just now; undefined where nothing new is to be said. Each error is told when
   * it first comes, and each attempt that cost the primary a fork.
   * @param cause the error with its figures and its likely cause.
   * @param isCostly whether the primary may have forked for it.
   */
  line(error: ReplicaError, cause: string, isCostly: boolean): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    const everyMs = this.#lastedMs < SELDOM_AFTER_MS ? TELL_EVERY_MS : TELL_SELDOM_EVERY_MS;
    const isDue = nowMs - this.#toldAtMs >= everyMs;
    const isNew = this.isNew(error);
    if (!isDue && !isNew && !isCostly) return undefined;
    const isFirst = this.#told.size === 0;
    this.#toldAtMs = nowMs;
    if (isNew) this.#told.add(error.message);
    if (isFirst || !isDue) return cause;
    const since = new Date(this.#sinceAtMs).toISOString();
    return `${cause}; no link since ${since}, ${attempts(this.failedAttempts)} so far`;
  }

  /**
   * What it cost: how long it took, how many attempts, and which resync.
   * @param isFull whether the link that ended it got a full one.
   */
  cost(isFull: boolean): string {
    const seconds = this.#lastedMs / 1000;
    const age = seconds < 60 ? `${seconds.toFixed(1)} s` : formatAge(seconds);
    const kind = isFull ? "full" : "partial";
    return `after ${age} without one: ${attempts(this.failedAttempts)}, then a ${kind} resync`;
  }
}

function attempts(count: number): string {
  return `${count} failed ${count === 1 ? "attempt" : "attempts"}`;
}
