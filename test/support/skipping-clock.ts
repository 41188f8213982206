import { type Clock, realClock } from "../../src/base/clock.ts";

/** A machine on which time can pass at once, by both clocks. */
export class SkippingClock implements Clock {
  #skippedMs = 0;
  now = () => realClock.now() + this.#skippedMs;
  monotonicMs = () => realClock.monotonicMs() + this.#skippedMs;
  /** Lets so many milliseconds pass, by both clocks. */
  skip(ms: number): void {
    this.#skippedMs += ms;
  }
  sleep = (ms: number, signal: AbortSignal) => realClock.sleep(ms, signal);
  random = () => realClock.random();
}
