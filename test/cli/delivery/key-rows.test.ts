import { expect, test } from "bun:test";
import {
  keyRow,
  keyRowToJson,
  keyTitles,
  prospectOf,
  shownKey,
} from "../../../src/cli/delivery/key-rows.ts";
import { stringEntry } from "../../inspect/deliver/rig.ts";

const NOW_MS = Date.UTC(2026, 0, 31, 12);

test("says what would become of a key", () => {
  const gone = { exists: true, isExpired: true };
  expect([prospectOf(gone, false), prospectOf(gone, true)]).toEqual(["expired", "expired"]);
  const there = { exists: true, isExpired: false };
  expect([prospectOf(there, false), prospectOf(there, true)]).toEqual(["keep", "replace"]);
  const absent = { exists: false, isExpired: false };
  expect([prospectOf(absent, false), prospectOf(absent, true)]).toEqual(["restore", "restore"]);
});

test("shows a key with its size, and its expiry as a moment and from now", () => {
  const entry = { ...stringEntry("user:42", "v".repeat(2048)), elements: undefined };
  const soon = { ...entry, expiresAtMs: NOW_MS + 7_500_000, kind: "hash", elements: 3, db: 4 };
  const over = { ...entry, expiresAtMs: NOW_MS - 90_000 };
  expect(keyTitles() + keyRow(entry, "restore", NOW_MS) + keyRow(soon, "keep", NOW_MS)).toBe(
    `db  type           size   elements  expires                                         would    key
 0  string      2.0 KiB          -  never                                           restore  user:42
 4  hash        2.0 KiB          3  2026-01-31T14:05:00.000Z (in 2 h 5 min)         keep     user:42
`,
  );
  expect(keyRow(over, "expired", NOW_MS)).toContain("2026-01-31T11:58:30.000Z (1 min ago)");
});

test("shows any key on one line, and any expiry", () => {
  const key = Buffer.from("a\n\x1b[2J\xff", "latin1");
  const row = keyRow({ ...stringEntry("", "v"), key, expiresAtMs: 2 ** 60 }, "restore", NOW_MS);
  expect(row).toEndWith(' "a\\n\\x1b[2J\\xff"\n');
  expect(row).toContain(`${2 ** 60} ms`);
  expect(shownKey(Buffer.from(`${"x".repeat(199)}é`))).toBe(`${"x".repeat(199)}…`);
});

test("shows a key to programs as one line of JSON", () => {
  const entry = { ...stringEntry("", "v"), key: Buffer.of(0xff), expiresAtMs: NOW_MS + 1_500 };
  const state = { exists: true, isExpired: false };
  const line = keyRowToJson(entry, state, "replace", NOW_MS);
  expect(line).toEndWith("}\n");
  expect(JSON.parse(line)).toEqual({
    db: 0,
    key: { base64: "/w==" },
    type: "string",
    bytes: 17,
    elements: null,
    expires_ms: NOW_MS + 1_500,
    expires: "2026-01-31T12:00:01.500Z",
    expires_in_ms: 1_500,
    exists: true,
    would: "replace",
  });
});
