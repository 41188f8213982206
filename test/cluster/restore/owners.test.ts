import { describe, expect, test } from "bun:test";
import { arrivalsAt } from "../../../src/cluster/restore/arrivals.ts";
import { ownersAt, type ShardNews, slotsOf } from "../../../src/cluster/restore/owners.ts";
import { madeUpHistory, newsOf, type Seen } from "./made-up.ts";

const HALVES: Seen = [0, { 1: [[0, 8191]], 2: [[8192, 16_383]] }];
/** Shard 2 has slot 5, too. */
const moved = (atMs: number): Seen => [
  atMs,
  {
    1: [
      [0, 4],
      [6, 8191],
    ],
    2: [
      [5, 5],
      [8192, 16_383],
    ],
  },
];
const NOW = 100_000;

function ownerOf5(seen: readonly Seen[], news: readonly ShardNews[] = []): number | undefined {
  return ownersAt(madeUpHistory(seen), NOW, news)?.of[5];
}

describe("a slot belongs to", () => {
  test("whoever owned it two seconds before", () => {
    expect(ownerOf5([HALVES, moved(NOW - 2_000)])).toBe(2);
    expect(ownerOf5([HALVES, moved(NOW - 1_999)])).toBe(1);
    expect(ownerOf5([HALVES, moved(NOW + 1)])).toBe(1);
  });

  test("nobody where no layout says so, and where nobody had it until just now, to who got it", () => {
    expect(ownersAt(madeUpHistory([[NOW + 1, {}]]), NOW, [])).toBeUndefined();
    const few: Seen = [0, { 1: [[0, 4]] }];
    const owners = ownersAt(madeUpHistory([few]), NOW, [])!;
    expect(slotsOf(owners, 1)).toEqual([[0, 4]]);
    expect(slotsOf(owners, 0)).toEqual([[5, 16_383]]);
    expect(ownerOf5([few, [NOW - 500, { 1: [[0, 4]], 3: [[5, 5]] }]])).toBe(3);
    expect(ownerOf5([[NOW - 1_000, { 7: [[0, 16_383]] }]])).toBe(7);
  });

  test("the target of an atomic migration as soon as it has ended, whatever looks say", () => {
    const ended = { ranges: [[5, 5]] as const, atMs: NOW - 100, offset: 7 };
    expect(ownerOf5([HALVES], [newsOf(1), newsOf(2, { finished: [ended] })])).toBe(2);
    const early = { ...ended, atMs: NOW - 5_000 };
    expect(ownerOf5([HALVES], [newsOf(2, { finished: [early] })])).toBe(2);
  });

  test("whom a later look names, where the slot has moved on since", () => {
    const ended = { ranges: [[5, 5]] as const, atMs: NOW - 8_000, offset: 7 };
    const news = [newsOf(2, { finished: [ended] })];
    expect(ownerOf5([HALVES, moved(NOW - 7_500), [NOW - 4_000, HALVES[1]]], news)).toBe(1);
  });

  test("the last target of two migrations", () => {
    const ended = (shard: number, atMs: number) =>
      newsOf(shard, { finished: [{ ranges: [[5, 5]], atMs, offset: 7 }] });
    expect(ownerOf5([HALVES], [ended(3, NOW - 100), ended(2, NOW - 1_500)])).toBe(3);
  });

  test("the target of one whose slots aren't known, where a later look says so", () => {
    const news = [newsOf(2, { finished: [{ ranges: undefined, atMs: NOW, offset: 7 }] })];
    expect(ownerOf5([HALVES, moved(NOW + 800)], news)).toBe(2);
    expect(ownerOf5([HALVES], news)).toBe(1);
  });

  test("who has it next, where its keys were trimmed before the cut", () => {
    const news = [newsOf(1, { trimmed: [[0, 10]] })];
    expect(ownerOf5([HALVES, moved(NOW - 1_000)], news)).toBe(2);
    const [atMs, slots] = HALVES;
    expect(ownerOf5([[atMs, slots, NOW - 3_000], moved(NOW + 60_000)], news)).toBe(2);
    const owners = ownersAt(madeUpHistory([HALVES, moved(NOW - 1_000)]), NOW, news)!;
    expect(owners.of[6]).toBe(1);
    expect(owners.isAtomic(5)).toBe(true);
  });
});

describe("keys of a slot are taken back from", () => {
  const arrivals = (
    seen: readonly Seen[],
    news: readonly ShardNews[],
    open: Parameters<typeof madeUpHistory>[1] = [],
  ) => {
    const history = madeUpHistory(seen, open);
    return arrivalsAt(history, NOW, ownersAt(history, NOW, news)!, news);
  };
  const arrived = (firstMs: number) => ({
    arrived: new Map([[5, { firstMs, lastMs: firstMs }]]),
  });

  test("where they are migrated to, from two seconds before the slot was seen open", () => {
    const open = [{ slot: 5, source: 1, target: 2, fromMs: 50_000, untilMs: undefined }];
    expect(arrivals([HALVES], [newsOf(1), newsOf(2)], open)).toEqual([
      { slot: 5, owner: 1, shard: 2, sinceMs: 48_000 },
    ]);
    const closed = [{ ...open[0]!, untilMs: NOW - 2_001 }];
    expect(arrivals([HALVES], [newsOf(1), newsOf(2)], closed)).toEqual([]);
  });

  test("where they arrived, though no look saw the slot open", () => {
    expect(arrivals([HALVES], [newsOf(1), newsOf(2, arrived(NOW - 300))])).toEqual([
      { slot: 5, owner: 1, shard: 2, sinceMs: NOW - 2_300 },
    ]);
  });

  test("who owns the slot now, where that is too new to count; nobody once it counts", () => {
    const news = [newsOf(1), newsOf(2)];
    expect(arrivals([HALVES, moved(NOW - 900)], news)).toMatchObject([{ owner: 1, shard: 2 }]);
    expect(arrivals([HALVES, moved(NOW + 900)], news)).toMatchObject([{ owner: 1, shard: 2 }]);
    expect(
      arrivals([HALVES, moved(NOW - 2_500)], [newsOf(1), newsOf(2, arrived(NOW - 3_000))]),
    ).toEqual([]);
  });

  test("nobody for an atomic migration: before its end the target has copies, then the source has none", () => {
    const half = [newsOf(1), newsOf(2, { unfinished: [[5, 5]] })];
    expect(arrivals([HALVES, moved(NOW + 900)], half)).toEqual([]);
    const ended = { ranges: [[5, 5]] as const, atMs: NOW - 100, offset: 7 };
    const whole = [newsOf(1), newsOf(2, { finished: [ended] })];
    expect(arrivals([HALVES, moved(NOW + 900)], whole)).toEqual([]);
  });

  test("an earlier stay of the slot only in so far as its end was not seen", () => {
    const news = [newsOf(1), newsOf(2, arrived(NOW - 9_000))];
    const seen: Seen[] = [HALVES, moved(NOW - 8_500), [NOW - 5_000, HALVES[1]]];
    expect(arrivals(seen, news)).toEqual([{ slot: 5, owner: 1, shard: 2, sinceMs: NOW - 7_000 }]);
  });
});
