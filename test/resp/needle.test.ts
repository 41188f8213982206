import { expect, test } from "bun:test";
import { Needle } from "../../src/resp/needle.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test("falls back to the longest beginning that still matches", () => {
  const needle = new Needle(bytes("aabaaa"));
  const lengths: number[] = [];
  let length = 0;
  for (const byte of bytes("aabaabaaa")) lengths.push((length = needle.step(length, byte)));
  expect(lengths).toEqual([1, 2, 3, 4, 5, 3, 4, 5, 6]);
});

test("finds a whole needle in a chunk, or its beginning at the chunk's end", () => {
  const needle = new Needle(bytes("abc"));
  const chunk = bytes("xxabcabcxab").subarray(1);
  expect(needle.indexIn(chunk, 0)).toBe(1);
  expect(needle.indexIn(chunk, 2)).toBe(4);
  expect(needle.indexIn(chunk, 5)).toBe(-1);
  expect(needle.matchLengthAtEnd(chunk, 0)).toBe(2);
  expect(needle.matchLengthAtEnd(chunk, chunk.length - 1)).toBe(0);
  expect(needle.matchLengthAtEnd(new Uint8Array(0), 0)).toBe(0);
});
