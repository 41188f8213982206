import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { thrownBy } from "../../support/error-of.ts";
import { parseReplicationId } from "../../../src/base/history.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Removal } from "../../../src/store/keep/removal.ts";
import { ReplicaDatabase } from "../../../src/store/ledger/database.ts";
import { Ledger } from "../../../src/store/ledger/ledger.ts";
import { WalIndex } from "../../../src/store/ledger/wal-index.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

interface Moved {
  readonly log: number;
  readonly checkpointed: number;
}

const ID = parseReplicationId("a".repeat(40));

const walBytes = (path: string) => fs.statSync(`${path}-wal`).size;

/** Commits some kilobytes. */
function say(ledger: Ledger): void {
  ledger.recent.event("kind", "x".repeat(8_000), 0);
}

/** Fills the log until a checkpoint is due after the next sync. */
function fill(ledger: Ledger, path: string): void {
  while (walBytes(path) <= 4 * 1024 * 1024) ledger.recent.event("kind", "x".repeat(200_000), 0);
}

/** How many events a power cut leaves if all that is written of the files stays. */
function eventsLeft(dir: TempDir, path: string): number {
  for (const suffix of ["", "-wal"]) fs.copyFileSync(path + suffix, dir.file(`copy.db${suffix}`));
  using copy = new Database(dir.file("copy.db"));
  return copy.query<{ n: number }, []>("SELECT count(*) AS n FROM events").get()!.n;
}

/** The disk, with a step in each sync of one file. */
class SteppingDisk extends FaultyDisk {
  path = "";
  beforeSync: () => Promise<void> = () => Promise.resolve();
  afterSync: () => void = () => undefined;

  override async syncData(fd: number): Promise<void> {
    const isIt = this.pathOf({ operation: "syncData", subject: fd }) === this.path;
    if (isIt) await this.beforeSync();
    await super.syncData(fd);
    if (isIt) this.afterSync();
  }
}

/** Holds SQLite's lock for checkpoints, from another process, until it is killed. */
const HOLDER = `
  import { Database } from "bun:sqlite";
  const [reader, holder] = [new Database(process.argv[1]), new Database(process.argv[1])];
  reader.run("BEGIN");
  reader.query("SELECT count(*) FROM events").get();
  holder.run("INSERT INTO events VALUES (0, 'holder', '')");
  holder.run("PRAGMA busy_timeout = 600000");
  process.stdout.write("holds");
  holder.run("PRAGMA wal_checkpoint(FULL)");
`;

test("a checkpoint that another process keeps from moving anything cuts nothing", async () => {
  using dir = tempDir();
  const disk = new SteppingDisk();
  const path = dir.file("replica.db");
  const ledger = new Ledger(path, disk, true);
  await ledger.sync();
  fill(ledger, path);
  const holder = Bun.spawn([process.execPath, "-e", HOLDER, path], { stdout: "pipe" });
  try {
    await holder.stdout.getReader().read();
    using other = new Database(path);
    const isHeld = () =>
      other.query<{ busy: number }, []>("PRAGMA wal_checkpoint(PASSIVE)").get()!.busy === 1;
    await until(isHeld, { what: "the lock to be held" });
    const bytes = walBytes(path);
    disk.path = path;
    let isSynced = false;
    disk.beforeSync = async () => {
      holder.kill("SIGKILL");
      await holder.exited;
      isSynced = true;
    };
    await ledger.sync();
    await until(() => isSynced, { what: "the sync of the database" });
    // Waits for the checkpoint.
    await ledger.sync();
    expect(walBytes(path)).toBe(bytes);
  } finally {
    holder.kill("SIGKILL");
    await holder.exited;
    ledger.close();
  }
});

test("whatever the moment of a commit: its log is not cut before a sync of the database covers it", async () => {
  for (let ticks = 0; ticks < 8; ticks++) {
    using dir = tempDir();
    const disk = new SteppingDisk();
    const path = dir.file("replica.db");
    const ledger = new Ledger(path, disk, true);
    await ledger.sync();
    fill(ledger, path);
    let isCommitted = false;
    let isCutBefore = false;
    disk.path = path;
    disk.afterSync = () => {
      disk.path = "";
      void (async () => {
        for (let left = ticks; left > 0; left--) await undefined;
        isCutBefore = walBytes(path) === 0;
        ledger.recent.event("late", "", 0);
        isCommitted = true;
      })();
    };
    await ledger.sync();
    await until(() => isCommitted, { what: "the commit", everyMs: 1 });
    await ledger.sync();
    // Else the commit is in the database, where no sync has covered it.
    expect({ ticks, isInLog: isCutBefore || walBytes(path) > 4 * 1024 * 1024 }).toEqual({
      ticks,
      isInLog: true,
    });
    ledger.close();
  }
});

