import { backoffMs, type Clock } from "../../base/clock.ts";
import type { ErrorCode, ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { counted } from "../../base/quantity.ts";

/** The longest pause between two tries: an archive that was away for hours is found again within a minute. */
const MAX_PAUSE_MS = 60_000;

/** Counts what fails, and tells people once when it begins, and once when it is over. */
export class Outage {
  readonly #url: string;
  readonly #clock: Clock;
  readonly #failures = new Map<ErrorCode, number>();
  #current: { readonly sinceMs: number; failures: number; error: ReplicaError } | undefined;

  constructor(url: string, clock: Clock) {
    this.#url = url;
    this.#clock = clock;
  }

  /** How often each code has failed since the start. */
  get failures(): ReadonlyMap<ErrorCode, number> {
    return this.#failures;
  }

  /** Why nothing gets through at present; undefined while all is well. */
  get error(): ReplicaError | undefined {
    return this.#current?.error;
  }

  /** Counts a failure that is tried again. Returns how long to wait before, in milliseconds. */
  failed(error: ReplicaError): number {
    this.count(error.code);
    if (this.#current === undefined) {
      this.#current = { sinceMs: this.#clock.monotonicMs(), failures: 0, error };
      logger.warn(
        `${this.#url} gets nothing at present, and is tried again until it does: ${error.message}`,
      );
    } else logger.debug(`${this.#url}: ${error.message}`);
    this.#current.error = error;
    this.#current.failures++;
    return backoffMs(this.#current.failures, MAX_PAUSE_MS, () => this.#clock.random());
  }

  count(code: ErrorCode): void {
    this.#failures.set(code, (this.#failures.get(code) ?? 0) + 1);
  }

  /** An object got through. */
  succeeded(): void {
    if (this.#current === undefined) return;
    const { sinceMs, failures } = this.#current;
    this.#current = undefined;
    const seconds = Math.round((this.#clock.monotonicMs() - sinceMs) / 1000);
    logger.info(
      `${this.#url} gets objects again, after ${counted(failures, "failure")} in ${counted(seconds, "second")}`,
    );
  }
}
