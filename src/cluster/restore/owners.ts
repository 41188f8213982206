import type { Offset } from "../../base/history.ts";
import type { Layout, OpenSlot } from "../ledger/layouts.ts";
import { hasSlot, rangesWhere, slotsIn, type SlotRange, SLOTS } from "../slots/slot-ranges.ts";

/** What is known of a cluster's layouts; see `ClusterHistory`. */
export interface LayoutHistory {
  layoutAt(atMs: number): Layout | undefined;
  /** The first layout that was found after the one in force at a time; undefined where none was yet. */
  layoutAfter(atMs: number): Layout | undefined;
  layouts(fromMs: number, toMs: number): readonly Layout[];
  openSlots(fromMs: number, toMs: number): readonly OpenSlot[];
}

/** What the log of one shard tells of slots that moved around a moment. */
export interface ShardNews {
  readonly shard: number;
  /** Atomic migrations into the shard that ended well before its cut, in the order of the log. */
  readonly finished: readonly Finished[];
  /** Slots of atomic migrations into the shard that have not ended well. */
  readonly unfinished: readonly SlotRange[];
  /** Those of them that end well behind the shard's cut, which is late. */
  readonly pending: readonly Pending[];
  /** Slots whose keys are gone before the shard's cut, since another shard has them (Redis 8.4). */
  readonly trimmed: readonly SlotRange[];
  /** Keys that came by a classic migration, by slot. */
  readonly arrived: ReadonlyMap<number, Arrived>;
}

export interface Finished {
  /** Undefined where the migration began before anything that is kept. */
  readonly ranges: readonly SlotRange[] | undefined;
  /** When it had arrived, in milliseconds since 1970. */
  readonly atMs: number;
  /** Behind the command that says so: the shard has all keys of these slots from there on. */
  readonly offset: Offset;
}

export interface Pending {
  readonly ranges: readonly SlotRange[];
  /** It ended after this, in milliseconds since 1970. */
  readonly sinceMs: number;
}

export interface Arrived {
  readonly firstMs: number;
  readonly lastMs: number;
}

/**
 * Within this time of a moment nothing orders the streams of two shards, nor the looks at the layout. What changed less
 * than this before the moment counts as unchanged, and what a log lacks at the moment is looked for this long after it.
 */
export const SETTLE_MS = 2_000;
/** A look at the cluster may come this much after what it sees. */
export const LOOK_MS = 3_000;
/** How far back news count: older ones are in every layout. */
export const NEWS_MS = 10_000;

/** A stream that is later than this is not waited for. */
export const MAX_LATE_MS = 5 * 60_000;

/** Around which times layouts and logs tell what moved around a moment; milliseconds since 1970. */
export interface NewsTimes {
  /** Older news are in the layout that was in force before. */
  readonly sinceMs: number;
  /** By then a look has found what moved up to the moment, if any did. */
  readonly untilMs: number;
}

/** Where nobody looked for a while, what moved meanwhile is in no layout until the next look. */
export function newsTimes(history: LayoutHistory, atMs: number): NewsTimes {
  const heldMs = history.layoutAt(atMs - SETTLE_MS)?.confirmedMs ?? Infinity;
  const seenMs = history.layoutAt(atMs)?.confirmedMs ?? -Infinity;
  const untilMs = atMs + NEWS_MS;
  const next = seenMs < untilMs ? history.layoutAfter(atMs) : undefined;
  return {
    sinceMs: Math.min(atMs - NEWS_MS, heldMs - SETTLE_MS),
    untilMs: Math.max(untilMs, next?.atMs ?? untilMs),
  };
}

/** Which shard each slot belongs to at a moment. */
export interface Owners {
  /** By slot; 0 for one that nobody owns. */
  readonly of: readonly number[];
  /** Slots that an atomic migration brought to their owner: nothing of it is in other shards any more. */
  readonly isAtomic: (slot: number) => boolean;
}

