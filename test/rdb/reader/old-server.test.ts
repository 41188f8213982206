import { expect, test } from "bun:test";
import { read } from "./read.ts";

/**
 * What Redis 6.0.16 saved: ziplists, a quicklist of ziplists and a stream of the first form, which no server at hand
 * writes any more.
 */
const RDB = `
UkVESVMwMDA5+glyZWRpcy12ZXIGNi4wLjE2+gpyZWRpcy1iaXRzwED6BWN0aW1lwrmLDmv6CHVzZWQtbWVtwnB5DQD6DGFvZi1wcmVhbWJsZcAA/gL7
DQH8A9jDLLsDAAAABXVudGlsAXgAwTkwD2EgbnVtYmVyJ3MgbmFtZQQJaGFzaHRhYmxlAQFmwwlAQQF2duA0AAF2dg0HemlwbGlzdBYWAAAAEwAAAAQA
AAFmAwF2AwFnA/3/BQhza2lwbGlzdAHDCUBBAW1t4DQAAW1tAAAAAAAA8D8AA2ludMHSBAIDc2V0AgFhAWIMCHp6aXBsaXN0HBwAAAAWAAAABAAAAWID
BC1pbmYGAWEDAzEuNf8AA2x6ZsMLQLQDYWJjYeClAgFiYwAEdGV4dAVoZWxsbwsGaW50c2V0FAQAAAADAAAAAQAAAAMAAABwEQEADgRsaXN0AcMfQF4E
XgAAABQgAw8EAAABYQP2AvBwEQEFQEZ44DsAAXj/DwZzdHJlYW0BEAAAAAAAAAABAAAAAAAAAAEoKAAAAA8AAgEAAQEBgWECAAECAQABAAGBYgIEAQIB
AQEAAYFjAgQB/wICAQEBZwEBAQAAAAAAAAABAAAAAAAAAAEPztEwogEAAAEBAm1lD87RMKIBAAABAAAAAAAAAAEAAAAAAAAAAf8H7YmCReH4rg==`;

/** TYPE, OBJECT ENCODING, STRLEN or the like as that server answered. */
const ANSWERS = [
  ["int", "string", "int", 4],
  ["12345", "string", "embstr", 15],
  ["text", "string", "embstr", 5],
  ["lzf", "string", "raw", 180],
  ["until", "string", "embstr", 1],
  ["list", "list", "quicklist", 4],
  ["intset", "set", "intset", 3],
  ["set", "set", "hashtable", 2],
  ["ziplist", "hash", "ziplist", 2],
  ["hashtable", "hash", "hashtable", 1],
  ["zziplist", "zset", "ziplist", 2],
  ["skiplist", "zset", "skiplist", 1],
  ["stream", "stream", "stream", 2],
];

test("of an RDB of Redis 6.0 it tells what that server told", () => {
  const rdb = Buffer.from(RDB, "base64");
  const { told, events, summary } = read(rdb, [rdb.length]);
  const found = told.map(({ key, kind, encoding, stringBytes, elements }) => [
    key,
    kind,
    encoding,
    stringBytes ?? elements,
  ]);
  expect(found.toSorted()).toEqual(ANSWERS.toSorted());
  expect(summary).toMatchObject({ format: "REDIS0009", keys: 13, expires: 1, checked: true });
  expect(events).toContainEqual(["resize", 13, 1]);
  expect(events).toContainEqual(["aux", "redis-ver", "6.0.16"]);
  expect(told.find(({ key }) => key === "until")?.expiresAtMs).toBe(4_102_444_800_003);
  expect(told.every(({ db }) => db === 2)).toBe(true);
});
