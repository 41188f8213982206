/** The wall clock, in milliseconds since 1970. */
export interface WallClock {
  now(): number;
}

/** A clock set back by this much was wrong before, and marks go back with it. By less, they wait for it. */
export const CLOCK_SET_BACK_MS = 3_600_000;

/** The times of marks: they never go back, unless the clock was set back far. */
export class MarkClock {
  readonly #clock: WallClock;
  readonly #onSetBack: (fromMs: number) => void;
  #lastMs = 0;

  /** @param onSetBack called with the last mark's time once the clock is far behind it. */
  constructor(clock: WallClock, onSetBack: (fromMs: number) => void) {
    this.#clock = clock;
    this.#onSetBack = onSetBack;
  }

  /** Continues from the last mark of an earlier process. */
  continueFrom(lastMs: number): void {
    this.#lastMs = lastMs;
  }

  /** The time for a mark made now. */
  now(): number {
    const now = this.#clock.now();
    if (now < this.#lastMs - CLOCK_SET_BACK_MS) {
      this.#onSetBack(this.#lastMs);
      this.#lastMs = now;
    }
    this.#lastMs = Math.max(this.#lastMs, now);
    return this.#lastMs;
  }
}
