import { resetSync } from "@logtape/logtape";
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { configureLogging } from "../../src/cli/terminal/logging.ts";
import { Output } from "../../src/cli/terminal/output.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { endWithProcess } from "../support/children.ts";
import { follow } from "../support/following.ts";
import { currentFiles } from "../support/generation-files.ts";
import { filesIn } from "../integration/bad-input-rig.ts";
import { ModelPrimary } from "../support/model-primary.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { limitFileBytes, mayMount, smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { Lifetime, RememberingDisk, type Step } from "./lifetime-rig.ts";

/*
 * SQLite reads and writes its files itself, so these tests make it fail for real: by triggers, by locks, by
 * limits that the kernel sets for the process.
 */

let lines: string[] = [];

beforeAll(() => {
  const output = new Output({ sink: (text) => lines.push(text), isTty: false });
  configureLogging({ level: "warn", format: "text", output });
});
afterAll(resetSync);

/** The statements that each step executes. */
const STATEMENTS: readonly (readonly [Step, readonly string[]])[] = [
  [
    "first sync",
    [
      "INSERT ON generations",
      "UPDATE ON generations",
      "INSERT ON replication_ids",
      "INSERT ON marks",
      "INSERT ON events",
      "INSERT ON boot",
    ],
  ],
  ["stream", ["INSERT ON marks", "UPDATE ON marks"]],
  ["new id", ["INSERT ON replication_ids", "UPDATE ON marks", "INSERT ON events"]],
  [
    "full resync",
    [
      "INSERT ON generations",
      "UPDATE ON generations",
      "INSERT ON replication_ids",
      "INSERT ON marks",
      "INSERT ON events",
      "INSERT ON boot",
    ],
  ],
  [
    "new generation",
    [
      "INSERT ON generations",
      "UPDATE ON generations",
      "INSERT ON replication_ids",
      "INSERT ON marks",
      "INSERT ON events",
      "INSERT ON boot",
    ],
  ],
  [
    "removal",
    ["UPDATE ON generations", "DELETE ON generations", "DELETE ON marks", "INSERT ON events"],
  ],
];

/**
 * Lives a life in which something is done to the database before one step, and undone once it is reported.
 * @returns the reports.
 */
async function live(at: Step, disturb: (database: string) => () => void) {
  using dir = tempDir("database");
  await using primary = new ModelPrimary();
  const settings = { fsync: "always", keep: "1", "keep-for": "off", "retry-max": "10ms" };
  const life = new Lifetime(dir, primary, new RememberingDisk(), settings);
  const told = () => lines.filter((line) => line.includes(dir.path) && /SQLITE_/.test(line));
  let undo: (() => void) | undefined;
  const heal = () => {
    undo?.();
    undo = undefined;
  };
  life.onStep = (step) => {
    heal();
    if (step === at) undo = disturb(join(life.path, "replica.db"));
  };
  lines = [];
  const healing = setInterval(() => {
    if (told().length > 0) heal();
  }, 1);
  try {
    await life.first();
    await life.second();
    await life.last();
  } finally {
    clearInterval(healing);
    heal();
  }
  expect(primary.failures).toEqual([]);
  return { told: [...told(), ...life.told], syncs: primary.counts };
}

function run(path: string, sql: string): void {
  using db = new Database(path);
  db.run("PRAGMA busy_timeout = 1000");
  db.run(sql);
}

test.each(STATEMENTS)(
  "after any failed statement in the step %s it reports the failure, claims nothing false, and goes on",
  async (step, statements) => {
    for (const statement of statements) {
      const refuse = `CREATE TRIGGER refused BEFORE ${statement} BEGIN SELECT RAISE(ABORT, 'refused by the test'); END`;
      const { told } = await live(step, (database) => {
        run(database, refuse);
        return () => run(database, "DROP TRIGGER refused");
      }).catch((error: unknown) => {
        throw new Error(`${statement} fails: ${String(error)}`, { cause: error });
      });
      expect([statement, told.length > 0]).toEqual([statement, true]);
      for (const line of told) {
        expect(line).toMatch(
          /writing \/\S+\/replica\.db: refused by the test \(SQLITE_CONSTRAINT_TRIGGER\)/,
        );
      }
    }
  },
);

