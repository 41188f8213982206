import { expect, test } from "bun:test";
import { formatOf, parseFormat, serverOf } from "../../src/rdb/made-by.ts";

const aux = (...entries: [string, string][]) => ({ aux: new Map(entries) });

test("the server that made an RDB is the one that it names, if that is a version", () => {
  expect(serverOf(aux(["redis-ver", "8.0.2"]))).toBe("redis 8.0.2");
  expect(serverOf(aux(["valkey-ver", "9.1.2"]))).toBe("valkey 9.1.2");
  // Some name both, for readers that know only one.
  expect(serverOf(aux(["redis-ver", "7.2.4"], ["valkey-ver", "9.1.2"]))).toBe("valkey 9.1.2");
  expect(serverOf(aux(["redis-ver", "8.0.2\u001b[2J"]))).toBeUndefined();
  expect(serverOf(aux())).toBeUndefined();
});

test("the format is what an RDB begins with", () => {
  expect(formatOf({ magic: "REDIS", version: 9 })).toBe("REDIS0009");
  expect(formatOf({ magic: "REDIS", version: 12 })).toBe("REDIS0012");
  expect(formatOf({ magic: "VALKEY", version: 80 })).toBe("VALKEY080");
});

test("a format is read as it is written, and nothing else is", () => {
  for (const format of [
    { magic: "REDIS", version: 11 },
    { magic: "VALKEY", version: 80 },
  ] as const)
    expect(parseFormat(formatOf(format))).toEqual(format);
  for (const text of ["", "REDIS", "REDIS012", "VALKEY0080", "OTHER0012", "REDIS00x2"])
    expect(parseFormat(text)).toBeUndefined();
});
