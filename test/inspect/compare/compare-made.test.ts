import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { ReplicaError } from "../../../src/base/errors.ts";
import {
  compareMoments,
  type CompareOptions,
} from "../../../src/inspect/compare/compare-moments.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { availableServers } from "../../support/servers.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { choosing, programOf } from "../chosen/equality.ts";
import {
  BASE_OFFSET,
  type MadeCommand,
  type MadeKey,
  madeRdb,
  makeHistory,
} from "../chosen/made-history.ts";

const KIND = availableServers().find((kind) => kind.startsWith("redis-7"))!;
const FAR_MS = 4_102_444_800_000;

const BASE: readonly MadeKey[] = [
  { key: "a", value: "in the snapshot" },
  { key: "b", value: "b" },
  { key: "kept", value: "k", expiresAtMs: FAR_MS },
  { key: Uint8Array.of(0xff, 0x0a, 0x00), value: "binary" },
  { key: "a", value: "of 3", db: 3 },
];

interface Told {
  readonly lines: readonly string[];
  readonly notes: readonly string[];
  readonly isOfTouched: boolean;
  readonly unchanged: number;
}

/** Compares the snapshot with the end of the log, or two other offsets. */
async function compared(
  dir: TempDir,
  more: Partial<CompareOptions> & {
    readonly offsets?: readonly [number | undefined, number | undefined];
    readonly patterns?: readonly string[];
    readonly db?: number;
  } = {},
): Promise<Told> {
  const { offsets = [BASE_OFFSET, undefined], patterns = ["*"], db, ...options } = more;
  using catalogue = new Catalogue(dir.file("data"));
  const [before, after] = offsets.map((offset) =>
    restorePoint(catalogue, { generation: undefined, atMs: undefined, offset }),
  );
  const notes: string[] = [];
  const how = choosing(await programOf(dir, KIND), {
    tell: (note) => notes.push(note),
    ...options,
  });
  await using comparison = await compareMoments(
    {
      before: async (use) => await use(catalogue, before!),
      after: async (use) => await use(catalogue, after!),
      together: { catalogue, before: before!, after: after! },
    },
    { patterns, db },
    { ...how, ...options, tell: (note) => notes.push(note) },
  );
  const lines = [...comparison.differences()].map(({ key, ...difference }) => {
    const what = difference.before === undefined ? "+" : difference.after === undefined ? "-" : "~";
    const sort = what === "~" && !difference.isOtherValue ? " expiry" : "";
    return `${what} ${difference.db} ${Buffer.from(key).toString("latin1")}${sort}`;
  });
  const { isOfTouched, counts } = comparison;
  return { lines, notes, isOfTouched, unchanged: counts.unchanged };
}

async function made(dir: TempDir, commands: readonly MadeCommand[]): Promise<number> {
  return await makeHistory(dir, madeRdb(BASE), [["SELECT", 0], ...commands]);
}

/** No server program: asking for one fails as on a machine that has none. */
const serverless: Pick<CompareOptions, "server"> = {
  server: async () => {
    throw new ReplicaError("SERVER_FAILED", { retry: "never", message: "none is on PATH" });
  },
};

test("looks only at keys that the log touches, and at their values", async () => {
  using dir = tempDir("compared");
  await made(dir, [
    ["SET", "a", "another"],
    ["SET", "b", "b"],
    ["PEXPIREAT", "kept", FAR_MS + 1],
    ["SET", "new", 1],
    ["SET", "gone again", 1],
    ["DEL", "gone again"],
  ]);
  const { lines, notes, isOfTouched, unchanged } = await compared(dir);
  expect(lines).toEqual(["~ 0 a", "~ 0 kept expiry", "+ 0 new"]);
  expect({ notes, isOfTouched }).toEqual({ notes: [], isOfTouched: true });
  // b; and the key of the same name in another database, which a name alone doesn't tell from the first one.
  expect(unchanged).toBe(2);
});

