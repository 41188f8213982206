import { describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import type { ReplicaError } from "../../../src/base/errors.ts";
import { parseReplicationId } from "../../../src/base/history.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { endWithProcess } from "../../support/children.ts";
import { FakeMachine } from "../../support/fake-machine.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { BASE_OFFSET, callbacks, clock, HEADER, keep, lay, RDB, REPLID } from "../restore/kept.ts";
import { errorOf, reasonOf } from "../../support/error-of.ts";

function open(
  path: string,
  disk = new FaultyDisk(),
  machine = new FakeMachine(),
): DataDirectory & Disposable {
  const directory = new DataDirectory(path, disk, clock, machine);
  let isOpen = true;
  const close = directory.close.bind(directory);
  directory.close = () => {
    if (isOpen) close();
    isOpen = false;
  };
  return Object.assign(directory, { [Symbol.dispose]: () => directory.close() });
}

/** The number of folders above `path` on its file system. */
function depthOf(path: string): number {
  const parent = dirname(path);
  if (parent === path || fs.statSync(parent).dev !== fs.statSync(path).dev) return 0;
  return 1 + depthOf(parent);
}

/** Queries the directory's database. */
function query<T>(path: string, sql: string): T[] {
  using db = new Database(join(path, "replica.db"), { readonly: true });
  return db.query<T, []>(sql).all();
}

function change(path: string, sql: string): void {
  using db = new Database(join(path, "replica.db"));
  db.run(sql);
}

/** Creates a directory with one generation whose log holds `stream`; a mark covers `marked` bytes of it. */
async function written(path: string, stream: string, marked: number): Promise<void> {
  const disk = new FaultyDisk();
  using directory = open(path, disk);
  const log = await keep(directory, disk);
  log.append(Buffer.from(stream.slice(0, marked)));
  await log.flushed();
  await log.sync();
  log.append(Buffer.from(stream.slice(marked)));
  await log.flushed();
  await log.abandon();
}

const GENERATION = "generations/0000000001";
const LOG = `${GENERATION}/appendonly.aof.1.incr.aof`;
const BASE = `${GENERATION}/appendonly.aof.1.base.rdb`;
const MANIFEST = `${GENERATION}/appendonly.aof.manifest`;

describe("a link in the place of a file that is written to", () => {
  /** Puts the file elsewhere, with what is somebody's after it, and a link in its place; returns its new path. */
  function moved(dir: string, name: string): string {
    const elsewhere = join(dir, "elsewhere");
    const content = fs.readFileSync(join(dir, name));
    fs.rmSync(join(dir, name));
    fs.writeFileSync(elsewhere, Buffer.concat([content, Buffer.from("somebody's")]));
    fs.symlinkSync(elsewhere, join(dir, name));
    return elsewhere;
  }

  test.each(["replica.lock", "replica.db", LOG])(
    "%s: nothing is written through it",
    async (name) => {
      using dir = tempDir("link");
      await written(dir.path, "stream", 6);
      const elsewhere = moved(dir.path, name);
      const before = fs.readFileSync(elsewhere);
      expect(errorOf(() => open(dir.path)).message).toMatch(/ a link/);
      expect(fs.readFileSync(elsewhere).equals(before)).toBe(true);
    },
  );

  test.each(["replica.lock", "replica.db"])("%s: nothing is made where it leads", (name) => {
    using dir = tempDir("link");
    fs.symlinkSync(dir.file("elsewhere"), dir.file(name));
    expect(errorOf(() => open(dir.path)).message).toMatch(/ a link/);
    expect(fs.existsSync(dir.file("elsewhere"))).toBe(false);
  });
});

describe("the layout", () => {
  test("a new directory holds its lock and no generation", async () => {
    using dir = tempDir();
    using directory = open(dir.file("data"));
    expect(directory.current).toBeUndefined();
    expect(await directory.openLog(callbacks())).toBeUndefined();
    const names = fs.readdirSync(directory.path).filter((name) => !name.startsWith("replica.db"));
    expect(names.toSorted()).toEqual(["generations", "replica.lock"]);
  });

  test("a generation is a Redis 7 append-only directory", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    const log = await keep(directory, disk);
    log.append(Buffer.from("stream"));
    await log.close();
    expect(fs.readlinkSync(dir.file("current"))).toBe(GENERATION);
    expect(fs.readdirSync(dir.file(GENERATION)).toSorted()).toEqual([
      "appendonly.aof.1.base.rdb",
      "appendonly.aof.1.incr.aof",
      "appendonly.aof.manifest",
    ]);
    expect(fs.readFileSync(dir.file("current", "appendonly.aof.manifest"), "utf8")).toBe(
      "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
    );
    expect(RDB).toEqual(new Uint8Array(fs.readFileSync(dir.file(BASE))));
    expect(fs.readFileSync(dir.file(LOG), "latin1")).toBe(
      "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\nstream",
    );
    expect(directory.current).toMatchObject({ id: 1, baseOffset: BASE_OFFSET });
    expect(directory.replid).toBe(REPLID);
    expect(fs.readdirSync(dir.path)).not.toContain("current.tmp");
  });

  test("a second generation seals the first, with the reason, and takes the link", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    for (let n = 0; n < 2; n++) await (await keep(directory, disk)).close();
    expect(fs.readlinkSync(dir.file("current"))).toBe("generations/0000000002");
    expect(fs.existsSync(dir.file(BASE))).toBe(true);
    expect(query<object>(dir.path, "SELECT id, state, sealed_reason FROM generations")).toEqual([
      { id: 1, state: "sealed", sealed_reason: "full resync" },
      { id: 2, state: "current", sealed_reason: null },
    ]);
  });

  test("records a new replication id from the offset where the primary continues", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    const log = await keep(directory, disk);
    directory.continueAs(REPLID, 1005);
    const other = "f".repeat(40) as typeof REPLID;
    directory.continueAs(other, 1010);
    expect(directory.resumePoint(log)).toEqual({ replid: other, offset: BASE_OFFSET });
    const ids = query<object>(dir.path, "SELECT from_offset, replid FROM replication_ids");
    expect(ids).toEqual([
      { from_offset: 1000, replid: REPLID },
      { from_offset: 1010, replid: other },
    ]);
    await log.close();
  });
});

