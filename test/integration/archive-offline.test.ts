import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { basename } from "node:path";
import { FileStore } from "../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../src/archive/store/folder-disk.ts";
import { realClock } from "../../src/base/clock.ts";
import { archiveDirectory } from "../support/archived-directory.ts";
import { fillAllTypes } from "../support/fill.ts";
import { folderDigest } from "../support/folder-digest.ts";
import { freePort } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KIND = availableServers().at(-1)!;
const dir = tempDir("archive-offline");
const root = dir.file("archive");
const url = `file://${root}`;
const kept = dir.file("kept");
let then: { readonly digest: string; readonly atMs: number };
let now: string;
let before: Record<string, string>;
let folders = 0;

beforeAll(async () => {
  await using primary = await startServer(KIND, { args: ["--repl-ping-replica-period", "3600"] });
  await fillAllTypes(primary, { keys: 1_000, seed: 61 });
  await using replica = startReplica([primary.url(), "--dir", kept, "--port", "0"]);
  await replica.waitForLine(/connected by full resync/);
  await primary.sendAll([["SET", "first", "of all"]]);
  await acked(primary);
  const end = await primary.offset();
  await until(async () => (await keptOffset()) === end, { what: "its time" });
  then = { digest: await primary.digest(), atMs: Date.now() + 1 };
  // Times are told apart to the second.
  await until(() => Date.now() > then.atMs + 2_000, { what: "the next moment" });
  await primary.sendAll([["MULTI"], ["SET", "later", "than that"], ["INCR", "n"], ["EXEC"]]);
  await acked(primary);
  now = await primary.digest();
  expect(now).not.toBe(then.digest);
  await replica.stop();
  await archiveDirectory(kept, new FileStore(root, realFolderDisk, realClock));
  before = folderDigest(root);
});
afterAll(() => dir.remove());

/** Waits until the replica of a primary has everything. */
async function acked(primary: RealServer): Promise<void> {
  await until(
    async () => {
      const { slave0 = "", master_repl_offset: end } = await primary.info("replication");
      return Number(/offset=(\d+)/.exec(slave0)?.[1]) === Number(end) || undefined;
    },
    { what: "the replica to have all of the stream" },
  );
}

/** Up to where the kept generation's times reach. */
async function keptOffset(): Promise<number> {
  const { stdout } = await runReplica(["snapshots", kept, "--json"]);
  return (JSON.parse(stdout) as { generations: { to_offset: number }[] }).generations[0]!.to_offset;
}

const newFolder = () => dir.file(`folder-${folders++}`);

/** What a stock server has once it was attached to a replica with these arguments. */
async function seeded(data: string, ...args: string[]): Promise<string> {
  const port = freePort();
  const where = ["--offline", "--dir", data, "--port", String(port)];
  await using replica = startReplica([...where, ...args]);
  await replica.waitForLine(/serving generation \d+ up to offset/);
  await using server = await startServer(KIND, {});
  await server.send("REPLICAOF", "127.0.0.1", port);
  await server.suppliedFrom(port);
  await server.send("REPLICAOF", "NO", "ONE");
  const digest = await server.digest();
  expect((await replica.stop()).exitCode).toBe(0);
  return digest;
}

describe("an archive that is served without a primary", () => {
  test("seeds a server with all that was archived, and leaves nothing behind", async () => {
    const data = newFolder();
    expect(await seeded(data, url)).toBe(now);
    expect(fs.existsSync(data)).toBe(false);
    const left = fs.readdirSync(dir.path).filter((name) => name.startsWith("."));
    expect([left, folderDigest(root)]).toEqual([[], before]);
  });

  test("seeds one as of an earlier time, into an empty folder, as the settings name it", async () => {
    const data = newFolder();
    fs.mkdirSync(data);
    const at = new Date(then.atMs).toISOString();
    expect(await seeded(data, "--archive", url, "--at", at)).toBe(then.digest);
    expect([fs.readdirSync(data), folderDigest(root)]).toEqual([[], before]);
  });

  test("takes a generation by the beginning of its name", async () => {
    const [name = ""] = fs.readdirSync(`${root}/generations`);
    expect(await seeded(newFolder(), url, "--generation", name.slice(0, 9))).toBe(now);
  });

  test("is left alone where the data directory keeps something, unless it is named itself", async () => {
    const copy = newFolder();
    fs.cpSync(kept, copy, { recursive: true, verbatimSymlinks: true });
    const generations = folderDigest(`${copy}/generations`);
    expect(await seeded(copy, "--archive", url)).toBe(now);
    const refused = await runReplica(["--offline", url, "--dir", copy, "--port", "0"]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      2,
      expect.stringMatching(/is not empty, it contains .*: name a folder that is new or empty/),
    ]);
    expect([folderDigest(`${copy}/generations`), folderDigest(root)]).toEqual([
      generations,
      before,
    ]);
  });

  test("is refused for a moment that it lacks, a folder in it, and where it is to be followed", async () => {
    const args = ["--offline", url, "--port", "0"];
    const cases = [
      [[...args, "--dir", newFolder(), "--at", "2001-01-01T00:00:00Z"], "it can be restored as of"],
      [[...args, "--dir", newFolder(), "--generation", "1999"], "holds no generation 1999"],
      [[...args, "--dir", `${root}/inside`], "lies in the archive"],
      [[url, "--dir", newFolder()], "an archive can't be followed: give --offline"],
      [["--offline", `file://${newFolder()}`, "--dir", newFolder()], "is no archive"],
    ] as const;
    for (const [given, why] of cases) {
      const { exitCode, stderr } = await runReplica(given);
      expect([exitCode, stderr]).toEqual([2, expect.stringContaining(why)]);
    }
    expect(folderDigest(root)).toEqual(before);
  });

  test("that was being fetched when its reader was killed is removed by the next one", async () => {
    const data = newFolder();
    const killed = dir.file(`.${basename(data)}.fetching-999999999`);
    fs.mkdirSync(killed);
    expect(await seeded(data, url)).toBe(now);
    expect(fs.existsSync(killed)).toBe(false);
  });
});
