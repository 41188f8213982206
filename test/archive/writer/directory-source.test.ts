import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import { FileStore } from "../../../src/archive/store/file-store.ts";
import { Archiver } from "../../../src/archive/writer/archiver.ts";
import type { LocalGeneration } from "../../../src/archive/writer/archive-source.ts";
import { DirectorySource } from "../../../src/archive/writer/directory-source.ts";
import { realClock } from "../../../src/base/clock.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { LedgerReader } from "../../../src/store/ledger/ledger-reader.ts";
import { thrownBy } from "../../support/error-of.ts";
import { FakeMachine } from "../../support/fake-machine.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import {
  BASE_OFFSET,
  callbacks,
  HEADER,
  keep,
  lay,
  RDB,
  REPLID,
} from "../../store/restore/kept.ts";
import { SEED } from "./bench.ts";
import { PauseClock, readArchive } from "./rig.ts";

const BEGAN_MS = 1_700_000_000_000;

/** A data directory, and what the archiver sees of it. */
function open(path: string) {
  const disk = new FaultyDisk();
  let nowMs = BEGAN_MS;
  /** Called each time the data directory looks at its clock, as it does while it commits. */
  const clock = { onNow: (): void => undefined };
  const now = () => {
    clock.onNow();
    return nowMs;
  };
  const directory = new DataDirectory(path, disk, { now }, new FakeMachine());
  const ledger = new LedgerReader(join(path, "replica.db"));
  return {
    disk,
    clock,
    directory,
    source: new DirectorySource(directory, ledger, { now: () => nowMs }),
    skip: (ms: number) => void (nowMs += ms),
    [Symbol.dispose]: () => {
      ledger[Symbol.dispose]();
      directory.close();
    },
  };
}