describe("a restart", () => {
  test("after a kill continues from the end of the log", async () => {
    using dir = tempDir();
    await written(dir.path, "marked, unmarked", 6);
    using directory = open(dir.path);
    const log = (await directory.openLog(callbacks()))!;
    expect([log.writtenOffset, log.durableOffset]).toEqual([BASE_OFFSET + 16, BASE_OFFSET + 6]);
    log.append(Buffer.from("!"));
    await log.close();
    expect(fs.readFileSync(dir.file(LOG), "latin1")).toEndWith("3\r\nmarked, unmarked!");
    expect(query<object>(dir.path, "SELECT durable_offset FROM marks ORDER BY id")).toEqual([
      { durable_offset: 1000 },
      { durable_offset: 1006 },
      { durable_offset: 1017 },
    ]);
  });

  test("after a kill includes the bytes past the last mark in the next checksum", async () => {
    using dir = tempDir();
    await written(dir.path, "stream", 2);
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    const log = await directory.openLog(callbacks());
    log!.append(Buffer.from("ed"));
    await log!.close();
    const marks = query<{ crc_from: number; durable_offset: number; crc64: string }>(
      dir.path,
      "SELECT crc_from, durable_offset, crc64 FROM marks WHERE crc64 IS NOT NULL ORDER BY id",
    );
    const crcOf = (text: string) => crc64(Buffer.from(text)).toString(16).padStart(16, "0");
    expect(marks).toEqual([
      { crc_from: BASE_OFFSET, durable_offset: BASE_OFFSET + 2, crc64: crcOf("st") },
      { crc_from: BASE_OFFSET + 2, durable_offset: BASE_OFFSET + 8, crc64: crcOf("reamed") },
    ]);
  });

  test("after a power cut (another boot id) continues from the last mark", async () => {
    using dir = tempDir();
    await written(dir.path, "marked, unmarked", 6);
    change(dir.path, "UPDATE boot SET boot_id = 'another'");
    using directory = open(dir.path);
    const log = (await directory.openLog(callbacks()))!;
    expect([log.writtenOffset, log.durableOffset]).toEqual([BASE_OFFSET + 6, BASE_OFFSET + 6]);
    await log.close();
    expect(fs.readFileSync(dir.file(LOG), "latin1")).toEndWith("3\r\nmarked");
  });

  test("after a power cut continues from the last mark, also if the first start ends before it cuts the log", async () => {
    using dir = tempDir();
    await written(dir.path, "marked, unmarked", 6);
    change(dir.path, "UPDATE boot SET boot_id = 'another'");
    open(dir.path).close();
    using directory = open(dir.path);
    expect((await directory.openLog(callbacks()))!.writtenOffset).toBe(BASE_OFFSET + 6);
  });

  test("after a failed sync in the same process continues from the last mark", async () => {
    using dir = tempDir();
    await written(dir.path, "marked, unmarked", 6);
    using directory = open(dir.path);
    directory.distrustLog();
    const log = (await directory.openLog(callbacks()))!;
    expect(log.writtenOffset).toBe(BASE_OFFSET + 6);
    await log.close();
  });

  test("removes unfinished generations, and touches no folder of another name", async () => {
    using dir = tempDir();
    await written(dir.path, "", 0);
    {
      using directory = open(dir.path);
      const { dir: half } = await directory.begin("p");
      fs.writeFileSync(join(half, "temp-1.2.rdb"), "half");
    }
    for (const name of ["mine", "0000000009", "2", "0000000002.bak"]) {
      fs.mkdirSync(dir.file("generations", name));
    }
    using directory = open(dir.path);
    expect(fs.readdirSync(dir.file("generations")).toSorted()).toEqual([
      "0000000001",
      "0000000002.bak",
      "0000000009",
      "2",
      "mine",
    ]);
    // The id of someone else's folder is never taken.
    expect((await directory.begin("p")).id).toBe(10);
    expect(query<object>(dir.path, "SELECT id FROM generations")).toEqual([{ id: 1 }, { id: 10 }]);
  });

  test("removes the link to a first generation that never became current", async () => {
    using dir = tempDir();
    {
      using directory = open(dir.path);
      const { id } = await directory.begin("p");
      fs.symlinkSync(`generations/000000000${id}`, dir.file("current"));
    }
    using directory = open(dir.path);
    expect(directory.current).toBeUndefined();
    expect(fs.readdirSync(dir.path)).not.toContain("current");
  });

  test("points the link at the generation that the database names", async () => {
    using dir = tempDir();
    await written(dir.path, "", 0);
    fs.rmSync(dir.file("current"));
    fs.symlinkSync("elsewhere", dir.file("current"));
    using _ = open(dir.path);
    expect(fs.readlinkSync(dir.file("current"))).toBe(GENERATION);
  });
});

