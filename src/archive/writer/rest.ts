import type { Clock } from "../../base/clock.ts";
import type { Offset } from "../../base/history.ts";

/** What to wait for where nothing is to be sent. */
export interface Waiting {
  /** Monotonic milliseconds; undefined: no time makes anything due. */
  readonly untilMs: number | undefined;
  /** The settled offset of the current generation from which on there is something to do. */
  readonly offset: Offset;
  /** How often `changed` had been called when the loop looked around. */
  readonly changes: number;
}

/** The longest time-out of a timer, in milliseconds. */
const MAX_SLEEP_MS = 2 ** 31 - 1;

/** Lets a loop rest until there is something to do, and misses nothing that comes before it does. */
export class Rest {
  readonly #clock: Clock;
  #changes = 0;
  #waiting: Waiting | undefined;
  #wake: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How often `changed` has been called. */
  get changes(): number {
    return this.#changes;
  }

  /** Something else is to be looked at. */
  changed(): void {
    this.#changes++;
    this.#wake();
  }

  /** More is settled. */
  moved(settledOffset: Offset): void {
    if (settledOffset >= (this.#waiting?.offset ?? Infinity)) this.#wake();
  }

  /**
   * Resolves once something is to be done, or `signal` aborts.
   * @param settledOffset what is settled now: what came between the look around and here has woken nobody.
   */
  async until(waiting: Waiting, settledOffset: Offset, signal: AbortSignal): Promise<void> {
    const isOver = waiting.changes !== this.#changes || settledOffset >= waiting.offset;
    if (signal.aborted || isOver) return;
    const woken = new AbortController();
    const wake = () => woken.abort();
    this.#waiting = waiting;
    this.#wake = wake;
    signal.addEventListener("abort", wake);
    try {
      const leftMs =
        waiting.untilMs === undefined ? MAX_SLEEP_MS : waiting.untilMs - this.#clock.monotonicMs();
      await this.#clock.sleep(Math.min(MAX_SLEEP_MS, Math.max(0, leftMs)), woken.signal);
    } finally {
      signal.removeEventListener("abort", wake);
      this.#waiting = undefined;
      this.#wake = () => undefined;
    }
  }
}
