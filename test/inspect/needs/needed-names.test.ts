import { expect, test } from "bun:test";
import { Random } from "../../support/fill.ts";
import { seedOf } from "../../support/sweep.ts";
import { NeededNames } from "../../../src/inspect/needs/needed-names.ts";
import { KeyMatcher } from "../../../src/inspect/needs/selection.ts";

const ROOMY = { neededBytes: 1024 * 1024, groupBytes: 1024 * 1024 };
const bytes = (text: string) => Buffer.from(text);

function names(pattern: string, limits = ROOMY): NeededNames {
  return new NeededNames(new KeyMatcher({ patterns: [pattern], db: undefined }), limits);
}

/** Takes a command that makes `written` from itself and others. */
function take(needed: NeededNames, written: string, ...others: string[]): boolean {
  const all = [written, ...others].map(bytes);
  return needed.take({ written: [bytes(written)], all, obstacle: undefined });
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
  for (const [first, second] of [
    [["a"], ["b"]],
    [["a"], ["a", "b", "c"]],
    [["c"], ["b"]],
  ]) {
    const needed = names("user:1");
    for (const written of [first!, second!])
      needed.take({ written: written.map(bytes), all, obstacle: undefined });
    take(needed, "user:1", "b");
    expect(needed.has(bytes("c"))).toBe(true);
    expect(needed.pulledIn).toBe(3);
  }
});

test("tells of a command that can't be replayed once its key is needed, before or after", () => {
  const obstacle = { what: "SORT reads", byte: 7 };
  const group = { written: [bytes("b")], all: [bytes("b"), bytes("c")], obstacle };
  const before = names("user:1");
  before.take(group);
  expect(before.obstacle).toBeUndefined();
  take(before, "user:1", "b");
  expect(before.obstacle).toBe(obstacle);
  const after = names("user:1");
  take(after, "user:1", "b");
  after.take(group);
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
  needed.take({ written: [key], all: [key, other], obstacle: undefined });
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
    const groups: { written: Buffer[]; all: Buffer[] }[] = Array.from(
      { length: random.below(60) },
      () => {
        const all = Array.from({ length: 2 + random.below(3) }, name);
        return { written: random.below(2) === 0 ? all : [all[random.below(all.length)]!], all };
      },
    );
    const wanted = new Set(["7"]);
    for (let before = -1; before !== wanted.size;) {
      before = wanted.size;
      for (const { written, all } of groups) {
        if (written.some((one) => wanted.has(one.toString())))
          for (const one of all) wanted.add(one.toString());
      }
    }
    const limits = { ...ROOMY, groupBytes: random.below(3) === 0 ? random.below(2_000) : 100_000 };
    const needed = new NeededNames(new KeyMatcher({ patterns: ["7"], db: undefined }), limits);
    do {
      needed.beginAgain();
      for (const group of groups) needed.take({ ...group, obstacle: undefined });
    } while (needed.isStale);
    expect(needed.pulledIn).toBe(wanted.size - 1);
    for (const one of wanted) expect(needed.has(bytes(one))).toBe(true);
  }
});
