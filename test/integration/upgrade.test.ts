import { Database } from "bun:sqlite";
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { REPLICA_SCHEMA } from "../../src/store/ledger/schema.ts";
import { folderDigest } from "../support/folder-digest.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { type ServerKind, bootCopyOfDir, startServer } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";

const fixtures = join(import.meta.dir, "../fixtures/data-directories");
const formats = [...new Bun.Glob("format-*.tar.gz").scanSync(fixtures)]
  .map((name) => Number(/\d+/.exec(name)![0]))
  .toSorted((a, b) => a - b);
const TIMEOUT_MS = 300_000;

/** The server that a fixture's data came from, and what it held: at a moment, and at the end. */
interface Expected {
  readonly server: ServerKind;
  readonly before: { readonly at: string; readonly keys: number; readonly digest: string };
  readonly end: { readonly keys: number; readonly digest: string };
}

const dir = tempDir("upgrade");
afterAll(() => dir.remove());

/** Unpacks a fixture; returns its folder, and what must come out of it. */
function unpacked(fixture: string) {
  const folder = dir.file(`${basename(fixture, ".tar.gz")}-${crypto.randomUUID()}`);
  const untar = ["tar", "-xzf", join(fixtures, fixture), `--one-top-level=${folder}`];
  expect(Bun.spawnSync(untar).exitCode).toBe(0);
  const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8")) as Expected;
  return { source: (name: string) => join(folder, name), expected };
}

/** What a stock server holds that starts from a restore of `source`. */
async function restored(source: string, server: ServerKind, ...options: string[]) {
  const target = dir.file(`restored-${crypto.randomUUID()}`);
  const run = await runReplica(["restore", source, target, ...options]);
  expect(run).toMatchObject({ exitCode: 0 });
  await using stock = await bootCopyOfDir(server, target, { args: ["--appendonly", "yes"] });
  return { keys: await stock.send("DBSIZE"), digest: await stock.digest() };
}

function formatOf(data: string): number {
  using db = new Database(join(data, "replica.db"), { readonly: true });
  return db.query<{ user_version: number }, []>("PRAGMA user_version").get()!.user_version;
}

/** Both moments, as the primary had them. */
async function expectBoth(source: string, expected: Expected, ...options: string[]) {
  const { at, ...before } = expected.before;
  const { server } = expected;
  expect(await restored(source, server, ...options, "--at", at)).toEqual(before);
  expect(await restored(source, server, ...options)).toEqual(expected.end);
}

describe.each(outermost(formats))("a directory that 0.1.0 wrote in format %i", (format) => {
  test(
    "is verified and restored without being changed, and goes on in today's format",
    async () => {
      const { source, expected } = unpacked(`format-${format}.tar.gz`);
      const data = source("data");
      expect(formatOf(data)).toBe(format);
      const content = folderDigest(join(data, "generations"));
      expect(await runReplica(["verify", data])).toMatchObject({
        exitCode: 0,
        stdout: expect.stringContaining("no damage found"),
      });
      await expectBoth(data, expected);
      expect([formatOf(data), folderDigest(join(data, "generations"))]).toEqual([format, content]);

      await using primary = await startServer(expected.server);
      await primary.send("SET", "after", "the upgrade");
      const follow = ["follow", primary.url(), "--dir", data, "--port", "0", "--adopt"];
      {
        await using replica = startReplica(follow);
        await replica.waitForLine(/connected by full resync/);
        expect(await replica.stop()).toMatchObject({ exitCode: 0 });
      }
      expect(formatOf(data)).toBe(REPLICA_SCHEMA.version);
      expect(folderDigest(join(data, "generations"))).toMatchObject(content);
      await expectBoth(data, expected, "--generation", "1");
      expect((await restored(data, expected.server)).digest).toBe(await primary.digest());
    },
    TIMEOUT_MS,
  );
});

test(
  "an archive that 0.1.0 wrote in format 1 is verified and restored",
  async () => {
    const { source, expected } = unpacked("archive-1.tar.gz");
    const archive = `file://${source("archive")}`;
    expect(await runReplica(["verify", archive])).toMatchObject({ exitCode: 0 });
    await expectBoth(archive, expected);
  },
  TIMEOUT_MS,
);

test(
  "what a later version wrote is refused by every command, which says so, and stays as it is",
  async () => {
    const { source } = unpacked(`format-${formats.at(-1)!}.tar.gz`);
    const data = source("data");
    const later = REPLICA_SCHEMA.version + 1;
    {
      using db = new Database(join(data, "replica.db"));
      db.run(`PRAGMA user_version = ${later}`);
    }
    const content = folderDigest(join(data, "generations"));
    const target = dir.file("never");
    for (const args of [
      ["follow", "redis://127.0.0.1:1", "--dir", data, "--port", "0"],
      ["follow", "--offline", "--dir", data, "--port", "0"],
      ["restore", data, target],
      ["verify", data],
      ["snapshots", data],
      ["log", data],
      ["keys", data],
    ]) {
      const { exitCode, stdout, stderr } = await runReplica(args);
      const refusal = `was written by a newer replica (format ${later}, this one knows ${REPLICA_SCHEMA.version}): use that version`;
      const line = stderr.trimEnd().split("\n").at(-1);
      expect([args[0], exitCode, stdout, line]).toEqual([
        args[0],
        1,
        "",
        expect.stringContaining(refusal),
      ]);
    }
    expect([formatOf(data), folderDigest(join(data, "generations"))]).toEqual([later, content]);
    expect(existsSync(target)).toBe(false);

    const archived = unpacked("archive-1.tar.gz").source("archive");
    const about = join(archived, "archive.json");
    writeFileSync(about, readFileSync(about, "utf8").replace('"format": 1', '"format": 2'));
    const { exitCode, stderr } = await runReplica(["snapshots", `file://${archived}`]);
    expect(stderr).toContain("has format 2, this program reads up to 1: use a newer one");
    expect(exitCode).toBe(1);
  },
  TIMEOUT_MS,
);
