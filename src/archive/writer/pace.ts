import type { Clock } from "../../base/clock.ts";

/** Holds objects back so that they take so many bytes a second at most, on average. */
export class Pace {
  readonly #bytesPerSecond: number | undefined;
  readonly #clock: Clock;
  /** When the objects before have used up their time; monotonic milliseconds. */
  #freeAtMs = 0;

  /** @param bytesPerSecond undefined: nothing is held back. */
  constructor(bytesPerSecond: number | undefined, clock: Clock) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** Resolves when an object of this size may be sent, or `signal` aborts. */
  async admit(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === undefined) return;
    for (;;) {
      const nowMs = this.#clock.monotonicMs();
      const leftMs = this.#freeAtMs - nowMs;
      if (leftMs <= 0 || signal.aborted) {
        this.#freeAtMs = nowMs + (bytes / this.#bytesPerSecond) * 1000;
        return;
      }
      await this.#clock.sleep(leftMs, signal);
    }
  }
}
