/** How many wrong passwords one address may send within WINDOW_MS. */
const MAX_FAILURES = 10;
const WINDOW_MS = 10_000;
/** How many addresses are remembered. An attacker with more of them is beyond the reach of a throttle. */
const MAX_ADDRESSES = 1_000;

/** Slows down guessing: after ten wrong passwords from an address in ten seconds, each further one is refused. */
export class LoginThrottle {
  readonly #failures = new Map<string, { count: number; sinceMs: number }>();

  /** Whether this host may send another wrong password now. */
  allows(host: string, nowMs: number): boolean {
    const seen = this.#failures.get(host);
    if (seen === undefined) return true;
    if (Math.abs(nowMs - seen.sinceMs) >= WINDOW_MS) {
      this.#failures.delete(host);
      return true;
    }
    return seen.count < MAX_FAILURES;
  }

  /** Counts a wrong password. Returns whether it was the last one that is allowed. */
  failed(host: string, nowMs: number): boolean {
    const seen = this.#failures.get(host);
    if (seen !== undefined) return ++seen.count === MAX_FAILURES;
    // A Map keeps its order: the first key is the oldest.
    const [oldest] = this.#failures.keys();
    if (this.#failures.size >= MAX_ADDRESSES && oldest !== undefined) this.#failures.delete(oldest);
    this.#failures.set(host, { count: 1, sinceMs: nowMs });
    return false;
  }
}
