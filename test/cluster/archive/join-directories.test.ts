import { expect, test } from "bun:test";
import {
  type DirectoryHistory,
  joinHistories,
} from "../../../src/cluster/archive/join-directories.ts";
import type { SlotRange } from "../../../src/cluster/slots/slot-ranges.ts";

/** A directory with shards, each with slots, from a time on. */
function directory(
  name: string,
  ...layouts: readonly [atMs: number, slots: readonly (readonly SlotRange[])[]][]
): DirectoryHistory {
  const count = Math.max(...layouts.map(([, slots]) => slots.length));
  return {
    name,
    history: {
      shards: Array.from({ length: count }, (_, index) => ({
        number: index + 1,
        name: `${name}-${index + 1}`,
        shardId: undefined,
        startedMs: 0,
        endedMs: undefined,
        endedWhy: undefined,
      })),
      layouts: layouts.map(([atMs, slots]) => ({
        atMs,
        confirmedMs: atMs + 5,
        epoch: 1,
        slots: new Map(slots.map((ranges, index) => [index + 1, ranges])),
      })),
      openSlots: [{ slot: 7, source: 1, target: 2, fromMs: 20, untilMs: undefined }],
    },
  };
}

const owned = (joined: ReturnType<typeof joinHistories>, atMs: number) => {
  const layout = joined.layouts.findLast((one) => one.atMs <= atMs);
  const names = new Map(joined.shards.map(({ number, name }) => [number, name]));
  return Object.fromEntries([...layout!.slots].map(([shard, slots]) => [names.get(shard)!, slots]));
};

test("two directories that share a cluster make one layout, their shards numbered apart", () => {
  const one = directory("0001-b", [10, [[[0, 99]], [[100, 199]]]]);
  const two = directory("0001-a", [15, [[[200, 16_383]]]], [30, [[[300, 16_383]]]]);
  const joined = joinHistories([one, two], 20);
  expect(joined.directories).toEqual(["0001-a", "0001-b"]);
  expect(joined.shards.map(({ number }) => number)).toEqual([1, 2, 3]);
  expect(owned(joined, 20)).toEqual({
    "0001-b-1": [[0, 99]],
    "0001-b-2": [[100, 199]],
    "0001-a-1": [[200, 16_383]],
  });
  expect(owned(joined, 40)).toMatchObject({ "0001-a-1": [[300, 16_383]] });
  expect(joined.layouts.map(({ atMs }) => atMs)).toEqual([15, 30]);
  expect(joined.layouts[0]!.confirmedMs).toBe(15);
  expect(joined.openSlots.map(({ source, target }) => [source, target])).toContainEqual([2, 3]);
});

test("of two that claim a slot, the first counts; one without any is left out", () => {
  const old = directory("0001-a", [10, [[[0, 16_383]]]]);
  const fresh = directory("0001-b", [50, [[[0, 8_000]], [[8_001, 16_383]]]]);
  const before = joinHistories([fresh, old], 40);
  expect(owned(before, 40)).toEqual({ "0001-a-1": [[0, 16_383]] });
  const after = joinHistories([fresh, old], 60);
  expect(after.directories).toEqual(["0001-b"]);
  expect(after.shards.map(({ number }) => number)).toEqual([1, 2]);
  const partly = directory("0001-b", [50, [[[5, 16_383]]]]);
  expect(owned(joinHistories([partly, old], 60), 60)).toEqual({
    "0001-b-1": [[5, 16_383]],
    "0001-a-1": [[0, 4]],
  });
});
