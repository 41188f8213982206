/** Wrong passwords of one address within WINDOW_MS after which the next ones are cut off. */
const MAX_FAILURES = 10;
const WINDOW_MS = 10_000;
/** Addresses that are remembered; whoever has more of them has more than a password to guess. */
const MAX_ADDRESSES = 1_000;

/** Slows down who guesses passwords: ten wrong ones of an address in ten seconds, then each costs the link. */
export class LoginThrottle {
  readonly #failures = new Map<string, { count: number; sinceMs: number }>();

  /** Whether another wrong password of this host is borne now. */
  allows(host: string, nowMs: number): boolean {
    const seen = this.#failures.get(host);
    if (seen === undefined) return true;
    if (Math.abs(nowMs - seen.sinceMs) >= WINDOW_MS) {
      this.#failures.delete(host);
      return true;
    }
    return seen.count < MAX_FAILURES;
  }

  /** Counts a wrong password; whether it was the last one that is borne. */
  failed(host: string, nowMs: number): boolean {
    const seen = this.#failures.get(host);
    if (seen !== undefined) return ++seen.count === MAX_FAILURES;
    // The oldest goes first: a Map keeps the order in which they came.
    const [oldest] = this.#failures.keys();
    if (this.#failures.size >= MAX_ADDRESSES && oldest !== undefined) this.#failures.delete(oldest);
    this.#failures.set(host, { count: 1, sinceMs: nowMs });
    return false;
  }
}