describe("a data directory", () => {
  test("shows its generations with what is durable of their logs", async () => {
    using dir = tempDir();
    using opened = open(dir.file("data"));
    const { directory, disk, source, skip } = opened;
    expect(source.generations()).toEqual([]);
    const first = await keep(directory, disk);
    skip(2_000);
    first.append(Buffer.from("durable"));
    await first.sync();
    first.append(Buffer.from("only written"));
    await first.flushed();
    const [only, ...more] = source.generations();
    expect(more).toEqual([]);
    expect(only).toMatchObject({
      id: 1,
      startedMs: BEGAN_MS,
      primaryName: "127.0.0.1:6379",
      baseOffset: BASE_OFFSET,
      rdbBytes: RDB.length,
      logHeaderBytes: HEADER.length,
      durableOffset: BASE_OFFSET + 7,
      sealed: undefined,
      basePath: directory.basePath(1),
      logPath: directory.logPath(1),
    });
    skip(2_000);
    const second = await keep(directory, disk);
    // Whoever closes its log may still add a mark.
    expect(source.generations()[0]!.sealed).toBeUndefined();
    await first.close();
    const [sealed, current] = source.generations();
    expect(sealed).toMatchObject({
      durableOffset: BASE_OFFSET + 19,
      sealed: { atMs: BEGAN_MS + 4_000, reason: "full resync" },
    });
    expect(current).toMatchObject({ id: 2, startedMs: BEGAN_MS + 4_000, sealed: undefined });
    expect(source.generations((id) => id === 1)).toEqual([current!]);
    expect(source.generations(undefined, 1)).toEqual([sealed!]);
    await directory.keeping.retain(0, undefined);
    expect(source.generations()).toEqual([current!]);
    await second.close();
  });

  test("says whether a power cut may take back what it shows", async () => {
    using dir = tempDir();
    const path = dir.file("data");
    {
      using opened = open(path);
      const { clock, directory, disk, source } = opened;
      // What an earlier process has committed, it may not have synced.
      expect(source.isCertain).toBe(false);
      const first = await keep(directory, disk);
      expect(source.isCertain).toBe(true);
      const { log, promote } = await lay(directory, disk);
      // Asked within the transaction.
      const seen: boolean[] = [];
      clock.onNow = () => void seen.push(source.isCertain);
      disk.fail({ operation: "syncData", path: `${path}/replica.db-wal`, code: "EIO", call: 2 });
      expect(await thrownBy(promote())).toThrow(ReplicaError);
      clock.onNow = () => undefined;
      expect(seen.at(-1)).toBe(false);
      expect([directory.current!.id, source.isCertain]).toEqual([2, false]);
      expect(source.generations().map(({ id }) => id)).toEqual([1, 2]);
      await source.ascertain();
      expect(source.isCertain).toBe(true);
      await first.close();
      await log.close();
    }
    using again = open(path);
    expect(again.source.isCertain).toBe(false);
    await again.source.ascertain();
    expect(again.source.isCertain).toBe(true);
  });

  test("shows how far the marks are settled, and has them settled", async () => {
    using dir = tempDir();
    using opened = open(dir.file("data"));
    const { directory, disk, source, skip } = opened;
    const log = await keep(directory, disk);
    const offsets = () => {
      const [{ durableOffset, settledOffset }] = source.generations() as [LocalGeneration];
      return [settledOffset - BASE_OFFSET, durableOffset - BASE_OFFSET];
    };
    expect(offsets()).toEqual([0, 0]);
    log.append(Buffer.alloc(10));
    await log.sync();
    expect(offsets()).toEqual([0, 10]);
    skip(499);
    log.append(Buffer.alloc(10));
    await log.sync();
    expect(offsets()).toEqual([0, 20]);
    skip(1);
    log.append(Buffer.alloc(10));
    await log.sync();
    expect(offsets()).toEqual([30, 30]);
    log.append(Buffer.alloc(10));
    await log.sync();
    expect(offsets()).toEqual([30, 40]);
    source.settle(1, BASE_OFFSET + 40);
    expect(offsets()).toEqual([40, 40]);
    log.append(Buffer.alloc(10));
    await log.sync();
    expect(offsets()).toEqual([40, 50]);
    await log.close();
    expect(offsets()).toEqual([50, 50]);
    // What replaces no mark of an earlier log.
    const again = (await directory.openLog(callbacks()))!;
    expect(offsets()).toEqual([50, 50]);
    await again.close();
  });

  test("shows marks from one offset to another, and the histories", async () => {
    using dir = tempDir();
    using opened = open(dir.file("data"));
    const { directory, disk, source, skip } = opened;
    const log = await keep(directory, disk);
    for (let step = 1; step <= 5; step++) {
      skip(1_000);
      log.append(Buffer.alloc(10));
      await log.sync();
    }
    const marks = [0, 1, 2, 3, 4, 5].map((step) => ({
      timeMs: BEGAN_MS + step * 1_000,
      offset: BASE_OFFSET + step * 10,
    }));
    const at = (from: number, to: number, most = 10) =>
      source.marks(1, BASE_OFFSET + from, BASE_OFFSET + to, most);
    expect(at(0, 50)).toEqual(marks);
    expect(at(1, 49)).toEqual(marks.slice(1, 5));
    expect(at(11, 19)).toEqual([]);
    expect(at(0, 50, 2)).toEqual(marks.slice(0, 2));
    for (const [from, to] of [
      [0, 50],
      [1, 49],
      [10, 50],
      [11, 19],
      [51, Infinity],
    ] as const)
      expect(at(from, to, 1)).toEqual(at(from, to).slice(0, 1));
    expect(at(51, Infinity)).toEqual([]);
    expect(source.histories(1)).toEqual([{ replid: REPLID, fromOffset: BASE_OFFSET }]);
    await log.close();
  });

  test("goes into an archive as it is, and what is remembered goes with the generation", async () => {
    using dir = tempDir();
    using opened = open(dir.file("data"));
    const { directory, disk, source, skip } = opened;
    const store = new FileStore(dir.file("archive"), realFolderDisk, realClock);
    const archiver = new Archiver({
      store,
      archive: store.url,
      source,
      disk,
      clock: new PauseClock(SEED),
      writer: { codec: "zstd", encryption: undefined },
      everyMs: 1_000,
      program: "replica 0.1.0",
    });
    const stop = new AbortController();
    const running = archiver.run(stop.signal);
    const first = await keep(directory, disk);
    archiver.changed();
    for (let step = 0; step < 20; step++) {
      skip(1_000);
      first.append(Buffer.from(`stream ${step}`));
      await first.sync();
      archiver.moved(first.settledOffset);
    }
    const isWhole = () => {
      const { archivedOffset, lagBytes } = archiver.status();
      return archivedOffset === directory.durableOffset && lagBytes === 0;
    };
    await until(isWhole, { what: "the first generation in the archive" });
    const logs = [readFileSync(directory.logPath(1))];
    skip(2_000);
    const second = await keep(directory, disk);
    await first.close();
    archiver.changed();
    skip(2_000);
    second.append(Buffer.from("another stream"));
    await second.sync();
    archiver.moved(second.settledOffset);
    await until(() => archiver.has(1) && isWhole(), { what: "both in the archive" });
    logs.push(readFileSync(directory.logPath(2)));
    stop.abort(new Error("the test is over"));
    await running;
    const read = await readArchive(store);
    expect(read.map(({ base }) => base.equals(RDB))).toEqual([true, true]);
    expect(read.map(({ log }) => log.toString())).toEqual(logs.map(String));
    expect(read.map(({ sealed }) => sealed?.reason)).toEqual(["full resync", undefined]);
    expect(read[0]!.document).toMatchObject({ replid: REPLID, baseOffset: BASE_OFFSET });
    const { memoryPath } = source.generations()[0]!;
    expect(existsSync(memoryPath)).toBe(true);
    await second.close();
    await directory.keeping.retain(0, undefined);
    expect(existsSync(memoryPath)).toBe(false);
  });
});