test("keeps the mark that covers a pause, and adds another for what comes after it", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  let nowMs = 1_000_000;
  const directory = new DataDirectory(dir.path, disk, { now: () => nowMs });
  const log = await keep(directory, disk);
  const marked = async (text: string) => {
    log.append(Buffer.from(text));
    await log.flushed();
    await log.sync();
  };
  await marked("one");
  nowMs += 100;
  log.tick();
  await marked(", two");
  nowMs += 60_000;
  log.tick();
  nowMs += 100;
  await marked(", three");
  await log.close();
  directory.close();
  const marks = query<object>(dir.path, "SELECT at_ms, durable_offset FROM marks ORDER BY id");
  expect(marks).toEqual([
    { at_ms: 1_000_000, durable_offset: BASE_OFFSET },
    { at_ms: 1_000_100, durable_offset: BASE_OFFSET + 8 },
    { at_ms: 1_060_200, durable_offset: BASE_OFFSET + 15 },
  ]);
});

describe("a start refuses", () => {
  test("a newer format, with both versions", () => {
    using dir = tempDir();
    open(dir.path).close();
    change(dir.path, "PRAGMA user_version = 8");
    change(dir.path, "PRAGMA journal_mode = DELETE");
    const before = fs.readFileSync(dir.file("replica.db"));
    const error = errorOf(() => open(dir.path));
    expect(fs.readFileSync(dir.file("replica.db")).equals(before)).toBe(true);
    expect(error).toMatchObject({ code: "DIRECTORY_TOO_NEW", retry: "never" });
    expect(error.message).toMatch(/format 8.*knows 7/);
  });

  test("no older format: it is migrated, and keeps its content", async () => {
    using dir = tempDir();
    await written(dir.path, "marked", 6);
    change(dir.path, "DROP TABLE chosen_primary");
    change(dir.path, "DROP TRIGGER clock_turns_INSERT");
    change(dir.path, "DROP TRIGGER clock_turns_UPDATE");
    for (const table of ["clock_turns", "unscanned_marks"]) change(dir.path, `DROP TABLE ${table}`);
    for (const table of ["guards", "lived", "samples"]) change(dir.path, `DROP TABLE ${table}`);
    for (const column of [
      "rdb_keys",
      "rdb_keys_db",
      "small_beside",
      "current_lived_ms",
      "sealed_lived_ms",
    ]) {
      change(dir.path, `ALTER TABLE generations DROP COLUMN ${column}`);
    }
    for (const column of ["crc_from", "crc64"]) {
      change(dir.path, `ALTER TABLE marks DROP COLUMN ${column}`);
    }
    change(dir.path, "PRAGMA user_version = 1");
    using directory = open(dir.path);
    expect(directory.current?.baseOffset).toBe(BASE_OFFSET);
    expect(directory.chosenPrimary("a")).toBeUndefined();
    await directory.choosePrimary("a", "b");
    expect([directory.chosenPrimary("a"), directory.chosenPrimary("c")]).toEqual(["b", undefined]);
  });

  const damages: Record<string, (file: (name: string) => string) => void> = {
    "a base that is too short": (file) => fs.truncateSync(file(BASE), RDB.length - 1),
    "a base that is too long": (file) => fs.appendFileSync(file(BASE), "x"),
    "a base that is missing": (file) => fs.rmSync(file(BASE)),
    "a log that is shorter than its mark": (file) => fs.truncateSync(file(LOG), HEADER.length + 5),
    "a log that is missing": (file) => fs.rmSync(file(LOG)),
    "a manifest that is missing": (file) => fs.rmSync(file(MANIFEST)),
    "a manifest that was cut": (file) => fs.truncateSync(file(MANIFEST), 10),
  };
  test.each(Object.entries(damages))("%s", async (_, damage) => {
    using dir = tempDir();
    await written(dir.path, "marked, unmarked", 6);
    damage((name) => dir.file(name));
    const error = errorOf(() => open(dir.path));
    expect(error).toMatchObject({ code: "DIRECTORY_DAMAGED", retry: "never" });
    expect(error.message).toContain(GENERATION);
    // A refused directory is not locked.
    expect(errorOf(() => open(dir.path)).code).toBe("DIRECTORY_DAMAGED");
  });

  const databases: Record<string, (path: string) => void> = {
    "is missing": (path) => fs.rmSync(join(path, "replica.db")),
    "is empty": (path) => fs.truncateSync(join(path, "replica.db"), 0),
    "has no version": (path) => change(path, "PRAGMA user_version = -1"),
    "lacks a table": (path) => change(path, "DROP TABLE boot"),
  };
  test.each(Object.entries(databases))("a database that %s", async (_, damage) => {
    using dir = tempDir();
    await written(dir.path, "marked", 6);
    damage(dir.path);
    const error = errorOf(() => open(dir.path));
    expect(error).toMatchObject({ code: "DIRECTORY_DAMAGED", retry: "never" });
    expect(error.message).toContain("replica.db");
    expect(fs.existsSync(dir.file(LOG))).toBe(true);
  });

  test("nothing about a log that ends exactly at its mark", async () => {
    using dir = tempDir();
    await written(dir.path, "marked, unmarked", 6);
    fs.truncateSync(dir.file(LOG), HEADER.length + 6);
    using directory = open(dir.path);
    expect((await directory.openLog(callbacks()))!.writtenOffset).toBe(BASE_OFFSET + 6);
  });

  test("a file that is no database", () => {
    using dir = tempDir();
    fs.writeFileSync(dir.file("replica.db"), "this is no database, and long enough ".repeat(100));
    expect(errorOf(() => open(dir.path)).code).toBe("DIRECTORY_DAMAGED");
  });
});

