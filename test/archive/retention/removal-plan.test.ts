import { describe, expect, test } from "bun:test";
import {
  removalPlan,
  type StreamPath,
  type WholeGeneration,
} from "../../../src/archive/retention/removal-plan.ts";

const DAY = 86_400_000;
const NOW = 100 * DAY;
const P = "p".repeat(40);
const Q = "q".repeat(40);

/** A generation of a data directory that began so many days ago, and got its last object as many days ago. */
function made(
  name: string,
  [fromDays, toDays]: readonly [number, number],
  more: Partial<WholeGeneration> = {},
): WholeGeneration {
  const generation = Number(/\d+/.exec(name)?.[0] ?? 0);
  return {
    name,
    lineage: { name: name.replaceAll(/\d/g, ""), generation },
    replid: P,
    baseOffset: (100 - fromDays) * 10,
    baseSum: name,
    sinceMs: NOW - fromDays * DAY,
    youngestMs: NOW - toDays * DAY,
    isSealed: true,
    isSound: true,
    ...more,
  };
}

const path = (endDays: number, ...steps: StreamPath["steps"]): StreamPath => ({
  steps: steps.length === 0 ? [{ replid: P, fromOffset: 0 }] : steps,
  endOffset: (100 - endDays) * 10,
});

function planned(
  all: readonly WholeGeneration[],
  paths: Record<string, StreamPath | undefined> = {},
  keepForDays = 7,
) {
  const rules = { nowMs: NOW, keepForMs: keepForDays * DAY };
  return removalPlan(all, rules, new Map(Object.entries(paths)));
}

const gone = (...args: Parameters<typeof planned>) => planned(...args).due.map(({ name }) => name);

describe("of one data directory", () => {
  const daily = Array.from({ length: 11 }, (_, n) => made(`a${n}`, [10 - n, Math.max(0, 9 - n)]));

  test("a generation goes once the next one is as old as moments are kept", () => {
    // a3 began 7 days ago: from then on it tells all.
    expect(planned(daily).due).toEqual([
      { name: "a0", by: "a1" },
      { name: "a1", by: "a2" },
      { name: "a2", by: "a3" },
    ]);
    expect(planned(daily).unread).toEqual([]);
  });

  test("the one that covers the first young moment stays", () => {
    const shifted = daily.map((one) => ({ ...one, sinceMs: one.sinceMs + 1 }));
    expect(gone(shifted)).toEqual(["a0", "a1"]);
  });

  test("the newest stays, however old", () => {
    expect(gone(daily.slice(0, 1))).toEqual([]);
    expect(gone(daily.slice(0, 3), {}, 0)).toEqual(["a0", "a1"]);
  });

  test("what has a young object stays", () => {
    const late = daily.with(1, { ...daily[1]!, youngestMs: NOW - 7 * DAY + 1 });
    expect(gone(late)).toEqual(["a0", "a2"]);
  });

  test("one that nobody sealed stays until it was silent for two days", () => {
    const open = [made("a0", [5, 1.9], { isSealed: false }), made("a1", [1.5, 0])];
    expect(gone(open, {}, 1)).toEqual([]);
    expect(gone([{ ...open[0]!, isSealed: true }, open[1]!], {}, 1)).toEqual(["a0"]);
    expect(gone([{ ...open[0]!, youngestMs: NOW - 2 * DAY }, open[1]!], {}, 1)).toEqual(["a0"]);
  });

  test("one that lacks a piece neither goes nor stands in for another", () => {
    const broken = [3, 2].reduce(
      (all, at) => all.with(at, { ...daily[at]!, isSound: false }),
      daily,
    );
    expect(gone(broken)).toEqual(["a0"]);
  });

  test("a history that began anew counts as what came after", () => {
    const anew = daily.map((one, n) => ({
      ...one,
      replid: `${n}`.padStart(40, "0"),
      baseOffset: 5,
    }));
    expect(gone(anew)).toEqual(["a0", "a1", "a2"]);
  });

  test("archived once more, the same generation forks nothing; another one of its number does", () => {
    const again = made("a1", [9, 8], { name: "again", lineage: { name: "a", generation: 1 } });
    expect(gone([...daily, { ...again, baseSum: "a1" }])).toEqual(["a0", "a1", "again", "a2"]);
    // From there on nobody knows what comes after what.
    expect(gone([...daily, { ...again, baseOffset: 7 }])).toEqual([]);
    const twin = made("b3", [7, 6], { lineage: { name: "a", generation: 3 } });
    expect(gone([...daily, twin])).toEqual(["a0", "a1"]);
  });
});