/** Another user of the database, who holds a write lock for longer than the replica waits. */
function lock(path: string): () => void {
  const db = new Database(path);
  db.run("BEGIN EXCLUSIVE");
  return () => db.close();
}

test.each(["new id", "new generation"] as const)(
  "a database kept locked in the step %s is reported, and it goes on once the lock is released",
  async (step) => {
    const { told } = await live(step, lock);
    expect(told.length).toBeGreaterThan(0);
    for (const line of told) {
      expect(line).toMatch(
        /writing \/\S+\/replica\.db: another process keeps it locked: stop the process that has it open \(SQLITE_BUSY\)/,
      );
    }
  },
);

/** Starts another process that locks out writers, or everybody, for a moment; the lock holds when this returns. */
function holdForAMoment(database: string, from: "writers" | "everybody"): Bun.Subprocess {
  using dir = tempDir("holder");
  const held = dir.file("held");
  const hold = `
    const db = new (await import("bun:sqlite")).Database(process.argv[1]);
    db.run("PRAGMA locking_mode = ${from === "writers" ? "NORMAL" : "EXCLUSIVE"}");
    db.run("BEGIN EXCLUSIVE");
    await Bun.write(process.argv[2], "");
    await Bun.sleep(300);
    db.close();`;
  const holder = Bun.spawn([process.execPath, "-e", hold, database, held]);
  endWithProcess(holder);
  // The event loop must not run meanwhile.
  for (let leftMs = 20_000; !existsSync(held); leftMs--) {
    if (leftMs === 0) throw new Error("the database could not be locked");
    Bun.sleepSync(1);
  }
  return holder;
}

test("waits for a short lock without reporting it", async () => {
  let holder: Bun.Subprocess | undefined;
  const { told, syncs } = await live("stream", (database) => {
    holder = holdForAMoment(database, "writers");
    return () => undefined;
  });
  expect(await holder?.exited).toBe(0);
  expect(told).toEqual([]);
  expect(syncs).toEqual({ full: 3, partial: 3 });
});

test("waits for a short lock while starting", async () => {
  using dir = tempDir("database");
  await using primary = new ModelPrimary();
  const begin = () => follow(primary.url, realDisk, dir);
  const database = dir.file("data", "replica.db");
  {
    await using replica = begin();
    await replica.connected();
    expect(await replica.stop()).toBeUndefined();
  }
  const holder = holdForAMoment(database, "everybody");
  await using replica = begin();
  await replica.connected();
  expect(await holder.exited).toBe(0);
  expect(primary.counts).toEqual({ full: 1, partial: 1 });
});

test("ends if a table is gone, and reports a damaged database", async () => {
  using dir = tempDir("database");
  await using primary = new ModelPrimary();
  await using replica = follow(primary.url, realDisk, dir, { fsync: "always" });
  await replica.connected();
  run(dir.file("data", "replica.db"), "DROP TABLE marks");
  primary.write("SET", "key", "value");
  const error = await replica.ended;
  expect(error).toMatchObject({ code: "DIRECTORY_DAMAGED", retry: "never" });
  expect(String(error)).toMatch(
    /replica\.db is damaged .*no such table: marks.*restore it from a copy/,
  );
});

