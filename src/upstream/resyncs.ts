import type { Clock } from "../base/clock.ts";
import type { Position } from "../base/history.ts";
import { describeTarget, type PrimaryTarget } from "../config/primary-url.ts";
import { logger } from "../base/logger.ts";
import type { Settings } from "../config/settings.ts";
import { formatBytes } from "../base/quantity.ts";
import type { FullSyncGrant, State } from "../session/state.ts";
import type { DataDirectory } from "../store/generation/data-directory.ts";
import { readHeader } from "../store/generation/snapshot-keys.ts";
import { describeFullResync, type FullReason, whyFull } from "./link/full-reason.ts";
import { type AskInfo, OtherHistory } from "./history/other-history.ts";
import { warnOfForm } from "./rdb-for.ts";

/** What the attempts to follow asked for, and which resyncs they were granted. */
export class Resyncs {
  /** How many of each were granted since the start. */
  full = 0;
  partial = 0;
  /** The full ones, by why the primary insisted on them. */
  readonly fullBy = new Map<FullReason, number>();
  readonly #clock: Clock;
  readonly #settings: Pick<Settings, "rdbFor">;
  readonly #directory: DataDirectory;
  readonly #others: OtherHistory;
  #asked: Position | undefined;
  #target: PrimaryTarget | undefined;
  #isForRoom = false;
  #isFull = false;
  /** When the full resync was granted of which nothing has come yet, by a monotonic clock. */
  #grantedMs: number | undefined;
  #transferBeganMs = 0;

  constructor(
    clock: Clock,
    directory: DataDirectory,
    ask: AskInfo,
    settings: Pick<Settings, "rdbFor">,
  ) {
    this.#clock = clock;
    this.#settings = settings;
    this.#directory = directory;
    this.#others = new OtherHistory(directory, clock, ask);
  }

  /** The last time since the start that the history of quite another primary came. */
  get lastOther(): OtherHistory["last"] {
    return this.#others.last;
  }

  /**
   * Call before an attempt with `target` begins.
   * @param asked what it asks to resume from, or could.
   * @param isForRoom whether it asks for a full resync all the same, since the log fills the disk.
   */
  begin(asked: Position | undefined, target: PrimaryTarget, isForRoom = false): void {
    this.#asked = asked;
    this.#isForRoom = isForRoom;
    this.#target = target;
    this.#isFull = false;
  }

  /** The full resync that the attempt under way was granted, in one line: why the primary insists on it. */
  describe(grant: FullSyncGrant): string {
    const what = describeFullResync(this.#asked, grant, this.#isForRoom);
    const before = this.#directory.holdings.primaryName;
    const now = this.#target && describeTarget(this.#target);
    const [kind] = whyFull(this.#asked, grant, this.#isForRoom);
    if (kind !== "other-history" || before === undefined || now === undefined || before === now)
      return what;
    return `${what}; what is kept came from ${before}, this comes from ${now}`;
  }

  /** Whether the attempt under way got a full resync. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** How long the primary has been preparing the full resync that it granted; undefined while it isn't. */
  get preparingSeconds(): number | undefined {
    if (this.#grantedMs === undefined) return undefined;
    return (this.#clock.monotonicMs() - this.#grantedMs) / 1000;
  }

  /**
   * The session is in another state.
   * @param isFlapping whether the last link ended at once, so that the next one is no news.
   */
  moved(state: State, isFlapping: boolean): void {
    this.#grantedMs = state.at === "receive-bulk-header" ? this.#clock.monotonicMs() : undefined;
    if (state.at === "receive-bulk-header") this.#onFull(state);
    if (state.at === "transfer") this.#transferBeganMs = this.#clock.monotonicMs();
    if (state.at === "connected") this.#onConnected(state, isFlapping);
  }

  #onFull({ grant }: Extract<State, { at: "receive-bulk-header" }>): void {
    this.#isFull = true;
    this.full++;
    const [kind] = whyFull(this.#asked, grant, this.#isForRoom);
    this.fullBy.set(kind, (this.fullBy.get(kind) ?? 0) + 1);
    const what = this.describe(grant);
    logger.info(`${what}; the primary is preparing the snapshot (fork)`);
    this.#directory.note("full-resync", what.replace(/^full resync /, ""));
    if (kind !== "other-history" || grant.by !== "psync") return;
    void this.#others.look(this.#asked!, this.#target!, grant.position.replid);
  }

  #onConnected({ receivedOffset }: Extract<State, { at: "connected" }>, isFlapping: boolean): void {
    if (!this.#isFull) {
      this.partial++;
      this.#directory.holdings.followedFrom(describeTarget(this.#target!));
      logger[isFlapping ? "debug" : "info"](
        `connected by partial resync at offset ${receivedOffset}`,
      );
      if (isFlapping) return;
      return this.#directory.note("partial-resync", `at offset ${receivedOffset}`);
    }
    const { current } = this.#directory;
    const bytes = current?.rdbBytes ?? 0;
    const seconds = (this.#clock.monotonicMs() - this.#transferBeganMs) / 1000;
    const rate = formatBytes(bytes / Math.max(seconds, 0.001));
    logger.info(
      `connected by full resync: ${formatBytes(bytes)} in ${seconds.toFixed(2)} s, ${rate}/s, at offset ${receivedOffset}`,
      { generation: current?.id, bytes, seconds: Number(seconds.toFixed(3)) },
    );
    const header = current && readHeader(this.#directory.basePath(current.id));
    if (header !== undefined) warnOfForm(header, this.#settings);
  }
}
