import { expect, test } from "bun:test";
import { commandKeys, writtenKeys } from "../../../src/store/rewrite/command-keys.ts";
import { encodeCommand } from "../../support/resp.ts";

test.each([
  ["SET a 1", "a"],
  ["MSET a 1 b 2 c 3", "a b c"],
  ["MSETEX 2 a 1 b 2 EX 5", "a b"],
  ["DEL a b c", "a b c"],
  ["RENAME a b", "a b"],
  ["COPY a b REPLACE", "a b"],
  ["LMOVE a b LEFT RIGHT", "a b"],
  ["SMOVE a b x", "a b"],
  ["SORT a BY nosort STORE b", "a b"],
  ["SORT a LIMIT 0 1", "a"],
  ["GEORADIUS a 1 1 1 m STOREDIST b", "a b"],
  ["ZUNIONSTORE a 2 b c", "a"],
  ["BITOP AND a b c", "a"],
  ["PFMERGE a b", "a"],
  ["EVAL x 2 a b c", "a b"],
  ["LMPOP 2 a b LEFT", "a b"],
  ["XGROUP CREATE a g 0", "a"],
  ["JSON.MSET a b c", "a"],
  ["PING", ""],
  ["EVAL x 0", ""],
])("%p writes %p", (command, keys) => {
  const found = writtenKeys(encodeCommand(command.split(" ")));
  expect(found.map((key) => Buffer.from(key).toString()).join(" ")).toBe(keys);
});

const wordsIn = (command: string) => command.split(" ").map((word) => Buffer.from(word));
/** What it works on, its keys, which of them it writes, whether each is on its own, the other database. */
function told(words: readonly Uint8Array[]): string {
  const found = commandKeys(words);
  if (found === undefined) return "unknown";
  const { touches, writes, isIndependent, intoDb } = found;
  const keys = found.keys.map((key) => Buffer.from(key).toString()).join(",");
  return [touches, keys, writes, isIndependent ? "independent" : "", intoDb ?? ""].join(" ").trim();
}

test.each([
  ["SET a 1", "keys a all independent"],
  ["GET a", "keys a none independent"],
  ["DEL a b", "keys a,b all independent"],
  ["mset a 1 b 2", "keys a,b all independent"],
  ["MSETEX 2 a 1 b 2 NX", "keys a,b all independent"],
  ["RENAME a b", "keys a,b all"],
  ["COPY a b REPLACE", "keys a,b last"],
  ["COPY a b DB 3", "keys a,b last  3"],
  ["MOVE a 7", "keys a all  7"],
  ["SUNIONSTORE a b c", "keys a,b,c first"],
  ["ZUNIONSTORE a 2 b c WEIGHTS 1 2", "keys a,b,c first"],
  ["BITOP AND a b c", "keys a,b,c first"],
  ["SORT a", "keys a none independent"],
  ["SORT a BY nosort STORE b", "keys a,b last"],
  ["SORT a BY w_* STORE b", "pattern a,b last"],
  ["SORT a GET # STORE b", "keys a,b last"],
  ["SORT a LIMIT 0 5 GET o->f STORE b", "pattern a,b last"],
  ["SORT a GET store STORE b STORE c", "pattern a,c last"],
  ["GEORADIUS a 1 1 1 m COUNT 3 STOREDIST b", "keys a,b last"],
  ["GEORADIUSBYMEMBER a m 1 m STORE b", "keys a,b last"],
  ["XREADGROUP GROUP streams streams COUNT 5 STREAMS a b > >", "keys a,b all"],
  ["XREADGROUP GROUP g", "keys  all"],
  ["XGROUP CREATE a g 0", "keys a all independent"],
  ["OBJECT FREQ a", "keys a none independent"],
  ["MIGRATE h 1 a 0 9", "keys a all independent"],
  ["EVAL x 2 a b c", "script a,b all"],
  ["FCALL f 0 a", "script  all"],
  ["EVAL x 99 a b", "script a,b all"],
  ["EVAL x -1 a b", "script  all"],
  ["EVAL x 1e3 a b", "script  all"],
  ["EVAL", "script  all"],
  ["FLUSHALL ASYNC", "database  all"],
  ["SWAPDB 0 1", "database  all"],
  ["CLUSTER FLUSHSLOT 3", "database  all"],
  ["SELECT 3", "none  none"],
  ["SPUBLISH a b", "none  none"],
  ["FUNCTION LOAD x", "none  none"],
  ["FUNCTION NEWER x", "unknown"],
  ["JSON.SET a $ 1", "unknown"],
  ["SET", "keys  all"],
])("%p: %s", (command, expected) => {
  expect(told(wordsIn(command))).toBe(expected);
});

test("MIGRATE without a key of its own takes those behind KEYS", () => {
  const words = "MIGRATE h 1 _ 0 9 COPY AUTH2 keys keys KEYS a b".split(" ");
  words[3] = "";
  expect(told(words.map((word) => Buffer.from(word)))).toBe("keys a,b all");
});

test("says which word each key is", () => {
  expect(commandKeys(wordsIn("MSETEX 2 a 1 b 2 PXAT 9"))?.words).toEqual([2, 4]);
  expect(commandKeys(wordsIn("ZDIFFSTORE a 2 b c"))?.words).toEqual([1, 3, 4]);
});
