import type { Clock } from "../../src/base/clock.ts";

/** What a pause between two tries takes at most; a longer sleep guards against silence. */
const LONGEST_PAUSE_MS = 5_000;

/** A clock on which pauses take no time, and what guards against silence ends only when the test says so. */
export class StoreClock implements Clock {
  /** The pauses so far, in milliseconds. */
  readonly pauses: number[] = [];
  /** How far this machine's clock is ahead of the real one. */
  aheadMs = 0;
  #monotonicMs = 0;
  readonly #guards = new Set<() => void>();

  now(): number {
    return Date.now() + this.aheadMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      if (ms <= LONGEST_PAUSE_MS) {
        this.pauses.push(ms);
        // Signatures tell seconds apart.
        this.aheadMs += Math.max(ms, 1_000);
        setImmediate(resolve);
        return;
      }
      const over = () => {
        this.#guards.delete(over);
        resolve();
      };
      this.#guards.add(over);
      signal.addEventListener("abort", over, { once: true });
    });
  }

  /** Lets so much time pass in silence. */
  skip(ms: number): void {
    this.#monotonicMs += ms;
    this.aheadMs += ms;
    for (const over of this.#guards) over();
  }

  random(): number {
    return Math.random();
  }
}
