import { expect, test } from "bun:test";
import { countFieldExpiries, readKeyspace } from "../../../src/upstream/link/primary-facts.ts";

const lines = (...all: string[]) => all.map((line) => `${line}\r\n`).join("");
const DB0 = { database: 0, keys: 3, expires: 1 };

test.each([
  ["no section: it doesn't say", lines("# Server", "redis_version:7.0.15"), undefined],
  [
    "an empty section: no key",
    lines("# Keyspace"),
    { databases: [], isWhole: true, atMs: undefined },
  ],
  [
    "every database, with the fields of newer servers",
    lines(
      "# Keyspace",
      "db0:keys=3,expires=1,avg_ttl=0,subexpiry=0",
      "db9:keys=1,expires=0,avg_ttl=0",
    ),
    { databases: [DB0, { database: 9, keys: 1, expires: 0 }], isWhole: true, atMs: undefined },
  ],
  [
    "a count that is no number",
    lines("# Keyspace", `db0:keys=${"9".repeat(30)},expires=0`, "db1:keys=x,expires=0"),
    { databases: [], isWhole: true, atMs: undefined },
  ],
  [
    "another replica that has it of its primary",
    lines(
      "# Keyspace",
      "db0:keys=3,expires=1",
      "# Replica",
      "keyspace_source:primary",
      "keyspace_time:1700000000",
    ),
    { databases: [DB0], isWhole: true, atMs: 1_700_000_000_000 },
  ],
  [
    "another replica that has it of its snapshot",
    lines(
      "# Keyspace",
      "db0:keys=3,expires=1",
      "# Replica",
      "keyspace_source:snapshot",
      "keyspace_time:1700000000",
    ),
    { databases: [DB0], isWhole: false, atMs: 1_700_000_000_000 },
  ],
  [
    "another replica that doesn't know",
    lines("# Keyspace", "# Replica", "keyspace_source:unknown", "keyspace_time:0"),
    undefined,
  ],
])("%s", (_what, info, expected) => {
  expect(readKeyspace(info)).toEqual(expected);
});

test("keys with expiring hash fields are counted over all databases, and of nothing else", () => {
  const db = (count: string) => `keys=3,expires=0,avg_ttl=0,keys_with_volatile_items=${count}`;
  const info = new Map([
    ["db0", db("2")],
    ["db7", `${db("40")},more=1`],
    ["db9", "keys=1,expires=0,avg_ttl=0"],
    ["db10", db("x")],
    ["dbx", db("100")],
  ]);
  expect(countFieldExpiries(info)).toBe(42);
  expect(countFieldExpiries(new Map())).toBe(0);
});
