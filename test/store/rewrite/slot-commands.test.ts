import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { thrownBy } from "../../support/error-of.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { firstKey } from "../../../src/store/rewrite/first-key.ts";
import type { LogPart } from "../../../src/store/rewrite/log-commands.ts";
import { migrationEvents } from "../../../src/store/rewrite/migration-events.ts";
import { commandsOfSlots } from "../../../src/store/rewrite/slot-commands.ts";
import { keySlot } from "../../support/key-slot.ts";
import { encodeCommand } from "../../support/resp.ts";
import { tempDir, type TempDir } from "../../support/temp.ts";

const words = (text: string) => text.split(" ");
const WANTED = keySlot("a");

function part(dir: TempDir, log: Uint8Array, more: Partial<LogPart> = {}): LogPart {
  const path = dir.file("log");
  writeFileSync(path, log);
  const signal = new AbortController().signal;
  return { disk: realDisk, path, from: 0, to: log.length, signal, ...more };
}

/** The commands of slot WANTED as text, with their database. */
async function found(log: LogPart): Promise<[number, string][]> {
  const all: [number, string][] = [];
  for await (const { bytes, db, slot, start, end } of commandsOfSlots(log, [[WANTED, WANTED]])) {
    expect(slot).toBe(WANTED);
    expect(bytes.length).toBe(end - start);
    all.push([db, Buffer.from(bytes).toString("latin1")]);
  }
  return all;
}

const LONG = "v".repeat(300);
const COMMANDS = [
  "SELECT 0",
  "SET a 1",
  "SET b 1",
  "MULTI",
  "set {a}1 2",
  `SET a ${LONG}`,
  `SET b ${LONG}`,
  `EVAL ${LONG} 1 {a}2`,
  "EXEC",
  "PING",
  "FLUSHALL",
  "PUBLISH a 1",
  "SPUBLISH a 1",
  "OPINFO a",
  "TRIMSLOTS RANGES 1 0 16383",
  "SELECT 7",
  "XGROUP CREATE a g 0 MKSTREAM",
  "JSON.SET a $ 1",
  "LMPOP 2 a {a}1 LEFT",
  "BITOP NOT a {a}1",
];
const LOG = Buffer.concat(COMMANDS.map((text) => encodeCommand(words(text))));
const EXPECTED = (
  [
    [0, "SET a 1"],
    [0, "set {a}1 2"],
    [0, `SET a ${LONG}`],
    [0, `EVAL ${LONG} 1 {a}2`],
    [7, "XGROUP CREATE a g 0 MKSTREAM"],
    [7, "JSON.SET a $ 1"],
    [7, "LMPOP 2 a {a}1 LEFT"],
    [7, "BITOP NOT a {a}1"],
  ] as const
).map(([db, text]): [number, string] => [db, encodeCommand(words(text)).toString()]);

test("finds the commands of a slot, wherever the log is cut into blocks", async () => {
  using dir = tempDir("slots");
  for (let blockBytes = 1; blockBytes <= LOG.length; blockBytes++) {
    expect([blockBytes, await found(part(dir, LOG, { blockBytes }))]).toEqual([
      blockBytes,
      EXPECTED,
    ]);
  }
});

test("finds those between any two commands, with the database and the transaction that are open there", async () => {
  using dir = tempDir("slots");
  const ends = COMMANDS.map(
    (_, n) => Buffer.concat(COMMANDS.slice(0, n).map((text) => encodeCommand(words(text)))).length,
  );
  const first = COMMANDS.indexOf(`SET a ${LONG}`);
  const last = COMMANDS.indexOf("JSON.SET a $ 1");
  const log = part(dir, LOG, { from: ends[first]!, to: ends[last]!, inTransaction: true, db: 3 });
  const texts = [`SET a ${LONG}`, `EVAL ${LONG} 1 {a}2`, "XGROUP CREATE a g 0 MKSTREAM"];
  expect(await found(log)).toEqual(
    texts.map((text, n) => [n < 2 ? 3 : 7, encodeCommand(words(text)).toString()]),
  );
  expect(await found({ ...log, to: log.from })).toEqual([]);
});

test("a part that ends inside a command, or behind the file, is an error", async () => {
  using dir = tempDir("slots");
  const inside = part(dir, LOG, { to: LOG.length - 1 });
  expect(await thrownBy(found(inside))).toThrow("not the end of a command");
  const behind = part(dir, LOG, { to: LOG.length + 1 });
  expect(await thrownBy(found(behind))).toThrow("was it removed or cut");
});

