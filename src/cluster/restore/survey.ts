import type { Offset } from "../../base/history.ts";
import { rangesWhere, slotsIn, type SlotRange } from "../slots/slot-ranges.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { type MigrationEvent, migrationEvents } from "../../store/rewrite/migration-events.ts";
import { latenessAt } from "./late-shards.ts";
import { type Arrived, type Finished, NEWS_MS, SETTLE_MS, type ShardNews } from "./owners.ts";
import { offsetIn, type ShardLog, type WholePart } from "./shard-log.ts";

/** A migration into the shard that has begun. */
interface Job {
  readonly ranges: readonly SlotRange[];
}

/**
 * Reads what the log of a shard tells of migrations around a moment.
 * @param cut where the shard's log is cut for that moment.
 * @param sinceMs older news are in the layouts; see `newsTimes`.
 * @throws ReplicaError BAD_FRAME for a damaged log; DISK_FAILED; the signal's reason.
 */
export async function newsOf(
  shard: number,
  log: ShardLog,
  { atMs, cut, sinceMs }: { readonly atMs: number; readonly cut: Offset; readonly sinceMs: number },
  { disk, signal }: { readonly disk: Disk; readonly signal: AbortSignal },
): Promise<ShardNews> {
  const from = log.offsetAt(sinceMs);
  const until = Math.max(cut, log.offsetAt(atMs + SETTLE_MS));
  const lateMs = Math.max(atMs, latenessAt(log, atMs)?.untilMs ?? atMs);
  const lateUntil = Math.max(until, log.offsetAt(lateMs + SETTLE_MS));
  const reader = new NewsReader(log, { from, cut, until, lateUntil });
  // From the beginning on: what ends now may have begun long ago. And farther: a replica that is late hears of ends late.
  const last = Math.max(until, log.offsetAt(lateMs + NEWS_MS));
  for (const part of await log.parts(log.begin, last, { disk, signal })) {
    for await (const event of migrationEvents(part)) reader.take(part, event);
  }
  return { shard, ...reader.news() };
}

/** What lies before is in every layout; arrivals behind the last don't count. */
interface NewsRange {
  readonly from: Offset;
  readonly cut: Offset;
  readonly until: Offset;
  /** Where nothing had come of the shard around the moment, it may have begun a migration before and say so here. */
  readonly lateUntil: Offset;
}

class NewsReader {
  readonly #log: ShardLog;
  readonly #range: NewsRange;
  readonly #jobs = new Map<string, Job>();
  /** Those that began too late to matter. */
  readonly #lateJobs = new Set<string>();
  /** Slots that a failed migration brought. */
  readonly #failed = new Set<number>();
  readonly #finished: Finished[] = [];
  readonly #trimmed: SlotRange[] = [];
  readonly #arrived = new Map<number, Arrived>();

  constructor(log: ShardLog, range: NewsRange) {
    this.#log = log;
    this.#range = range;
  }

  take(part: WholePart, event: MigrationEvent): void {
    const offset = offsetIn(part, event.command.end);
    const { from, cut, until, lateUntil } = this.#range;
    const isNews = offset > from;
    const isLate = offset > until;
    switch (event.kind) {
      case "established":
        if (offset > lateUntil) this.#lateJobs.add(event.job);
        else this.#jobs.set(event.job, { ranges: event.ranges });
        break;
      case "finished": {
        if (this.#lateJobs.delete(event.job)) break;
        const ranges = this.#jobs.get(event.job)?.ranges;
        this.#jobs.delete(event.job);
        if (!isNews) break;
        if (event.ok) this.#finished.push({ ranges, offset, atMs: this.#log.timeOf(offset) });
        else for (const slot of slotsIn(ranges ?? [])) this.#failed.add(slot);
        break;
      }
      case "trimmed":
        if (isNews && offset <= cut) this.#trimmed.push(...event.ranges);
        break;
      case "arrived":
        if (isNews && !isLate) this.#arrive(event.slot, offset);
        break;
      case "setslot":
        break;
    }
  }

  #arrive(slot: number, offset: Offset): void {
    this.#failed.delete(slot);
    const atMs = this.#log.timeOf(offset);
    const firstMs = this.#arrived.get(slot)?.firstMs ?? atMs;
    this.#arrived.set(slot, { firstMs, lastMs: atMs });
  }

  news(): Omit<ShardNews, "shard"> {
    const unfinished = new Set(this.#failed);
    for (const { ranges } of this.#jobs.values()) {
      for (const slot of slotsIn(ranges)) unfinished.add(slot);
    }
    return {
      finished: this.#finished,
      unfinished: rangesWhere((slot) => unfinished.has(slot)),
      // Where the logs are cut isn't settled yet.
      pending: [],
      trimmed: this.#trimmed,
      arrived: this.#arrived,
    };
  }
}