describe("of two data directories", () => {
  const dead = made("a0", [30, 20], { isSealed: false });
  const alive = made("b0", [18, 0], { isSealed: false });
  const end = { replid: P, fromOffset: 0 };

  test("one goes where another one of its stream begins behind its end", () => {
    expect(planned([dead, alive]).unread).toEqual(["a0"]);
    expect(planned([dead, alive], { a0: path(20) }).due).toEqual([{ name: "a0", by: "b0" }]);
  });

  test("one stays where that can't be known", () => {
    expect(planned([dead, alive], { a0: undefined })).toMatchObject({ due: [], unread: [] });
  });

  test("one goes where another one's stream has passed its end", () => {
    const amid = made("b0", [25, 0]);
    const known = { a0: path(20) };
    expect(planned([dead, amid], known).unread).toEqual(["b0"]);
    expect(gone([dead, amid], { ...known, b0: path(0) })).toEqual(["a0"]);
    expect(gone([dead, amid], { ...known, b0: path(21) })).toEqual([]);
    expect(gone([dead, amid], { ...known, b0: undefined })).toEqual([]);
    const passed = { replid: Q, fromOffset: (100 - 20) * 10 };
    expect(gone([dead, amid], { ...known, b0: path(0, end, passed) })).toEqual(["a0"]);
    const parted = { replid: Q, fromOffset: (100 - 21) * 10 };
    expect(gone([dead, amid], { ...known, b0: path(0, end, parted) })).toEqual([]);
  });

  test("a clone that was promoted is not covered by the one that it was cloned from", () => {
    const promoted = { replid: Q, fromOffset: (100 - 25) * 10 };
    const paths = { a0: path(20, end, promoted), b0: path(0) };
    expect(gone([dead, alive], paths)).toEqual([]);
    // Its own next generation does.
    const next = made("c0", [15, 10], { replid: Q });
    expect(planned([dead, alive, next], { ...paths, c0: path(10, promoted) }).due).toEqual([
      { name: "a0", by: "c0" },
    ]);
  });

  test("another primary's are no reason, whatever their age", () => {
    const other = made("b0", [18, 0], { replid: Q });
    const paths = { a0: path(20), b0: path(0, { replid: Q, fromOffset: 0 }) };
    expect(gone([dead, other], paths)).toEqual([]);
    expect(
      gone(
        [dead, { ...other, youngestMs: NOW - 8 * DAY }, made("b1", [8, 0], { replid: Q })],
        paths,
      ),
    ).toEqual(["b0"]);
  });

  test("of two that have the same base both stay", () => {
    const twins = [made("a0", [30, 20]), made("b0", [30, 20])];
    expect(planned(twins, { a0: path(20), b0: path(20) })).toMatchObject({ due: [], unread: [] });
  });

  test("one whose base another one has that stays, stays as well: segments of both may be one log", () => {
    const [base, next] = [{ replid: P, baseOffset: 500 }, made("a1", [15, 0])];
    const twins = [made("a0", [30, 20], base), made("b0", [30, 20], base)];
    expect(gone([...twins, next])).toEqual([]);
    expect(gone([...twins, next, made("b1", [12, 0])])).toEqual(["a0", "b0"]);
    expect(gone([twins[0]!, { ...twins[1]!, isSound: false }, next])).toEqual(["a0"]);
  });

  test("what is old and goes on nowhere is told, but for the newest", () => {
    const other = { replid: Q };
    const all = [dead, made("b0", [18, 8], other), made("b1", [8, 7], other)];
    expect(planned(all, { a0: path(20), b1: path(7, { ...other, fromOffset: 0 }) })).toMatchObject({
      alone: ["a0"],
    });
  });

  test("one that is too young is no reason", () => {
    expect(planned([dead, made("b0", [6, 0])], { a0: path(20) }).due).toEqual([]);
  });

  test("of what is read, nothing is read that has a young object", () => {
    expect(planned([made("a0", [30, 6]), alive]).unread).toEqual([]);
  });
});
