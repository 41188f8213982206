import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { thrownBy } from "../../support/error-of.ts";
import { Ledger } from "../../../src/store/ledger/ledger.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

/** Closes the database; a checkpoint may still be under way. */
async function closed(generations: Ledger, disk: FaultyDisk): Promise<void> {
  generations.close();
  await until(() => disk.openFds.size === 0, { what: "its descriptors to be closed" });
}

/** Commits some kilobytes. */
function say(generations: Ledger): void {
  generations.recent.event("kind", "x".repeat(8_000), 0);
}

const walBytes = (path: string) => fs.statSync(`${path}-wal`).size;

function open(dir: TempDir, disk: FaultyDisk) {
  const path = dir.file("replica.db");
  return { path, generations: new Ledger(path, disk, true) };
}

test("after a failed sync nothing counts until its log is written again and synced, whoever reads meanwhile", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const { path, generations } = open(dir, disk);
  generations.begin("p", 0, 1);
  await generations.sync();
  disk.fail({ operation: "syncData", code: "EIO" });
  generations.recent.event("kind", "detail", 0);
  expect(await thrownBy(generations.sync())).toThrow("EIO");
  using reader = new Database(path, { readonly: true });
  reader.run("BEGIN");
  reader.query("SELECT count(*) FROM events").get();
  // A durable step fails too, and changes nothing.
  expect(await thrownBy(generations.choosePrimary("a", "b"))).toThrow("EIO");
  expect(generations.chosenPrimary("a")).toBeUndefined();
  disk.heal();
  disk.fail({ operation: "write", code: "EIO" });
  expect(await thrownBy(generations.sync())).toThrow("EIO");
  disk.heal();
  const writes = disk.count("write");
  const bytes = fs.readFileSync(`${path}-wal`);
  await generations.sync();
  expect(disk.count("write")).toBeGreaterThan(writes);
  expect(fs.readFileSync(`${path}-wal`).equals(bytes)).toBe(true);
  await generations.choosePrimary("a", "b");
  expect(generations.chosenPrimary("a")).toBe("b");
  await closed(generations, disk);
});

/** Commits and syncs until the log of the database was cut to nothing. */
async function untilCut(generations: Ledger, path: string): Promise<void> {
  let before = 0;
  await until(
    async () => {
      await generations.durably(() => say(generations));
      const bytes = walBytes(path);
      const isCut = bytes < before;
      before = bytes;
      return isCut;
    },
    { what: "the log to be cut", everyMs: 0 },
  );
}

test("a log that has grown long is moved into the database and cut, with each sync on the disk seam", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const { path, generations } = open(dir, disk);
  await untilCut(generations, path);
  expect(walBytes(path)).toBeLessThan(100_000);
  // Without the log, as a power cut right after it would leave it: all that came before is there.
  fs.copyFileSync(path, dir.file("copy.db"));
  using copy = new Database(dir.file("copy.db"));
  const count = copy.query<{ n: number }, []>("SELECT count(*) AS n FROM events").get()!.n;
  expect(count).toBeGreaterThan(200);
  expect(copy.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  await closed(generations, disk);
});

test("what is committed while the database is synced keeps its log from being cut; the next time it is", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const { path, generations } = open(dir, disk);
  await generations.sync();
  fill(generations, path);
  disk.fail({ operation: "syncData", path, code: undefined, lateMs: 100 });
  await generations.sync();
  await until(() => disk.struck.length > 0, { what: "the sync of the database", everyMs: 1 });
  disk.heal();
  generations.recent.event("late", "while it is synced", 0);
  const bytes = walBytes(path);
  await generations.sync();
  expect(walBytes(path)).toBe(bytes);
  // SQLite does not start it over by itself, though all of it was moved.
  say(generations);
  expect(walBytes(path)).toBeGreaterThan(bytes);
  await untilCut(generations, path);
  generations.close();
});

