import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { encodeCommand } from "../../src/resp/encode.ts";
import { GetackFinder } from "../../src/resp/getack-finder.ts";

const SEED = 20260103;
const GETACK = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
const bytes = (text: string) => new TextEncoder().encode(text);

/** Offsets in the whole stream that `find` reported, chunk by chunk. */
function findAll(pieces: Uint8Array[]): number[] {
  const finder = new GetackFinder();
  const ends: number[] = [];
  let offset = 0;
  for (const piece of pieces) {
    const end = finder.find(piece);
    if (end > 0) ends.push(offset + end);
    offset += piece.length;
  }
  return ends;
}

describe("GetackFinder", () => {
  test("searches for the bytes that a primary sends", () => {
    expect(Buffer.from(encodeCommand("REPLCONF", "GETACK", "*")).toString()).toBe(GETACK);
  });

  test("returns the end of the last GETACK in a chunk, 0 for none", () => {
    const finder = new GetackFinder();
    expect(finder.find(bytes("*1\r\n$4\r\nPING\r\n"))).toBe(0);
    expect(finder.find(bytes(`${GETACK}xx${GETACK}yy`))).toBe(2 * GETACK.length + 2);
    expect(finder.find(bytes("yy"))).toBe(0);
    expect(finder.find(new Uint8Array(0))).toBe(0);
  });

  test("finds a GETACK cut at every byte and every pair, after a false beginning", () => {
    const all = bytes(`${GETACK.slice(0, 20)}${GETACK}*1\r\n`);
    const end = 20 + GETACK.length;
    for (let a = 0; a <= all.length; a++) {
      for (let b = a; b <= all.length; b++) {
        const ends = findAll([all.subarray(0, a), all.subarray(a, b), all.subarray(b)]);
        if (ends.length !== 1 || ends[0] !== end) throw new Error(`cut at ${a} and ${b}: ${ends}`);
      }
    }
  });

  test("one byte at a time", () => {
    const all = bytes(`x${GETACK}${GETACK}`);
    const ends = findAll([...all].map((byte) => Uint8Array.of(byte)));
    expect(ends).toEqual([1 + GETACK.length, 1 + 2 * GETACK.length]);
  });

  test("finds GETACKs in any stream, cut anywhere, as a plain search does", () => {
    const part = fc.oneof(
      { weight: 3, arbitrary: fc.constant(GETACK) },
      fc.nat(GETACK.length).map((length) => GETACK.slice(0, length)),
      fc.string({ maxLength: 5 }),
    );
    fc.assert(
      fc.property(fc.array(part), fc.array(fc.nat(400)), (parts, cuts) => {
        const all = bytes(parts.join(""));
        const edges = [...cuts.map((at) => at % (all.length + 1)), all.length].sort(
          (a, b) => a - b,
        );
        const pieces = edges.map((edge, index) => all.subarray(edges[index - 1] ?? 0, edge));
        const expected: number[] = [];
        let from = 0;
        for (const edge of edges) {
          const last = Buffer.from(all.subarray(0, edge)).lastIndexOf(GETACK);
          const end = last + GETACK.length;
          if (last !== -1 && end > from) expected.push(end);
          from = edge;
        }
        expect(findAll(pieces)).toEqual(expected);
      }),
      { seed: SEED, numRuns: 2_000 },
    );
  });
});
