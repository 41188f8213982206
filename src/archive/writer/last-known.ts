import type { Clock } from "../../base/clock.ts";

/**
 * After so long without an object that got through, the archive is looked at anew: who removes what crashed writers left
 * behind waits for more than a day.
 */
const LOOK_ANEW_AFTER_MS = 6 * 3_600_000;

/** When it was last known what the archive holds. A machine that slept shows it by the time of day only. */
export class LastKnown {
  readonly #clock: Clock;
  #at = { nowMs: 0, monotonicMs: 0 };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  isNow(): void {
    this.#at = { nowMs: this.#clock.now(), monotonicMs: this.#clock.monotonicMs() };
  }

  /** Whether what is known may be wrong by now. */
  get isLongAgo(): boolean {
    const { nowMs, monotonicMs } = this.#at;
    const passedMs = Math.max(this.#clock.now() - nowMs, this.#clock.monotonicMs() - monotonicMs);
    return passedMs >= LOOK_ANEW_AFTER_MS;
  }
}
