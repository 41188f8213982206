/** The wall clock, in milliseconds since 1970. */
export interface WallClock {
  now(): number;
}

/** A clock that goes back by so much was wrong before: marks go back with it. By less, they wait for it. */
export const CLOCK_SET_BACK_MS = 3_600_000;

/** The times of marks: a later one never stands before an earlier one, but where the clock was set back far. */
export class MarkClock {
  readonly #clock: WallClock;
  readonly #onSetBack: (fromMs: number) => void;
  #lastMs = 0;

  /** @param onSetBack called with the last mark's time where the clock stands far before that now. */
  constructor(clock: WallClock, onSetBack: (fromMs: number) => void) {
    this.#clock = clock;
    this.#onSetBack = onSetBack;
  }

  /** Goes on from the last mark of an earlier process. */
  continueFrom(lastMs: number): void {
    this.#lastMs = lastMs;
  }

  /** For a mark that is made now. */
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
