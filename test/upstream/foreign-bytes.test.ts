import { expect, test } from "bun:test";
import { appendFileSync, readFileSync, rmSync, statSync } from "node:fs";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { verifyGeneration } from "../../src/store/restore/verify.ts";
import { eventsOf } from "../faults/network-rig.ts";
import { follow } from "../support/following.ts";
import { currentFiles } from "../support/generation-files.ts";
import { ModelPrimary } from "../support/model-primary.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import type { KeptGeneration } from "../../src/store/restore/kept-generation.ts";

async function damagesOf(path: string): Promise<readonly unknown[]> {
  using catalogue = new Catalogue(path);
  return await damagesIn(catalogue);
}

async function damagesIn(catalogue: Catalogue): Promise<readonly unknown[]> {
  const { signal } = new AbortController();
  const options = { disk: realDisk, signal, onProgress: () => undefined };
  const found = await verifyGeneration(catalogue, catalogue.generations.at(-1)!, options);
  return found.damages;
}

function lastOf(path: string): KeptGeneration {
  using catalogue = new Catalogue(path);
  return catalogue.generations.at(-1)!;
}

/** Follows until all is written, and stops. */
async function followOnce(primary: ModelPrimary, dir: TempDir, fsync: string): Promise<void> {
  await using replica = follow(primary.url, realDisk, dir, { fsync });
  await replica.connected();
  primary.write("SET", "key", `by ${fsync}`);
  await until(() => replica.replica.log?.writtenOffset === primary.offset, { what: "the write" });
  expect(await replica.stop()).toBeUndefined();
}

test.each(["always", "everysec", "no"])(
  "what others wrote behind the log after a stop is told, and cut off by the next start (--fsync %s)",
  async (fsync) => {
    using dir = tempDir("foreign");
    await using primary = new ModelPrimary();
    const from = primary.offset;
    await followOnce(primary, dir, fsync);
    const { log } = currentFiles(dir.file("data"));
    const bytes = statSync(log).size;
    expect(await damagesOf(dir.file("data"))).toEqual([]);
    appendFileSync(log, "something else\n");
    const what = "15 bytes at its end did not come from replica";
    expect(await damagesOf(dir.file("data"))).toEqual([
      expect.objectContaining({ file: expect.stringMatching(/incr\.aof$/), byte: bytes, what }),
    ]);
    await followOnce(primary, dir, fsync);
    expect(primary.counts).toEqual({ full: 1, partial: 1 });
    expect(eventsOf(dir.file("data"), "cut-back")).toHaveLength(1);
    const { logHeaderBytes } = lastOf(dir.file("data"));
    const kept = readFileSync(log).subarray(logHeaderBytes);
    expect(kept.toString()).toBe(primary.streamFrom(from).toString());
    expect(await damagesOf(dir.file("data"))).toEqual([]);
  },
);

test("verify takes bytes that a running, stopping or starting replica writes for its own", async () => {
  using dir = tempDir("foreign");
  await using primary = new ModelPrimary();
  {
    await using replica = follow(primary.url, realDisk, dir);
    await replica.connected();
    using catalogue = new Catalogue(dir.file("data"));
    primary.write("SET", "key", "before it stops");
    await until(() => replica.replica.log?.writtenOffset === primary.offset, { what: "the write" });
    expect(await replica.stop()).toBeUndefined();
    expect(await damagesIn(catalogue)).toEqual([]);
  }
  // Without it the catalogue reads a copy, which tells nothing of what comes after.
  rmSync(dir.file("data", "replica.db-shm"), { force: true });
  using catalogue = new Catalogue(dir.file("data"));
  await followOnce(primary, dir, "no");
  expect(await damagesIn(catalogue)).toEqual([]);
});
