import { beforeAll, afterAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { tempDir } from "../support/temp.ts";
import { Checkout } from "./checkout.ts";
import { edit, held, heldByMany, mutation, type Mutation } from "./mutation.ts";
import { Trial, type Verdict } from "./trial.ts";

const PROGRAM = "src/program.ts";
const TESTS = "test/program.test.ts";
const SOURCE = `
// A sum, not a product.
export function sum(a: number, b: number): number {
  return a + b;
}
`;
const TEST_SOURCE = `
import { describe, expect, test } from "bun:test";
import { sum } from "../src/program.ts";
describe("sum", () => {
  test.each([1, 2])("adds (%i of 2)", (n) => expect(sum(n, 3)).toBe(n + 3));
  test("is a number", () => expect(sum(1, 1)).toBeNumber());
  test("fails", () => expect(sum(1, 1)).toBe(3));
  test("leaves another behind", () => {
    const left = Bun.spawn(["sleep", "600"], { detached: true, stdio: ["ignore", "inherit", "inherit"] });
    left.unref();
    require("node:fs").writeFileSync("left-behind", String(left.pid));
  });
  test("never ends", () => new Promise(() => setInterval(() => 0, 1000)));
});
`;

const dir = tempDir("trial");
let checkout: Checkout;
let trial: Trial;

beforeAll(async () => {
  await Bun.write(dir.file("from", PROGRAM), SOURCE);
  await Bun.write(dir.file("from", TESTS), TEST_SOURCE);
  await Bun.write(dir.file("from/.gitignore"), "dist\n");
  await Bun.write(dir.file("from/dist/built"), "");
  expect(Bun.spawnSync(["git", "init", "-q"], { cwd: dir.file("from") }).exitCode).toBe(0);
  checkout = Checkout.copy(dir.file("from"), dir.file("copy"));
  trial = new Trial(checkout, 30_000);
});
afterAll(() => dir.remove());

const adds = held(TESTS, "adds (%i of 2)");
const isNumber = held(TESTS, "is a number");

/** Tries one mutation; the source is there again afterwards. */
async function tried(one: Mutation, promise = adds): Promise<Verdict> {
  const verdict = await trial.mutated(promise, one);
  expect(readFileSync(dir.file("copy", PROGRAM), "utf8")).toBe(SOURCE);
  return verdict;
}

const product = mutation("multiplies", edit(PROGRAM, "a + b", "a * b"));
const faulty = (why: RegExp) => ({ kind: "faulty", why: expect.stringMatching(why) }) as const;

test("copies what git knows and what is new, and nothing that it ignores", () => {
  expect(existsSync(dir.file("copy", TESTS))).toBe(true);
  expect(existsSync(dir.file("copy/dist"))).toBe(false);
});

test("tells a test that catches a mutation from one that does not", async () => {
  expect(await trial.asItIs(adds)).toEqual({ kind: "held", said: "" });
  const said = "expect(received).toBe(expected) Expected: 4 Received: 3";
  expect(await tried(product)).toEqual({ kind: "held", said });
  expect(await tried(product, isNumber)).toEqual({ kind: "survived" });
});

test("makes several edits, in one file too", async () => {
  const both = mutation(
    "takes the second away",
    edit(PROGRAM, "return a + b;", "return a + minus(b);"),
    edit(PROGRAM, "// A sum", "const minus = (n: number) => -n;\n// A sum"),
  );
  expect((await tried(both)).kind).toBe("held");
});

test("a failure before any mutation says nothing about the program", async () => {
  expect(await trial.asItIs(held(TESTS, "fails"))).toEqual(faulty(/^it fails without a mutation/));
  expect(await trial.asItIs(held(TESTS, "adds nothing"))).toEqual(faulty(/^no test ran/));
  const all = held(TESTS, "sum");
  expect((await trial.asItIs(all)).kind).toBe("faulty");
  const one = heldByMany(TESTS, "sum", "sum is a number");
  expect((await trial.asItIs(one)).kind).toBe("held");
});

test.each([
  ["whose text is not there", edit(PROGRAM, "a - b", "a"), /this text 0 times/],
  ["whose text is there twice", edit(PROGRAM, "number", "string"), /this text 3 times/],
  ["of a file that is not there", edit("src/none.ts", "a", "b"), /there is no src\/none.ts/],
  ["of a comment", edit(PROGRAM, "not a product", "a product"), /changes nothing/],
  ["that does not parse", edit(PROGRAM, "a + b", "a +"), /does not parse/],
  ["that does not fit together", edit(PROGRAM, "a + b", "a + c"), /is broken: ReferenceError/],
  ["that does not load", edit(PROGRAM, "export function", "function"), /^no test ran/],
])("a mutation %s is a fault of the table", async (_, one, why) => {
  expect(await tried(mutation("", one))).toEqual(faulty(why));
});

test("ends a run that takes too long", async () => {
  const hasty = new Trial(checkout, 500);
  const endless = held(TESTS, "never ends");
  expect(await hasty.asItIs(endless)).toEqual(faulty(/took more than 0.5 s and was ended/));
});

test("waits for no process that a test left behind, though that holds its output", async () => {
  const verdict = await trial.asItIs(held(TESTS, "leaves another behind"));
  expect(verdict).toEqual({ kind: "held", said: "" });
  const pid = Number(readFileSync(dir.file("copy/left-behind"), "utf8"));
  process.kill(pid, "SIGKILL");
});
