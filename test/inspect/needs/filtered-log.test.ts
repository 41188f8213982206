import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { writeFiltered } from "../../../src/inspect/needs/filtered-log.ts";
import { GatheringFile } from "../../../src/inspect/needs/gathering-file.ts";
import { findNeeds } from "../../../src/inspect/needs/log-needs.ts";
import { NeededNames } from "../../../src/inspect/needs/needed-names.ts";
import { KeyMatcher } from "../../../src/inspect/needs/selection.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { encodeCommand } from "../../support/resp.ts";
import { tempDir } from "../../support/temp.ts";

const LIMITS = { neededBytes: 1024 * 1024, groupBytes: 1024 * 1024 };

/** What of a log is kept for some keys, one command a line; a command is words in one text. */
async function kept(
  log: readonly string[],
  pattern: string,
  { blockBytes = 1024, limits = LIMITS } = {},
): Promise<{ lines: string[]; isTouched: boolean; obstacle: string | undefined }> {
  using dir = tempDir("filtered");
  const path = dir.file("log");
  const bytes = Buffer.concat(log.map((line) => encodeCommand(line.split(" "))));
  writeFileSync(path, bytes);
  const signal = new AbortController().signal;
  const part = { disk: realDisk, path, from: 0, to: bytes.length, signal, blockBytes };
  const needed = new NeededNames(new KeyMatcher({ patterns: [pattern], db: undefined }), limits);
  const { isTouched, obstacle } = await findNeeds(part, needed);
  if (obstacle !== undefined) {
    const at = log.findIndex((_, n) => byteOf(log, n) === obstacle.byte);
    return { lines: [], isTouched, obstacle: `${obstacle.what} | ${log[at] ?? ""}` };
  }
  using file = new GatheringFile(realDisk, dir.file("kept"));
  await writeFiltered(part, needed, [], file);
  await file.finish();
  const text = readFileSync(file.path, "latin1");
  return { lines: linesOf(text), isTouched, obstacle: undefined };
}

function byteOf(log: readonly string[], index: number): number {
  return log.slice(0, index).reduce((sum, line) => sum + encodeCommand(line.split(" ")).length, 0);
}

function linesOf(text: string): string[] {
  return text
    .split(/^\*\d+\r\n/m)
    .slice(1)
    .map((command) =>
      command
        .split("\r\n")
        .filter((_, at) => at % 2 === 1)
        .join(" "),
    );
}

const LOG = [
  "SELECT 0",
  "SET a 1",
  "SET other 1",
  "MULTI",
  "SELECT 3",
  "SET a 2",
  "DEL x a y",
  "EXEC",
  "PING",
  "MULTI",
  "SET other 2",
  "EXEC",
  "SUNIONSTORE big a b c",
  "SELECT 0",
  "RENAME tmp a",
  "COPY source tmp DB 0",
  "MSET other 1 source 2",
  "FLUSHDB",
  "SWAPDB 0 3",
  "PUBLISH a text",
  "SET unrelated x",
];

const KEPT = [
  "SELECT 0",
  "SET a 1",
  "SELECT 3",
  "SET a 2",
  "DEL a",
  "SELECT 0",
  "RENAME tmp a",
  "COPY source tmp DB 0",
  "MSET source 2",
  "FLUSHDB",
  "SWAPDB 0 3",
];

test.each([1, 7, 64, 1024])(
  "keeps what needed keys come from, in blocks of %d bytes",
  async (blockBytes) => {
    expect(await kept(LOG, "a", { blockBytes })).toMatchObject({ lines: KEPT, isTouched: true });
  },
);

test("finds the same where nothing can be remembered, by reading again", async () => {
  const limits = { ...LIMITS, groupBytes: 0 };
  const chain = ["SET d 1", "COPY d c", "COPY c b", "COPY b a"];
  const all = await kept(chain, "a", { limits });
  expect(all.lines).toEqual(["SELECT 0", ...chain]);
});

test("says that a log leaves keys alone that it only reads, or doesn't name", async () => {
  const log = ["SELECT 0", "SET b 1", "SUNIONSTORE c a b", "DEL c d", "PING"];
  expect(await kept(log, "a")).toMatchObject({ isTouched: false, obstacle: undefined });
  expect(await kept([...log, "FLUSHALL"], "a")).toMatchObject({ isTouched: true });
});

test.each([
  ["EVAL code 0", /^EVAL runs a script.* \| EVAL code 0$/],
  ["EVALSHA abc 1 other", /^EVALSHA runs a script/],
  ["NEW.COMMAND x", /^NEW\.COMMAND isn't known here/],
  ["SORT list BY w* STORE a", /^SORT reads keys whose names come from a pattern/],
])("names the command that keeps it from telling: %s", async (command, said) => {
  const { obstacle } = await kept(["SET b 1", command, "SET a 1"], "a");
  expect(obstacle).toMatch(said);
});

test("needs no more than the keys of a SORT with a pattern whose result nobody wants", async () => {
  expect((await kept(["SORT list BY w* STORE b", "SET a 1"], "a")).obstacle).toBeUndefined();
});

test("gives up on keys that come from more others than it can remember", async () => {
  const log = Array.from({ length: 200 }, (_, n) => `COPY source:${n} a:${n}`);
  const { obstacle } = await kept(log, "a:*", { limits: { ...LIMITS, neededBytes: 1_000 } });
  expect(obstacle).toMatch(/too many to be remembered/);
});