test("needs no server where nothing that is asked for was touched", async () => {
  using dir = tempDir("compared");
  const end = await made(dir, [["SET", "a", 1]]);
  expect((await compared(dir, { ...serverless, patterns: ["b"] })).lines).toEqual([]);
  const same = await compared(dir, { ...serverless, offsets: [end, end] });
  expect(same).toMatchObject({ lines: [], isOfTouched: true });
  const failure = await rejectionOf(() => compared(dir, serverless));
  expect(failure).toMatchObject({ code: "SERVER_FAILED" });
});

test("tells it from the second moment to the first one where that is asked for", async () => {
  using dir = tempDir("compared");
  const end = await made(dir, [
    ["DEL", "b"],
    ["SET", "new", 1],
  ]);
  const { lines } = await compared(dir, { offsets: [end, BASE_OFFSET] });
  expect(lines).toEqual(["+ 0 b", "- 0 new"]);
});

test("follows keys that are renamed, copied and moved to other databases", async () => {
  using dir = tempDir("compared");
  await made(dir, [
    ["RENAME", "b", "c"],
    ["COPY", "a", "d", "DB", 5],
    ["MOVE", "kept", 3],
  ]);
  const { lines, isOfTouched } = await compared(dir);
  expect(lines).toEqual(["- 0 b", "+ 0 c", "- 0 kept", "+ 3 kept", "+ 5 d"]);
  expect(isOfTouched).toBe(true);
});

test("looks at all keys where the log doesn't tell which ones changed, and says why", async () => {
  for (const [command, why] of [
    [["FLUSHDB"], /hold in memory: a command changes all keys of a database \(after offset/],
    [["SWAPDB", 0, 3], /a command changes all keys of a database/],
    [["EVAL", "return redis.call('DEL', 'a')", 0], /EVAL runs a script/],
  ] as const) {
    using dir = tempDir("compared");
    await made(dir, [["SET", "b", "b"], command]);
    const { lines, notes, isOfTouched } = await compared(dir);
    expect(isOfTouched).toBe(false);
    expect(notes[0]).toMatch(why);
    expect(lines).toEqual(
      command[0] === "FLUSHDB"
        ? ["- 0 a", "- 0 b", "- 0 kept", "- 0 \xff\n\0"]
        : command[0] === "EVAL"
          ? ["- 0 a"]
          : [
              "~ 0 a",
              "- 0 b",
              "- 0 kept",
              "- 0 \xff\n\0",
              "~ 3 a",
              "+ 3 b",
              "+ 3 kept",
              "+ 3 \xff\n\0",
            ],
    );
  }
});

test("looks at all keys where more were touched than it may remember", async () => {
  using dir = tempDir("compared");
  const many = Array.from({ length: 1000 }, (_, n): MadeCommand => ["SET", `many:${n}`, n]);
  await made(dir, [...many, ["DEL", "many:500"]]);
  const { lines, notes, isOfTouched, unchanged } = await compared(dir, { nameBytes: 4096 });
  expect({ isOfTouched, unchanged }).toEqual({ isOfTouched: false, unchanged: BASE.length });
  expect(notes[0]).toContain("more keys were changed than can be remembered");
  expect(lines).toHaveLength(999);
  expect(lines).toContain("+ 0 many:0");
});

test("leaves nothing behind when it is stopped or fails", async () => {
  using dir = tempDir("compared");
  const end = await made(dir, [
    ["SET", "a", 1],
    ["SET", "a", 2],
  ]);
  const last = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n2\r\n".length;
  const temporary = dir.file("tmp");
  fs.mkdirSync(temporary);
  const before = process.env["TMPDIR"];
  process.env["TMPDIR"] = temporary;
  try {
    const stopping = new AbortController();
    const reason = new ReplicaError("STOPPED", { retry: "never", message: "stopped" });
    const stopped = await rejectionOf(() =>
      compared(dir, {
        signal: stopping.signal,
        offsets: [end - last, end],
        onProgress: (file) => {
          // By then the first moment's keys are there.
          if (file.endsWith("saved.rdb")) stopping.abort(reason);
        },
      }),
    );
    expect(stopped).toBe(reason);
    expect(fs.readdirSync(temporary)).toEqual([]);
    await rejectionOf(() => compared(dir, serverless));
    expect(fs.readdirSync(temporary)).toEqual([]);
  } finally {
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
  }
});
