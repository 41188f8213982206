import type { Layout, OpenSlot } from "../ledger/layouts.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { rangesWhere, type SlotRange, SLOTS } from "../slots/slot-ranges.ts";
import type { ArchivedHistory } from "./cluster-archive.ts";

/** What one directory tells of its shards. */
export interface DirectoryHistory {
  /** The name of its first shard. */
  readonly name: string;
  readonly history: ArchivedHistory;
}

export interface JoinedHistory extends ArchivedHistory {
  /** The directories that slots are taken of, by their names. */
  readonly directories: readonly string[];
  /** Those that tell only of what came after a moment. */
  readonly beginLater: (atMs: number) => string[];
}

/**
 * Makes one history of what several directories tell, each of the shards that it follows: the slots of all. Of those that
 * claim one slot, the first counts. Shards get numbers of their own where there is more than one directory with slots.
 * @param all the one that counts first comes first.
 * @param fromMs from when on layouts are wanted, with the one in force then.
 */
export function joinHistories(all: readonly DirectoryHistory[], fromMs: number): JoinedHistory {
  const moments = momentsFrom(all, fromMs).map((atMs) => ({ atMs, claims: claimsAt(all, atMs) }));
  const used = all
    .filter((one) => moments.some(({ claims }) => claims.some(({ by }) => by === one)))
    .toSorted((one, other) => (one.name < other.name ? -1 : 1));
  const directories = used.map(({ name }) => name);
  const numbers = numbersFor(used);
  const layouts = moments.map(({ atMs, claims }, index): Layout => {
    const nextMs = moments[index + 1]?.atMs ?? Infinity;
    const confirmedMs = Math.min(
      ...claims.map(({ layout }) => layout.confirmedMs),
      nextMs === Infinity ? Infinity : nextMs - 1,
    );
    return {
      atMs,
      confirmedMs: claims.length === 0 ? atMs : Math.max(atMs, confirmedMs),
      epoch: Math.max(0, ...claims.map(({ layout }) => layout.epoch)),
      slots: new Map(
        claims.flatMap(({ by, slots }) =>
          [...slots].map(([shard, ranges]) => [numbers.get(by)! + shard, ranges] as const),
        ),
      ),
    };
  });
  return {
    directories,
    beginLater: (atMs) =>
      all.flatMap(({ name, history }) =>
        history.layouts.some((one) => one.atMs <= atMs) ? [] : [name],
      ),
    layouts,
    shards: used.flatMap((one) =>
      one.history.shards.map((shard): ShardRecord => ({
        ...shard,
        number: numbers.get(one)! + shard.number,
      })),
    ),
    openSlots: used
      .flatMap((one) =>
        one.history.openSlots.map((slot): OpenSlot => ({
          ...slot,
          source: numbers.get(one)! + slot.source,
          target: numbers.get(one)! + slot.target,
        })),
      )
      .toSorted((one, other) => one.fromMs - other.fromMs),
  };
}

/** What is added to the numbers of each directory's shards. */
function numbersFor(used: readonly DirectoryHistory[]): ReadonlyMap<DirectoryHistory, number> {
  const numbers = new Map<DirectoryHistory, number>();
  let last = 0;
  for (const one of used) {
    numbers.set(one, last);
    last += Math.max(0, ...one.history.shards.map(({ number }) => number));
  }
  return numbers;
}

/** When some layout began, in order: the last time at or before `fromMs`, and all later ones. */
function momentsFrom(all: readonly DirectoryHistory[], fromMs: number): number[] {
  const times = all.flatMap(({ history }) => history.layouts.map(({ atMs }) => atMs));
  const sorted = [...new Set(times)].toSorted((one, other) => one - other);
  return sorted.slice(
    Math.max(
      0,
      sorted.findLastIndex((atMs) => atMs <= fromMs),
    ),
  );
}

/** What a directory has at a moment that none before it has. */
interface Claim {
  readonly by: DirectoryHistory;
  readonly layout: Layout;
  readonly slots: ReadonlyMap<number, readonly SlotRange[]>;
}

function claimsAt(all: readonly DirectoryHistory[], atMs: number): Claim[] {
  const taken = new Uint8Array(SLOTS);
  return all.flatMap((by) => {
    const layout = by.history.layouts.findLast((one) => one.atMs <= atMs);
    if (layout === undefined) return [];
    const slots = new Map<number, readonly SlotRange[]>();
    for (const [shard, ranges] of layout.slots) {
      const own = unclaimed(ranges, taken);
      if (own.length > 0) slots.set(shard, own);
    }
    return slots.size === 0 ? [] : [{ by, layout, slots }];
  });
}

/** The part of some slots that nobody has, which they are from then on. */
function unclaimed(ranges: readonly SlotRange[], taken: Uint8Array): readonly SlotRange[] {
  const free = new Set<number>();
  for (const [first, last] of ranges) {
    for (let slot = first; slot <= last; slot++) {
      if (taken[slot] === 0) free.add(slot);
      taken[slot] = 1;
    }
  }
  return rangesWhere((slot) => free.has(slot));
}
