import { expect, test } from "bun:test";
import { migrationsAround, refuseLost } from "../../../src/cluster/archive/migration-reach.ts";
import type { Layout } from "../../../src/cluster/ledger/layouts.ts";
import { errorOf } from "../../support/error-of.ts";

const AT = 1_000_000;
const SHARD = {
  number: 2,
  name: "0002-aaaaaaaa",
  shardId: undefined,
  startedMs: 0,
  endedMs: undefined,
  endedWhy: undefined,
};

/** Slot 100 belongs to shard 1 first, and to shard 2 once it has moved. */
function layout(atMs: number, isMoved: boolean): Layout {
  const slots = new Map(
    isMoved
      ? ([
          [1, [[0, 99]]],
          [2, [[100, 16_383]]],
        ] as const)
      : ([
          [1, [[0, 100]]],
          [2, [[101, 16_383]]],
        ] as const),
  );
  return { atMs, confirmedMs: atMs, epoch: 1, slots };
}

const moved = (atMs: number) => [layout(0, false), layout(atMs, true)];

test("a cluster at rest needs nothing from before", () => {
  expect(migrationsAround({ layouts: moved(AT - 60_000), openSlots: [] }, AT).size).toBe(0);
  expect(migrationsAround({ layouts: moved(AT + 10_000), openSlots: [] }, AT).size).toBe(0);
});

test("both sides of a slot that changed hands lately need their streams from before", () => {
  const reaches = migrationsAround({ layouts: moved(AT - 14_000), openSlots: [] }, AT);
  expect([...reaches.keys()]).toEqual([1, 2]);
  expect(reaches.get(2)).toEqual({ sinceMs: AT - 15_000, got: undefined });
});

test("a slot that is open needs the stream since it was opened, however long that is", () => {
  const open = { slot: 100, source: 1, target: 2, fromMs: AT - 500_000, untilMs: undefined };
  const reaches = migrationsAround({ layouts: [layout(0, false)], openSlots: [open] }, AT);
  expect([...reaches.values()].map(({ sinceMs }) => sinceMs)).toEqual([AT - 505_000, AT - 505_000]);
  const ended = { ...open, untilMs: AT - 60_000 };
  expect(migrationsAround({ layouts: [layout(0, false)], openSlots: [ended] }, AT).size).toBe(0);
});

test("what no look saw open is refused where the stream begins too late, and only there", () => {
  const reach = migrationsAround({ layouts: moved(AT - 500), openSlots: [] }, AT).get(2)!;
  expect(() => refuseLost(SHARD, reach, AT - 500 - 5_000)).not.toThrow();
  const { code, message } = errorOf(() => refuseLost(SHARD, reach, AT - 400))!;
  expect(code).toBe("USAGE");
  expect(message).toContain("shard 0002-aaaaaaaa");
  expect(message).toContain("1970-01-01T00:16:41.500Z or later");
  // It counts as the new owner's.
  const settled = migrationsAround({ layouts: moved(AT - 2_000), openSlots: [] }, AT).get(2)!;
  expect(() => refuseLost(SHARD, settled, AT)).not.toThrow();
  // It stays open.
  const open = { slot: 100, source: 1, target: 2, fromMs: AT - 3_000, untilMs: AT - 500 };
  const seen = migrationsAround({ layouts: moved(AT - 500), openSlots: [open] }, AT).get(2)!;
  expect(() => refuseLost(SHARD, seen, AT)).not.toThrow();
});
