import { hasSlot, SLOTS } from "../slots/slot-ranges.ts";
import {
  type LayoutHistory,
  LOOK_MS,
  NEWS_MS,
  newsTimes,
  type Owners,
  ownersIn,
  SETTLE_MS,
  type ShardNews,
} from "./owners.ts";

/** Keys of a slot that lie in another shard than its owner's: a classic migration had not ended. */
export interface Arrival {
  readonly slot: number;
  readonly owner: number;
  /** The shard that the migration goes to. */
  readonly shard: number;
  /** The migration began after this, in milliseconds since 1970. */
  readonly sinceMs: number;
}

/**
 * Which slots had keys in a shard that doesn't own them, around a moment: those that were seen open, those of which keys
 * arrived, and those whose owner changed too recently to count.
 */
export function arrivalsAt(
  history: LayoutHistory,
  atMs: number,
  owners: Owners,
  news: readonly ShardNews[],
): Arrival[] {
  const times = newsTimes(history, atMs);
  // Nobody looked at the moment, nor soon after: what the next look found may have been so by then.
  const isUnseen = times.untilMs > atMs + NEWS_MS;
  const layouts = history
    .layouts(times.sinceMs, isUnseen ? times.untilMs : atMs + SETTLE_MS + LOOK_MS)
    .map((layout) => ({ atMs: layout.atMs, of: ownersIn(layout) }));
  const newsOf = new Map(news.map((one) => [one.shard, one]));
  const found = new Map<string, Arrival>();
  const add = (slot: number, shard: number, beganMs: number) => {
    const owner = owners.of[slot]!;
    if (owner === 0 || owner === shard || shard === 0 || owners.isAtomic(slot)) return;
    const own = newsOf.get(shard);
    // What an unfinished atomic migration has brought is a copy: the owner has all of it.
    if (own === undefined || hasSlot(own.unfinished, slot)) return;
    // Of an earlier stay of the slot nothing counts: its keys have left again.
    const lostMs = lossOf(layouts, slot, shard, atMs - SETTLE_MS);
    const sinceMs = Math.max(beganMs - SETTLE_MS, lostMs - SETTLE_MS);
    const key = `${slot} ${shard}`;
    const before = found.get(key);
    if (before === undefined || before.sinceMs > sinceMs) {
      found.set(key, { slot, owner, shard, sinceMs });
    }
  };
  for (const { slot, target, fromMs } of history.openSlots(atMs - SETTLE_MS, atMs + SETTLE_MS)) {
    add(slot, target, fromMs);
  }
  for (const { shard, arrived } of news) {
    for (const [slot, { firstMs }] of arrived) add(slot, shard, firstMs);
  }
  for (const layout of layouts) {
    if (layout.atMs <= atMs - SETTLE_MS) continue;
    for (let slot = 0; slot < SLOTS; slot++) {
      const shard = layout.of[slot]!;
      // Where an atomic migration's slots aren't known, they may be these.
      const isKnown = newsOf.get(shard)?.finished.every(({ ranges }) => ranges !== undefined);
      if (isKnown === true) add(slot, shard, isUnseen ? times.sinceMs : layout.atMs - NEWS_MS);
    }
  }
  return [...found.values()];
}

/** When a shard was last seen to have lost a slot; 0 where it wasn't. */
function lossOf(
  layouts: readonly { readonly atMs: number; readonly of: readonly number[] }[],
  slot: number,
  shard: number,
  untilMs: number,
): number {
  let lostMs = 0;
  let had = false;
  for (const { atMs, of } of layouts) {
    if (atMs > untilMs) break;
    const has = of[slot] === shard;
    if (had && !has) lostMs = atMs;
    had = has;
  }
  return lostMs;
}
