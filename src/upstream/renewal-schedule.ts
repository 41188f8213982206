import { type Settings } from "../config/settings.ts";
import { backoffMs, type Clock } from "../base/clock.ts";
import { limits } from "../config/limits.ts";

/** The generation that is followed, as far as the schedule looks at it. */
interface Current {
  readonly id: number;
  /** When it became current, in milliseconds since 1970. */
  readonly currentAtMs: number;
  readonly rdbBytes: number;
}

/** When a new generation is due by time (`--snapshot-every`) or by size (`--snapshot-ratio`). */
export class RenewalSchedule {
  readonly #clock: Clock;
  readonly #settings: Pick<Settings, "snapshotEveryMs" | "snapshotRatio">;
  /** Consecutive failures, and when the next snapshot may be asked for. */
  #failures = 0;
  #notBeforeMs = 0;
  #ratioNotBeforeMs = 0;
  /** Since when this process has seen the generation. */
  #seen: { readonly id: number; readonly sinceMs: number } | undefined;

  constructor(clock: Clock, settings: Pick<Settings, "snapshotEveryMs" | "snapshotRatio">) {
    this.#clock = clock;
    this.#settings = settings;
  }

  /**
   * The setting that asks for a new generation now, for the log; undefined where none does. Call it once a
   * second, and begin one when it names a setting.
   */
  next(current: Current, logBytes: number): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    const by = this.#due(current, logBytes);
    if (by === undefined || nowMs < this.#notBeforeMs) return undefined;
    // Each costs the primary a fork: after failures, ask ever more rarely.
    const random = () => this.#clock.random();
    this.#notBeforeMs = nowMs + backoffMs(this.#failures + 1, limits.snapshotRetryMs, random);
    return by;
  }

  #due({ id, currentAtMs, rdbBytes }: Current, logBytes: number): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    if (this.#seen?.id !== id) this.#seen = { id, sinceMs: nowMs };
    const { snapshotEveryMs, snapshotRatio } = this.#settings;
    if (snapshotEveryMs !== undefined) {
      // Where the clock was set back, it may have become current in the future.
      const ageMs = Math.max(this.#clock.now() - currentAtMs, nowMs - this.#seen.sinceMs);
      if (ageMs >= snapshotEveryMs) return "--snapshot-every";
    }
    if (snapshotRatio === 0 || nowMs < this.#ratioNotBeforeMs) return undefined;
    const isLong = logBytes >= snapshotRatio * rdbBytes && logBytes >= limits.snapshotRatioBytes;
    return isLong ? "--snapshot-ratio" : undefined;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#ratioNotBeforeMs = this.#clock.monotonicMs() + limits.snapshotRatioEveryMs;
  }

  failed(): void {
    this.#failures++;
  }
}
