import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { runReplica } from "../../support/replica-process.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { clock, keep } from "./kept.ts";

/** A title, a cleared screen, the same by one byte (CSI), and text that runs backwards. */
const STEERING = "\u001B]0;a title\u0007\u001B[2J\u009B2Jx\u202Ey";

let made: TempDir;

beforeAll(async () => {
  made = tempDir("hostile");
  const disk = new FaultyDisk();
  const directory = new DataDirectory(made.file("data"), disk, clock);
  const log = await keep(directory, disk);
  await log.close();
  directory.close();
});

afterAll(() => made[Symbol.dispose]());

/** A copy of the directory, in whose database somebody has written. */
function hostileIn(dir: TempDir, ...statements: string[]): string {
  const path = dir.file("data");
  fs.cpSync(made.file("data"), path, { recursive: true, verbatimSymlinks: true });
  using database = new Database(`${path}/replica.db`);
  for (const statement of statements) database.run(statement);
  return path;
}

/** Runs a command; what it shows, with its lines joined. */
async function shown(argv: readonly string[]): Promise<{ exitCode: number | null; text: string }> {
  const { exitCode, stdout, stderr } = await runReplica([...argv]);
  return { exitCode, text: (stdout + stderr).trimEnd().split("\n").join("|") };
}

test("no text of a data directory steers a terminal", async () => {
  using dir = tempDir("hostile");
  const quoted = `'${STEERING}'`;
  const path = hostileIn(
    dir,
    `UPDATE generations SET primary_name = ${quoted}, rdb_crc64 = ${quoted}, sealed_reason = ${quoted}`,
    `UPDATE replication_ids SET replid = ${quoted}`,
    `UPDATE marks SET crc_from = 1000, crc64 = ${quoted}`,
    `CREATE TABLE "${STEERING}" (x)`,
  );
  fs.rmSync(`${path}/current`);
  fs.symlinkSync(STEERING, `${path}/current`);
  const commands = [
    ["snapshots", path],
    ["snapshots", path, "--json"],
    ["verify", path],
    ["verify", path, "--json"],
    ["restore", path, dir.file("target")],
  ];
  const texts = await Promise.all(commands.map(async (argv) => (await shown(argv)).text));
  for (const text of texts) expect([text, /[\p{Cc}\p{Cf}]/u.test(text)]).toEqual([text, false]);
  // They do show it.
  const hints = ["a title", "a title", "points at ?]0;a title", "points at ?]0;a title", "a title"];
  for (const [n, hint] of hints.entries()) expect(texts[n]).toContain(hint);
});

/** Statements, and the value that is complained of. */
const NUMBERS: [statement: string, what: string][] = [
  ["UPDATE marks SET at_ms = 9223372036854775807", "at_ms 9223372036854776000"],
  ["UPDATE marks SET at_ms = 8640000000000001", "at_ms 8640000000000001"],
  ["UPDATE marks SET at_ms = -1", "at_ms -1"],
  ["UPDATE marks SET durable_offset = -99, written_offset = -99", "offset -99"],
  ["UPDATE marks SET durable_offset = 999", "durable_offset 999"],
  ["UPDATE generations SET base_offset = 9223372036854775807", "base_offset 9223372036854776000"],
  ["UPDATE generations SET base_offset = -5", "base_offset -5"],
  ["UPDATE generations SET log_header_bytes = -50", "log_header_bytes -50"],
  ["UPDATE generations SET rdb_bytes = 9007199254740992", "rdb_bytes 9007199254740992"],
  ["UPDATE generations SET id = -1", "id -1"],
  ["UPDATE replication_ids SET from_offset = -1", "from_offset -1"],
];

describe("a number in replica.db that can't be is damage", () => {
  test.each(NUMBERS)("to a reader and to a start: %s", (statement, what) => {
    using dir = tempDir("hostile");
    const path = hostileIn(dir, "PRAGMA foreign_keys = OFF", statement);
    const damaged = { code: "DIRECTORY_DAMAGED", retry: "never" };
    const message = expect.stringContaining(`replica.db is damaged: it holds the ${what}, which`);
    const read = () => new Catalogue(path)[Symbol.dispose]();
    expect(read).toThrow(expect.objectContaining({ ...damaged, message }));
    const start = () => new DataDirectory(path, realDisk, clock);
    expect(start).toThrow(expect.objectContaining(damaged));
  });

  test("where only the log shows it, it isn't taken for a full disk", async () => {
    using dir = tempDir("hostile");
    const path = hostileIn(
      dir,
      "UPDATE marks SET written_offset = 9007199254740991, durable_offset = 9007199254740991",
    );
    const { exitCode, text } = await shown(["restore", path, dir.file("target")]);
    expect([exitCode, text]).toEqual([
      3,
      expect.stringMatching(/incr\.aof, byte 23: it ends at byte 23/),
    ]);
  });

  test("and the commands end with 3 and say so in one line", async () => {
    using dir = tempDir("hostile");
    const path = hostileIn(dir, "UPDATE marks SET at_ms = 9223372036854775807");
    const commands = [
      ["snapshots", path],
      ["verify", path],
      ["restore", path, dir.file("target")],
      ["follow", "redis://127.0.0.1:1", "--dir", path, "--port", "0"],
    ];
    for (const { exitCode, text } of await Promise.all(commands.map(shown))) {
      expect([exitCode, text]).toEqual([
        3,
        expect.stringMatching(/^replica: [^|]* which can't be: [^|]*$/),
      ]);
    }
  });
});
