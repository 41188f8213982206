import { backoffMs, type Clock } from "../../base/clock.ts";
import type { ErrorCode, ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { counted } from "../../base/quantity.ts";
import type { Failure } from "./archiver-status.ts";

/** The longest pause between two tries: an archive that was away for hours is found again within a minute. */
const MAX_PAUSE_MS = 60_000;

/** Counts what fails, and tells people once when it begins, and once when it is over. */
export class Outage {
  readonly #url: string;
  readonly #clock: Clock;
  readonly #failures = new Map<ErrorCode, number>();
  readonly #tell: (what: string) => void;
  #lastFailure: Failure | undefined;
  #current:
    | {
        readonly sinceMs: number;
        readonly monotonicMs: number;
        failures: number;
        error: ReplicaError;
      }
    | undefined;

  /** @param tell is given what people should know later. */
  constructor(url: string, clock: Clock, tell: (what: string) => void = () => undefined) {
    this.#url = url;
    this.#clock = clock;
    this.#tell = tell;
  }

  /** How often each code has failed since the start. */
  get failures(): ReadonlyMap<ErrorCode, number> {
    return this.#failures;
  }

  /** Why nothing gets through at present; undefined while all is well. */
  get error(): ReplicaError | undefined {
    return this.#current?.error;
  }

  /** Since when that is so, in milliseconds since 1970. */
  get sinceMs(): number | undefined {
    return this.#current?.sinceMs;
  }

  /** The last failure since the start, whether it is over or not. */
  get lastFailure(): Failure | undefined {
    return this.#lastFailure;
  }

  /** Counts a failure that is tried again. Returns how long to wait before, in milliseconds. */
  failed(error: ReplicaError): number {
    this.count(error);
    if (this.#current === undefined) {
      const [sinceMs, monotonicMs] = [this.#clock.now(), this.#clock.monotonicMs()];
      this.#current = { sinceMs, monotonicMs, failures: 0, error };
      const news = `${this.#url} gets nothing at present, and is tried again until it does: ${error.message}`;
      logger.warn(news);
      this.#tell(news);
    } else logger.debug(`${this.#url}: ${error.message}`);
    this.#current.error = error;
    this.#current.failures++;
    return backoffMs(this.#current.failures, MAX_PAUSE_MS, () => this.#clock.random());
  }

  count(error: ReplicaError): void {
    const { code } = error;
    this.#lastFailure = { error, atMs: this.#clock.now() };
    this.#failures.set(code, (this.#failures.get(code) ?? 0) + 1);
  }

  /** What failed was done. */
  succeeded(): void {
    if (this.#current === undefined) return;
    const { monotonicMs, failures } = this.#current;
    this.#current = undefined;
    const seconds = Math.round((this.#clock.monotonicMs() - monotonicMs) / 1000);
    const news = `${this.#url} gets objects again, after ${counted(failures, "failure")} in ${counted(seconds, "second")}`;
    logger.info(news);
    this.#tell(news);
  }
}