test("stops at the signal", async () => {
  using dir = tempDir("slots");
  const log = part(dir, LOG, { signal: AbortSignal.abort(new Error("enough")) });
  expect(await thrownBy(found(log))).toThrow("enough");
});

test.each([
  ["GET k", "k"],
  ["MSET k v l w", "k"],
  ["RESTORE-ASKING k 0 x", "k"],
  ["EVALSHA s 2 k l", "k"],
  ["EVAL s 0 x", undefined],
  ["FCALL f 1 k", "k"],
  ["ZUNIONSTORE k 2 l m", "k"],
  ["ZMPOP 1 k MIN", "k"],
  ["BLMPOP 0 1 k LEFT", "k"],
  ["MSETEX 1 k v EX 5", "k"],
  ["XREADGROUP GROUP g c COUNT 2 STREAMS k >", "k"],
  ["XGROUP SETID k g 0", "k"],
  ["SORT k BY w* STORE l", "k"],
  ["GEORADIUS k 1 1 1 m STORE l", "k"],
  ["DELIFEQ k v", "k"],
  ["SELECT 1", undefined],
  ["SCRIPT LOAD x", undefined],
  ["FUNCTION LOAD x", undefined],
  ["SWAPDB 0 1", undefined],
  ["EVAL", undefined],
  ["SET", undefined],
])("the first key of %s is %s", (text, key) => {
  const command = encodeCommand(words(text));
  const all = firstKey(command);
  expect(all instanceof Uint8Array ? Buffer.from(all).toString() : undefined).toBe(key);
  // Cut anywhere, it finds the same, or asks for more.
  for (let bytes = 0; bytes < command.length; bytes++) {
    const some = firstKey(command.subarray(0, bytes));
    if (some !== "more") expect<unknown>(some).toEqual(all);
  }
});

const JOB = "1".repeat(40);
const NODE = "a".repeat(40);

test("tells of migrations, wherever the log is cut into blocks", async () => {
  using dir = tempDir("events");
  const commands = [
    "SELECT 0",
    `CLUSTER SETSLOT 7 importing ${NODE}`,
    `RESTORE-ASKING a 0 ${LONG}`,
    `restore-asking {a}${LONG} 0 x REPLACE`,
    "SET RESTORE-ASKING CLUSTER",
    "MULTI",
    `CLUSTER SYNCSLOTS ESTABLISH SOURCE ${NODE} NAME ${JOB} SLOTSRANGE 0 5 8 8`,
    "EXEC",
    "CLUSTER SYNCSLOTS ACK",
    `CLUSTER SYNCSLOTS FINISH STATE SUCCESS NAME ${JOB} MESSAGE x`,
    `CLUSTER SYNCSLOTS FINISH STATE FAILED NAME ${JOB} MESSAGE x`,
    "CLUSTER SETSLOT 7 STABLE",
    "TRIMSLOTS RANGES 1 3 4",
  ];
  const log = Buffer.concat(commands.map((text) => encodeCommand(words(text))));
  const ends = commands.map(
    (_, n) =>
      Buffer.concat(commands.slice(0, n + 1).map((text) => encodeCommand(words(text)))).length,
  );
  const expected = [
    { n: 1, kind: "setslot", slot: 7, what: "IMPORTING", node: NODE },
    { n: 2, kind: "arrived", slot: WANTED, key: Buffer.from("a") },
    { n: 3, kind: "arrived", slot: WANTED, key: Buffer.from(`{a}${LONG}`) },
    { n: 6, kind: "established", job: JOB, ranges: [[0, 5], [8, 8]] }, // prettier-ignore
    { n: 9, kind: "finished", job: JOB, ok: true },
    { n: 10, kind: "finished", job: JOB, ok: false },
    { n: 11, kind: "setslot", slot: 7, what: "STABLE", node: undefined },
    { n: 12, kind: "trimmed", ranges: [[3, 4]] },
  ].map(({ n, ...event }) => ({ end: ends[n], inTransaction: n === 6, ...event }));
  for (let blockBytes = 1; blockBytes <= log.length; blockBytes++) {
    const events = [];
    for await (const { command, ...event } of migrationEvents(part(dir, log, { blockBytes }))) {
      const { end, inTransaction } = command;
      const key = "key" in event ? { key: Buffer.from(event.key) } : {};
      events.push({ end, inTransaction, ...event, ...key });
    }
    expect([blockBytes, events]).toEqual([blockBytes, expected as typeof events]);
  }
});
