import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { linkTarget } from "../../../src/store/generation/current-link.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { generationPath } from "../../../src/store/generation/layout.ts";
import { Catalogue, cutShortNote } from "../../../src/store/restore/catalogue.ts";
import { verifyCatalogue } from "../../../src/store/restore/verify.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { generationFiles } from "../../support/generation-files.ts";
import { runReplica } from "../../support/replica-process.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { clock, keep, lay } from "./kept.ts";

/**
 * A data directory as a kill leaves it between the link of a new generation and its row.
 * @param kept how many generations were current before.
 */
async function killedAtTheLink(dir: TempDir, kept: number): Promise<string> {
  const disk = new FaultyDisk();
  const directory = new DataDirectory(dir.file("running"), disk, clock);
  for (let n = 0; n < kept; n++) await (await keep(directory, disk)).close();
  const { id, log, promote } = await lay(directory, disk);
  const path = dir.file("data");
  const { syncDir } = disk;
  disk.syncDir = async (folder) => {
    // The first sync after the link was swapped.
    if (linkTarget(directory.path) === generationPath(id) && !fs.existsSync(path)) {
      fs.cpSync(directory.path, path, { recursive: true, verbatimSymlinks: true });
    }
    await syncDir.call(disk, folder);
  };
  await promote();
  await log.close();
  directory.close();
  return path;
}

async function damagesOf(path: string) {
  using catalogue = new Catalogue(path);
  const damages = await verifyCatalogue(catalogue, new AbortController().signal);
  return { damages, note: cutShortNote(catalogue) };
}

test("a kill between the link and the row damages nothing, as the next start finds too", async () => {
  using dir = tempDir("cut-short");
  const path = await killedAtTheLink(dir, 1);
  expect(linkTarget(path)).toBe("generations/0000000002");
  expect(await damagesOf(path)).toEqual({
    damages: [],
    note: "generation 2 has not become current, though the link current points at it: its last step was cut short, or is taken right now; nothing is damaged: generation 1 is the current one, and the next start points the link at it",
  });
  const [verified, json, listed, restored] = await Promise.all(
    [
      ["verify", path],
      ["verify", path, "--json"],
      ["snapshots", path],
      ["restore", path, dir.file("target")],
    ].map((argv) => runReplica(argv)),
  );
  expect([verified!.exitCode, verified!.stdout]).toEqual([
    0,
    expect.stringMatching(/\nnote: generation 2 has not become current, .*: no damage found\n$/s),
  ]);
  expect(JSON.parse(json!.stdout)).toMatchObject({
    ok: true,
    damages: [],
    notes: [expect.stringMatching(/^generation 2 has not become current/)],
  });
  for (const { exitCode, stderr } of [listed!, restored!]) {
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining("generation 2 has not become")]);
  }
  expect(restored!.stdout).toContain(": generation 1 up to offset ");
  new DataDirectory(path, realDisk, clock).close();
  expect(await damagesOf(path)).toEqual({ damages: [], note: undefined });
  expect(linkTarget(path)).toBe("generations/0000000001");
});

test("so does one of the first snapshot: nothing is kept yet", async () => {
  using dir = tempDir("cut-short");
  const path = await killedAtTheLink(dir, 0);
  expect(await damagesOf(path)).toEqual({
    damages: [],
    note: expect.stringMatching(
      /no generation is current yet, and the next start removes the link$/,
    ),
  });
  new DataDirectory(path, realDisk, clock).close();
  expect(fs.readdirSync(path)).not.toContain("current");
});

test("a row that was lost is damage, to verify as to a start: the log was followed", async () => {
  using dir = tempDir("cut-short");
  const path = await killedAtTheLink(dir, 1);
  fs.appendFileSync(generationFiles(path, 2).log, "more than the log before it has");
  const { damages, note } = await damagesOf(path);
  expect(damages[0]).toMatchObject({
    file: `${path}/replica.db`,
    what: "it has lost the record of generation 2, whose folder is whole",
  });
  expect(note).toBeUndefined();
  expect(() => new DataDirectory(path, realDisk, clock)).toThrow(
    /lost the record of generation 2, whose folder is whole/,
  );
});

test("a link to anything else is damage", async () => {
  using dir = tempDir("cut-short");
  const path = await killedAtTheLink(dir, 1);
  {
    using database = new Database(`${path}/replica.db`);
    database.run("DELETE FROM generations WHERE id = 2");
  }
  fs.rmSync(generationFiles(path, 2).manifest);
  expect(await damagesOf(path)).toEqual({
    damages: [expect.objectContaining({ what: "it points at generations/0000000002" })],
    note: undefined,
  });
});
