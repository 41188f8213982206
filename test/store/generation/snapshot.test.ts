import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { ReplicaError } from "../../../src/base/errors.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { openTemporary } from "../../../src/store/disk/payload-file.ts";
import type { Io } from "../../../src/store/disk/payload-writer.ts";
import { SnapshotWriter } from "../../../src/store/generation/snapshot.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { pieces, rdbOf } from "../rdb.ts";
import { rejectionOf } from "../../support/error-of.ts";

const never = new AbortController().signal;
const RDB = rdbOf(4000);

function fakeClock(startMs = 1_700_000_000_900) {
  const slept: number[] = [];
  let nowMs = startMs;
  const sleep = async (ms: number) => {
    slept.push(ms);
    nowMs += ms;
  };
  return { slept, now: () => nowMs, sleep };
}

describe("the temporary file", () => {
  test("is named temp-<unixtime>.<pid>.rdb, with mode 0644", async () => {
    using dir = tempDir();
    const umask = process.umask(0);
    const { path, file } = await openTemporary(realDisk, dir.path, fakeClock(), never);
    process.umask(umask);
    expect(path).toBe(dir.file(`temp-1700000000.${process.pid}.rdb`));
    expect(fs.fstatSync(file.fd).mode & 0o777).toBe(0o644);
    expect(() => fs.readSync(file.fd, new Uint8Array(1))).toThrow("EBADF");
    await file.close();
  });

  test("never replaces an existing file: the next second has another name", async () => {
    using dir = tempDir();
    const clock = fakeClock();
    const taken = dir.file(`temp-1700000000.${process.pid}.rdb`);
    fs.writeFileSync(taken, "somebody's");
    const { path, file } = await openTemporary(realDisk, dir.path, clock, never);
    expect(path).toBe(dir.file(`temp-1700000001.${process.pid}.rdb`));
    expect(fs.readFileSync(taken, "utf8")).toBe("somebody's");
    expect(clock.slept).toEqual([1000]);
    await file.close();
  });

  test("is tried five times, one second apart, then fails with the last reason", async () => {
    using dir = tempDir();
    const clock = fakeClock();
    const disk = new FaultyDisk({ call: 1, code: "EIO" }, { call: 5, code: "ENOSPC" });
    for (let call = 2; call < 5; call++) disk.fail({ call, code: "EACCES" });
    const error = await rejectionOf(() => openTemporary(disk, dir.path, clock, never));
    expect(clock.slept).toEqual([1000, 1000, 1000, 1000]);
    expect(disk.count("create")).toBe(5);
    expect(error.code).toBe("DISK_FULL");
    expect(error.message).toContain(`temp-1700000004.${process.pid}.rdb`);
    expect(fs.readdirSync(dir.path)).toEqual([]);
  });

  test("is not tried again once it is given up", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk({ code: "EIO" });
    const giveUp = new AbortController();
    const clock = { now: () => 0, sleep: async () => giveUp.abort() };
    const error = await rejectionOf(() => openTemporary(disk, dir.path, clock, giveUp.signal));
    expect(error.code).toBe("STOPPED");
    expect(disk.count("create")).toBe(1);
  });
});

/** A snapshot on its way to disk, and the events it reported. */
async function begin(
  disk: FaultyDisk,
  dir: string,
  syncBytes = 1000,
  maxQueuedBytes = 2000,
  io: Io = "buffered",
) {
  const file = await openTemporary(disk, dir, fakeClock(), never, io);
  const told = {
    /** What was covered by a sync, each time that it was seen to be more. */
    synced: [] as number[],
    room: 0,
    failed: [] as ReplicaError[],
    look: () => {
      if (writer.syncedBytes > (told.synced.at(-1) ?? 0)) told.synced.push(writer.syncedBytes);
    },
  };
  const writer: SnapshotWriter = new SnapshotWriter(disk, file, {
    totalBytes: undefined,
    syncBytes,
    maxQueuedBytes,
    onRoom: () => {
      told.room++;
      told.look();
    },
    onFailed: (error) => told.failed.push(error),
  });
  return { writer, told, file };
}

const closed = (disk: FaultyDisk) =>
  until(() => disk.openFds.size === 0, { what: "every descriptor to be closed" });

/** Mounts a real small disk at `path`, where the user may; `using` unmounts it. */
function mountSmallDisk(path: string): Disposable & { readonly real: boolean } {
  const argv = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path];
  const real = process.getuid?.() === 0 && Bun.spawnSync(argv).exitCode === 0;
  return {
    real,
    [Symbol.dispose]: () => {
      if (real) Bun.spawnSync(["umount", path]);
    },
  };
}

