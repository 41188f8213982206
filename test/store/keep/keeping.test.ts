import { resetSync } from "@logtape/logtape";
import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { appendFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../../support/error-of.ts";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import { Output } from "../../../src/cli/terminal/output.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { FakeMachine } from "../../support/fake-machine.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { mayMount, smallDisk } from "../../support/small-disk.ts";
import { amount } from "../../support/sweep.ts";
import { tempDir } from "../../support/temp.ts";
import { clock } from "../restore/kept.ts";
import { rig, RoomyDisk } from "./rig.ts";
import { EMPTY, FULL, keepSized, PING } from "./sized.ts";

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const DAY = 24 * HOUR;
const MIB = 1024 * 1024;
const WRITE = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";

/** One that goes on showing as much free as at the first look. */
class LaggingDisk extends RoomyDisk {
  #shown: number | undefined;
  override freeBytes(): number {
    return (this.#shown ??= super.freeBytes());
  }
  /** Looks again. */
  shown(): number {
    this.#shown = undefined;
    return this.freeBytes();
  }
}

/** Writes a file that takes all that is free. */
function fillUp(path: string): void {
  for (const bytes of [MIB, 4096]) {
    try {
      for (;;) appendFileSync(path, Buffer.alloc(bytes));
    } catch (error) {
      expect(error).toMatchObject({ code: "ENOSPC" });
    }
  }
}

describe("a data set that shrinks", () => {
  test("is told before anything is removed, and what was there stays, restart or not", async () => {
    using r = rig();
    await keepSized(r.directory, FULL);
    r.machine.pass(DAY);
    expect(r.directory.keeping.smallness).toBeUndefined();
    for (let n = 0; n < 3; n++) {
      await keepSized(r.directory, { ...EMPTY, stream: PING });
      expect(r.directory.keeping.smallness).toMatchObject({
        guarded: 1,
        had: "12,638 keys (97.7 KiB)",
      });
      r.restart();
      r.machine.pass(5 * SECOND);
    }
    expect(r.events("shrunken")).toEqual([
      "generation 2 begins with 0 keys (90 B), less than half of generation 1: 12,638 keys (97.7 KiB)",
      "generation 3 begins with 0 keys (90 B), less than half of generation 1: 12,638 keys (97.7 KiB)",
      "generation 4 begins with 0 keys (90 B), less than half of generation 1: 12,638 keys (97.7 KiB)",
    ]);
    r.machine.pass(20 * DAY);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([2, 3]);
    expect(r.ids()).toEqual([1, 4]);
    expect(r.directory.keeping.smallness?.seconds).toBe(20 * 86_400 + 15);
  });

  test("keys that were never recorded are looked up in the snapshot: an empty one is not small beside one as empty", async () => {
    using r = rig();
    const rdb = Buffer.from("REDIS0010\xff\0\0\0\0\0\0\0\0", "latin1");
    const empty = { keys: 0, bytes: rdb.length };
    writeFileSync(r.directory.basePath(await keepSized(r.directory, empty)), rdb);
    r.forgetKeys();
    await keepSized(r.directory, empty);
    expect(r.directory.keeping.smallness).toBeUndefined();
    // What can't be read may have held something.
    r.forgetKeys();
    await keepSized(r.directory, empty);
    expect(r.directory.keeping.smallness).toMatchObject({ guarded: 2 });
  });

  test("an empty snapshot whose log had writes is worth something, one with heartbeats alone isn't", async () => {
    using r = rig();
    await keepSized(r.directory, { ...EMPTY, stream: PING + PING });
    await keepSized(r.directory, { ...EMPTY, stream: PING + WRITE });
    expect(r.directory.keeping.smallness).toBeUndefined();
    await keepSized(r.directory, EMPTY);
    expect(r.directory.keeping.smallness).toMatchObject({ guarded: 2 });
    await keepSized(r.directory, EMPTY);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([1, 3]);
    expect(r.events("shrunken")[0]).toContain("generation 2: 0 keys (90 B) and a log of writes");
  });

  test.each([
    ["a day", undefined, DAY],
    ["a day, though --keep-for is less", HOUR, DAY],
    ["--keep-for", 3 * DAY, 3 * DAY],
  ])("once as much is back, what was there stays for %s", async (_, keepForMs, forMs) => {
    using r = rig();
    await keepSized(r.directory, FULL);
    await keepSized(r.directory, EMPTY);
    r.machine.pass(9 * DAY);
    await keepSized(r.directory, { keys: 6_319, bytes: 50_000 });
    expect(r.directory.keeping.smallness).toBeUndefined();
    expect(r.events("shrunken").at(-1)).toBe(
      "generation 3 begins with 6,319 keys (48.8 KiB): as much as generation 1 had is back",
    );
    r.machine.pass(forMs - SECOND);
    r.restart();
    expect(await r.directory.keeping.retain(0, keepForMs)).not.toContain(1);
    r.machine.pass(SECOND);
    expect(await r.directory.keeping.retain(0, keepForMs)).toContain(1);
    expect(r.ids()).toEqual([3]);
  });

  test("less than half of it is not well", async () => {
    using r = rig();
    await keepSized(r.directory, FULL);
    await keepSized(r.directory, EMPTY);
    await keepSized(r.directory, { keys: 6_318, bytes: 90_000 });
    r.machine.pass(29 * DAY);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([2]);
    expect(r.directory.keeping.smallness).toMatchObject({ guarded: 1 });
  });

  test("somebody who says that less is well ends it: what was there stays for a day more", async () => {
    using r = rig();
    await keepSized(r.directory, FULL);
    expect(r.directory.keeping.accept("10.0.0.9:1")).toBe(false);
    await keepSized(r.directory, { keys: 100, bytes: 1_000 });
    expect(r.directory.keeping.accept("10.0.0.9:1")).toBe(true);
    expect(r.directory.keeping.smallness).toBeUndefined();
    expect(r.directory.keeping.accept("10.0.0.9:1")).toBe(false);
    r.restart();
    // What is usual now counts: as much is no news, and less than half of it is.
    r.machine.pass(HOUR);
    await keepSized(r.directory, { keys: 90, bytes: 900 });
    expect(r.directory.keeping.smallness).toBeUndefined();
    await keepSized(r.directory, EMPTY);
    expect(r.directory.keeping.smallness).toMatchObject({ guarded: 3 });
    r.machine.pass(DAY - HOUR - SECOND);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([2]);
    r.machine.pass(SECOND);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([1]);
  });

  test("after 30 days it ends by itself", async () => {
    using r = rig();
    await keepSized(r.directory, FULL);
    await keepSized(r.directory, { keys: 100, bytes: 1_000 });
    r.machine.pass(30 * DAY - SECOND);
    await r.directory.keeping.retain(0, undefined);
    expect(r.directory.keeping.smallness).toMatchObject({ guarded: 1 });
    r.machine.pass(SECOND);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([]);
    expect(r.directory.keeping.smallness).toBeUndefined();
    r.machine.pass(DAY);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([1]);
  });
});

test("however often a primary restarts empty, a handful of generations stays, and yesterday's", async () => {
  using r = rig();
  r.machine.pass(HOUR);
  await keepSized(r.directory, { ...FULL, stream: WRITE });
  r.machine.pass(DAY);
  const restarts = amount("EMPTY_RESTARTS", { sample: 50, full: 3_000 });
  for (let n = 0; n < restarts; n++) {
    await keepSized(r.directory, { ...EMPTY, stream: PING });
    r.machine.pass(12 * SECOND);
    await r.directory.keeping.retain(2, DAY);
    expect(r.ids().length).toBeLessThanOrEqual(5);
  }
  const last = restarts + 1;
  expect(r.ids()).toEqual([1, 2, last - 2, last - 1, last]);
  r.machine.pass(20 * DAY);
  await r.directory.keeping.retain(2, DAY);
  expect(r.ids()).toEqual([1, last - 2, last - 1, last]);
});

describe("room", () => {
  const wanted = (freeBytes: number, evenGuarded = true) => ({
    freeBytes,
    why: "a test",
    evenGuarded,
  });
  const some = { keys: 10_000, bytes: 90_000 };

  /** One of worth, its guard open; a blank one; a wrong fill; three snapshots of that. */
  async function afterWrongFill(disk: RoomyDisk) {
    const r = rig(disk);
    r.machine.pass(HOUR);
    await keepSized(r.directory, FULL);
    r.machine.pass(HOUR);
    await keepSized(r.directory, { ...EMPTY, stream: PING });
    await keepSized(r.directory, { ...EMPTY, stream: WRITE });
    for (let n = 0; n < 3; n++) await keepSized(r.directory, { keys: 100, bytes: 40_000 });
    return r;
  }

  test("is freed in the told order, the guarded one last, and never the current one", async () => {
    const disk = new RoomyDisk(250_000);
    using r = await afterWrongFill(disk);
    const { keeping } = r.directory;
    expect(await keeping.freeRoom(wanted(10_000))).toMatchObject({ removed: [], isEnough: true });
    expect(await keeping.freeRoom(wanted(disk.freeBytes() + 50))).toMatchObject({ removed: [2] });
    expect(await keeping.freeRoom(wanted(109_000))).toMatchObject({
      removed: [3, 4, 5],
      isEnough: true,
    });
    // The next would be the guarded one: not for this.
    expect(await keeping.freeRoom(wanted(120_000, false))).toMatchObject({
      removed: [],
      isEnough: false,
    });
    expect(await keeping.freeRoom(wanted(120_000))).toMatchObject({ removed: [1], isEnough: true });
    expect(await keeping.freeRoom(wanted(250_000))).toMatchObject({ removed: [], isEnough: false });
    expect(r.ids()).toEqual([6]);
    expect(keeping.counts).toEqual({ old: 0, room: 5, unarchived: 0 });
    expect(r.events("retention").at(-1)).toMatch(
      /^removed generation 1 ahead of time to make room for a test: .* is free now; of these, 1 held more than what came after$/,
    );
    // What is gone is still what the data is compared with.
    expect(keeping.smallness).toMatchObject({ guarded: 1 });
  });

  test("nothing is given where it isn't enough", async () => {
    const disk = new RoomyDisk(250_000);
    using r = await afterWrongFill(disk);
    const { keeping } = r.directory;
    const most = disk.freeBytes() + keeping.freeableBytes(false);
    expect(await keeping.freeRoom(wanted(most + 1, false))).toMatchObject({ removed: [] });
    expect(r.ids()).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await keeping.freeRoom(wanted(most, false))).toMatchObject({ removed: [2, 3, 4, 5] });
    expect(keeping.freeableBytes(false)).toBe(0);
    expect(keeping.freeableBytes(true)).toBeGreaterThan(FULL.bytes);
  });

  test("what is read stays, and so does what comes after it", async () => {
    const disk = new RoomyDisk(400_000);
    using r = rig(disk);
    for (let n = 0; n < 4; n++) await keepSized(r.directory, some);
    const { keeping } = r.directory;
    const release = r.directory.pin(2);
    expect(keeping.freeableBytes(true)).toBeLessThan(2 * some.bytes);
    expect(await keeping.freeRoom(wanted(300_000))).toMatchObject({ removed: [] });
    expect(await keeping.freeRoom(wanted(120_000))).toMatchObject({ removed: [1] });
    release();
    expect(await keeping.freeRoom(wanted(300_000))).toMatchObject({ removed: [2, 3] });
  });

  test("a log that can't be looked at once counts again at the next look", async () => {
    const disk = new RoomyDisk(1_000_000);
    using r = rig(disk);
    for (let n = 0; n < 2; n++)
      await keepSized(r.directory, { ...some, stream: WRITE.repeat(100) });
    const { keeping } = r.directory;
    disk.fail({ operation: "sizeOf", code: "EIO" });
    expect(keeping.freeableBytes(true)).toBe(some.bytes);
    disk.heal();
    expect(keeping.freeableBytes(true)).toBeGreaterThan(some.bytes + 100 * WRITE.length);
  });

  test("a failure leaves the rest, and the next call goes on", async () => {
    const disk = new RoomyDisk(400_000);
    using r = rig(disk);
    for (let n = 0; n < 4; n++) await keepSized(r.directory, some);
    disk.fail({ operation: "removeLarge", call: 1, code: "EIO" });
    const { keeping } = r.directory;
    expect(await reasonOf(keeping.freeRoom(wanted(200_000)))).toMatchObject({
      code: "DISK_FAILED",
    });
    expect(r.ids()).toEqual([1, 2, 3, 4]);
    expect(await keeping.freeRoom(wanted(200_000))).toMatchObject({ removed: [2], isEnough: true });
    expect(r.ids()).toEqual([3, 4]);
  });

  test("what is half removed gives its room before another one goes", async () => {
    const disk = new RoomyDisk(400_000);
    using r = rig(disk);
    for (let n = 0; n < 4; n++) await keepSized(r.directory, some);
    disk.fail({ operation: "removeLarge", call: 1, code: "EIO" });
    const { keeping } = r.directory;
    expect(await reasonOf(keeping.freeRoom(wanted(200_000)))).toMatchObject({
      code: "DISK_FAILED",
    });
    expect(await keeping.freeRoom(wanted(disk.freeBytes() + 50))).toMatchObject({
      removed: [],
      isEnough: true,
    });
    expect(r.ids()).toEqual([2, 3, 4]);
  });

  test("two that ask at once don't remove twice", async () => {
    const disk = new RoomyDisk(400_000);
    using r = rig(disk);
    for (let n = 0; n < 4; n++) await keepSized(r.directory, some);
    const { keeping } = r.directory;
    const both = await Promise.all([
      keeping.freeRoom(wanted(120_000)),
      keeping.freeRoom(wanted(120_000)),
      keeping.retain(3, undefined),
    ]);
    expect(both).toMatchObject([{ removed: [1] }, { removed: [] }, []]);
  });

  test("what is gone is told, though what was left over before can't be removed", async () => {
    const disk = new RoomyDisk(500_000);
    using r = rig(disk);
    for (let n = 0; n < 5; n++) await keepSized(r.directory, some);
    const { keeping } = r.directory;
    disk.fail({ operation: "removeLarge", call: 1, times: 2, code: "EIO" });
    disk.fail({ operation: "removeLarge", call: 4, code: "EIO" });
    expect(await reasonOf(keeping.freeRoom(wanted(200_000)))).toMatchObject({
      code: "DISK_FAILED",
    });
    expect(await keeping.freeRoom(wanted(120_000))).toMatchObject({ removed: [2], isEnough: true });
    expect(r.ids()).toEqual([1, 3, 4, 5]);
    expect(keeping.counts.room).toBe(1);
    expect(r.events("retention")).toEqual([
      expect.stringMatching(/^removed generation 2 ahead of time to make room for a test/),
    ]);
    expect(await r.directory.keeping.retain(5, undefined)).toEqual([]);
    expect(r.ids()).toEqual([3, 4, 5]);
  });

  test("what went before a failure is told, too", async () => {
    const disk = new RoomyDisk(500_000);
    using r = rig(disk);
    for (let n = 0; n < 5; n++) await keepSized(r.directory, some);
    disk.fail({ operation: "removeLarge", call: 2, code: "EIO" });
    const { keeping } = r.directory;
    expect(await reasonOf(keeping.freeRoom(wanted(220_000)))).toMatchObject({
      code: "DISK_FAILED",
    });
    expect(r.ids()).toEqual([2, 3, 4, 5]);
    expect(keeping.counts.room).toBe(1);
    expect(r.events("retention")).toEqual([expect.stringMatching(/^removed generation 1 ahead/)]);
  });

  test("no more goes than is needed where the file system shows it later", async () => {
    const disk = new LaggingDisk(800_000);
    using r = rig(disk);
    for (let n = 0; n < 7; n++) await keepSized(r.directory, some);
    const before = disk.shown();
    expect(await r.directory.keeping.freeRoom(wanted(before + 150_000))).toMatchObject({
      removed: [1, 2],
      freeBytes: before,
      isEnough: true,
    });
  });

  // Mounting takes privileges.
  test.skipIf(!mayMount())(
    "is freed on a disk that is full, whatever marks there are",
    async () => {
      using dir = tempDir("full");
      using disk = smallDisk(dir.file("disk"), 32 * MIB);
      const data = dir.file("disk", "data");
      const directory = new DataDirectory(data, new FaultyDisk(), clock, new FakeMachine());
      try {
        for (let n = 0; n < 4; n++) await keepSized(directory, { keys: 10_000, bytes: 5 * MIB });
        expect(await directory.keeping.retain(9, undefined)).toEqual([]);
        expect(statSync(join(data, "replica.reserve")).size).toBe(512 * 1024);
        {
          using db = new Database(join(data, "replica.db"));
          db.run(
            `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
           INSERT INTO marks (generation, at_ms, written_offset, durable_offset)
           SELECT 1, i, 1000, 1000 FROM n`,
          );
          // What SQLite has written before, it can overwrite.
          db.run("PRAGMA wal_checkpoint(TRUNCATE)");
        }
        expect(disk).toBeDefined();
        fillUp(dir.file("disk", "other"));
        expect(directory.freeBytes).toBe(0);
        const { removed, isEnough } = await directory.keeping.freeRoom(wanted(4 * MIB));
        expect([removed, isEnough]).toEqual([[1], true]);
        expect(directory.countByState().toSorted()).toEqual([
          ["current", 1],
          ["sealed", 2],
        ]);
        expect(statSync(join(data, "replica.reserve")).size).toBe(512 * 1024);
      } finally {
        directory.close();
      }
    },
  );

  test.skipIf(!mayMount())("is freed by one that starts on a disk that is full", async () => {
    using dir = tempDir("full");
    using disk = smallDisk(dir.file("disk"), 16 * MIB);
    expect(disk).toBeDefined();
    const data = dir.file("disk", "data");
    const open = () => new DataDirectory(data, new FaultyDisk(), clock, new FakeMachine());
    const before = open();
    for (let n = 0; n < 3; n++) await keepSized(before, { keys: 10_000, bytes: 2 * MIB });
    await before.keeping.retain(9, undefined);
    // This one leaves no files beside the database, as a copy may have none.
    before.close();
    expect(readdirSync(data)).not.toContain("replica.db-wal");
    fillUp(dir.file("disk", "other"));
    const after = open();
    try {
      expect(await after.keeping.freeRoom(wanted(MIB))).toMatchObject({ removed: [1] });
    } finally {
      after.close();
    }
  });
});

test("a reminder says whether what was there is still there", async () => {
  const lines: string[] = [];
  const output = new Output({ sink: (text) => lines.push(text), isTty: false });
  configureLogging({ level: "warn", format: "text", output });
  try {
    const disk = new RoomyDisk(250_000);
    using r = rig(disk);
    await keepSized(r.directory, FULL);
    await keepSized(r.directory, EMPTY);
    await keepSized(r.directory, EMPTY);
    const reminded = () => {
      lines.length = 0;
      r.restart();
      r.directory.keeping.tick();
      return lines.join("");
    };
    expect(reminded()).toMatch(/half of generation 1 \(.*\), which stays; if/);
    const most = disk.freeBytes() + r.directory.keeping.freeableBytes(true);
    await r.directory.keeping.freeRoom({ freeBytes: most, why: "a test", evenGuarded: true });
    expect(r.ids()).toEqual([3]);
    expect(reminded()).toMatch(/half of generation 1 \(.*\), which went for want of room; if/);
  } finally {
    resetSync();
  }
});
