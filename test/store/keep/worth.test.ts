import { describe, expect, test } from "bun:test";
import { describeSize, isSmallBeside, worthChange } from "../../../src/store/keep/worth.ts";
import type { Guard, Replaced, SnapshotSize } from "../../../src/store/ledger/keep-tables.ts";

/** A snapshot of so many keys; undefined: it doesn't say. */
function size(keys: number | undefined, bytes: number, db = 0): SnapshotSize {
  if (keys === undefined) return { bytes, firstDatabase: undefined };
  return { bytes, firstDatabase: { db: keys === 0 ? undefined : db, keys } };
}

const replaced = (id: number, of: SnapshotSize, hasWrites = true): Replaced => ({
  ...of,
  id,
  hasWrites,
});
const guard = (of: Replaced, wellLivedMs?: number): Guard => ({
  ...of,
  sinceLivedMs: 5,
  wellLivedMs,
});

describe("less than half", () => {
  test.each<[string, SnapshotSize, SnapshotSize, boolean]>([
    ["half of the keys", size(500, 900), size(1_000, 1_000), false],
    ["less than half of the keys", size(499, 900), size(1_000, 1_000), true],
    ["half of the bytes", size(1_000, 500), size(1_000, 1_000), false],
    ["less than half of the bytes", size(1_000, 499), size(1_000, 1_000), true],
    ["more", size(3_000, 9_000), size(1_000, 1_000), false],
    ["no keys, and a header of the same size", size(0, 90), size(1, 100), true],
    ["keys unknown before: by bytes", size(1, 499), size(undefined, 1_000), true],
    ["keys unknown now: by bytes", size(undefined, 501), size(1_000, 1_000), false],
    ["keys of another database don't count", size(10, 900, 1), size(1_000, 1_000, 0), false],
    ["no keys, whatever was unknown before", size(0, 900), size(undefined, 1_000), true],
  ])("%s", (_, next, before, isSmall) => {
    expect(isSmallBeside(next, { ...before, hasWrites: true })).toBe(isSmall);
  });

  test("beside an empty snapshot only another empty one is small, if the log had writes", () => {
    const before = size(0, 90);
    expect(isSmallBeside(size(0, 90), { ...before, hasWrites: true })).toBe(true);
    expect(isSmallBeside(size(0, 90), { ...before, hasWrites: false })).toBe(false);
    expect(isSmallBeside(size(1, 100), { ...before, hasWrites: true })).toBe(false);
  });
});

describe("what a new generation means", () => {
  const full = replaced(1, size(12_638, 1_000_000));
  const empty = replaced(2, size(0, 90), false);

  test("the first one: nothing", () => {
    expect(worthChange(full, undefined, [])).toEqual({
      guarded: undefined,
      smallBeside: undefined,
      well: [],
    });
  });

  test("an empty one guards the one before it, and so do not those after", () => {
    const first = worthChange(size(0, 90), full, []);
    expect(first).toEqual({ guarded: full, smallBeside: full, well: [] });
    const next = worthChange(size(0, 90), empty, [guard(full)]);
    expect(next).toEqual({ guarded: undefined, smallBeside: guard(full), well: [] });
  });

  test("a wrong, smaller fill is still small, beside what was guarded", () => {
    const next = worthChange(size(100, 5_000), empty, [guard(full)]);
    expect(next).toMatchObject({ guarded: undefined, smallBeside: { id: 1 }, well: [] });
  });

  test("a second loss guards what had become usual", () => {
    const usual = replaced(3, size(5_000, 400_000));
    const next = worthChange(size(0, 90), usual, [guard(full)]);
    expect(next).toMatchObject({ guarded: { id: 3 }, smallBeside: { id: 1 }, well: [] });
    const back = worthChange(size(5_000, 400_000), empty, [guard(full), guard(usual)]);
    expect(back).toMatchObject({ guarded: undefined, smallBeside: { id: 1 }, well: [3] });
  });

  test("half is well again; what is well already says nothing more", () => {
    const half = size(6_319, 500_000);
    expect(worthChange(half, empty, [guard(full)])).toEqual({
      guarded: undefined,
      smallBeside: undefined,
      well: [1],
    });
    expect(worthChange(half, empty, [guard(full, 7)]).well).toEqual([]);
    expect(worthChange(size(0, 90), empty, [guard(full, 7)]).smallBeside).toBeUndefined();
  });
});

test("sizes as people read them", () => {
  expect(describeSize(size(12_638, 1), "1.2 MiB")).toBe("12,638 keys (1.2 MiB)");
  expect(describeSize(size(1, 1, 3), "90 B")).toBe("1 key in database 3 (90 B)");
  expect(describeSize(size(0, 1), "88 B")).toBe("0 keys (88 B)");
  expect(describeSize(size(undefined, 1), "90 B")).toBe("90 B");
});
