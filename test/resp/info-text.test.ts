import { expect, test } from "bun:test";
import { parseInfo, parseKeyspace } from "../../src/resp/info-text.ts";

test("parseInfo reads the fields of INFO", () => {
  const info = parseInfo("# Server\r\nredis_version:7.0.15\r\nempty:\r\nexe:/a:b\r\n\r\n# X\r\n");
  expect([...info]).toEqual([
    ["redis_version", "7.0.15"],
    ["empty", ""],
    ["exe", "/a:b"],
  ]);
});

test("parseKeyspace reads databases, with the fields that newer servers add", () => {
  const text =
    "# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb12:keys=40,expires=0,avg_ttl=9,subexpiry=7\r\n";
  expect(parseKeyspace(text)).toEqual([
    { database: 0, keys: 3, expires: 1 },
    { database: 12, keys: 40, expires: 0 },
  ]);
  expect(parseKeyspace("# Keyspace\r\n")).toEqual([]);
});