/**
 * Decides which shard owns each slot at a moment: whoever owned it 2 s before, unless an atomic migration has ended since.
 * @returns undefined where no layout is known.
 */
export function ownersAt(
  history: LayoutHistory,
  atMs: number,
  news: readonly ShardNews[],
): Owners | undefined {
  const settledMs = atMs - SETTLE_MS;
  const seen = history.layouts(settledMs, atMs);
  const settled = history.layoutAt(settledMs) ?? seen[0];
  if (settled === undefined) return undefined;
  const of = ownersIn(settled);
  // What nobody owned before was not taken from anybody.
  for (const layout of seen) fillIn(of, ownersIn(layout));
  for (const { shard, pending } of news) leaveToSources(of, shard, pending, history, atMs);
  const atomic = new Set<number>();
  const give = (slot: number, shard: number) => {
    if (of[slot] === shard) return;
    of[slot] = shard;
    atomic.add(slot);
  };
  const later = history.layouts(settledMs, atMs + NEWS_MS).map((layout) => ownersIn(layout));
  const finished = news
    .flatMap(({ shard, finished: ended }) => ended.map((one) => ({ shard, ...one })))
    .toSorted((one, other) => one.atMs - other.atMs);
  for (const { shard, ranges, atMs: endedMs } of finished) {
    // A layout since then that knows of it is newer, and so is what it says of the slots that moved on.
    const known = history.layouts(endedMs, settledMs).map((layout) => ownersIn(layout));
    const isKnown = (slot: number) =>
      endedMs <= settledMs && known.some((owners) => owners[slot] === shard);
    for (let slot = 0; slot < SLOTS; slot++) {
      const isMoved =
        ranges === undefined
          ? later.some((owners) => owners[slot] === shard)
          : hasSlot(ranges, slot);
      if (isMoved && !isKnown(slot)) give(slot, shard);
    }
  }
  const { untilMs } = newsTimes(history, atMs);
  const last = history.layouts(atMs + NEWS_MS, untilMs).map((layout) => ownersIn(layout));
  const since = [...later, ...last];
  for (const { shard, trimmed } of news) {
    for (const [first, last] of trimmed) {
      for (let slot = first; slot <= last; slot++) {
        if (of[slot] !== shard) continue;
        const next = since.find((owners) => owners[slot] !== shard && owners[slot] !== 0);
        if (next !== undefined) give(slot, next[slot]!);
      }
    }
  }
  return { of, isAtomic: (slot) => atomic.has(slot) };
}

/**
 * A look may know of an atomic migration whose end came late to the log of its target: what that had by its cut isn't all,
 * so the slots are still those of who had them.
 */
function leaveToSources(
  of: number[],
  shard: number,
  pending: readonly Pending[],
  history: LayoutHistory,
  atMs: number,
): void {
  for (const { ranges, sinceMs } of pending) {
    const seen = history.layouts(sinceMs, atMs).map((layout) => ownersIn(layout));
    for (const slot of slotsIn(ranges)) {
      if (of[slot] !== shard) continue;
      const last = seen.findLast((owners) => owners[slot] !== shard && owners[slot] !== 0);
      if (last !== undefined) of[slot] = last[slot]!;
    }
  }
}

/** By slot; 0 for one that nobody owns. */
export function ownersIn({ slots }: Layout): number[] {
  const of = Array<number>(SLOTS).fill(0);
  for (const [shard, ranges] of slots) {
    for (const [first, last] of ranges) of.fill(shard, first, last + 1);
  }
  return of;
}

function fillIn(of: number[], from: readonly number[]): void {
  for (let slot = 0; slot < SLOTS; slot++) if (of[slot] === 0) of[slot] = from[slot]!;
}

/** The slots of a shard; those of nobody for 0. */
export function slotsOf({ of }: Owners, shard: number): SlotRange[] {
  return rangesWhere((slot) => of[slot] === shard);
}
