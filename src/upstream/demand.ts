import type { Clock } from "../base/clock.ts";
import { ReplicaError } from "../base/errors.ts";
import type { Offset } from "../base/history.ts";
import { logger } from "../base/logger.ts";
import { limits } from "../config/limits.ts";
import type { Settings } from "../config/settings.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import type { StreamLog } from "../store/generation/stream-log.ts";
import type { Renewal } from "./renewal.ts";
import { LEAST_LOG_BY_DISK } from "./room/figures.ts";
import { Pauses } from "./room/pauses.ts";

export interface DemandOptions {
  readonly directory: Pick<DataDirectory, "current">;
  readonly clock: Pick<Clock, "monotonicMs" | "sleep">;
  readonly settings: Pick<Settings, "snapshotRatio">;
  readonly keeper: { readonly log: Pick<StreamLog, "writtenOffset"> | undefined };
  readonly renewal: Pick<Renewal, "begin" | "counts" | "ended" | "failure" | "runningSeconds">;
}

/**
 * Renewals for downstreams that keep a log of their own: what shortens it is a newer snapshot than the one that they
 * have, and this replica is where it comes from. No downstream can make the primary fork at will. It gets what is
 * there where that halves its log; and one is taken only where the log behind the current snapshot is worth it, one at
 * a time, for all that wait, with a pause behind each. Where one failed, the pauses double up to 5 minutes.
 */
export class Demand {
  readonly #options: DemandOptions;
  readonly #failures: Pauses;
  readonly #stopping = new AbortController();
  #renewing: Promise<void> | undefined;
  #notBeforeMs = 0;
  /** Why none could be taken, as it was logged. */
  #told = "";

  constructor(options: DemandOptions) {
    this.#options = options;
    this.#failures = new Pauses(options.clock, limits.snapshotRetryMs);
  }

  /**
   * A downstream wants a snapshot that is newer than `offset`.
   * @param by its name, for the log.
   * @returns undefined where it gets the one that is current; else resolves once a new one is, or none could be taken.
   */
  ask(offset: Offset, by: string): Promise<void> | undefined {
    const { directory, keeper, settings } = this.#options;
    const { current } = directory;
    const { log } = keeper;
    if (current === undefined || log === undefined) return undefined;
    const logBytes = log.writtenOffset - current.baseOffset;
    // Taken by many in turn, it spares the primary a fork for each.
    const savedBytes = current.baseOffset - offset;
    if (savedBytes > 0 && savedBytes >= logBytes) return undefined;
    if (settings.snapshotRatio === 0) return undefined;
    const leastBytes = Math.max(limits.snapshotRatioBytes, LEAST_LOG_BY_DISK * current.rdbBytes);
    if (logBytes < leastBytes) return undefined;
    if (this.#renewing === undefined && !this.#failures.isOver) return undefined;
    this.#renewing ??= this.#renew(by).finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #renew(by: string): Promise<void> {
    const { clock, renewal, directory } = this.#options;
    const { signal } = this.#stopping;
    const before = directory.current?.id;
    const isRenewed = () => directory.current?.id !== before;
    try {
      if (renewal.runningSeconds === undefined)
        await clock.sleep(Math.max(0, this.#notBeforeMs - clock.monotonicMs()), signal);
      if (signal.aborted || isRenewed()) return;
      const { failed } = renewal.counts;
      // One that is under way does as well.
      if (renewal.runningSeconds === undefined) renewal.begin(`downstream ${by}`);
      await renewal.ended;
      if (isRenewed()) this.#succeed();
      // One that was given up is told as that.
      else if (renewal.counts.failed > failed) this.#fail(renewal.failure ?? "the new one failed");
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      // The primary was asked for nothing: no pause is due.
      this.#tell(error.message);
    } finally {
      this.#notBeforeMs = clock.monotonicMs() + limits.snapshotHurryMs;
    }
  }

  #succeed(): void {
    this.#failures.reset();
    this.#told = "";
  }

  #fail(why: string): void {
    this.#failures.begin();
    const seconds = this.#failures.lengthMs / 1000;
    this.#tell(`${why}; none is taken for a downstream within ${seconds} s`);
  }

  #tell(why: string): void {
    if (why === this.#told) return;
    this.#told = why;
    logger.warn(`downstreams get no newer snapshot than the current one: ${why}`);
  }

  /** Nothing more is begun; resolves once nothing is waited for. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#renewing;
  }
}
