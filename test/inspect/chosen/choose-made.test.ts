import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { ReplicaError } from "../../../src/base/errors.ts";
import { keySlot } from "../../../src/cluster/slots/key-slot.ts";
import { chooseKeys } from "../../../src/inspect/chosen/choose-keys.ts";
import type { ChooseOptions } from "../../../src/inspect/chosen/replay.ts";
import type { Selection } from "../../../src/inspect/needs/selection.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { currentFiles } from "../../support/generation-files.ts";
import { len, raw, rdbOf, str } from "../../support/rdb-bytes.ts";
import { availableServers } from "../../support/servers.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { choosing, programOf } from "./equality.ts";
import {
  BASE_OFFSET,
  type MadeCommand,
  type MadeKey,
  madeRdb,
  makeHistory,
} from "./made-history.ts";

const KIND = availableServers().find((kind) => kind.startsWith("redis-7"))!;
const LONG_AGO_MS = 1_000;

const BASE: readonly MadeKey[] = [
  { key: "a", value: "in the snapshot" },
  { key: "b", value: "b" },
  { key: "gone", value: "expired", expiresAtMs: LONG_AGO_MS },
  { key: Uint8Array.of(0xff, 0x0a, 0x00), value: "binary" },
  { key: "a", value: "of 3", db: 3 },
];

/** No server program: asking for one fails as on a machine that has none. */
const serverless: Pick<ChooseOptions, "server"> = {
  server: async () => {
    throw new ReplicaError("SERVER_FAILED", { retry: "never", message: "none is on PATH" });
  },
};

async function chosenIn(
  dir: TempDir,
  patterns: readonly string[],
  more: Partial<ChooseOptions> & { readonly offset?: number; readonly db?: number } = {},
) {
  const { offset, db, ...options } = more;
  using catalogue = new Catalogue(dir.file("data"));
  const point = restorePoint(catalogue, { generation: undefined, atMs: undefined, offset });
  const selection: Selection = { patterns, db };
  const how = choosing(await programOf(dir, KIND), options);
  await using chosen = await chooseKeys(catalogue, point, selection, how);
  const keys: string[] = [];
  for await (const { db: inDb, key, value, expiresAtMs = "" } of chosen.entries()) {
    const text = Buffer.from(value.subarray(1)).toString();
    keys.push(`${inDb} ${Buffer.from(key).toString("latin1")}=${text}${expiresAtMs}`);
  }
  return { ...chosen.about, keys: keys.toSorted(), unmet: chosen.unmet };
}

async function made(dir: TempDir, commands: readonly MadeCommand[], redisVersion?: string) {
  return await makeHistory(dir, madeRdb(BASE, redisVersion), commands);
}

test("reads keys that the log leaves alone from the snapshot, without any server", async () => {
  using dir = tempDir("chosen");
  await made(dir, [
    ["SELECT", 0],
    ["SET", "other", 1],
    ["COPY", "a", "c"],
    ["RENAME", "x", "y"],
  ]);
  expect(await chosenIn(dir, ["a", "gone", "?\n*", "none"], serverless)).toMatchObject({
    how: "base",
    pulledIn: 0,
    keys: ["0 a=in the snapshot", "0 gone=expired1000", "0 \xff\n\0=binary", "3 a=of 3"].toSorted(),
    unmet: ["none"],
  });
  const one = await chosenIn(dir, ["a"], { ...serverless, db: 3 });
  expect(one.keys).toEqual(["3 a=of 3"]);
});

test("replays what the log does to keys and to those they come from, up to the moment", async () => {
  using dir = tempDir("chosen");
  const commands: MadeCommand[] = [
    ["SELECT", 0],
    ["SET", "other", 1],
    ["APPEND", "b", "+"],
    ["COPY", "b", "c"],
    ["MULTI"],
    ["RENAME", "c", "a"],
    ["PEXPIREAT", "a", LONG_AGO_MS],
    ["EXEC"],
    ["DEL", "gone", "a"],
  ];
  const end = await made(dir, commands);
  const last = "*3\r\n$3\r\nDEL\r\n$4\r\ngone\r\n$1\r\na\r\n".length;
  const before = await chosenIn(dir, ["a", "gone"], { offset: end - last });
  expect(before).toMatchObject({ how: "replayed", pulledIn: 2, offset: end - last });
  expect(before.keys).toEqual(["0 a=b+1000", "0 gone=expired1000", "3 a=of 3"]);
  // Inside the transaction: what stands before it.
  const inside = await chosenIn(dir, ["a"], { offset: end - last - 20 });
  expect(inside.keys).toEqual(["0 a=in the snapshot", "3 a=of 3"]);
  expect((await chosenIn(dir, ["a", "gone"])).keys).toEqual(["3 a=of 3"]);
});

