import type { Clock } from "../../base/clock.ts";

const FIRST_MS = 5_000;
const LONGEST_MS = 3_600_000;

/** The pauses between attempts that may cost the primary a fork for nothing: from 5 seconds they double, up to an hour. */
export class Pauses {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #longestMs: number;
  #count = 0;
  #notBeforeMs = -Infinity;

  /** @param longestMs up to which they double, in milliseconds. */
  constructor(clock: Pick<Clock, "monotonicMs">, longestMs = LONGEST_MS) {
    this.#clock = clock;
    this.#longestMs = longestMs;
  }

  /** How many began since the last `reset`. */
  get count(): number {
    return this.#count;
  }

  /** Whether the last one is over; true before the first. */
  get isOver(): boolean {
    return this.#clock.monotonicMs() >= this.#notBeforeMs;
  }

  /** How long the last one is, in milliseconds. */
  get lengthMs(): number {
    return Math.min(this.#longestMs, FIRST_MS * 2 ** Math.min(Math.max(this.#count, 1) - 1, 20));
  }

  /** Begins the next one, twice as long as the last; the first again where that ended an hour ago. */
  begin(): void {
    if (this.#clock.monotonicMs() - this.#notBeforeMs >= LONGEST_MS) this.#count = 0;
    this.#count++;
    this.again();
  }

  /** Begins the last one anew. */
  again(): void {
    this.#notBeforeMs = this.#clock.monotonicMs() + this.lengthMs;
  }

  reset(): void {
    this.#count = 0;
    this.#notBeforeMs = -Infinity;
  }
}
