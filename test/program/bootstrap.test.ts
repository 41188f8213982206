import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { ArchiveSource } from "../../src/archive/reader/archive-source.ts";
import type { ObjectStore } from "../../src/archive/store/object-store.ts";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { ReplicaError } from "../../src/base/errors.ts";
import { parsePrimarySource } from "../../src/config/primary-source.ts";
import { fillFromArchive } from "../../src/program/bootstrap.ts";
import { Filling, wasFilling } from "../../src/program/filling.ts";
import { type Disk, realDisk } from "../../src/store/disk/disk.ts";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { Ledger } from "../../src/store/ledger/ledger.ts";
import { never, openFolder, type Shelf } from "../archive/reader/rig.ts";
import { rdbOf } from "../store/rdb.ts";
import { rejectionOf } from "../support/error-of.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import {
  randomCuts,
  REPLID,
  streamOf,
  writeArchive,
  writeGeneration,
} from "../support/written-archive.ts";

const { stream } = streamOf(41, 100);
const END = 5_000 + stream.length;
const SECOND = "b".repeat(40);
const FROM = 5_000 + (stream.length >> 1);
const PRIMARY = "redis://127.0.0.1:6379";

async function filledShelf(): Promise<Shelf> {
  const shelf = await openFolder();
  await writeArchive(shelf.store);
  const plan = { rdb: rdbOf(20_000), stream, cuts: randomCuts(42, stream.length, 4) };
  await writeGeneration(shelf.store, {
    ...plan,
    pieceBytes: 9_000,
    histories: [{ replid: SECOND, fromOffset: FROM }],
  });
  return shelf;
}

function bootstrap(
  store: ObjectStore,
  dir: string,
  disk: Disk = realDisk,
  clock: Clock = realClock,
) {
  return {
    open: async () => new ArchiveSource(store, undefined),
    primary: parsePrimarySource(PRIMARY),
    settings: { dir, minFreeBytes: 0, minFreeShare: 1 },
    disk,
    clock,
    onFetched: undefined,
  };
}

/** Where a replica would resume that opens the directory; undefined where it keeps nothing. */
async function resumesAt(dir: string, disk: Disk = realDisk) {
  const directory = new DataDirectory(dir, disk, realClock);
  try {
    const log = await directory.openLog({
      fsync: "everysec",
      maxQueuedBytes: 1_000_000,
      onMoved: () => undefined,
      onFailed: () => undefined,
    });
    const point = log && directory.resumePoint(log);
    await log?.close();
    return point;
  } finally {
    directory.close();
  }
}

/** An object store that does nothing but that. */
function storeThat(get: ObjectStore["get"]): ObjectStore {
  const no = () => Promise.reject(new Error("nothing else is asked of it"));
  return {
    url: "s3://away/archive",
    put: no,
    get,
    now: no,
    delete: no,
    settle: no,
    list: () => {
      throw new Error("no");
    },
  };
}

