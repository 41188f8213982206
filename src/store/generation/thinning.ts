import { logger } from "../../base/logger.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { WallClock } from "./mark-clock.ts";

/** How long to rest after all marks were looked at: marks grow old slowly. */
const REST_MS = 600_000;

/** How many transactions one call makes: ten million marks of an older version are done within an hour. */
const STEPS_AT_ONCE = 8;

const WEEK_MS = 7 * 86_400_000;

/**
 * Thins out the marks of all generations as they grow old, a few at a time. What is done stays done, so a start
 * begins anew and passes over it.
 */
export class Thinning {
  readonly #ledger: Ledger;
  readonly #clock: WallClock;
  readonly #borneOutMs: number;
  /** Both clocks at the start: the wall clock may jump ahead, and marks don't grow old by that. */
  #began: { readonly wallMs: number; readonly monotonicMs: number } | undefined;
  /** The generation that is looked at, and the row to go on after; undefined between two rounds. */
  #at: { readonly generation: number; readonly after: number } | undefined;
  #restUntilMs = -Infinity;
  #failure = "";

  /** @param borneOutMs see `Keeping.borneOutMs`. */
  constructor(ledger: Ledger, clock: WallClock, borneOutMs: number) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#borneOutMs = borneOutMs;
  }

  /** Whether a round has begun and not yet looked at all marks. */
  get isUnderWay(): boolean {
    return this.#at !== undefined;
  }

  /**
   * Once a second: looks at some marks, for some ten milliseconds; not while the database's log is moved and cut, because
   * each change would end that. A failure is logged, and the next call tries again.
   */
  tick(monotonicMs: number): void {
    this.#began ??= { wallMs: this.#clock.now(), monotonicMs };
    const passedMs = monotonicMs - this.#began.monotonicMs;
    // Behind a week all marks are equally old: from then on the clock's time at the start makes no difference to
    // those from before it, and is right for those since.
    const beganMs = passedMs < WEEK_MS ? this.#borneOutMs : this.#began.wallMs;
    const nowMs = Math.min(this.#clock.now(), beganMs + passedMs);
    if (this.#at === undefined && monotonicMs < this.#restUntilMs) return;
    if (this.#ledger.checkpointing !== undefined) return;
    try {
      for (let step = 0; step === 0 || (this.isUnderWay && step < STEPS_AT_ONCE); step++)
        this.#step(nowMs);
      if (this.#at === undefined) this.#restUntilMs = monotonicMs + REST_MS;
      this.#failure = "";
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (message !== this.#failure) logger.warn(message);
      this.#failure = message;
    }
  }

  #step(nowMs: number): void {
    const ids = this.#ledger.whole().map(({ id }) => id);
    const { generation, after } = this.#at ?? { generation: ids.at(-1), after: 0 };
    if (generation === undefined) return;
    const next = ids.includes(generation)
      ? this.#ledger.thinMarks(generation, after, nowMs)
      : undefined;
    if (next !== undefined) {
      this.#at = { generation, after: next };
      return;
    }
    const younger = ids.findLast((id) => id > generation);
    this.#at = younger === undefined ? undefined : { generation: younger, after: 0 };
  }
}
