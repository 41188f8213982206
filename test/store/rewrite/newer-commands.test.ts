import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import type { Release } from "../../../src/rdb/releases.ts";
import { encodeCommand } from "../../../src/resp/encode.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { knowersOf, newerCommands } from "../../../src/store/rewrite/newer-commands.ts";
import { tempDir } from "../../support/temp.ts";

const redis = (major: number, minor: number): Release => ({ product: "Redis", major, minor });
const valkey = (major: number, minor: number): Release => ({ product: "Valkey", major, minor });

const log = (...lines: string[]) =>
  Buffer.concat(lines.map((line) => encodeCommand(...line.split(" "))));

/** What is found in a log: name, first byte, count. */
async function found(bytes: Uint8Array, release: Release, blockBytes = 1 << 20) {
  using dir = tempDir("newer-commands");
  const path = dir.file("log");
  writeFileSync(path, bytes);
  const { signal } = new AbortController();
  const part = { disk: realDisk, path, from: 0, to: bytes.length, signal, blockBytes };
  const all = await newerCommands(part, release);
  return all.map(({ name, firstByte, count }) => [name, firstByte, count]);
}

test.each<[string, string, readonly Release[], readonly Release[]]>([
  [
    "HSETEX",
    "HSETEX h PXAT 1 FIELDS 1 f v",
    [redis(7, 4), valkey(8, 1)],
    [redis(8, 0), valkey(9, 0)],
  ],
  [
    "HPEXPIREAT",
    "hpexpireat h 1 FIELDS 1 f",
    [redis(7, 2), valkey(8, 1)],
    [redis(7, 4), valkey(9, 0)],
  ],
  ["HGETDEL", "HGETDEL h FIELDS 1 f", [redis(7, 4), valkey(9, 0)], [redis(8, 0), valkey(9, 1)]],
  ["VADD", "VADD v VALUES 2 1 2 e", [redis(7, 4), valkey(9, 1)], [redis(8, 0)]],
  ["DELIFEQ", "DELIFEQ k v", [redis(8, 10), valkey(8, 1)], [valkey(9, 0)]],
  ["MSETEX", "MSETEX 1 k v PXAT 1", [redis(8, 2), valkey(9, 0)], [redis(8, 4), valkey(9, 1)]],
  ["COPY", "COPY a b", [redis(6, 0)], [redis(6, 2), valkey(7, 2)]],
  [
    "SET … IFEQ",
    "SET k v PXAT 9 IFEQ old",
    [redis(8, 2), valkey(8, 0)],
    [redis(8, 4), valkey(8, 1)],
  ],
  ["BITOP … DIFF1", "BITOP diff1 a b c", [redis(8, 0), valkey(9, 1)], [redis(8, 2)]],
])("%s: who doesn't know it, and who does", async (name, command, unknown, known) => {
  const bytes = log("SELECT 0", command);
  for (const release of unknown) expect(await found(bytes, release)).toEqual([[name, 23, 1]]);
  for (const release of known) expect(await found(bytes, release)).toEqual([]);
});

test("values are no options, and names of others no commands", async () => {
  const bytes = log(
    "SET k IFEQ",
    "SET IFEQ v PX 100",
    "SET k v EX IFEQ",
    "SET k v PXAT 100 KEEPTTL",
    "BITOP AND DIFF a b",
    "RPUSH VADD HSETEX",
    "VEMBEDDINGOFAMODULE a",
    "PING",
  );
  expect(await found(bytes, redis(7, 2))).toEqual([]);
});

test("counts each, the first byte of the first; in blocks of any size", async () => {
  const bytes = log(
    "SELECT 0",
    "SET k v",
    "VADD a b",
    "HSETEX h FIELDS",
    "vadd c d",
    "SET k v IFEQ w",
  );
  const expected = [
    ["VADD", 50, 2],
    ["HSETEX", 78, 1],
    ["SET … IFEQ", 141, 1],
  ];
  for (let blockBytes = 16; blockBytes < bytes.length; blockBytes += 7)
    expect(await found(bytes, redis(7, 2), blockBytes)).toEqual(expected);
});

test("a transaction counts once it is whole; what ends inside a command is no error", async () => {
  const begun = log("SELECT 0", "MULTI", "VADD a b");
  expect(await found(begun, redis(7, 2))).toEqual([]);
  const whole = Buffer.concat([begun, log("EXEC")]);
  expect(await found(whole, redis(7, 2))).toEqual([["VADD", 38, 1]]);
  expect(await found(whole.subarray(0, -3), redis(7, 2))).toEqual([]);
  expect(await found(Buffer.concat([whole, Buffer.from("*2\r\n$3")]), redis(7, 2))).toHaveLength(1);
});

test("says who knows a command", () => {
  expect(knowersOf({ redis: [8, 0], valkey: [9, 1] })).toBe(
    "Redis 8.0 and later, Valkey 9.1 and later",
  );
  expect(knowersOf({ valkey: [9, 0] })).toBe("Valkey 9.0 and later");
});
