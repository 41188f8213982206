import { logger } from "../../base/logger.ts";

/** The wall clock, in milliseconds since 1970. */
export interface WallClock {
  now(): number;
}

/** A clock set back by this much was wrong before, and marks go back with it. By less, they wait for it. */
export const CLOCK_SET_BACK_MS = 3_600_000;

/** The times of marks, and of what looks at a cluster find: they never go back, unless the clock was set back far. */
export class MarkClock {
  readonly #clock: WallClock;
  readonly #onSetBack: (what: string) => void;
  #lastMs = 0;

  /** @param onSetBack records, for people who look later, that the clock is far behind the last mark. */
  constructor(clock: WallClock, onSetBack: (what: string) => void) {
    this.#clock = clock;
    this.#onSetBack = onSetBack;
  }

  /** Continues from the last mark of an earlier process. */
  continueFrom(lastMs: number): void {
    this.#lastMs = lastMs;
  }

  /** The time for a mark made now. */
  now(): number {
    return this.at(this.#clock.now());
  }

  /** The time for what was seen at a time of the wall clock, in milliseconds since 1970. */
  at(now: number): number {
    if (now < this.#lastMs - CLOCK_SET_BACK_MS) {
      const what = `the clock was set back from ${new Date(this.#lastMs).toISOString()}: from here on, restores by time use the new time`;
      logger.warn(what);
      this.#onSetBack(what);
      this.#lastMs = now;
    }
    this.#lastMs = Math.max(this.#lastMs, now);
    return this.#lastMs;
  }
}