describe("a process whose database can't be written", () => {
  /** Follows until its database can't grow; goes on once `free` is called. */
  async function fill(
    data: string,
    limit: (replica: ReplicaProcess) => void,
    free: (replica: ReplicaProcess) => void,
    says: RegExp,
    mostFull = 1,
  ): Promise<void> {
    await using primary = new ModelPrimary();
    let heard = 0;
    let broken: unknown;
    primary.onAcknowledged = ({ fack = 0 }) => {
      heard = fack;
      try {
        using db = new Database(join(data, "replica.db"), { readonly: true });
        const marked = db.query<{ at: number }, []>("SELECT max(durable_offset) AS at FROM marks");
        expect(fack).toBeLessThanOrEqual(marked.get()!.at);
      } catch (error) {
        broken ??= error;
      }
    };
    const args = ["follow", primary.url, "--dir", data, "--port", "0", "--fsync", "always"];
    await using replica = startReplica([...args, "--retry-max", "50ms"]);
    const all = () => until(() => heard === primary.offset, { what: "all to be durable" });
    await replica.waitForLine(/connected by full resync/);
    limit(replica);
    await until(
      async () => {
        primary.write("SET", "key", "a value");
        await Bun.sleep(1);
        return says.test(replica.stderr);
      },
      { what: `a line like ${says}`, everyMs: 1 },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${replica.output()}`, { cause: error });
    });
    expect(heard).toBeLessThan(primary.offset);
    free(replica);
    await all();
    primary.write("SET", "key", "another value");
    await all();
    if (broken !== undefined) throw broken;
    expect(primary.counts.full).toBeLessThanOrEqual(mostFull);
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    const verified = await runReplica(["verify", data]);
    expect(verified).toMatchObject({ exitCode: 0, stderr: "" });
    const log = readFileSync(currentFiles(data).log);
    using db = new Database(join(data, "replica.db"), { readonly: true });
    const { base } = db
      .query<{ base: number }, []>(
        "SELECT base_offset AS base FROM generations WHERE state = 'current'",
      )
      .get()!;
    expect(primary.counts.full > 1 || base === 100).toBe(true);
    expect(log.subarray(-(primary.offset - base)).equals(primary.streamFrom(base))).toBe(true);
  }

  test("reports a file size limit, and goes on", async () => {
    using dir = tempDir("limit");
    await fill(
      dir.file("data"),
      (replica) => limitFileBytes(replica, 256 * 1024),
      (replica) => limitFileBytes(replica, "unlimited"),
      /warn +writing \S+\/replica\.db: the device reports an error, or a limit is reached: check disk and quota \(SQLITE_IOERR/,
    );
  });

  // Mounting takes privileges.
  test.skipIf(!mayMount())("reports a full disk, and goes on", async () => {
    using dir = tempDir("full");
    using disk = smallDisk(dir.file("disk"), 512 * 1024);
    await fill(
      dir.file("disk", "data"),
      () => undefined,
      () => disk?.resize(64 * 1024 * 1024),
      /warn +writing \S+\/replica\.db: the disk is full: make room \((SQLITE_FULL|ENOSPC)\)/,
      // A log that fills the disk is ended by another full resync, where that comes before the room does.
      2,
    );
  });

  test.skipIf(!mayMount())(
    "reports a read-only disk at the start, and changes nothing",
    async () => {
      using dir = tempDir("read-only");
      using disk = smallDisk(dir.file("disk"), 16 * 1024 * 1024);
      const data = dir.file("disk", "data");
      await using primary = new ModelPrimary();
      const args = ["follow", primary.url, "--dir", data, "--port", "0"];
      {
        await using replica = startReplica(args);
        await replica.waitForLine(/connected by full resync/);
      }
      const kept = filesIn(data);
      disk?.remount("ro");
      expect(await runReplica(args)).toMatchObject({
        exitCode: 1,
        stdout: "",
        stderr: expect.stringMatching(/read-only|it can't be written/),
      });
      // Verify, snapshots and restore write nothing there.
      expect(await runReplica(["verify", data])).toMatchObject({ exitCode: 0, stderr: "" });
      expect(await runReplica(["restore", data, dir.file("out")])).toMatchObject({ exitCode: 0 });
      expect(filesIn(data)).toEqual(kept);
      disk?.remount("rw");
      await using again = startReplica(args);
      await again.waitForLine(/connected by partial resync/);
    },
  );
});
