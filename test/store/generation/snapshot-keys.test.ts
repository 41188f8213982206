import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { readSnapshotKeys } from "../../../src/store/generation/snapshot-keys.ts";
import { tempDir } from "../../support/temp.ts";

const HEADER = "REDIS0011\xfa\x05ctime\xc2\x00\xf1\x53\x65";
const SAVED_AT_MS = 0x65_53_f1_00 * 1000;
const KEYS = "\xfe\x03\xfb\x41\x2c\x07";
const FIRST = { database: 3, keys: 300, expires: 7 };
/** A function library of so many bytes. */
const library = (bytes: number) =>
  `\xf5\x80${String.fromCharCode(...[24, 16, 8, 0].map((n) => (bytes >>> n) & 255))}${"f".repeat(bytes)}`;

test.each([
  ["a first database", `${HEADER}${KEYS}\x00`, { first: FIRST, savedAtMs: SAVED_AT_MS }],
  ["no time", `REDIS0011${KEYS}\x00`, { first: FIRST, savedAtMs: undefined }],
  ["no key", `${HEADER}\xff12345678`, { first: undefined, savedAtMs: SAVED_AT_MS }],
  [
    "functions beyond the first block",
    `${HEADER}${library(200_000)}${library(100)}${KEYS}`,
    { first: FIRST, savedAtMs: SAVED_AT_MS },
  ],
  ["functions of more than a megabyte", `${HEADER}${library(1_200_000)}${KEYS}`, undefined],
  ["an old server's, without sizes", "REDIS0006\xfe\x00\x00\x01a\x01b\xff", undefined],
  ["a file that ends in its sizes", `${HEADER}\xfe\x03\xfb\x41`, undefined],
  ["a file that ends in its header", "REDIS0011\xfa\x05cti", undefined],
  ["a size that is no length", `${HEADER}\xfe\x03\xfb\xc0\x05\x00`, undefined],
  ["a second size that is no length", `${HEADER}\xfe\x03\xfb\x05\xc0\x05`, undefined],
  ["no RDB", "something else", undefined],
  ["an empty file", "", undefined],
])("%s", (_what, content, expected) => {
  using dir = tempDir("snapshot-keys");
  writeFileSync(dir.file("base.rdb"), content, "latin1");
  expect(readSnapshotKeys(dir.file("base.rdb"))).toEqual(expected);
});

test("a file that isn't there says nothing", () => {
  using dir = tempDir("snapshot-keys");
  expect(readSnapshotKeys(dir.file("base.rdb"))).toBeUndefined();
});
