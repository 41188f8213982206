import { describe, expect, test } from "bun:test";
import { appendixOf, type Told } from "../../../src/cluster/restore/appendix.ts";
import { SETTLE_MS } from "../../../src/cluster/restore/owners.ts";
import { wordsOf } from "../../../src/resp/frame-words.ts";
import { FrameScanner } from "../../../src/resp/frame-scanner.ts";
import { limits } from "../../../src/config/limits.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { keySlot } from "../../support/key-slot.ts";
import { tempDir } from "../../support/temp.ts";
import { type Heard, madeUpShard } from "./made-up-shard.ts";

const SLOT = keySlot("{a}");
const AT_MS = 100_000;
const signal = new AbortController().signal;

/** Commands one after the other, a few seconds before the moment. */
function before(...texts: string[]): Heard[] {
  return texts.map((text, index) => [AT_MS - 5_000 + index, text]);
}

/** The appendix for a shard that owns a slot, the keys of which another shard got within ten seconds. */
async function appendix(own: readonly Heard[], other: readonly Heard[], version = "8.0.0") {
  using dir = tempDir("appendix");
  const offsets = (heard: readonly Heard[], name: string) => {
    const { log } = madeUpShard(dir, name, [[0, "PING"], ...heard], { version });
    const at = (atMs: number) => log.offsetAt(atMs);
    return { log, cut: at(AT_MS), until: at(AT_MS + SETTLE_MS), at };
  };
  const owner = { ...offsets(own, "own"), since: 0 };
  const { at, ...offset } = offsets(other, "other");
  const borrowed = [{ ...offset, since: new Map([[SLOT, at(AT_MS - 10_000)]]), recent: 0 }];
  const told: Told = { keys: 0 };
  const found: string[] = [];
  for await (const piece of appendixOf(owner, borrowed, [], told, { disk: realDisk, signal })) {
    const scanner = new FrameScanner({ limits: limits.frame });
    scanner.push(piece);
    while (scanner.next()) {
      const words = wordsOf(piece.subarray(scanner.start, scanner.end));
      found.push(words.map((word) => Buffer.from(word).toString("latin1")).join(" "));
    }
  }
  return found;
}

const ARRIVED = "RESTORE-ASKING {a}1 0 x";
const BACK = "RESTORE {a}1 0 x REPLACE";

describe("keys that a migration took away stay", () => {
  test.each([
    ["MSET {a}x 1 {a}y 2", "{a}x {a}y", "DEL {a}y"],
    ["RENAME {a}1 {a}y", "{a}y", "DEL {a}y"],
    ["COPY {a}1 {a}y", "{a}y", "DEL {a}y"],
    ["SORT {a}1 BY nosort STORE {a}y", "{a}y", "UNLINK {a}y"],
    ["JSON.MERGE {a}x {a}y", "{a}x", "DEL {a}y"],
  ])("where %p made a second key that is removed", async (command, _, removal) => {
    const found = await appendix([], before(ARRIVED, command, removal));
    expect(found[0]).toBe(BACK);
    expect(found).toContain(command);
  });

  test("where one DEL also names keys that came back since", async () => {
    const own = before("PING", "DEL {a}1", "DEL {a}2", "PING", "RESTORE-ASKING {a}1 0 x");
    const found = await appendix(
      own,
      before(ARRIVED, "RESTORE-ASKING {a}2 0 x", "RESTORE-ASKING {a}3 0 x", "DEL {a}1 {a}2"),
    );
    expect(found).toContain("DEL {a}2");
    expect(found.join()).not.toContain("{a}1");
  });
});

describe("a key that its owner got from the other shard", () => {
  const came = "RESTORE-ASKING {a}1 0 x";
  const later: Heard = [AT_MS + 500, "DEL {a}1"];

  test("is not removed again where it was made there", async () => {
    const own = before("PING", "PING", came);
    expect(await appendix(own, before("SET {a}1 v", "DEL {a}1"))).toEqual([]);
    expect(await appendix(own, [...before("SET {a}1 v"), later])).toEqual([]);
  });

  test("counts there where it has gone back since, as marks tell", async () => {
    const own: Heard[] = [...before(came), [AT_MS + 400, "DEL {a}1"]];
    const other = before("PING", "PING", ARRIVED, "APPEND {a}1 more");
    expect(await appendix(own, other)).toEqual([BACK, "APPEND {a}1 more"]);
  });
});

test.each(["FLUSHALL", "flushdb ASYNC"])("%s ends what a migration brought", async (flush) => {
  expect(await appendix([], before(ARRIVED, flush))).toEqual([]);
  expect(await appendix([], before(ARRIVED, flush, "SET {a}2 1"))).toEqual([
    "DEL {a}2",
    "SET {a}2 1",
  ]);
});

test("a FLUSHDB ends what a migration brought to its own database alone", async () => {
  const second = "RESTORE-ASKING {a}2 0 x";
  const log = before(ARRIVED, "SELECT 3", second, "FLUSHDB", "SELECT 0");
  expect(await appendix([], log)).toEqual([BACK]);
  const first = before(ARRIVED, "SELECT 3", second, "SELECT 0", "FLUSHDB");
  expect(await appendix([], first)).toEqual(["SELECT 3", "RESTORE {a}2 0 x REPLACE", "SELECT 0"]);
  expect(await appendix([], before(ARRIVED, "SELECT 3", second, "FLUSHALL"))).toEqual([]);
});

test("an earlier stay whose last key has gone back counts no more", async () => {
  expect(await appendix([], before(ARRIVED, "MSET {a}x 1 {a}y 2", "DEL {a}1 {a}x {a}y"))).toEqual(
    [],
  );
  expect(await appendix([], before("SET {a}x 1", "DEL {a}old", "SET {a}new 1"))).toEqual([
    "DEL {a}new",
    "SET {a}new 1",
  ]);
});

describe("what is given back does the same whenever it is loaded", () => {
  test("the expiry of a hash's field that is lifted", async () => {
    const persist = "HPERSIST {a}1 FIELDS 1 f";
    const found = await appendix([], before(ARRIVED, persist));
    expect(found).toEqual([BACK, expect.stringMatching(/^HPEXPIREAT \{a\}1 \d+ XX/), persist]);
  });

  test("a time to live that counts from when a server before 7.0 had the command", async () => {
    const log = before("RESTORE-ASKING {a}1 500 x", "EXPIRE {a}1 9", "SETEX {a}2 9 v");
    const expireAt = (index: number) => `${log[index]![0] + 9_000}`;
    expect(await appendix([], log, "6.2.14")).toEqual([
      `RESTORE {a}1 ${log[0]![0] + 500} x ABSTTL REPLACE`,
      `PEXPIREAT {a}1 ${expireAt(1)}`,
      "DEL {a}2",
      "SET {a}2 v",
      `PEXPIREAT {a}2 ${expireAt(2)}`,
    ]);
    const late: Heard[] = [[AT_MS + 1_000, "RESTORE-ASKING {a}1 500 x"]];
    const [command] = await appendix([], late, "6.2.14");
    expect(command).toEndWith(` 1 {a}1 ${AT_MS + 1_500} x ABSTTL`);
  });
});
