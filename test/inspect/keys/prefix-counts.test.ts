import { expect, test } from "bun:test";
import { type PrefixCount, PrefixCounts } from "../../../src/inspect/keys/prefix-counts.ts";
import { PREFIX_LOOK_BYTES } from "../../../src/inspect/keys/prefix-cut.ts";
import { Random } from "../../support/fill.ts";
import { amount, seedOf } from "../../support/sweep.ts";

interface Exact {
  keys: number;
  bytes: number;
  elements: number;
}

/** The sketch, and what it is compared with. */
class Both {
  readonly sketch: PrefixCounts;
  readonly exact = new Map<string, Exact>();
  keys = 0;
  bytes = 0;

  constructor(most: number, seed: number) {
    this.sketch = new PrefixCounts(most, seed);
  }

  add(prefix: string, bytes: number, elements: number): void {
    const keyBuffer = Buffer.from(`:${prefix}whatever`, "latin1");
    const key = { keyBuffer, keyStart: 1, keyEnd: keyBuffer.length };
    this.sketch.add(key, prefix.length, bytes, elements);
    const exact = this.exact.get(prefix) ?? { keys: 0, bytes: 0, elements: 0 };
    this.exact.set(prefix, exact);
    exact.keys += 1;
    exact.bytes += bytes;
    exact.elements += elements;
    this.keys += 1;
    this.bytes += bytes;
  }

  counted(): Map<string, PrefixCount> {
    return new Map(
      [...this.sketch.all()].map((one) => [Buffer.from(one.prefix).toString("latin1"), one]),
    );
  }

  /** Fails unless all that the sketch says is true. */
  check(): void {
    const counted = this.counted();
    expect(counted.size).toBe(this.sketch.size);
    for (const [prefix, exact] of this.exact) {
      const found = counted.get(prefix);
      if (found === undefined) {
        expect(exact.keys).toBeLessThanOrEqual(this.sketch.missedKeys);
        expect(exact.bytes).toBeLessThanOrEqual(this.sketch.missedBytes);
        continue;
      }
      for (const [least, missed, real] of [
        [found.keys, found.maxMissedKeys, exact.keys],
        [found.bytes, found.maxMissedBytes, exact.bytes],
        [found.elements, found.maxMissedElements, exact.elements],
      ] as const) {
        expect(least).toBeLessThanOrEqual(real);
        expect(real).toBeLessThanOrEqual(least + missed);
      }
    }
    for (const prefix of counted.keys()) expect(this.exact.has(prefix)).toBe(true);
  }
}

/** Prefixes of many kinds of data: each name picks one by chance. */
const LOADS: Readonly<Record<string, (random: Random, turn: number) => string>> = {
  "each once": (_, turn) => `${turn}:`,
  "all the same often": (random) => `${random.below(300)}:`,
  "few that are heavy among many": (random, turn) =>
    random.below(3) === 0 ? `heavy${random.below(10)}:` : `${turn}:`,
  "ever fewer of each": (random) =>
    `${Math.floor(1 / ((random.below(1_000_000) + 1) / 1_000_000))}:`,
  "one after the other": (_, turn) => `${Math.floor(turn / 37)}:`,
  "back after they were dropped": (_, turn) => `${turn % 1_000}:`,
};

test.each(Object.keys(LOADS))("what it says holds for prefixes that are %s", (name) => {
  const random = new Random(seedOf("PREFIX_SEED"));
  for (let run = 0; run < amount("PREFIX_RUNS", { sample: 8, full: 200 }); run++) {
    const most = 16 + random.below(200);
    const both = new Both(most, random.below(0x7fff_ffff));
    const turns = random.below(20_000);
    for (let turn = 0; turn < turns; turn++) {
      const prefix = LOADS[name]!(random, turn);
      both.add(prefix, 1 + random.below(random.below(50) === 0 ? 100_000 : 100), random.below(5));
    }
    both.check();
    const { sketch } = both;
    expect(sketch.size).toBeLessThanOrEqual(most);
    expect(sketch.isExact).toBe(both.exact.size <= most);
    expect(sketch.missedKeys).toBeLessThanOrEqual((4 * both.keys) / most);
    expect(sketch.missedBytes).toBeLessThanOrEqual((4 * both.bytes) / most);
    if (sketch.isExact) expect([sketch.missedKeys, sketch.missedBytes]).toEqual([0, 0]);
  }
});

test("counts exactly up to the bound, and says so", () => {
  const both = new Both(1_000, 7);
  for (let n = 0; n < 10_000; n++) both.add(`${n % 1_000}:`, n, 2);
  expect(both.sketch.isExact).toBe(true);
  for (const [prefix, count] of both.counted()) {
    expect(count).toMatchObject({ ...both.exact.get(prefix)!, maxMissedKeys: 0 });
  }
  both.add("one too many:", 1, 1);
  expect(both.sketch.isExact).toBe(false);
  both.check();
});

test("keeps what has few keys and many bytes, and what has many keys and few bytes", () => {
  const both = new Both(64, 3);
  for (let n = 0; n < 20_000; n++) {
    both.add(`${n}:`, 10, 1);
    if (n % 4_000 === 0) both.add("large:", 1_000_000, 1);
    if (n % 20 === 0) both.add("many:", 1, 1);
  }
  both.check();
  expect(both.counted().get("large:")).toMatchObject({ keys: 5, bytes: 5_000_000 });
  expect(both.counted().get("many:")).toMatchObject({ keys: 1_000, bytes: 1_000 });
});

test("tells prefixes apart by every byte, and keys without one too", () => {
  const both = new Both(2_000, 1);
  const long = "x".repeat(PREFIX_LOOK_BYTES - 1);
  for (let byte = 0; byte < 256; byte++) both.add(String.fromCharCode(byte), byte, 1);
  for (let byte = 0; byte < 256; byte++) both.add(long + String.fromCharCode(byte), byte, 1);
  both.add("", 5, 1);
  expect(both.sketch.size).toBe(513);
  both.check();
});

/** As the sketch does it; what it is doesn't matter to anyone else. */
function hashOf(seed: number, text: string): number {
  let hash = seed;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x0100_0193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85eb_ca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2_ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

test("what it says holds for keys that were made to collide, and it looks no farther for them", () => {
  const [most, seed] = [1_024, 99];
  const colliding: string[] = [];
  for (let n = 0; colliding.length < 560; n++) {
    // The table has 2,048 places.
    if ((hashOf(seed, `${n}:`) & 2_047) === 5) colliding.push(`${n}:`);
  }
  const both = new Both(most, seed);
  for (let round = 0; round < 3; round++) for (const prefix of colliding) both.add(prefix, 10, 1);
  expect(both.sketch.size).toBe(512);
  expect(both.sketch.isExact).toBe(false);
  both.check();
});
