import type { Clock } from "../../base/clock.ts";

/** Ends a request that makes no progress: neither connects nor sends nor receives for a while. */
export class Watchdog {
  /** Aborts on silence, and with the caller's own signal. */
  readonly signal: AbortSignal;
  readonly #clock: Clock;
  readonly #silenceMs: number;
  readonly #hung = new AbortController();
  readonly #over = new AbortController();
  #lastMs: number;

  /** @param silenceMs how long it may be silent, in milliseconds. */
  constructor(clock: Clock, silenceMs: number, signal: AbortSignal) {
    this.#clock = clock;
    this.#silenceMs = silenceMs;
    this.#lastMs = clock.monotonicMs();
    this.signal = AbortSignal.any([signal, this.#hung.signal]);
    void this.#watch();
  }

  /** Whether it was the silence that ended the request. */
  get isHung(): boolean {
    return this.#hung.signal.aborted;
  }

  /** Something moved. */
  feed(): void {
    this.#lastMs = this.#clock.monotonicMs();
  }

  /** Call it exactly once, when the request is over. */
  end(): void {
    this.#over.abort();
  }

  async #watch(): Promise<void> {
    while (!this.#over.signal.aborted) {
      const leftMs = this.#lastMs + this.#silenceMs - this.#clock.monotonicMs();
      if (leftMs <= 0) return this.#hung.abort(new Error("it made no progress"));
      await this.#clock.sleep(leftMs, this.#over.signal);
    }
  }
}