/** Fills the log until a checkpoint is due after the next sync. */
function fill(generations: Ledger, path: string): void {
  while (walBytes(path) <= 4 * 1024 * 1024) say(generations);
}

test("nothing is moved into the database before its log holds it durably", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const { path, generations } = open(dir, disk);
  await generations.sync();
  const late = {
    operation: "syncData",
    path: `${path}-wal`,
    code: undefined,
    lateMs: 100,
  } as const;
  const isSyncing = (times: number) =>
    until(() => disk.struck.length === times, { what: "a sync of the log", everyMs: 1 });
  fill(generations, path);
  disk.fail(late);
  const from = disk.calls.length;
  const syncing = generations.sync();
  await isSyncing(1);
  // No sync covers this yet.
  generations.recent.event("late", "while the log is synced", 0);
  await syncing;
  // The checkpoint has begun, with a sync of the log.
  await isSyncing(2);
  const before = fs.readFileSync(path);
  // Nor this: the checkpoint is given up.
  generations.recent.event("later", "while the log is synced once more", 0);
  await generations.sync();
  expect(fs.readFileSync(path).equals(before)).toBe(true);
  disk.heal();
  await untilCut(generations, path);
  const synced = disk.calls
    .slice(from)
    .filter(({ operation }) => operation === "syncData")
    .map((call) => disk.pathOf(call));
  expect(synced.slice(0, 3)).toEqual(Array.from({ length: 3 }, () => `${path}-wal`));
  expect(synced).toContain(path);
  await closed(generations, disk);
});

test("a checkpoint syncs the log, the database, and the log that was cut, in this order", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const { path, generations } = open(dir, disk);
  await generations.sync();
  fill(generations, path);
  const from = disk.calls.length;
  await generations.sync();
  await until(() => walBytes(path) === 0, { what: "the log to be cut" });
  await generations.sync();
  const synced = disk.calls
    .slice(from)
    .filter(({ operation }) => operation === "syncData")
    .map((call) => disk.pathOf(call));
  const wal = `${path}-wal`;
  // The first and the last are those of the two calls.
  expect(synced).toEqual([wal, wal, path, wal, wal]);
  await closed(generations, disk);
});

test("a failed sync of the database loses nothing: its log stays, and is moved again", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const { path, generations } = open(dir, disk);
  await generations.sync();
  disk.fail({ operation: "syncData", path, code: "EIO" });
  let bytes = 0;
  while (bytes < 8 * 1024 * 1024) {
    await generations.durably(() => {
      for (let n = 0; n < 50; n++) say(generations);
    });
    expect(walBytes(path)).toBeGreaterThan(bytes);
    bytes = walBytes(path);
  }
  expect(disk.struck.length).toBeGreaterThan(2);
  disk.heal();
  await untilCut(generations, path);
  generations.close();
});

test("another process that reads keeps the log, and is told of once it is long; without it the log is cut", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const { path, generations } = open(dir, disk);
  await generations.sync();
  {
    using reader = new Database(path, { readonly: true });
    reader.run("BEGIN");
    reader.query("SELECT count(*) FROM events").get();
    while (walBytes(path) < 6 * 1024 * 1024) say(generations);
    await generations.sync();
    for (let n = 0; n < 3; n++) {
      say(generations);
      await generations.sync();
    }
    expect(walBytes(path)).toBeGreaterThan(6 * 1024 * 1024);
  }
  await untilCut(generations, path);
  generations.close();
});

test("runs concurrent syncs one after another", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const generations = new Ledger(dir.file("replica.db"), disk, true);
  await generations.sync();
  const before = disk.count("syncData");
  const held = disk.hold("syncData");
  const both = Promise.all([generations.sync(), generations.sync()]);
  await Bun.sleep(5);
  expect(disk.count("syncData")).toBe(before + 1);
  held.release();
  await both;
  expect(disk.count("syncData")).toBe(before + 2);
  generations.close();
});
