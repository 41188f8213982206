import type { Layout, OpenSlot } from "../../../src/cluster/ledger/layouts.ts";
import type { LayoutHistory, ShardNews } from "../../../src/cluster/restore/owners.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";

/** The slots of each shard from a time on, and when a look last found the same: by default up to the next one. */
export type Seen = readonly [
  atMs: number,
  slots: Readonly<Record<number, readonly SlotRange[]>>,
  confirmedMs?: number,
];

/** A history of layouts and open slots, as `ClusterHistory` answers for one. */
export function madeUpHistory(
  seen: readonly Seen[],
  open: readonly OpenSlot[] = [],
): LayoutHistory {
  const layouts = seen.map(([atMs, slots, confirmedMs], index): Layout => ({
    atMs,
    confirmedMs: confirmedMs ?? seen[index + 1]?.[0] ?? atMs,
    epoch: index,
    slots: new Map(Object.entries(slots).map(([shard, ranges]) => [Number(shard), ranges])),
  }));
  const layoutAt = (atMs: number) => layouts.findLast((layout) => layout.atMs <= atMs);
  return {
    layoutAt,
    layoutAfter: (atMs) => layouts.find((layout) => layout.atMs > atMs),
    layouts: (fromMs, toMs) => [
      ...[layoutAt(fromMs) ?? []].flat(),
      ...layouts.filter(({ atMs }) => atMs > fromMs && atMs <= toMs),
    ],
    openSlots: (fromMs, toMs) =>
      open.filter((one) => one.fromMs <= toMs && (one.untilMs ?? Infinity) >= fromMs),
  };
}

/** News of a shard, nothing but what is given. */
export function newsOf(shard: number, some: Partial<ShardNews> = {}): ShardNews {
  return {
    shard,
    finished: [],
    unfinished: [],
    pending: [],
    trimmed: [],
    arrived: new Map(),
    ...some,
  };
}