/** A clock on which only sleeping takes time. */
class SleepingClock implements Clock {
  #ms = 0;
  readonly #sleeping = new Set<{ readonly untilMs: number; readonly end: () => void }>();
  now = () => this.#ms;
  monotonicMs = () => this.#ms;
  random = () => 0.5;
  sleep = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      if (signal.aborted) return resolve();
      const end = () => {
        this.#sleeping.delete(one);
        resolve();
      };
      const one = { untilMs: this.#ms + ms, end };
      this.#sleeping.add(one);
      signal.addEventListener("abort", end, { once: true });
    });
  /** Lets the next one wake up, once so many sleep. */
  async pass(sleepers: number): Promise<void> {
    await until(() => this.#sleeping.size === sleepers, { what: `${sleepers} to sleep` });
    const [next] = [...this.#sleeping].toSorted((a, b) => a.untilMs - b.untilMs);
    this.#ms = next!.untilMs;
    next!.end();
  }
}

describe("a data directory that keeps nothing", () => {
  test("resumes where the archive ends, in the history that it ends in", async () => {
    await using shelf = await filledShelf();
    using dir = tempDir("bootstrap");
    const data = dir.file("data");
    await fillFromArchive(bootstrap(shelf.store, data), never);
    expect(await resumesAt(data)).toEqual({ replid: SECOND as never, offset: END });
    const directory = new DataDirectory(data, realDisk, realClock);
    const ids = directory.replicationIds.map(({ replid, fromOffset }) => `${replid}:${fromOffset}`);
    expect(ids).toEqual([`${REPLID}:5000`, `${SECOND}:${FROM}`]);
    directory.close();
    expect(fs.readdirSync(data).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("has a durable name before anything is promised in it", async () => {
    await using shelf = await filledShelf();
    using dir = tempDir("bootstrap");
    const data = dir.file("new", "data");
    await fillFromArchive(bootstrap(shelf.store, data), never);
    const disk = new FaultyDisk();
    expect(await resumesAt(data, disk)).toMatchObject({ offset: END });
    const synced = disk.calls.filter(({ operation }) => operation === "syncDir");
    const folders = synced.map(({ subject }) => subject);
    expect(folders).toEqual(expect.arrayContaining([data, dir.file("new"), dir.path]));
  });

  test("is filled though a first snapshot failed in it, and without what that has left", async () => {
    await using shelf = await filledShelf();
    using dir = tempDir("bootstrap");
    const data = dir.file("data");
    const before = new DataDirectory(data, realDisk, realClock);
    const { dir: unfinished } = await before.begin(PRIMARY);
    fs.writeFileSync(`${unfinished}/temp-1.1.rdb`, "half of it");
    before.close();
    await fillFromArchive(bootstrap(shelf.store, data), never);
    expect(await resumesAt(data)).toMatchObject({ offset: END });
    expect(fs.readdirSync(`${data}/generations`)).toEqual(["0000000001"]);
    expect(fs.readdirSync(`${data}/generations/0000000001`).join()).not.toContain("temp-");
  });

  test("is left as it is where somebody chose another primary, or its database is damaged or lost", async () => {
    await using shelf = await filledShelf();
    using dir = tempDir("bootstrap");
    const chosen = dir.file("chosen");
    fs.mkdirSync(chosen);
    const ledger = new Ledger(`${chosen}/replica.db`, realDisk, true);
    await ledger.choosePrimary(PRIMARY, null);
    ledger.close();
    const damaged = dir.file("damaged");
    fs.mkdirSync(damaged);
    fs.writeFileSync(`${damaged}/replica.db`, "no database".repeat(1_000));
    const lost = dir.file("lost");
    fs.mkdirSync(`${lost}/generations/0000000003`, { recursive: true });
    for (const data of [chosen, damaged, lost]) {
      await fillFromArchive(bootstrap(shelf.store, data), never);
      expect(fs.existsSync(`${data}/generations/0000000001`)).toBe(false);
    }
  });

  test("is whole at the next start after a kill at any call of the disk", async () => {
    await using shelf = await filledShelf();
    using dir = tempDir("bootstrap");
    const counting = new FaultyDisk();
    await fillFromArchive(bootstrap(shelf.store, dir.file("whole"), counting), never);
    const calls = counting.calls.length;
    expect(calls).toBeGreaterThan(15);
    for (let call = 1; call <= calls; call++) {
      await killedAt(shelf, dir, call);
    }
  }, 150_000);

  async function killedAt(shelf: Shelf, dir: TempDir, call: number): Promise<void> {
    const data = dir.file(`killed-${call}`);
    // Nothing works any more from then on, not even cleaning up.
    const killed = new FaultyDisk({ call, times: Infinity, code: "EIO" });
    await fillFromArchive(bootstrap(shelf.store, data, killed), never).catch(() => undefined);
    // What the next start does, with an archive or without.
    if (wasFilling(data)) (await Filling.begin(data, realDisk))[Symbol.dispose]();
    expect(wasFilling(data)).toBe(false);
    const found = await resumesAt(data);
    if (found !== undefined) return expect([call, found.offset]).toEqual([call, END]);
    await fillFromArchive(bootstrap(shelf.store, data), never);
    expect([call, (await resumesAt(data))?.offset]).toEqual([call, END]);
  }

  test.each([true, false])(
    "goes on where any call of the disk fails once, after a first snapshot failed: %p",
    async (isAfter) => {
      await using shelf = await filledShelf();
      using dir = tempDir("bootstrap");
      for (let call = 1; ; call++) {
        const data = dir.file(`failed-${call}`);
        if (isAfter) {
          const before = new DataDirectory(data, realDisk, realClock);
          await before.begin(PRIMARY);
          before.close();
        }
        const disk = new FaultyDisk({ call, code: "EIO" });
        let refused: unknown;
        await fillFromArchive(bootstrap(shelf.store, data, disk), never).catch(
          (error: unknown) => (refused = error),
        );
        // As the program does then.
        const offset = refused === undefined ? (await resumesAt(data))?.offset : undefined;
        expect([call, offset ?? END]).toEqual([call, END]);
        if (wasFilling(data)) (await Filling.begin(data, realDisk))[Symbol.dispose]();
        const again = (await resumesAt(data))?.offset;
        expect([call, again ?? END]).toEqual([call, END]);
        // Where it didn't go on, the next start finds all of it, or nothing.
        if (offset !== undefined) expect([call, again]).toEqual([call, offset]);
        if (disk.struck.length === 0) break;
      }
    },
    150_000,
  );

  test("waits half a minute for an archive that is away, and asks it each second", async () => {
    using dir = tempDir("bootstrap");
    let asked = 0;
    const store = storeThat(async () => {
      asked++;
      throw new ReplicaError("ARCHIVE_FAILED", { message: "it is away" });
    });
    const clock = new SleepingClock();
    const filling = fillFromArchive(bootstrap(store, dir.file("data"), realDisk, clock), never);
    for (let second = 1; second <= 30; second++) {
      await clock.pass(2);
    }
    await filling;
    expect([asked, clock.now()]).toEqual([30, 30_000]);
  });

  test("waits no longer for one that never answers", async () => {
    using dir = tempDir("bootstrap");
    const store = storeThat(
      (_key, _options, signal) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason as Error)),
        ),
    );
    const clock = new SleepingClock();
    const filling = fillFromArchive(bootstrap(store, dir.file("data"), realDisk, clock), never);
    await clock.pass(1);
    await filling;
    expect(clock.now()).toBe(30_000);
    expect(wasFilling(dir.file("data"))).toBe(false);
  });

  test("ends with the reason of a stop", async () => {
    using dir = tempDir("bootstrap");
    const stopping = new AbortController();
    const store = storeThat(async (_key, _options, signal) => {
      stopping.abort(new ReplicaError("STOPPED", { message: "stopped" }));
      throw signal.reason;
    });
    const filling = () => fillFromArchive(bootstrap(store, dir.file("data")), stopping.signal);
    expect(await rejectionOf(filling)).toMatchObject({ code: "STOPPED" });
  });
});