describe("replica.lock", () => {
  const hold = (path: string) => {
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "holder.ts"), path], {
      stdout: "pipe",
      stderr: "inherit",
    });
    endWithProcess(child);
    return child;
  };
  const firstWords = async (child: ReturnType<typeof hold>) => {
    const { value } = await child.stdout.getReader().read();
    return new TextDecoder().decode(value);
  };

  test("names its holder to a second process", async () => {
    using dir = tempDir();
    using _ = open(dir.path);
    const said = await firstWords(hold(dir.path));
    expect(said).toContain(`in use by process ${process.pid} on `);
  });

  test("is free once its holder is killed", async () => {
    using dir = tempDir();
    const child = hold(dir.path);
    expect(await firstWords(child)).toBe("held\n");
    const error = errorOf(() => open(dir.path));
    expect(error).toMatchObject({ code: "DIRECTORY_IN_USE", retry: "never" });
    expect(error.message).toContain(`process ${child.pid} on `);
    child.kill("SIGKILL");
    await child.exited;
    open(dir.path).close();
  });

  test("is released by close", () => {
    using dir = tempDir();
    open(dir.path).close();
    open(dir.path).close();
  });
});

describe("retain", () => {
  /** Makes `count` generations current, one after another. */
  async function generations(directory: DataDirectory, disk: FaultyDisk, count: number) {
    for (let left = count; left > 0; left--) await (await keep(directory, disk)).close();
  }

  const ids = (path: string) =>
    query<{ id: number }>(path, "SELECT id FROM generations ORDER BY id").map(({ id }) => id);
  const folders = (path: string) => fs.readdirSync(join(path, "generations")).map(Number);

  test("keeps that many of the newest, and always the current one", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    expect(await directory.keeping.retain(0, undefined)).toEqual([]);
    await generations(directory, disk, 5);
    expect(await directory.keeping.retain(4, undefined)).toEqual([]);
    expect(await directory.keeping.retain(2, undefined)).toEqual([1, 2]);
    expect([ids(dir.path), folders(dir.path).toSorted()]).toEqual([
      [3, 4, 5],
      [3, 4, 5],
    ]);
    expect(query<object>(dir.path, "SELECT * FROM marks WHERE generation < 3")).toEqual([]);
    expect(await directory.keeping.retain(0, undefined)).toEqual([3, 4]);
    expect(directory.current?.id).toBe(5);
    expect(ids(dir.path)).toEqual([5]);
  });

  test("keeps all younger ones, however many", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const machine = new FakeMachine();
    using directory = open(dir.path, disk, machine);
    await generations(directory, disk, 2);
    machine.pass(5_000);
    await generations(directory, disk, 2);
    expect(await directory.keeping.retain(0, 60_000)).toEqual([]);
    expect(await directory.keeping.retain(0, 4_000)).toEqual([1]);
    expect(ids(dir.path)).toEqual([2, 3, 4]);
  });

  test("keeps a pinned one, and those after it, until it is released", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    await generations(directory, disk, 4);
    const [one, another] = [directory.pin(2), directory.pin(2)];
    expect(await directory.keeping.retain(0, undefined)).toEqual([1]);
    one();
    expect(await directory.keeping.retain(0, undefined)).toEqual([]);
    another();
    expect(await directory.keeping.retain(0, undefined)).toEqual([2, 3]);
  });

  test.each(["the next call", "the next start"])(
    "what could not be removed counts no more, and goes with %s",
    async (when) => {
      using dir = tempDir();
      const disk = new FaultyDisk();
      {
        using directory = open(dir.path, disk);
        await generations(directory, disk, 3);
        disk.fail({ operation: "removeLarge", call: 1, code: "EIO" });
        const refused = directory.keeping.retain(0, undefined);
        expect(await reasonOf(refused)).toMatchObject({ code: "DISK_FAILED" });
        expect(folders(dir.path).toSorted()).toEqual([1, 2, 3]);
        if (when === "the next call") {
          // It does not keep the others, and only the failure itself is reported.
          expect(await directory.keeping.retain(0, undefined)).toEqual([2]);
          expect([ids(dir.path), folders(dir.path)]).toEqual([[3], [3]]);
          return;
        }
      }
      using directory = open(dir.path, disk);
      expect(directory.current?.id).toBe(3);
      // A power cut may still bring back the row of the time when it counted.
      expect(folders(dir.path).toSorted()).toEqual([1, 2, 3]);
      const calls = disk.calls.length;
      await directory.keeping.retain(1, undefined);
      expect(folders(dir.path).toSorted()).toEqual([2, 3]);
      const kinds = disk.calls.slice(calls).map(({ operation }) => operation);
      expect(kinds.indexOf("syncData")).toBeLessThan(kinds.indexOf("removeLarge"));
    },
  );

  test("retries a given-up generation that could not be removed", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    const { id } = await directory.begin("p");
    disk.fail({ operation: "remove", call: 1, code: "EIO" });
    directory.discard(id);
    expect(folders(dir.path)).toEqual([id]);
    expect(await directory.keeping.retain(0, undefined)).toEqual([]);
    expect([ids(dir.path), folders(dir.path)]).toEqual([[], []]);
  });
});