test("what is committed while the log is written again is not written over by what was there before", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const path = dir.file("replica.db");
  const ledger = new Ledger(path, disk, true);
  say(ledger);
  await ledger.sync();
  // What a commit leaves that failed half way.
  fs.appendFileSync(`${path}-wal`, Buffer.alloc(50_000));
  disk.fail({ operation: "syncData", code: "EIO" });
  expect(await thrownBy(ledger.sync())).toThrow("EIO");
  disk.heal();
  const writes = disk.count("write");
  const held = disk.hold("write");
  const syncing = ledger.sync();
  await until(() => disk.count("write") > writes, { what: "a piece to be read", everyMs: 1 });
  say(ledger);
  held.release();
  await syncing;
  expect(eventsLeft(dir, path)).toBe(2);
  ledger.close();
});

test("a start writes the log again before it counts: a process that is gone may have lost a part of it", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const path = dir.file("replica.db");
  const gone = new Ledger(path, disk, true);
  say(gone);
  await gone.sync();
  disk.fail({ operation: "syncData", code: "EIO" });
  say(gone);
  expect(await thrownBy(gone.sync())).toThrow("EIO");
  disk.heal();
  const bytes = fs.readFileSync(`${path}-wal`);
  const from = disk.calls.length;
  const ledger = new Ledger(path, disk, false);
  await ledger.sync();
  const written = disk.calls.slice(from).filter(({ operation }) => operation === "write");
  expect(written.map((call) => disk.pathOf(call))).toEqual([`${path}-wal`]);
  expect(fs.readFileSync(`${path}-wal`).equals(bytes)).toBe(true);
  ledger.close();
  gone.close();
});

test("a start on a full disk does without that", async () => {
  using dir = tempDir();
  const path = dir.file("replica.db");
  const gone = new Ledger(path, new FaultyDisk(), true);
  await gone.sync();
  const disk = new FaultyDisk({ operation: "write", code: "ENOSPC" });
  const ledger = new Ledger(path, disk, false);
  await ledger.sync();
  expect(disk.struck.length).toBe(1);
  ledger.close();
  gone.close();
});

test("the marks of what is removed wait for a checkpoint that is under way", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const path = dir.file("replica.db");
  const ledger = new Ledger(path, disk, true);
  const id = ledger.begin("p", 0, 1);
  for (const offset of [0, 1, 2]) {
    ledger.mark(id, { atMs: 0, writtenOffset: offset, durableOffset: offset });
  }
  const generationDir = () => dir.file("generations/1");
  fs.mkdirSync(generationDir(), { recursive: true });
  const removal = new Removal({
    dir: dir.path,
    disk,
    ledger,
    generationDir,
    refuseLost: () => undefined,
  });
  removal.discard(id);
  fill(ledger, path);
  await ledger.sync();
  await removal.sync();
  await ledger.checkpointing;
  expect(walBytes(path)).toBeLessThan(100_000);
  expect(ledger.lastMark(id)).toBeUndefined();
  ledger.close();
});

test("a log that another process has moved into the database is not started over", async () => {
  using dir = tempDir();
  const path = dir.file("replica.db");
  const ledger = new Ledger(path, new FaultyDisk(), true);
  say(ledger);
  await ledger.sync();
  for (const commit of [
    () => say(ledger),
    () => ledger.addReplicationId(ledger.begin("p", 0, 1), ID, 0),
  ]) {
    using other = new Database(path);
    const bytes = walBytes(path);
    const moved = other.query<Moved, []>("PRAGMA wal_checkpoint(PASSIVE)").get()!;
    expect(moved.checkpointed).toBe(moved.log);
    commit();
    expect(walBytes(path)).toBeGreaterThan(bytes);
  }
  ledger.close();
});

test("refuses an index that shows something else than SQLite has in memory", () => {
  using dir = tempDir();
  const path = dir.file("replica.db");
  fs.writeFileSync(`${path}-shm`, Buffer.alloc(32_768));
  expect(() => new WalIndex(path)).toThrow("another file system");
});

test("opens a database that a tool has taken out of WAL mode", async () => {
  using dir = tempDir();
  const path = dir.file("replica.db");
  const disk = new FaultyDisk();
  const first = new Ledger(path, disk, true);
  say(first);
  first.close();
  {
    using tool = new Database(path);
    expect(tool.query("PRAGMA journal_mode = DELETE").get()).toEqual({ journal_mode: "delete" });
  }
  const ledger = new Ledger(path, disk, false);
  say(ledger);
  await ledger.sync();
  expect(eventsLeft(dir, path)).toBe(2);
  ledger.close();
});

test("SQLite itself is never told to sync, wherever that can't be traced: not at first, not after a checkpoint", async () => {
  using dir = tempDir();
  const path = dir.file("replica.db");
  const database = new ReplicaDatabase(path, realDisk, true);
  const settings = () =>
    ["synchronous", "wal_autocheckpoint"].map((name) =>
      Object.values(database.sql.get<Record<string, number>>(`PRAGMA ${name}`)!),
    );
  expect(settings()).toEqual([[0], [0]]);
  database.checkpointSoon();
  await database.sync();
  await database.checkpointing;
  // It was cut.
  expect(walBytes(path)).toBe(0);
  expect(settings()).toEqual([[0], [0]]);
  database.close();
});
