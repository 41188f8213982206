import { afterEach, beforeEach, expect, test } from "bun:test";
import * as fs from "node:fs";
import { KeyTable } from "../../../src/inspect/compare/key-table.ts";
import { errorOf } from "../../support/error-of.ts";
import { mayMount, smallDisk } from "../../support/small-disk.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";

let dir: TempDir;
beforeEach(() => {
  dir = tempDir("key-table");
});
afterEach(() => dir[Symbol.dispose]());

/** A string, as it stands in an RDB. */
function entry(key: string | Uint8Array, value: string, more: { db?: number; at?: number } = {}) {
  return {
    db: more.db ?? 0,
    key: Buffer.from(key),
    kind: "string" as const,
    opcode: 0,
    value: Buffer.concat([Uint8Array.of(value.length), Buffer.from(value)]),
    expiresAtMs: more.at,
    idleSeconds: undefined,
    frequency: undefined,
    elements: undefined,
    rdbVersion: 10,
    magic: "REDIS" as const,
  };
}

test("lists differences by database and by the bytes of names, whatever the order of the keys", () => {
  using table = new KeyTable(dir.file("keys.db"));
  const odd = Uint8Array.of(0xff, 0);
  for (const key of [entry("b", "1"), entry(odd, "1"), entry("a", "1", { db: 10 })])
    table.takeBefore(key);
  for (const key of [entry("a", "1", { db: 2 }), entry("", "1"), entry("b", "2")])
    table.takeAfter(key);
  const told = [...table.differences()].map(({ db, key, before, after }) => [
    db,
    Buffer.from(key).toString("latin1"),
    before !== undefined,
    after !== undefined,
  ]);
  expect(told).toEqual([
    [0, "", false, true],
    [0, "b", true, true],
    [0, "\xff\0", true, false],
    [2, "a", false, true],
    [10, "a", true, false],
  ]);
  expect(table.counts).toMatchObject({ came: 2, went: 2, changed: 1, unchanged: 0 });
});

test("tells a time to live that differs from a value that does", () => {
  using table = new KeyTable(dir.file("keys.db"));
  const late = 2 ** 52;
  for (const key of [entry("a", "1"), entry("b", "1", { at: 5 }), entry("c", "1", { at: late })])
    table.takeBefore(key);
  for (const key of [
    entry("a", "1", { at: 5 }),
    entry("b", "2", { at: 5 }),
    entry("c", "1", { at: late }),
  ])
    table.takeAfter(key);
  const [first, second, ...others] = table.differences();
  expect(first).toMatchObject({ isOtherValue: false, after: { expiresAtMs: 5 } });
  expect(second).toMatchObject({ isOtherValue: true, before: { expiresAtMs: 5 } });
  expect(others).toEqual([]);
  expect(table.counts).toMatchObject({ changed: 2, expiryOnly: 1, unchanged: 1 });
});

test("names the key whose value is malformed", () => {
  using table = new KeyTable(dir.file("keys.db"));
  const broken = { ...entry("a\nb", ""), value: Uint8Array.of(9) };
  expect(errorOf(() => table.takeBefore(broken))).toMatchObject({
    code: "BAD_PAYLOAD",
    message: expect.stringContaining('key "a\\nb" of db0'),
  });
});

test.skipIf(!mayMount())("says that the disk is full, and what to do", () => {
  using disk = smallDisk(dir.file("disk"), 1024 * 1024)!;
  disk.resize(1024 * 1024);
  using table = new KeyTable(dir.file("disk", "keys.db"));
  const long = "k".repeat(50_000);
  // What fits into SQLite's memory isn't written at once.
  const error = errorOf(() => {
    for (let n = 0; n < 4000; n++) table.takeBefore(entry(`${n}${long}`, "1"));
  });
  expect(error).toMatchObject({ code: "DISK_FULL" });
  expect(error.message).toContain("set TMPDIR");
  expect(fs.existsSync(dir.file("disk", "keys.db"))).toBe(true);
});
