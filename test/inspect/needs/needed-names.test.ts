import { expect, test } from "bun:test";
import { Glob } from "../../../src/base/glob.ts";
import { Random } from "../../support/fill.ts";
import { seedOf } from "../../support/sweep.ts";
import type { Obstacle } from "../../../src/inspect/needs/group-memory.ts";
import { KeySpans } from "../../../src/inspect/needs/key-spans.ts";
import { NeededNames } from "../../../src/inspect/needs/needed-names.ts";
import { KeyMatcher } from "../../../src/inspect/needs/selection.ts";

const ROOMY = { neededBytes: 1024 * 1024, groupBytes: 1024 * 1024 };
const bytes = (text: string) => Buffer.from(text);

function names(pattern: string, limits = ROOMY): NeededNames {
  return new NeededNames(new KeyMatcher({ patterns: [pattern], db: undefined }), limits);
}

/** Takes a command of these keys, which writes one of them by number, or all. */
function takeGroup(
  needed: NeededNames,
  all: readonly Uint8Array[],
  written: "all" | number,
  obstacle?: Obstacle,
): boolean {
  const keys = new KeySpans();
  keys.begin(Buffer.concat(all));
  let at = 0;
  for (const { length } of all) keys.add(at, (at += length));
  return needed.take({ keys, written, obstacle });
}

/** Takes a command that makes `written` from itself and others. */
function take(needed: NeededNames, written: string, ...others: string[]): boolean {
  return takeGroup(needed, [written, ...others].map(bytes), 0);
}

test("needs what a wanted key is made from, to the end of the chain", () => {
  const needed = names("user:*");
  expect(take(needed, "user:1", "b")).toBe(true);
  expect(take(needed, "b", "c", "d")).toBe(true);
  expect(take(needed, "other", "e")).toBe(false);
  expect(["b", "c", "d", "user:7"].map((name) => needed.has(bytes(name)))).not.toContain(false);
  expect(["other", "e"].map((name) => needed.has(bytes(name)))).not.toContain(true);
  expect(needed.pulledIn).toBe(3);
});

test("finds the chain whatever the order of the commands", () => {
  const needed = names("user:1");
  take(needed, "c", "d");
  take(needed, "b", "c");
  take(needed, "x", "b");
  expect(needed.has(bytes("d"))).toBe(false);
  take(needed, "user:1", "b");
  expect(needed.has(bytes("d"))).toBe(true);
  expect(needed.has(bytes("x"))).toBe(false);
  expect(needed.isStale).toBe(false);
});

test("asks for another reading where commands were forgotten, and only if that may matter", () => {
  const none = { ...ROOMY, groupBytes: 0 };
  const alone = names("user:1", none);
  take(alone, "x", "y");
  expect(alone.isStale).toBe(false);
  const needed = names("user:1", none);
  take(needed, "b", "c");
  take(needed, "user:1", "b");
  expect(needed.isStale).toBe(true);
  needed.beginAgain();
  expect(take(needed, "b", "c")).toBe(true);
  take(needed, "user:1", "b");
  expect(needed.isStale).toBe(false);
  expect(needed.has(bytes("c"))).toBe(true);
});

test("remembers the same command once, whatever is in the names", () => {
  // Each costs some 300 bytes: room for a few.
  const needed = names("user:1", { ...ROOMY, groupBytes: 4_000 });
  for (let n = 0; n < 1_000; n++) take(needed, "1:b", "2:c3:d");
  take(needed, "user:1", "1:b");
  expect(needed.isStale).toBe(false);
  expect(needed.has(bytes("2:c3:d"))).toBe(true);
  expect(needed.has(bytes("c"))).toBe(false);
});

test("two commands on the same names that write different ones of them are two", () => {
  const all = ["a", "b", "c"].map(bytes);
  for (const twice of [
    [0, 1],
    [0, "all"],
    [2, 1],
  ] as const) {
    const needed = names("user:1");
    for (const written of twice) takeGroup(needed, all, written);
    take(needed, "user:1", "b");
    expect(needed.has(bytes("c"))).toBe(true);
    expect(needed.pulledIn).toBe(3);
  }
});

test("tells of a command that can't be replayed once its key is needed, before or after", () => {
  const obstacle = { what: "SORT reads", byte: 7 };
  const group = ["b", "c"].map(bytes);
  const before = names("user:1");
  takeGroup(before, group, 0, obstacle);
  expect(before.obstacle).toBeUndefined();
  take(before, "user:1", "b");
  expect(before.obstacle).toBe(obstacle);
  const after = names("user:1");
  take(after, "user:1", "b");
  takeGroup(after, group, 0, obstacle);
  expect(after.obstacle).toBe(obstacle);
});

