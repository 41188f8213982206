import { expect, test } from "bun:test";
import { NameHashes } from "../../../src/inspect/compare/name-hashes.ts";

const name = (n: number) => Buffer.from(`key:${n}`);

test("remembers every name that it takes, and few others", () => {
  const names = new NameHashes(8 * 1024 * 1024);
  for (let n = 0; n < 100_000; n++) names.add(name(n));
  const missing = Array.from({ length: 100_000 }, (_, n) => !names.has(name(n)));
  expect(missing.filter(Boolean)).toEqual([]);
  const mistaken = Array.from({ length: 100_000 }, (_, n) => names.has(name(1_000_000 + n)));
  // One of 43,000 by chance.
  expect(mistaken.filter(Boolean).length).toBeLessThan(30);
  expect(names.size).toBeGreaterThan(99_900);
  const { size } = names;
  names.add(name(0));
  expect(names.size).toBe(size);
});

test("takes no more memory than it may, and says so", () => {
  const names = new NameHashes(8 * 1024);
  let taken = 0;
  while (names.add(name(taken))) taken++;
  // 2,048 slots of 4 bytes, three quarters of them.
  expect(taken).toBe(1536);
  for (let n = 0; n < taken; n++) expect(names.has(name(n))).toBe(true);
});

test("takes the empty name, and bytes that are no text", () => {
  const names = new NameHashes(64 * 1024);
  for (const odd of [Buffer.alloc(0), Buffer.from([0, 0xff]), Buffer.alloc(100_000, 7)]) {
    expect(names.has(odd)).toBe(false);
    names.add(odd);
    expect(names.has(odd)).toBe(true);
  }
});
