import { describe, expect, test } from "bun:test";
import { RdbChecker } from "../../src/rdb/checker.ts";
import { FirstDatabaseReader } from "../../src/rdb/first-database.ts";
import { availableServers, startServer } from "../support/servers.ts";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const latin1 = (text: string) => Buffer.from(text, "latin1");

/** What is found, however the bytes are cut. */
function find(body: string) {
  const bytes = latin1(body);
  const founds = Array.from({ length: bytes.length + 1 }, (_, cut) => {
    const reader = new FirstDatabaseReader();
    reader.push(bytes.subarray(0, cut));
    reader.push(bytes.subarray(cut));
    return reader.found;
  });
  const single = new FirstDatabaseReader();
  for (const byte of bytes) single.push(Uint8Array.of(byte));
  for (const found of founds) expect(found).toEqual(single.found);
  return single.found;
}

const FUNCTION = `\xf5\x43\x20${"f".repeat(0x320)}`;

describe("the first database's keys", () => {
  test.each([
    ["a small count", "\xfe\x00\xfb\x02\x00", { db: 0, keys: 2 }],
    ["a count of two bytes", "\xfe\x00\xfb\x71\x5e\x00", { db: 0, keys: 12_638 }],
    ["a count of four bytes", "\xfe\x0f\xfb\x80\x00\x01\x86\xa0\x00", { db: 15, keys: 100_000 }],
    [
      "a count of eight bytes",
      "\xfe\x00\xfb\x81\x00\x00\x00\x02\x00\x00\x00\x00\x00",
      { db: 0, keys: 2 ** 33 },
    ],
    ["nothing at all", "\xff12345678", { db: undefined, keys: 0 }],
    ["functions before it", `${FUNCTION}${FUNCTION}\xfe\x01\xfb\x07\x00`, { db: 1, keys: 7 }],
    ["a compressed function", "\xf5\xc3\x03\x40\x50abc\xfe\x00\xfb\x01\x00", { db: 0, keys: 1 }],
    ["a script of old servers", "\xfa\x03lua\x05abcde\xfe\x00\xfb\x01\x00", { db: 0, keys: 1 }],
  ])("%s", (_, body, found) => {
    expect(find(body)).toEqual(found);
  });

  test.each([
    ["functions alone are no emptiness", `${FUNCTION}\xff12345678`],
    ["an older version names no count", "\xfe\x00\x00\x01a\x01b\xff"],
    ["a module's data is not read", "\xf7\x81\x00\x00\x00\x00\x00\x00\x00\x00\x02"],
    ["no length", "\xfe\x00\xfb\x82\x00\x00\x00\x00"],
    ["a count that can't be", `\xfe\x00\xfb\x81${"\xff".repeat(8)}\x00`],
    ["a database that can't be", `\xfe\x81${"\xff".repeat(8)}\xfb\x01\x00`],
    ["no string", "\xf5\xc4\x00\x00\x00"],
    ["too short", "\xfe\x00\xfb\x71"],
    ["nothing", ""],
  ])("%s: unknown", (_, body) => {
    expect(find(body)).toBeUndefined();
  });
});

test("how many of them expire", () => {
  const reader = new FirstDatabaseReader();
  reader.push(latin1("\xfe\x00\xfb\x71\x5e\x40\x07"));
  expect([reader.found, reader.expires]).toEqual([{ db: 0, keys: 12_638 }, 7]);
});

test.each(availableServers())("reads what %s writes", async (kind) => {
  await using server = await startServer(kind);
  const read = async () => {
    await server.send("SAVE");
    const bytes = readFileSync(join(server.dir, "dump.rdb"));
    const checker = new RdbChecker();
    // In two pieces, so that the header is whole before the rest comes.
    checker.push(bytes.subarray(0, 60));
    checker.push(bytes.subarray(60));
    return checker.finish().firstDatabase;
  };
  expect(await read()).toEqual({ db: undefined, keys: 0 });
  const library = "#!lua name=one\nredis.register_function('f', function() return 1 end)";
  await server.send("FUNCTION", "LOAD", library);
  expect(await read()).toBeUndefined();
  await server.sendAll([
    ["SELECT", 3],
    ...Array.from({ length: 300 }, (_, n) => ["SET", `key:${n}`, "x"] as const),
    ["SELECT", 9],
    ["SET", "another", "x"],
    ["SELECT", 0],
  ]);
  expect(await read()).toEqual({ db: 3, keys: 300 });
  await server.send("FLUSHALL");
  await server.send("FUNCTION", "FLUSH");
  expect(await read()).toEqual({ db: undefined, keys: 0 });
});
