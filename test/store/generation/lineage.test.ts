import { describe, expect, test } from "bun:test";
import type { ReplicationId } from "../../../src/base/history.ts";
import { type LineageMember, Lineage } from "../../../src/store/generation/lineage.ts";

const A = "a".repeat(40) as ReplicationId;
const B = "b".repeat(40) as ReplicationId;
const C = "c".repeat(40) as ReplicationId;

/** A generation from `baseOffset` to `end`, in these histories from these offsets on. */
function generation(
  id: number,
  baseOffset: number,
  end: number | undefined,
  ...histories: [ReplicationId, number][]
): LineageMember & { readonly end: number | undefined } {
  const replicationIds = histories.map(([replid, fromOffset]) => ({ replid, fromOffset }));
  const about = { primaryName: "p", currentAtMs: 0, rdbBytes: 1, rdbCrc64: "0", logHeaderBytes: 0 };
  return { id, baseOffset, end, replicationIds, ...about };
}

function lineageOf(...oldestFirst: ReturnType<typeof generation>[]): Lineage {
  const ends = new Map(oldestFirst.map(({ id, end }) => [id, end]));
  return new Lineage(oldestFirst.toReversed(), ({ id }) => ends.get(id));
}

/** The generation that each of these offsets is read from, and up to which offset. */
function places(lineage: Lineage, ...offsets: number[]) {
  return offsets.map((offset) => {
    const place = lineage.at(offset);
    return place === undefined ? undefined : [place.generation.id, place.until];
  });
}

describe("the generations that lead to the current one", () => {
  test("is empty without a generation", () => {
    const lineage = lineageOf();
    expect([lineage.at(0), lineage.holds(A, 0), lineage.knows(A)]).toEqual([
      undefined,
      false,
      false,
    ]);
  });

  test("reads each generation up to where the next one begins", () => {
    const lineage = lineageOf(
      generation(1, 100, 300, [A, 100]),
      generation(2, 200, 400, [A, 200]),
      generation(3, 400, 500, [A, 400]),
    );
    expect(places(lineage, 99, 100, 199, 200, 399, 400, 9_000)).toEqual([
      undefined,
      [1, 200],
      [1, 200],
      [2, 400],
      [2, 400],
      [3, Infinity],
      [3, Infinity],
    ]);
    for (const offset of [100, 200, 450]) expect(lineage.holds(A, offset)).toBe(true);
    for (const offset of [-1, 99]) expect(lineage.holds(A, offset)).toBe(false);
  });

  test.each([
    ["ends before the next one's base", generation(1, 100, 199, [A, 100])],
    ["has lost its log", generation(1, 100, undefined, [A, 100])],
    ["is of another history", generation(1, 100, 300, [B, 100])],
    ["left that history before", generation(1, 100, 300, [A, 100], [B, 150])],
    ["came to that history later", generation(1, 100, 300, [B, 100], [A, 250])],
    ["begins behind it", generation(1, 250, 300, [A, 250])],
    ["has no history", generation(1, 100, 300)],
  ])("one that %s leads nowhere", (_name, before) => {
    const lineage = lineageOf(
      generation(0, 50, 1_000, [A, 50]),
      before,
      generation(2, 200, 400, [A, 200]),
    );
    expect(places(lineage, 60, 199, 200)).toEqual([undefined, undefined, [2, Infinity]]);
    expect([lineage.holds(A, 199), lineage.holds(A, 200)]).toEqual([false, true]);
  });

  test("leaves out generations before one without a history", () => {
    const lineage = lineageOf(generation(1, 100, 300, [A, 100]), generation(2, 200, 400));
    expect(places(lineage, 150, 250)).toEqual([undefined, [2, Infinity]]);
    expect([lineage.holds(A, 250), lineage.knows(A)]).toEqual([false, false]);
  });
});

describe("a position", () => {
  const lineage = lineageOf(
    generation(1, 100, 300, [A, 100], [B, 150], [C, 280]),
    generation(2, 200, 400, [B, 200], [C, 280]),
  );

  test.each([
    [A, 100, true],
    [A, 150, true],
    [A, 151, false],
    // A history contains what came before it, as with Redis's own ids.
    [B, 100, true],
    [B, 280, true],
    [B, 281, false],
    [C, 120, true],
    [C, 500, true],
    [C, 99, false],
    ["d".repeat(40), 200, false],
  ])("%s at %d: %p", (replid, offset, is) => {
    expect(lineage.holds(replid, offset)).toBe(is);
    expect(lineage.knows(replid)).toBe(replid !== "d".repeat(40));
  });

  test("in a history that came back is accepted up to the end of its last interval", () => {
    const back = lineageOf(generation(1, 100, 300, [A, 100], [B, 150], [A, 200]));
    expect([A, B].map((replid) => back.holds(replid, 250))).toEqual([true, false]);
  });
});