describe("promote", () => {
  /** Promotes a second generation while disk call `n` fails. Returns whether that call was reached. */
  /** How often the row was there already. */
  let committed = 0;

  async function failingAt(path: string, n: number): Promise<boolean> {
    const disk = new FaultyDisk();
    using directory = open(path, disk);
    const first = await keep(directory, disk);
    first.append(Buffer.from("stream"));
    await first.flushed();
    await first.sync();
    const { id, log, promote } = await lay(directory, disk);
    disk.fail({ call: n, code: "ENOSPC" });
    let error: unknown;
    try {
      await promote();
    } catch (caught) {
      error = caught;
    }
    const reached = error !== undefined;
    const [struck] = disk.struck;
    // What comes after the row, nobody waits for.
    if (!reached && struck !== undefined) expect(disk.pathOf(struck)).toContain("replica.db");
    disk.heal();
    // Only the sync of the row comes after it.
    const isCommitted = directory.current?.id === 2;
    const current = isCommitted ? 2 : 1;
    if (reached) {
      expect(error).toMatchObject({ code: "DISK_FULL" });
      const { message } = error as ReplicaError;
      expect(message.includes("replica.db")).toBe(disk.pathOf(struck!)!.includes("replica.db"));
      if (isCommitted) {
        expect(disk.pathOf(struck!)).toBe(join(path, "replica.db-wal"));
        committed++;
      }
      directory.discard(id);
    } else expect(isCommitted).toBe(true);
    await log.abandon();
    await first.close();
    directory.close();
    expect(disk.openFds.size).toBe(0);
    using again = open(path);
    expect(again.current?.id).toBe(current);
    expect(fs.readlinkSync(join(path, "current"))).toBe(`generations/000000000${current}`);
    const old = again.generationDir(1);
    expect(RDB).toEqual(new Uint8Array(fs.readFileSync(join(old, "appendonly.aof.1.base.rdb"))));
    expect(fs.readFileSync(join(old, "appendonly.aof.1.incr.aof"), "latin1")).toEndWith("stream");
    return reached;
  }

  test("whichever disk call fails, the old generation stays whole, and current unless the row is there", async () => {
    let n = 1;
    for (; ; n++) {
      using dir = tempDir();
      if (!(await failingAt(dir.path, n))) break;
    }
    expect(n).toBeGreaterThan(12);
    expect(committed).toBe(1);
  });

  test("whichever disk call fails, the link never points at a missing folder", async () => {
    for (let n = 1; ; n++) {
      using dir = tempDir();
      const disk = new FaultyDisk();
      using directory = open(dir.path, disk);
      await (await keep(directory, disk)).close();
      const { id, log, promote } = await lay(directory, disk);
      const before = disk.calls.length;
      disk.fail({ call: n, code: "EIO" });
      const failed = await promote().then(
        () => false,
        () => true,
      );
      disk.heal();
      await log.abandon();
      if (failed) directory.discard(id);
      expect(fs.existsSync(dir.file("current", "appendonly.aof.manifest"))).toBe(true);
      if (disk.calls.length - before < n) break;
    }
  });

  test("never discards the current generation", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    await (await keep(directory, disk)).close();
    directory.discard(1);
    expect(fs.existsSync(dir.file(BASE))).toBe(true);
  });

  test("makes everything durable before the row says so", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    const { log, promote } = await lay(directory, disk);
    const held = disk.hold("syncDir");
    const over = promote();
    await Bun.sleep(20);
    expect(query<object>(dir.path, "SELECT state FROM generations")).toEqual([
      { state: "receiving" },
    ]);
    held.release();
    await over;
    await log.close();
    const synced = disk.calls.filter((call) => call.operation === "syncDir");
    const [own, ...above] = synced
      .map((call) => String(call.subject))
      .slice(-1 - depthOf(dir.path));
    expect(own).toBe(dir.path);
    // Its name is in the folder above, and so on, up to the root of the file system.
    expect(above[0]).toBe(dirname(dir.path));
    for (const [n, path] of above.entries()) expect(path).toBe(dirname(above[n - 1] ?? dir.path));
  });

  test("is seen as current once its row is durable; a log that fails meanwhile is distrusted", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const directory = new DataDirectory(dir.path, disk, clock);
    const { id, log, promote } = await lay(directory, disk);
    log.append(Buffer.from("past the mark"));
    await log.flushed();
    const states = () => {
      using db = new Database(dir.file("replica.db"), { readonly: true });
      return db.query("SELECT state FROM generations").get();
    };
    const path = dir.file("replica.db-wal");
    disk.fail({ operation: "syncData", path, code: undefined, lateMs: 50 });
    const promoting = promote();
    await until(() => Bun.deepEquals(states(), { state: "current" }), { what: "the row" });
    expect(directory.current).toBeUndefined();
    directory.distrustLog();
    await promoting;
    const seen = directory.current?.id;
    expect(seen).toBe(id);
    expect(directory.end).toEqual({ generation: id, offset: BASE_OFFSET });
    await log.abandon();
    directory.close();
  });

  test("keeps the newest thousand histories of a stream, however many a primary names", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const idOf = (n: number) => parseReplicationId(String(n).padStart(40, "0"));
    const check = ({ replid, replicationIds }: DataDirectory) => {
      expect(replid).toBe(idOf(1_200));
      expect(replicationIds.map((one) => one.replid)).toEqual(
        Array.from({ length: 1_000 }, (_, n) => idOf(n + 201)),
      );
    };
    {
      using directory = open(dir.path, disk);
      const log = await keep(directory, disk);
      for (let n = 1; n <= 1_200; n++) directory.continueAs(idOf(n), BASE_OFFSET + n);
      check(directory);
      // What came before the oldest of them is in no history any more: it is not taken for another's.
      const at = (n: number, offset: number) =>
        directory.historiesFrom({ replid: idOf(n), offset: BASE_OFFSET + offset });
      expect(at(200, 200)).toBeUndefined();
      expect(at(201, 200)).toBeUndefined();
      expect(at(201, 202)).toHaveLength(1_000);
      expect(directory.historiesFrom({ replid: REPLID, offset: BASE_OFFSET })).toBeUndefined();
      await log.close();
    }
    using again = open(dir.path);
    check(again);
  });

  test("keeps a folder's row until the folder's removal is durable", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.path, disk);
    const { id } = await directory.begin("p");
    directory.discard(id);
    disk.fail({ operation: "syncDir", code: "EIO" });
    expect(await reasonOf(directory.begin("p"))).toMatchObject({ code: "DISK_FAILED" });
    expect(query<object>(dir.path, "SELECT id FROM generations")).toEqual([{ id }]);
    disk.heal();
    const next = await directory.begin("p");
    expect(query<object>(dir.path, "SELECT id FROM generations")).toEqual([{ id: next.id }]);
  });

  test("skips a folder above that it may not read, but not one that can't be synced", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    using directory = open(dir.file("data"), disk);
    const { log, promote } = await lay(directory, disk);
    const { syncDir } = disk;
    let code = "EIO";
    disk.syncDir = async (path) => {
      if (path === dir.path) throw Object.assign(new Error(code), { code });
      return syncDir.call(disk, path);
    };
    expect(await reasonOf(promote())).toMatchObject({ code: "DISK_FAILED" });
    expect(directory.current).toBeUndefined();
    code = "EACCES";
    await promote();
    expect(directory.current?.id).toBe(1);
    await log.close();
  });
});