test("follows keys through databases that are swapped, and moves between them", async () => {
  using dir = tempDir("chosen");
  await made(dir, [
    ["SELECT", 0],
    ["MOVE", "b", 3],
    ["SWAPDB", 0, 3],
    ["COPY", "a", "d", "DB", 5],
  ]);
  expect((await chosenIn(dir, ["*"])).keys).toEqual(
    [
      "0 a=of 3",
      "0 b=b",
      "3 a=in the snapshot",
      "3 gone=expired1000",
      "3 \xff\n\0=binary",
      "5 d=of 3",
    ].toSorted(),
  );
  expect((await chosenIn(dir, ["d"], { db: 5 })).keys).toEqual(["5 d=of 3"]);
});

test("removes the keys of slots that a cluster moved away, as a whole restore does", async () => {
  using dir = tempDir("chosen");
  const slot = keySlot(Buffer.from("a"));
  await made(dir, [
    ["SELECT", 0],
    ["TRIMSLOTS", "RANGES", 1, slot, slot],
    ["APPEND", "b", "+"],
  ]);
  expect(await chosenIn(dir, ["a", "b"])).toMatchObject({ how: "replayed", keys: ["0 b=b+"] });
});

test.each<[string, readonly MadeCommand[], RegExp]>([
  ["a script", [["EVAL", "return redis.call('SET', 'a', 'by script')", 0]], /EVAL runs a script/],
  [
    "a pattern",
    [
      ["RPUSH", "list", 1],
      ["SET", "w1", 5],
      ["SORT", "list", "BY", "w*", "GET", "w*", "STORE", "sorted"],
    ],
    /SORT reads keys whose names come from a pattern/,
  ],
])("replays all where %s keeps it from telling, and says so before", async (_, commands, said) => {
  using dir = tempDir("chosen");
  await made(dir, [["SELECT", 0], ...commands, ["SET", "last", 1]]);
  const told: string[] = [];
  const isScript = said.source.startsWith("EVAL");
  const found = await chosenIn(dir, ["a", "sorted"], { tell: (note) => told.push(note), db: 0 });
  expect(found.how).toBe("whole");
  expect(found.keys).toHaveLength(isScript ? 1 : 2);
  if (isScript) expect(found.keys).toEqual(["0 a=by script"]);
  expect(told).toHaveLength(1);
  expect(told[0]).toMatch(said);
  expect(told[0]).toMatch(
    /\(after offset \d+\).* loads all of the data, which takes .* of memory or more, and some .* in \//,
  );
});

test("replays all where names take more memory than they may", async () => {
  using dir = tempDir("chosen");
  await made(dir, [
    ["SELECT", 0],
    ["COPY", "b", "a", "REPLACE"],
    ["COPY", "gone", "b", "REPLACE"],
  ]);
  const limits = { neededBytes: 70, groupBytes: 0 };
  const found = await chosenIn(dir, ["a"], { limits, db: 0 });
  expect(found).toMatchObject({ how: "whole", keys: ["0 a=b"] });
});

test.each<[string, readonly MadeCommand[]]>([
  ["leaves them alone", []],
  ["changes them", [["APPEND", "a", "+"]]],
])(
  "refuses a snapshot in which slots were being moved in, whose its keys are isn't known: the log %s",
  async (_, commands) => {
    using dir = tempDir("chosen");
    const job = raw(0xf3, str("0123456789".repeat(4)), len(1), len(0), len(16_383));
    const rdb = rdbOf("VALKEY080", job, 0xfe, 0, 0, str("a"), str("theirs"));
    await makeHistory(dir, rdb, [["SELECT", 0], ...commands]);
    const server = async () => await programOf(dir, availableServers().at(-1)!);
    expect(await rejectionOf(() => chosenIn(dir, ["a"], { server }))).toMatchObject({
      code: "RESTORE_UNUSABLE",
      message: expect.stringMatching(/slots were being moved .*: choose another generation/),
    });
  },
);