describe("SnapshotWriter", () => {
  test("keeps a sound RDB byte for byte, syncs it on its way, and leaves only its final name", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { writer, told } = await begin(disk, dir.path);
    for (const piece of pieces(RDB, 1000)) {
      writer.write(piece);
      const { length } = told.synced;
      await until(() => (told.look(), told.synced.length > length), { what: "a sync" });
    }
    const summary = await writer.finish(dir.file("base.rdb"));
    expect(summary).toMatchObject({ bytes: RDB.length, checked: true });
    expect(RDB).toEqual(new Uint8Array(fs.readFileSync(dir.file("base.rdb"))));
    expect(fs.readdirSync(dir.path)).toEqual(["base.rdb"]);
    expect(told.failed).toEqual([]);
    expect(told.synced).toEqual([1000, 2000, 3000, 4000]);
    expect(writer.syncedBytes).toBe(4000);
    expect(disk.calls.filter(({ operation }) => operation === "syncData")).toHaveLength(5);
    const order = disk.calls.slice(-7).map((call) => call.operation);
    expect(order).toEqual([
      "sink.flush",
      "syncData",
      "sink.end",
      "close",
      "sizeOf",
      "rename",
      "syncDir",
    ]);
    expect(disk.openFds.size).toBe(0);
  });

  test("keeps receiving during a sync, with one sync in flight and synced ≤ written", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { writer, told, file } = await begin(disk, dir.path);
    const held = disk.hold("syncData");
    for (const piece of pieces(RDB, 100)) writer.write(piece);
    await until(() => !writer.congested && disk.count("sink.write") === 40, {
      what: "all written",
    });
    expect(disk.count("syncData")).toBe(1);
    expect(told.synced).toEqual([]);
    held.release();
    await until(() => (told.look(), told.synced.length > 0), { what: "the sync" });
    for (const synced of told.synced) {
      expect(synced).toBeLessThanOrEqual(fs.statSync(file.path).size);
    }
    await writer.finish(dir.file("base.rdb"));
  });

  test("is congested while more than the limit waits, and says when there is room", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { writer, told } = await begin(disk, dir.path);
    const held = disk.hold("sink.write");
    writer.write(RDB.subarray(0, 2000));
    expect(writer.congested).toBe(false);
    writer.write(RDB.subarray(2000, 2001));
    expect(writer.congested).toBe(true);
    held.release();
    await until(() => told.room === 2, { what: "room" });
    expect(writer.congested).toBe(false);
    writer.abandon();
    await closed(disk);
  });

  async function failing(dir: string, n: number, io: Io): Promise<boolean> {
    const disk = new FaultyDisk();
    const { writer, told, file } = await begin(disk, dir, 1000, 2000, io);
    disk.fail({ call: n, code: n % 2 === 0 ? "EIO" : "ENOSPC" });
    const before = disk.calls.length;
    for (const piece of pieces(RDB, 500)) {
      writer.write(piece);
      await Bun.sleep(0);
    }
    let error: ReplicaError | undefined;
    try {
      await writer.finish(`${dir}/base.rdb`);
    } catch (caught) {
      expect(caught).toBeInstanceOf(ReplicaError);
      error = caught as ReplicaError;
    }
    const reached = disk.calls.length - before >= n;
    expect(error !== undefined).toBe(reached);
    if (error !== undefined) {
      expect(error.code).toBe(n % 2 === 0 ? "DISK_FAILED" : "DISK_FULL");
      expect(error.message).toMatch(/\((EIO|ENOSPC)\)$/);
      for (const failure of told.failed) expect(failure).toBe(error);
      writer.abandon();
    }
    await closed(disk);
    expect(fs.existsSync(file.path)).toBe(false);
    expect(told.failed.length).toBeLessThanOrEqual(1);
    return reached;
  }

  test.each([
    ["buffered", 15],
    ["direct", 6],
  ] as const)(
    "whichever call fails, %s: reports one clear error and leaves no temporary file or descriptor",
    async (io, least) => {
      let n = 1;
      for (; ; n++) {
        using dir = tempDir();
        if (!(await failing(dir.path, n, io))) break;
      }
      expect(n).toBeGreaterThan(least);
    },
  );

  test("keeps a sound RDB of many blocks byte for byte past the page cache", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const rdb = rdbOf(19 * 1024 * 1024 + 5);
    const { writer, told } = await begin(disk, dir.path, 8 * 1024 * 1024, 0, "direct");
    for (const piece of pieces(rdb, 300_000)) {
      writer.write(piece);
      await until(() => (told.look(), !writer.congested), { what: "room" });
    }
    const summary = await writer.finish(dir.file("base.rdb"));
    expect(summary).toMatchObject({ bytes: rdb.length, checked: true });
    expect(fs.readFileSync(dir.file("base.rdb")).equals(rdb)).toBe(true);
    expect(fs.readdirSync(dir.path)).toEqual(["base.rdb"]);
    expect(told.failed).toEqual([]);
    told.look();
    expect(told.synced.at(-1)).toBe(rdb.length);
    expect(disk.count("syncData")).toBeGreaterThan(1);
    expect(told.synced).toEqual(told.synced.toSorted((a, b) => a - b));
    expect(disk.openFds.size).toBe(0);
  });

  test.each(["remove", "close", "sink.end"] as const)(
    "does not throw on abandon where %s fails",
    async (operation) => {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const { writer, told } = await begin(disk, dir.path);
      disk.fail({ operation, code: "EIO" });
      writer.write(RDB.subarray(0, 100));
      writer.abandon();
      await closed(disk);
      expect(told.failed).toEqual([]);
    },
  );

  test.each(["sink.write", "sink.flush", "syncData"] as const)(
    "abandoned while %s is held, closes the descriptor after it and begins no sync",
    async (operation) => {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const { writer } = await begin(disk, dir.path);
      const held = disk.hold(operation);
      writer.write(RDB.subarray(0, 3000));
      await until(() => disk.count(operation) > 0, { what: operation });
      writer.abandon();
      await Bun.sleep(20);
      expect(disk.openFds.size).toBe(1);
      held.release();
      await closed(disk);
      await Bun.sleep(5);
      expect(disk.count("syncData")).toBe(operation === "sink.write" ? 0 : 1);
    },
  );

  test("abandoned while the last sync is held, leaves nothing under the final name", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { writer } = await begin(disk, dir.path, 1_000_000);
    writer.write(RDB);
    const held = disk.hold("syncData");
    const finishing = rejectionOf(() => writer.finish(dir.file("base.rdb")));
    await until(() => disk.count("syncData") === 1, { what: "the last sync" });
    writer.abandon();
    await Bun.sleep(20);
    expect(disk.openFds.size).toBe(1);
    held.release();
    expect((await finishing).code).toBe("STOPPED");
    await closed(disk);
    expect(fs.readdirSync(dir.path)).toEqual([]);
  });

  test.each([
    ["truncated", RDB.subarray(0, 3000), "BAD_PAYLOAD"],
    ["only a beginning", RDB.subarray(0, 5), "BAD_PAYLOAD"],
    ["empty", RDB.subarray(0, 0), "BAD_PAYLOAD"],
    ["a wrong checksum", RDB.with(2000, 1), "BAD_CHECKSUM"],
  ] as const)("refuses %s at the end", async (_, payload, code) => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { writer } = await begin(disk, dir.path);
    fs.writeFileSync(dir.file("base.rdb"), "an earlier one");
    writer.write(payload);
    expect((await rejectionOf(() => writer.finish(dir.file("base.rdb")))).code).toBe(code);
    writer.abandon();
    await closed(disk);
    expect(fs.readdirSync(dir.path)).toEqual(["base.rdb"]);
    expect(fs.readFileSync(dir.file("base.rdb"), "utf8")).toBe("an earlier one");
  });

  test("refuses at the first bytes what is no RDB", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { writer, told } = await begin(disk, dir.path);
    writer.write(Buffer.from("-ERR this is no RDB"));
    await until(() => told.failed.length === 1, { what: "the failure" });
    expect(told.failed[0]!.code).toBe("BAD_PAYLOAD");
    writer.abandon();
    await closed(disk);
    expect(fs.readdirSync(dir.path)).toEqual([]);
  });

  test("learns of a full disk from the promise of write()", async () => {
    using dir = tempDir();
    using small = mountSmallDisk(dir.path);
    // Where no real one can be mounted, a simulated one.
    const disk = small.real
      ? new FaultyDisk()
      : new FaultyDisk({ operation: "sink.write", call: 3, code: "ENOSPC" });
    const { writer, told } = await begin(disk, dir.path, 64 * 1024);
    for (const piece of pieces(rdbOf(2 * 1024 * 1024), 64 * 1024)) {
      writer.write(piece);
      await Bun.sleep(0);
    }
    await until(() => told.failed.length === 1, { what: "the failure" });
    expect(told.failed[0]!.code).toBe("DISK_FULL");
    expect(told.failed[0]!.message).toContain("make room");
    writer.abandon();
    await closed(disk);
    expect(fs.readdirSync(dir.path)).toEqual([]);
  });
});
