import { describe, expect, test } from "bun:test";
import {
  joinSegments,
  type LinkedSegment,
  type LogEnd,
} from "../../../src/archive/format/chain.ts";
import { Random } from "../../../src/demo/random.ts";
import { seedOf } from "../../support/sweep.ts";

const SEED = seedOf("CHAIN_SEED", 1);
const START: LogEnd = { offset: 100, crc: 0n };

/** The checksum of a history's log up to an offset: different for each history, but the same up to where it parted. */
const crcIn = (history: number, offset: number) =>
  offset === START.offset ? 0n : BigInt(history) * 1_000_000n + BigInt(offset);

function segment(from: number, to: number, history = 1, parent = history): LinkedSegment {
  return { from, to, crc: crcIn(history, to), crcFrom: crcIn(parent, from) };
}

const spans = (segments: readonly LinkedSegment[]) => segments.map(({ from, to }) => [from, to]);

describe("segments join", () => {
  test("where one begins at offset and checksum of another's end, in any order", () => {
    const all = [segment(300, 400), segment(100, 200), segment(200, 300)];
    const chain = joinSegments(START, all);
    expect(spans(chain.segments)).toEqual([
      [100, 200],
      [200, 300],
      [300, 400],
    ]);
    expect(chain).toMatchObject({
      end: { offset: 400, crc: crcIn(1, 400) },
      forks: [],
      spare: [],
      gap: undefined,
      unsure: [],
    });
  });

  test("to nothing where there is none, or none at the beginning", () => {
    expect(joinSegments(START, [])).toMatchObject({ segments: [], end: START, gap: undefined });
    const chain = joinSegments(START, [segment(200, 300), segment(150, 200)]);
    expect(chain).toMatchObject({ segments: [], end: START, gap: { to: 150 } });
    expect(chain.gap!.segments).toHaveLength(2);
  });

  test("by the one that reaches farthest, and not by the longest first one", () => {
    const all = [segment(100, 150), segment(100, 200), segment(100, 130), segment(150, 300)];
    const chain = joinSegments(START, all);
    expect(spans(chain.segments)).toEqual([
      [100, 150],
      [150, 300],
    ]);
    expect(spans(chain.spare)).toEqual([
      [100, 200],
      [100, 130],
    ]);
    expect(chain.forks).toEqual([]);
  });

  test("by the fewest where several ways reach as far", () => {
    const all = [segment(100, 150), segment(150, 200), segment(200, 300), segment(100, 200)];
    expect(spans(joinSegments(START, all).segments)).toEqual([
      [100, 200],
      [200, 300],
    ]);
  });

  test("up to a gap, and say where it ends", () => {
    const all = [segment(100, 200), segment(300, 400), segment(400, 500)];
    const chain = joinSegments(START, all);
    expect(chain.end.offset).toBe(200);
    expect(chain.gap).toMatchObject({ to: 300 });
    expect(spans(chain.gap!.segments)).toEqual([
      [300, 400],
      [400, 500],
    ]);
  });

  test("and tell what another history wrote", () => {
    const parted = [segment(200, 250, 2, 1), segment(250, 300, 2)];
    const chain = joinSegments(START, [
      segment(100, 200),
      segment(200, 250),
      segment(250, 300),
      segment(300, 400),
      ...parted,
    ]);
    expect(chain.end).toEqual({ offset: 400, crc: crcIn(1, 400) });
    expect(chain.forks).toEqual(parted);
  });

  test("of two histories, the one that reaches farther is the log", () => {
    const chain = joinSegments(START, [
      segment(100, 200),
      segment(200, 300),
      segment(200, 350, 2, 1),
      segment(350, 360, 2),
    ]);
    expect(chain.end).toEqual({ offset: 360, crc: crcIn(2, 360) });
    expect(spans(chain.spare)).toEqual([[200, 300]]);
  });

  test("and one of another history does not join, though the offsets fit", () => {
    const chain = joinSegments(START, [segment(100, 200), segment(200, 300, 2)]);
    expect(chain.end.offset).toBe(200);
    expect(spans(chain.forks)).toEqual([[200, 300]]);
  });

  test("by their names alone where these are enough, and else say whose header is needed", () => {
    const nameless = ({ from, to, crc }: LinkedSegment) => ({ from, to, crc, crcFrom: undefined });
    const simple = joinSegments(START, [nameless(segment(100, 200)), nameless(segment(200, 300))]);
    expect(simple).toMatchObject({ end: { offset: 300 }, unsure: [] });
    const next = nameless(segment(200, 300, 2));
    const forked = [segment(100, 200), segment(100, 200, 2), next].map(nameless);
    expect(joinSegments(START, forked).unsure).toEqual([next]);
    const read = [...forked.slice(0, 2), segment(200, 300, 2)];
    const chain = joinSegments(START, read);
    expect(chain).toMatchObject({ end: { offset: 300, crc: crcIn(2, 300) }, unsure: [] });
    expect(chain.segments.map(({ crc }) => crc)).toEqual([crcIn(2, 200), crcIn(2, 300)]);
  });
});

test("any set of segments joins as far as trying every way does", () => {
  const random = new Random(SEED);
  for (let round = 0; round < 2000; round++) {
    const all = Array.from({ length: random.below(12) }, () => {
      const from = 100 + random.below(8);
      const history = 1 + random.below(2);
      const parent = random.below(4) === 0 ? 3 - history : history;
      return segment(from, from + 1 + random.below(5), history, parent);
    });
    const farthest = (place: LogEnd): number =>
      Math.max(
        place.offset,
        ...all
          .filter(({ from, crcFrom }) => from === place.offset && crcFrom === place.crc)
          .map(({ to, crc }) => farthest({ offset: to, crc })),
      );
    const chain = joinSegments(START, all);
    expect([round, chain.end.offset]).toEqual([round, farthest(START)]);
    let end = START;
    for (const { from, to, crc, crcFrom } of chain.segments) {
      expect([from, crcFrom]).toEqual([end.offset, end.crc]);
      end = { offset: to, crc };
    }
    const parts = [chain.segments, chain.forks, chain.spare, chain.gap?.segments ?? []];
    expect(parts.flat()).toHaveLength(all.length);
    expect(new Set(parts.flat())).toEqual(new Set(all));
  }
});

test("a week of segments joins at once, however they are sorted", () => {
  const all = Array.from({ length: 60_000 }, (_, at) => segment(100 + at, 101 + at));
  expect(joinSegments(START, all).segments).toHaveLength(60_000);
  expect(joinSegments(START, all.toReversed()).segments).toHaveLength(60_000);
});