// The server that replays has 10,000 databases, and would go on in the one that was selected before.
test.each<[string, readonly MadeCommand[]]>([
  ["SELECT", [["SELECT", 12_000]]],
  ["MOVE", [["MOVE", "b", 12_000]]],
  ["COPY", [["COPY", "b", "c", "DB", 12_000]]],
  ["SWAPDB", [["SWAPDB", 0, 12_000]]],
  // Of a newer primary: an option that the server doesn't know.
  ["XGROUP", [["XGROUP", "CREATE", "a", "group", "0", "NEWER"]]],
])("refuses what it can't tell because the server passed over %s", async (name, commands) => {
  using dir = tempDir("chosen");
  await made(dir, [["SELECT", 0], ...commands, ["SET", "a", "in another database"]]);
  expect(await rejectionOf(() => chosenIn(dir, ["a", "b", "c"]))).toMatchObject({
    code: "RESTORE_UNUSABLE",
    message: expect.stringMatching(
      new RegExp(`passed over a command while it loaded, .* \\(${name}\\b.*\\); give a server`),
    ),
  });
});

test("says what a server is needed for where there is none", async () => {
  using dir = tempDir("chosen");
  await made(dir, [
    ["SELECT", 0],
    ["SET", "a", 1],
    ["EVAL", "return 1", 0],
  ]);
  expect(await rejectionOf(() => chosenIn(dir, ["a"], serverless))).toMatchObject({
    code: "SERVER_FAILED",
    message: expect.stringMatching(
      /^a stock server has to replay .* EVAL runs a script.*none is on PATH$/,
    ),
  });
  const offset =
    BASE_OFFSET +
    "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n".length;
  expect(await rejectionOf(() => chosenIn(dir, ["a"], { ...serverless, offset }))).toMatchObject({
    code: "SERVER_FAILED",
    message: expect.stringMatching(
      /^the log up to that moment changes these keys.*none is on PATH$/,
    ),
  });
  expect((await chosenIn(dir, ["a"], { ...serverless, offset: BASE_OFFSET })).how).toBe("base");
});

test("makes expiries absolute that counted from when they came", async () => {
  using dir = tempDir("chosen");
  const before = Date.now();
  await made(
    dir,
    [
      ["SELECT", 0],
      ["SET", "a", "x", "EX", 100],
    ],
    "6.2.14",
  );
  const after = Date.now();
  const { keys } = await chosenIn(dir, ["a"], { db: 0 });
  const atMs = Number(/^0 a=x(\d+)$/.exec(keys[0]!)![1]) - 100_000;
  expect(atMs).toBeGreaterThanOrEqual(before);
  // Marks are up to a second apart.
  expect(atMs).toBeLessThan(after + 5_000);
});

test("says what can be had of a damaged snapshot", async () => {
  using dir = tempDir("chosen");
  await made(dir, [
    ["SELECT", 0],
    ["SET", "other", 1],
  ]);
  const { base } = currentFiles(dir.file("data"));
  const bytes = fs.readFileSync(base);
  const changed = Buffer.from(bytes);
  // The length of a key's name.
  changed[bytes.indexOf("gone") - 1] = 0xff;
  fs.writeFileSync(base, changed);
  expect(await rejectionOf(() => chosenIn(dir, ["a", "b", "gone"]))).toMatchObject({
    code: "DIRECTORY_DAMAGED",
    message: expect.stringMatching(
      /; 2 chosen keys can be read up to where the reading ends: .*byte \d+/,
    ),
  });
  const other = Buffer.from(bytes);
  other[bytes.indexOf("snapshot")] = 0x53;
  fs.writeFileSync(base, other);
  expect(await rejectionOf(() => chosenIn(dir, ["a", "b", "gone"]))).toMatchObject({
    code: "DIRECTORY_DAMAGED",
    message: expect.stringMatching(/; 4 chosen keys can be read, but a value may be changed$/),
  });
});

test("leaves no folder behind, whatever happens", async () => {
  using dir = tempDir("chosen");
  const own = () =>
    fs.readdirSync(tmpdir()).filter((name) => name.startsWith(`replica-stock-${process.pid}-`));
  const left = own();
  await made(dir, [
    ["SELECT", 0],
    ["SET", "a", 1],
  ]);
  await chosenIn(dir, ["a"]);
  const stopping = new AbortController();
  const reason = new ReplicaError("STOPPED", { message: "stopped", retry: "never" });
  const stopped = chosenIn(dir, ["a"], {
    signal: stopping.signal,
    onProgress: (file) => {
      if (file === "load") stopping.abort(reason);
    },
    server: async () => {
      setTimeout(() => stopping.abort(reason), 1);
      return await programOf(dir, KIND);
    },
  });
  expect(await rejectionOf(() => stopped)).toBe(reason);
  expect(own()).toEqual(left);
});
