import { invariant, ReplicaError, usageError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { counted } from "../../base/quantity.ts";
import type { Disk } from "../../store/disk/disk.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import { type RestorePoint, restorePoint } from "../../store/restore/restore-point.ts";
import { countSlots, rangesWhere, type SlotRange } from "../slots/slot-ranges.ts";
import { appendixOf, type Borrowed, type Owner, type Told } from "./appendix.ts";
import type { OpenSlot } from "../ledger/layouts.ts";
import type { Arrival } from "./arrivals.ts";
import { agreeingCuts, countedNews } from "./cuts.ts";
import { bringLate, lateArrivals, lateNotes, lateSinceMs } from "./late-shards.ts";
import { movingSlots } from "./moving-slots.ts";
import { leavingSource, reachingTarget } from "./open-slots.ts";
import {
  type LayoutHistory,
  LOOK_MS,
  newsTimes,
  type Owners,
  ownersAt,
  ownersIn,
  SETTLE_MS,
  type ShardNews,
  slotsOf,
} from "./owners.ts";
import { type Cut, ShardLog } from "./shard-log.ts";
import {
  lastMoment,
  refuseOutside,
  shardName,
  type ShardWindow,
  silenceAt,
  windowOf,
} from "./shard-window.ts";
import { newsOf } from "./survey.ts";

/** What a cluster's directory, or an archive of one, holds. */
export interface ClusterSource {
  readonly history: LayoutHistory;
  /** By the shards' numbers, those that have ended too; what can't be opened is missing. */
  readonly shards: ReadonlyMap<number, Catalogue>;
}

/** What is restored of one shard. */
export interface ShardPlan {
  readonly number: number;
  readonly catalogue: Catalogue;
  readonly slots: readonly SlotRange[];
  readonly point: RestorePoint;
  /** What its log needs behind that point; to be read once. */
  readonly appendix: () => AsyncIterable<Uint8Array>;
  /** Counts while the appendix is read. */
  readonly told: Told;
}

/** A whole cluster as of one moment. */
export interface ClusterPlan {
  readonly atMs: number;
  /** The shards that own slots, or get one, by their numbers. */
  readonly shards: readonly ShardPlan[];
  /** Slots whose migration the restored cluster has yet to end. */
  readonly open: readonly OpenSlot[];
  /** Slots that nobody owned. */
  readonly uncovered: readonly SlotRange[];
  /** What is worth telling, a sentence each. */
  readonly notes: readonly string[];
}

/** What a plan works with. */
export interface PlanOptions {
  readonly nowMs: number;
  readonly disk: Disk;
  readonly signal: AbortSignal;
}

/** A shard that owns slots at the moment, or is in a migration around it. */
interface Taking {
  readonly number: number;
  readonly catalogue: Catalogue;
  readonly log: ShardLog;
  readonly point: RestorePoint;
}

/**
 * Decides where each shard's log is cut for a moment, which slots it owns then, and what it lacks that other shards have.
 * @param wantedMs undefined: the last moment that all shards have durable.
 * @throws ReplicaError USAGE for a moment that isn't kept, saying which is; DIRECTORY_DAMAGED; DISK_FAILED; the signal's
 * reason.
 */
export async function planRestore(
  { history, shards }: ClusterSource,
  wantedMs: number | undefined,
  options: PlanOptions,
): Promise<ClusterPlan> {
  const windows = new Map(
    [...shards].map(([number, catalogue]) => [number, windowOf(catalogue, options.nowMs)] as const),
  );
  const atMs = wantedMs ?? lastOf(history, windows);
  refuseOutside(atMs, new Map(settledShards(history, atMs).map((one) => [one, windows.get(one)])));
  const taking = new Map<number, Taking>();
  for (const number of involved(history, atMs)) {
    const found = take(number, shards.get(number), windows.get(number), atMs, options.nowMs);
    if (found !== undefined) taking.set(number, found);
  }
  const read = await newsOfAll(history, taking, atMs, options);
  const first = new Map(
    [...taking].map(([number, { log, point }]) => [number, { log, offset: point.offset }] as const),
  );
  const { cuts, moved } = await agreeingCuts(history, atMs, first, read, options);
  const news = await countedNews(read, atMs, cuts, options);
  const settled = ownersAt(history, atMs, news);
  invariant(settled !== undefined, "a moment with a layout");
  // News may name a shard that nothing is kept of yet.
  refuseOutside(atMs, new Map(shardsOf(settled).map((one) => [one, windows.get(one)])));
  const notes = moved.map(
    (number) =>
      `shard ${shardName(number)} ends before slots of it were gone to another shard, which did not have them yet`,
  );
  const moving = await movingSlots(history, { owners: settled, news, cuts, atMs }, options);
  const { owners, open, arrivals } = moving;
  notes.push(...open.map(openNote), ...moving.notes);
  const astir = read.length === 0 ? new Map<number, Cut>() : cuts;
  const late = [...(await lateArrivals(astir, atMs, options)), ...moving.late];
  notes.push(...(await lateNotes(history, astir, atMs, news, options)));
  const uncovered = slotsOf(owners, 0);
  const { sinceMs } = newsTimes(history, atMs);
  notes.push(...uncoveredNote(uncovered));
  const isPart = (number: number) =>
    owners.of.includes(number) || open.some(({ target }) => target === number);
  notes.push(
    ...silences(
      [...taking.values()].filter(({ number }) => isPart(number)),
      atMs,
    ),
  );
  notes.push(...leftOut([...shards.keys()].filter((number) => !isPart(number))));
  return {
    atMs,
    uncovered,
    notes,
    open,
    shards: [...taking.values()].flatMap(({ number, catalogue, log }) => {
      if (!isPart(number)) return [];
      const slots = slotsOf(owners, number);
      const told: Told = { keys: 0 };
      const borrowed = borrowedBy(number, arrivals, cuts, atMs);
      const stays = new Set(open.filter(({ target }) => target === number).map(({ slot }) => slot));
      const foreign = rangesWhere((slot) => owners.of[slot] !== number && !stays.has(slot));
      const owner = ownerAt(cuts.get(number)!, atMs, sinceMs);
      async function* appendix() {
        yield* appendixOf(owner, borrowed, foreign, told, options);
        for (const { source, target, between } of openBetween(open, cuts, atMs, sinceMs)) {
          if (source === number) yield* leavingSource(between, options);
          if (target === number) yield* reachingTarget(between, told, options);
        }
        yield* bringLate(slots, late, cuts, told, options);
      }
      const point = log.pointAt(owner.cut);
      return [{ number, catalogue, slots, point, appendix, told }];
    }),
  };
}

function uncoveredNote(uncovered: readonly SlotRange[]): string[] {
  if (uncovered.length === 0) return [];
  return [`${counted(countSlots(uncovered), "slot")} belonged to no shard, and stay uncovered`];
}

function openNote({ slot, source, target }: OpenSlot): string {
  return `slot ${slot} stays open from shard ${shardName(source)} to ${shardName(target)}, since what is kept of ${shardName(target)} begins within its migration: redis-cli --cluster fix ends it`;
}

/** Which of the shards had been silent for long. */
function silences(shards: readonly Taking[], atMs: number): string[] {
  return shards.flatMap(({ number, catalogue, point: { generation, offset } }) => {
    const heardMs = catalogue.momentOf(generation.id, offset)?.atMs;
    return silenceAt(number, heardMs, atMs) ?? [];
  });
}

/** The last moment that the shards of the newest layout have. */
function lastOf(
  history: LayoutHistory,
  windows: ReadonlyMap<number, ShardWindow | undefined>,
): number {
  const newest = history.layoutAt(Number.MAX_SAFE_INTEGER);
  if (newest === undefined) throw noLayout();
  const owning = [...newest.slots].filter(([, ranges]) => ranges.length > 0);
  const kept = owning.flatMap(([number]) => windows.get(number) ?? []);
  // Which shard lacks everything is told with the moment.
  return kept.length === 0 ? newest.atMs : lastMoment(kept);
}

function noLayout(): ReplicaError {
  return usageError(
    "no layout of the cluster is kept for that moment: it was not followed yet. Name a later one",
  );
}

/** The shards that count as owners before any news. */
function settledShards(history: LayoutHistory, atMs: number): number[] {
  const owners = ownersAt(history, atMs, []);
  if (owners === undefined) throw noLayout();
  return shardsOf(owners);
}

function shardsOf({ of }: Owners): number[] {
  return [...new Set(of)].filter((number) => number !== 0).toSorted((a, b) => a - b);
}

/** All that owned a slot, or had one open, around the moment. */
function involved(history: LayoutHistory, atMs: number): number[] {
  const found = new Set<number>();
  const { sinceMs, untilMs } = newsTimes(history, atMs);
  const layouts = history.layouts(sinceMs, untilMs);
  for (const layout of layouts) for (const number of ownersIn(layout)) found.add(number);
  for (const { source, target } of history.openSlots(atMs - SETTLE_MS, atMs + SETTLE_MS)) {
    found.add(source).add(target);
  }
  found.delete(0);
  return [...found].toSorted((a, b) => a - b);
}

function take(
  number: number,
  catalogue: Catalogue | undefined,
  window: ShardWindow | undefined,
  atMs: number,
  nowMs: number,
): Taking | undefined {
  // One that began or ended meanwhile holds nothing of the moment, or is told by `stayingOpen`.
  if (catalogue === undefined || window === undefined) return undefined;
  if (atMs < window.fromMs || atMs > window.untilMs) return undefined;
  const wanted = { generation: undefined, offset: undefined, atMs };
  const point = restorePoint(catalogue, wanted, nowMs);
  return { number, catalogue, point, log: new ShardLog(catalogue, point.generation) };
}

/** Whether looks saw the same layout before and after the moment, and no slot open: then no log has news. */
function isQuiet(history: LayoutHistory, fromMs: number, atMs: number): boolean {
  const [only, ...more] = history.layouts(fromMs, atMs + SETTLE_MS + LOOK_MS);
  return (
    more.length === 0 &&
    only !== undefined &&
    only.atMs <= fromMs &&
    only.confirmedMs >= atMs + SETTLE_MS + LOOK_MS &&
    history.openSlots(fromMs, atMs + SETTLE_MS + LOOK_MS).length === 0
  );
}

/** What the logs tell of slots that move; nothing where looks say that none did. */
async function newsOfAll(
  history: LayoutHistory,
  taking: ReadonlyMap<number, Taking>,
  atMs: number,
  options: PlanOptions,
): Promise<ShardNews[]> {
  const logs = [...taking.values()].map(({ log }) => log);
  const { sinceMs } = newsTimes(history, atMs);
  if (isQuiet(history, Math.min(sinceMs, lateSinceMs(logs, atMs)), atMs)) return [];
  const news: ShardNews[] = [];
  for (const { number, log, point, catalogue } of taking.values()) {
    try {
      news.push(await newsOf(number, log, { atMs, cut: point.offset, sinceMs }, options));
    } catch (error) {
      if (!(error instanceof ReplicaError && error.code === "BAD_FRAME")) throw error;
      throw new ReplicaError("DIRECTORY_DAMAGED", {
        retry: "never",
        message: `the log of shard ${shardName(number)} is damaged (${error.message}): replica verify ${catalogue.path} says what can be restored`,
        cause: error,
      });
    }
  }
  return news;
}

function ownerAt({ log, offset: cut }: Cut, atMs: number, sinceMs: number): Owner {
  const until = Math.max(cut, log.offsetAt(atMs + SETTLE_MS));
  return { log, cut, since: log.offsetAt(sinceMs), until };
}

/** The slots that stay open, by the shards that have keys of them. */
function openBetween(
  open: readonly OpenSlot[],
  cuts: ReadonlyMap<number, Cut>,
  atMs: number,
  sinceMs: number,
) {
  const groups = Map.groupBy(open, ({ source, target }) => `${source} ${target}`);
  return [...groups.values()].map((those) => {
    const { source, target } = those[0]!;
    const slots = rangesWhere((slot) => those.some((one) => one.slot === slot));
    const owners = {
      source: ownerAt(cuts.get(source)!, atMs, sinceMs),
      target: ownerAt(cuts.get(target)!, atMs, sinceMs),
    };
    return { source, target, between: { slots, ...owners } };
  });
}

function borrowedBy(
  number: number,
  arrivals: readonly Arrival[],
  cuts: ReadonlyMap<number, Cut>,
  atMs: number,
): Borrowed[] {
  const own = arrivals.filter(({ owner }) => owner === number);
  return [...Map.groupBy(own, ({ shard }) => shard)].flatMap(([shard, those]) => {
    const found = cuts.get(shard);
    if (found === undefined) return [];
    const { log, offset: cut } = found;
    const since = new Map<number, Offset>(
      those.map(({ slot, sinceMs }) => [slot, log.offsetAt(sinceMs)]),
    );
    const recent = log.offsetAt(atMs - SETTLE_MS);
    const until = Math.max(cut, log.offsetAt(atMs + SETTLE_MS));
    return [{ log, since, recent, cut, until }];
  });
}

function leftOut(others: readonly number[]): string[] {
  if (others.length === 0) return [];
  const names = others.map(shardName).join(", ");
  return [
    `${others.length === 1 ? "shard" : "shards"} ${names} owned no slot then, and ${others.length === 1 ? "is" : "are"} left out`,
  ];
}