test("keeps within its memory, and says so", () => {
  const needed = names("user:*", { ...ROOMY, neededBytes: 10_000 });
  for (let n = 0; n < 1_000; n++) take(needed, `user:${n}`, `other:${n}`);
  expect(needed.isOverfull).toBe(true);
  expect(needed.pulledIn).toBeLessThan(200);
});

test("matches names byte by byte", () => {
  const needed = names("é?");
  const key = Uint8Array.of(0xc3, 0xa9, 0xff);
  expect(needed.has(key)).toBe(true);
  const other = Uint8Array.of(0xff, 0xfe);
  takeGroup(needed, [key, other], 0);
  expect(needed.has(other)).toBe(true);
  expect(needed.has(Uint8Array.of(0xff, 0xfd))).toBe(false);
});

test("a star alone is every key, the empty one too, as servers list them", () => {
  const any = new KeyMatcher({ patterns: ["*", "a*"], db: undefined });
  expect(any.matches(bytes(""))).toBe(true);
  any.meet(bytes(""));
  expect(any.unmet).toEqual(["a*"]);
  const others = new KeyMatcher({ patterns: ["?*", "[^a]"], db: undefined });
  expect(others.matches(bytes(""))).toBe(false);
});

test("thousands of names, and as many that aren't there, take little longer than one", () => {
  const patterns = Array.from({ length: 20_000 }, (_, at) => `user:${at}`);
  const many = new KeyMatcher({ patterns: [...patterns, "user:1*0", "user:1"], db: undefined });
  const begunMs = performance.now();
  for (let at = 0; at < 100_000; at++) {
    const key = bytes(`user:${at}`);
    expect(many.matches(key)).toBe(at < 20_000 || (String(at).startsWith("1") && at % 10 === 0));
    if (at > 2 && at < 20_000) many.meet(key);
  }
  // A look at every pattern for every key takes minutes.
  expect(performance.now() - begunMs).toBeLessThan(10_000);
  expect(many.unmet).toEqual(["user:0", "user:1", "user:2", "user:1"]);
});

test("finds what a search from command to command finds, in however little memory", () => {
  const random = new Random(seedOf("NEEDED_SEED"));
  for (let round = 0; round < 200; round++) {
    const names = 5 + random.below(40);
    const name = () => bytes(`${random.below(names)}`.repeat(1 + random.below(2)));
    const groups = Array.from({ length: random.below(60) }, () => {
      const all = Array.from({ length: 2 + random.below(3) }, name);
      const written = random.below(2) === 0 ? ("all" as const) : random.below(all.length);
      return { all, written };
    });
    const wanted = new Set(["7"]);
    for (let before = -1; before !== wanted.size;) {
      before = wanted.size;
      for (const { written, all } of groups) {
        const writes = written === "all" ? all : [all[written]!];
        if (writes.some((one) => wanted.has(one.toString())))
          for (const one of all) wanted.add(one.toString());
      }
    }
    const limits = { ...ROOMY, groupBytes: random.below(3) === 0 ? random.below(2_000) : 100_000 };
    const needed = new NeededNames(new KeyMatcher({ patterns: ["7"], db: undefined }), limits);
    do {
      needed.beginAgain();
      for (const { all, written } of groups) takeGroup(needed, all, written);
    } while (needed.isStale);
    expect(needed.pulledIn).toBe(wanted.size - 1);
    for (const one of wanted) expect(needed.has(bytes(one))).toBe(true);
  }
});

test("what a pattern begins and ends with spares no key that it matches", () => {
  const random = new Random(seedOf("PATTERN_SEED"));
  const drawn = (letters: string, most: number) =>
    Array.from({ length: random.below(most + 1) }, () => letters[random.below(letters.length)]);
  let [matched, unmatched] = [0, 0];
  for (let round = 0; round < 5_000; round++) {
    const pattern = drawn("aab*?[]\\^-", 6).join("");
    const matcher = new KeyMatcher({ patterns: [pattern], db: undefined });
    // Keys lie amid other bytes.
    const key = drawn("aab]", 5).join("");
    const around = bytes(`${drawn("ab", 3).join("")}${key}ab`);
    const from = around.length - 2 - key.length;
    // A star alone matches the empty key too, and what has nothing special is a name.
    const isAny = /^\*+$/.test(pattern);
    const isName = !/[*?[\\]/.test(pattern);
    const wanted = isAny || (isName ? key === pattern : new Glob(pattern).matches(key));
    expect({ pattern, key, is: matcher.matchesAt(around, from, from + key.length) }).toEqual({
      pattern,
      key,
      is: wanted,
    });
    if (wanted) matched++;
    else unmatched++;
  }
  expect(Math.min(matched, unmatched)).toBeGreaterThan(100);
});
