import type { Transfer } from "./io-choice.ts";

/** Measures how one payload goes to the disk. */
export class Meter {
  readonly #nowMs: () => number;
  readonly #ended: (transfer: Transfer) => void;
  readonly #beganMs: number;
  #waitingSinceMs: number | undefined;
  #waitedMs = 0;
  #isEnding = false;

  /**
   * @param nowMs milliseconds of a monotonic clock.
   * @param ended gets what was measured once all is durable.
   */
  constructor(nowMs: () => number, ended: (transfer: Transfer) => void) {
    this.#nowMs = nowMs;
    this.#ended = ended;
    this.#beganMs = nowMs();
  }

  /** Whether the link waits for the disk from now on. */
  waits(isWaiting: boolean): void {
    if (!this.#isEnding) this.#wait(isWaiting);
  }

  /** All of it has come: what is still to be written and synced is waited for. */
  ending(): void {
    this.#wait(true);
    this.#isEnding = true;
  }

  #wait(isWaiting: boolean): void {
    if (isWaiting === (this.#waitingSinceMs !== undefined)) return;
    const nowMs = this.#nowMs();
    if (this.#waitingSinceMs !== undefined) this.#waitedMs += nowMs - this.#waitingSinceMs;
    this.#waitingSinceMs = isWaiting ? nowMs : undefined;
  }

  /** All of it is durable. */
  end(bytes: number): void {
    this.#wait(false);
    this.#ended({ bytes, ms: this.#nowMs() - this.#beganMs, waitedMs: this.#waitedMs });
  }
}
