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

/** The room on the disk, as far as the schedule looks at it. */
export interface ScheduledRoom {
  /** The length of the log at which the disk asks for a new snapshot; undefined where none would fit. */
  readonly dueBytes: number | undefined;
  /** Seconds until the disk is full where no snapshot shortens the log; Infinity where there is no such danger. */
  readonly leftSeconds: number;
}

type ScheduleSettings = Pick<
  Settings,
  "snapshotEveryMs" | "snapshotRatio" | "snapshotRatioFromBytes"
>;

/** How many tries there are before the disk is full, at the least. */
const TRIES_LEFT = 10;

/**
 * When a new generation is due: by time (`--snapshot-every`), by size (`--snapshot-ratio`), or because the log takes
 * too much of the disk.
 */
export class RenewalSchedule {
  readonly #clock: Clock;
  readonly #settings: ScheduleSettings;
  /** Consecutive failures, and when the next snapshot may be asked for. */
  #failures = 0;
  #notBeforeMs = 0;
  /** The longest pause after a failure, as far as the disk leaves time for it. */
  #longestPauseMs: number = limits.snapshotRetryMs;
  #ratioNotBeforeMs = 0;
  readonly #spread: number;
  /** Since when this process has seen the generation, and the share of `--snapshot-every` by which it is due earlier. */
  #seen: { readonly id: number; readonly sinceMs: number; readonly early: number } | undefined;

  /** @param spread the largest share of `--snapshot-every` by which a snapshot is due earlier, by chance. */
  constructor(clock: Clock, settings: ScheduleSettings, spread = 0) {
    this.#clock = clock;
    this.#settings = settings;
    this.#spread = spread;
  }

  /**
   * What asks for a new generation now, for the log: a setting, or the disk; undefined where nothing does. Call it
   * once a second, and begin one when it names something.
   */
  next(current: Current, logBytes: number, room: ScheduledRoom): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    const by = this.#due(current, logBytes, room.dueBytes);
    if (by === undefined || nowMs < this.#notBeforeMs) return undefined;
    // Each costs the primary a fork: after failures, ask ever more rarely, as far as the disk leaves time for that.
    const ceilingMs = Math.min(limits.snapshotRetryMs, (room.leftSeconds * 1000) / TRIES_LEFT);
    this.#longestPauseMs = Math.max(ceilingMs, limits.snapshotHurryMs);
    this.#pause(this.#failures + 1);
    return by;
  }

  #pause(failures: number): void {
    const pauseMs = backoffMs(failures, this.#longestPauseMs, () => this.#clock.random());
    this.#notBeforeMs = this.#clock.monotonicMs() + pauseMs;
  }

  #due(
    { id, currentAtMs, rdbBytes }: Current,
    logBytes: number,
    dueBytes = Infinity,
  ): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    if (this.#seen?.id !== id) {
      this.#seen = { id, sinceMs: nowMs, early: this.#spread * this.#clock.random() };
    }
    const { snapshotEveryMs, snapshotRatio, snapshotRatioFromBytes } = this.#settings;
    if (snapshotEveryMs !== undefined) {
      // Where the clock was set back, it may have become current in the future.
      const ageMs = Math.max(this.#clock.now() - currentAtMs, nowMs - this.#seen.sinceMs);
      if (ageMs >= snapshotEveryMs * (1 - this.#seen.early)) return "--snapshot-every";
    }
    if (snapshotRatio === 0) return undefined;
    if (logBytes >= dueBytes) return "the room on the disk";
    if (nowMs < this.#ratioNotBeforeMs) return undefined;
    const isLong = logBytes >= snapshotRatio * rdbBytes && logBytes >= snapshotRatioFromBytes;
    return isLong ? "--snapshot-ratio" : undefined;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#ratioNotBeforeMs = this.#clock.monotonicMs() + limits.snapshotRatioEveryMs;
  }

  /** The pause counts from here: one that took longer than that to fail must not be followed by the next at once. */
  failed(): void {
    this.#failures++;
    this.#pause(this.#failures);
  }
}
