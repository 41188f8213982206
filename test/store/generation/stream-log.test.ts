import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import type { ReplicaError } from "../../../src/base/errors.ts";
import { Crc64, crc64 } from "../../../src/rdb/crc64.ts";
import { StreamLog, type StreamLogOptions } from "../../../src/store/generation/stream-log.ts";
import { OpenFile } from "../../../src/store/disk/open-file.ts";
import { Random } from "../../support/fill.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import type { Segment } from "../../../src/store/ledger/ledger.ts";

const HEADER = "SELECT";
const BASE = 1000;

interface Told {
  moved: number;
  closed: number;
  failed: ReplicaError[];
  marks: { written: number; durable: number; syncs: number }[];
  segments: (Partial<Segment> & { to: number })[];
  settled: number[];
}

/** A log at offset 1000, after a header of 6 bytes; each move checks the cursors. */
function openLog(
  dir: TempDir,
  disk: FaultyDisk,
  options: Partial<StreamLogOptions> & { marks?: boolean } = {},
): { log: StreamLog; told: Told; content: () => string } {
  const path = dir.file("log.aof");
  fs.writeFileSync(path, HEADER);
  const told: Told = { moved: 0, closed: 0, failed: [], marks: [], segments: [], settled: [] };
  const log = new StreamLog(disk, OpenFile.openExisting(disk, path), {
    logHeaderBytes: HEADER.length,
    baseOffset: BASE,
    writtenOffset: BASE,
    durableOffset: BASE,
    fsync: "everysec",
    maxQueuedBytes: 100,
    unmarked: { fromOffset: BASE, crc: new Crc64() },
    segmentEnds: () => false,
    monotonicMs: () => performance.now(),
    commitMark: async (written, durable, segment) => {
      told.segments.push({ ...segment, to: durable });
      // The mark comes after the sync that it records, and before the cursor moves.
      expect(log.durableOffset).toBeLessThanOrEqual(durable);
      told.marks.push({ written, durable, syncs: disk.count("syncData") });
    },
    onMoved: () => {
      told.moved++;
      ordered(log);
    },
    onSettled: () => {
      told.settled.push(log.settledOffset);
      ordered(log);
    },
    onFailed: (error) => told.failed.push(error),
    onClosed: () => void told.closed++,
    marks: true,
    ...options,
  });
  return { log, told, content: () => fs.readFileSync(path, "latin1") };
}

function ordered(log: StreamLog): void {
  expect(log.settledOffset).toBeLessThanOrEqual(log.durableOffset);
  expect(log.durableOffset).toBeLessThanOrEqual(log.writtenOffset);
  expect(log.writtenOffset).toBeLessThanOrEqual(log.receivedOffset);
}

const chunk = (text: string) => new Uint8Array(Buffer.from(text));

test("refuses cursors that break durable ≤ written ≤ received", () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  expect(() => openLog(dir, disk, { durableOffset: BASE + 1 })).toThrow(
    `durable ${BASE + 1} ≤ written ${BASE} ≤ received ${BASE}`,
  );
});

describe("StreamLog", () => {
  test("writes everything after the header, in order, and marks it on close", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told, content } = openLog(dir, disk);
    const all = Array.from({ length: 500 }, (_, n) => `chunk ${n};`);
    for (const [n, text] of all.entries()) {
      log.append(chunk(text));
      if (n % 50 === 0) await Bun.sleep(0);
      ordered(log);
    }
    await log.close();
    const end = BASE + all.join("").length;
    expect(content()).toBe(HEADER + all.join(""));
    expect([log.receivedOffset, log.writtenOffset, log.durableOffset]).toEqual([end, end, end]);
    expect(log.fileBytes).toBe(HEADER.length + end - BASE);
    expect(told.marks.at(-1)).toMatchObject({ written: end, durable: end });
    expect(told.failed).toEqual([]);
    expect(disk.openFds.size).toBe(0);
  });

  test("writes what comes during a write as one batch", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk);
    const held = disk.hold("write");
    for (const text of ["a", "b", "c", "d"]) log.append(chunk(text));
    expect(disk.count("write")).toBe(1);
    expect([log.receivedOffset, log.writtenOffset]).toEqual([BASE + 4, BASE]);
    held.release();
    await log.flushed();
    expect(disk.count("write")).toBe(2);
    await log.close();
  });

  test("a small chunk is written when append returns, a large one by the thread pool", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told, content } = openLog(dir, disk);
    log.append(chunk("small"));
    expect([log.writtenOffset, content(), told.moved]).toEqual([BASE + 5, `${HEADER}small`, 1]);
    // It fills its buffer, which is freed once it is written.
    log.append(new Uint8Array(20_000));
    expect([log.receivedOffset, log.writtenOffset]).toEqual([BASE + 20_005, BASE + 20_005]);
    log.append(new Uint8Array(80_000));
    expect(log.writtenOffset).toBe(BASE + 20_005);
    log.append(chunk("after it"));
    await log.flushed();
    expect(log.writtenOffset).toBe(BASE + 100_013);
    expect(content()).toEndWith("\0after it");
    await log.close();
  });

  test("many pieces at once are written by the thread pool, together", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, content } = openLog(dir, disk);
    log.appendAll(["a", "b", "c"].map(chunk));
    expect([log.receivedOffset, log.writtenOffset]).toEqual([BASE + 3, BASE]);
    await log.flushed();
    expect([content(), disk.count("write")]).toEqual([`${HEADER}abc`, 1]);
    await log.close();
  });

  test("while a sync is in flight, the thread pool writes small chunks too", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk);
    log.append(chunk("first"));
    const held = disk.hold("syncData");
    const syncing = log.sync();
    log.append(chunk("second"));
    expect(log.writtenOffset).toBe(BASE + 5);
    await log.flushed();
    expect([log.writtenOffset, log.durableOffset]).toEqual([BASE + 11, BASE]);
    held.release();
    await syncing;
    expect(log.durableOffset).toBe(BASE + 5);
    await log.close();
  });

  test("after a slow write the thread pool writes, until a write isn't slow", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    let nowMs = 0;
    let tookMs = 11;
    const monotonicMs = () => (nowMs += tookMs);
    const { log } = openLog(dir, disk, { monotonicMs });
    log.append(chunk("slow"));
    expect(log.writtenOffset).toBe(BASE + 4);
    log.append(chunk("1"));
    expect(log.writtenOffset).toBe(BASE + 4);
    await log.flushed();
    tookMs = 1;
    log.append(chunk("2"));
    expect(log.writtenOffset).toBe(BASE + 5);
    await log.flushed();
    log.append(chunk("3"));
    expect(log.writtenOffset).toBe(BASE + 7);
    await log.close();
  });

  const refusals: [string, () => number][] = [
    ["a part is taken", () => 2],
    [
      "it fails",
      () => {
        throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
      },
    ],
  ];
  test.each(refusals)(
    "where of a small chunk %s, the thread pool writes it whole",
    async (_, take) => {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const { log, told, content } = openLog(dir, disk);
      disk.writeAtOnce = take;
      log.append(chunk("whole"));
      expect([log.receivedOffset, log.writtenOffset]).toEqual([BASE + 5, BASE]);
      await log.flushed();
      expect([log.writtenOffset, content()]).toEqual([BASE + 5, `${HEADER}whole`]);
      disk.fail({ operation: "write", code: "ENOSPC" });
      log.append(chunk("lost"));
      expect(told.failed).toEqual([]);
      await log.flushed();
      expect(told.failed).toMatchObject([{ code: "DISK_FULL" }]);
      expect(log.writtenOffset).toBe(BASE + 5);
      await log.abandon();
    },
  );

  test("has one sync in flight, which covers what was written before; the next covers the rest", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk);
    log.append(chunk("first"));
    await log.flushed();
    const held = disk.hold("syncData");
    const syncs = [log.sync(), log.sync()];
    log.append(chunk("second"));
    await log.flushed();
    syncs.push(log.sync());
    log.tick();
    await Bun.sleep(5);
    expect(disk.count("syncData")).toBe(1);
    expect([log.writtenOffset, log.durableOffset]).toEqual([BASE + 11, BASE]);
    held.release();
    await Promise.all(syncs);
    expect(told.marks).toEqual([
      { written: BASE + 11, durable: BASE + 5, syncs: 1 },
      { written: BASE + 11, durable: BASE + 11, syncs: 2 },
    ]);
    await log.close();
  });

  test("syncs nothing where nothing is new", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk);
    log.tick();
    await log.sync();
    await log.close();
    expect(disk.count("syncData")).toBe(0);
  });

  test.each([
    ["always", 1, 1],
    ["everysec", 0, 1],
    ["no", 0, 0],
  ] as const)(
    "--fsync %s: %d syncs after a write, %d after a tick",
    async (fsync, first, second) => {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const { log } = openLog(dir, disk, { fsync });
      log.append(chunk("abc"));
      await log.flushed();
      expect(disk.count("syncData")).toBe(first);
      log.tick();
      await Bun.sleep(5);
      expect(disk.count("syncData")).toBe(second);
      await log.close();
      expect(log.durableOffset).toBe(BASE + 3);
    },
  );

  test("--fsync no: commits a mark a second that says how much was written, none of it durable", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk, { fsync: "no" });
    log.tick();
    log.append(chunk("abc"));
    await log.flushed();
    log.tick();
    log.tick();
    await Bun.sleep(1);
    log.tick();
    expect(told.marks).toEqual([{ written: BASE + 3, durable: BASE, syncs: 0 }]);
    expect(log.durableOffset).toBe(BASE);
    await log.close();
  });

  test("--fsync no: never commits a mark with a lower durable offset", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const marked: { written: number; durable: number }[] = [];
    const committing = Promise.withResolvers<void>();
    const { log } = openLog(dir, disk, {
      fsync: "no",
      commitMark: async (written, durable) => {
        marked.push({ written, durable });
        await committing.promise;
      },
    });
    log.append(chunk("abc"));
    await log.flushed();
    const syncing = log.sync();
    await until(() => marked.length === 1, { what: "the mark of the sync" });
    log.append(chunk("def"));
    await log.flushed();
    log.tick();
    await Bun.sleep(1);
    committing.resolve();
    await syncing;
    log.tick();
    await Bun.sleep(1);
    expect(marked).toEqual([
      { written: BASE + 3, durable: BASE + 3 },
      { written: BASE + 6, durable: BASE + 3 },
    ]);
    await log.close();
  });

  test("counts pieces for more than their bytes, so that single bytes congest it too", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk, { maxQueuedBytes: 1_000 });
    const held = disk.hold("write");
    log.append(chunk("a"));
    expect(log.congested).toBe(false);
    for (let n = 0; n < 10; n++) log.append(chunk("b"));
    expect(log.congested).toBe(true);
    held.release();
    await log.flushed();
    expect(log.congested).toBe(false);
    await log.close();
  });

  test("syncs and marks after a failed write what was written before it, and nothing after a failed sync", async () => {
    for (const operation of ["write", "syncData"] as const) {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const { log, told } = openLog(dir, disk);
      log.append(chunk("abc"));
      await log.flushed();
      disk.fail({ operation, code: "ENOSPC" });
      if (operation === "write") log.append(chunk("def"));
      await log.flushed();
      await log.sync();
      disk.heal();
      await log.abandon();
      expect(told.failed).toHaveLength(1);
      expect(log.durableOffset).toBe(operation === "write" ? BASE + 3 : BASE);
    }
  });

  test.each([true, false])(
    "covers each byte by the checksum of one segment, also bytes written during a sync (segments end: %p)",
    async (ends) => {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const { log, told, content } = openLog(dir, disk, { segmentEnds: () => ends });
      log.append(chunk("abc"));
      await log.flushed();
      const held = disk.hold("syncData");
      const first = log.sync();
      log.append(chunk("defgh"));
      await log.flushed();
      held.release();
      await first;
      log.append(chunk("i"));
      await log.close();
      const of = (from: number, to: number) => {
        const bytes = Buffer.from(content(), "latin1").subarray(HEADER.length);
        return { fromOffset: BASE + from, to: BASE + to, crc64: crc64(bytes.subarray(from, to)) };
      };
      expect(told.segments).toEqual(ends ? [of(0, 3), of(3, 9)] : [of(0, 3), of(0, 9)]);
    },
  );

  test("settles what a mark covers once the segment ends, in a pause too", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    let isLong = false;
    const { log, told } = openLog(dir, disk, { fsync: "always", segmentEnds: () => isLong });
    log.append(chunk("abc"));
    await log.sync();
    expect([log.durableOffset, log.settledOffset, told.settled]).toEqual([BASE + 3, BASE, []]);
    isLong = true;
    log.append(chunk("defg"));
    // Its mark replaces the one before, and no later one replaces that.
    await log.sync();
    expect(log.settledOffset).toBe(BASE + 7);
    isLong = false;
    log.append(chunk("h"));
    await log.sync();
    log.tick();
    expect(log.settledOffset).toBe(BASE + 7);
    isLong = true;
    log.tick();
    log.tick();
    expect(log.settledOffset).toBe(BASE + 8);
    expect(told.settled).toEqual([BASE + 7, BASE + 8]);
    await log.close();
  });

  test("settles nothing while a sync is in flight that may yet replace the last mark", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    let isLong = false;
    const { log, told } = openLog(dir, disk, { segmentEnds: () => isLong });
    log.append(chunk("abc"));
    await log.sync();
    isLong = true;
    log.append(chunk("def"));
    const held = disk.hold("syncData");
    const syncing = log.sync();
    log.tick();
    log.settle(BASE + 3);
    await Bun.sleep(1);
    expect([log.settledOffset, told.settled]).toEqual([BASE, []]);
    held.release();
    await syncing;
    expect(told.settled).toEqual([BASE + 6]);
    await log.close();
  });

  test("settles what is asked for as soon as that is durable", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk);
    log.append(chunk("abc"));
    log.settle(BASE + 3);
    expect([told.settled, disk.count("syncData")]).toEqual([[], 0]);
    await log.sync();
    expect(told.settled).toEqual([BASE + 3]);
    // Durable already, and nothing else is written.
    log.append(chunk("de"));
    await log.sync();
    log.settle(BASE + 5);
    expect(told.settled).toEqual([BASE + 3, BASE + 5]);
    // Durable already, and more is written.
    log.append(chunk("fg"));
    await log.sync();
    log.append(chunk("h"));
    log.settle(BASE + 6);
    expect(told.settled).toEqual([BASE + 3, BASE + 5, BASE + 7]);
    // What is settled is not asked for again.
    await log.sync();
    log.settle(BASE + 7);
    expect([log.durableOffset, log.settledOffset]).toEqual([BASE + 8, BASE + 7]);
    expect(disk.count("syncData")).toBe(4);
    await log.close();
  });

  test("settles what became durable during a sync that came too early for who asked", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk);
    log.append(chunk("abc"));
    const held = disk.hold("syncData");
    const syncing = log.sync();
    log.settle(BASE + 3);
    held.release();
    await syncing;
    expect([told.settled, disk.count("syncData")]).toEqual([[BASE + 3], 1]);
    await log.close();
  });

  test("--fsync no: a mark of what is written settles the one before", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk, { fsync: "no" });
    log.append(chunk("abc"));
    await log.sync();
    log.append(chunk("def"));
    expect(told.settled).toEqual([]);
    log.tick();
    await Bun.sleep(1);
    expect([told.settled, log.durableOffset]).toEqual([[BASE + 3], BASE + 3]);
    await log.close();
  });

  test("--fsync no: what became durable while more came is settled, though no more comes", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk, { fsync: "no" });
    log.append(chunk("abc"));
    const held = disk.hold("syncData");
    const syncing = log.sync();
    log.append(chunk("de"));
    await until(() => log.writtenOffset === BASE + 5, { what: "the write" });
    held.release();
    await syncing;
    expect([log.durableOffset, log.settledOffset]).toEqual([BASE + 3, BASE]);
    log.tick();
    expect(log.settledOffset).toBe(BASE + 3);
    await log.close();
  });

  test("a mark of bytes that have no checksum is replaced by none", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const end = BASE + 10;
    // As a start leaves them that found too much past the last mark to read it all.
    const { log, told } = openLog(dir, disk, {
      writtenOffset: end,
      unmarked: { fromOffset: end, crc: new Crc64() },
      segmentEnds: () => true,
    });
    await log.sync();
    log.append(chunk("abc"));
    await log.sync();
    expect(told.segments.map(({ fromOffset, to }) => [fromOffset, to])).toEqual([
      [undefined, end],
      [end, end + 3],
    ]);
    await log.close();
  });

  test.each(["always", "everysec", "no"] as const)(
    "whatever ends a segment, each begins where a settled mark ended, with the checksum of its bytes: --fsync %s",
    async (fsync) => {
      using dir = tempDir();
      const disk = new FaultyDisk();
      const random = new Random(1);
      /** The rows, as the ledger keeps them. */
      const rows: { from: number | undefined; to: number; crc64: bigint }[] = [];
      let replaced = 0;
      const { log, content } = openLog(dir, disk, {
        fsync,
        segmentEnds: () => random.below(4) === 0,
        commitMark: async (_, to, segment) => {
          await Bun.sleep(0);
          const row = { from: segment?.fromOffset, to, crc64: segment?.crc64 ?? 0n };
          const last = rows.at(-1);
          if (last?.from === undefined || last.from !== row.from) return void rows.push(row);
          expect(log.settledOffset).toBeLessThanOrEqual(last.from);
          rows[rows.length - 1] = row;
          replaced++;
        },
      });
      const ended = () => rows.filter(({ from }) => from !== undefined).length;
      // On a busy machine more steps fall into one segment.
      for (let step = 0; step < 300 || (ended() <= 20 && step < 30_000); step++) {
        log.append(chunk(random.text(1 + random.below(40))));
        if (random.below(4) === 0) void log.sync();
        else if (random.below(3) === 0) await log.sync();
        if (random.below(5) === 0) log.tick();
        if (random.below(8) === 0) log.settle(log.durableOffset);
        if (random.below(3) === 0) await Bun.sleep(0);
      }
      await log.close();
      const bytes = Buffer.from(content(), "latin1").subarray(HEADER.length);
      const segments = rows.filter(({ from }) => from !== undefined);
      expect(segments.length).toBeGreaterThan(20);
      expect(replaced).toBeGreaterThan(2);
      let at = BASE;
      for (const { from, to, crc64: sum } of segments) {
        expect([from, sum]).toEqual([at, crc64(bytes.subarray(at - BASE, to - BASE))]);
        at = to;
      }
      expect(at).toBe(log.writtenOffset);
    },
  );

  test("--fsync no: a mark of what is written settles nothing that a sync marks meanwhile", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const committing = Promise.withResolvers<void>();
    const { log, told } = openLog(dir, disk, {
      fsync: "no",
      commitMark: async (_, __, segment) => {
        if (segment === undefined) await committing.promise;
      },
    });
    log.append(chunk("abc"));
    log.tick();
    await log.sync();
    committing.resolve();
    await Bun.sleep(1);
    expect([told.settled, log.durableOffset]).toEqual([[], BASE + 3]);
    await log.close();
  });

  test("what another log handed over is settled when its marks begin", () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk, { marks: false });
    log.append(chunk("abc"));
    log.beginMarks(BASE + 3);
    expect(told.settled).toEqual([BASE + 3]);
  });

  test("copies a log up to its end, with a checksum of the copied bytes", async () => {
    using dir = tempDir();
    using other = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk);
    log.append(chunk("abcdefgh"));
    await log.flushed();
    const from = { baseOffset: BASE + 3, writtenOffset: BASE + 3, durableOffset: BASE + 3 };
    const unmarked = { fromOffset: BASE + 3, crc: new Crc64() };
    const { log: next, content } = openLog(other, disk, { ...from, unmarked, marks: false });
    await next.copyFrom(log, () => undefined);
    expect(content()).toBe(`${HEADER}defgh`);
    expect(next.segment).toEqual({ fromOffset: BASE + 3, crc64: crc64(chunk("defgh")) });
    expect(next.durableOffset).toBe(BASE + 3);
    next.beginMarks(next.writtenOffset);
    expect(next.segment).toEqual({ fromOffset: BASE + 8, crc64: 0n });
    await log.close();
    await next.close();
  });

  test("commits no mark before its generation is current", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk, { marks: false, fsync: "always" });
    log.append(chunk("abc"));
    await log.flushed();
    await log.sync();
    expect([told.marks.length, disk.count("syncData")]).toEqual([0, 0]);
    log.beginMarks();
    await log.sync();
    expect(told.marks).toHaveLength(1);
    await log.close();
  });

  test("is congested while more than the limit waits", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk);
    const held = disk.hold("write");
    log.append(new Uint8Array(100));
    expect(log.congested).toBe(false);
    log.append(new Uint8Array(1));
    expect(log.congested).toBe(true);
    held.release();
    await log.flushed();
    expect(log.congested).toBe(false);
    await log.close();
  });

  test.each(["write", "syncData"] as const)(
    "takes, syncs and marks nothing after a %s that failed",
    async (operation) => {
      using dir = tempDir();
      const disk = new FaultyDisk({ operation, call: 2, code: "ENOSPC" });
      const { log, told, content } = openLog(dir, disk);
      log.append(chunk("abc"));
      await log.flushed();
      await log.sync();
      log.append(chunk("def"));
      await log.flushed();
      await log.sync();
      expect(told.failed.map((error) => error.code)).toEqual(["DISK_FULL"]);
      expect(told.failed[0]!.message).toContain("log.aof");
      expect(log.durableOffset).toBe(BASE + 3);
      const [before, received, text] = [disk.calls.length, log.receivedOffset, content()];
      log.append(chunk("ghi"));
      await log.flushed();
      await log.sync();
      expect([disk.calls.length, log.receivedOffset, content()]).toEqual([before, received, text]);
      await log.close();
      expect(told.marks).toHaveLength(1);
      expect(told.failed).toHaveLength(1);
    },
  );

  test("moves no cursor for a mark that can't be committed", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log, told } = openLog(dir, disk, {
      commitMark: () => {
        throw new Error("database is locked");
      },
    });
    log.append(chunk("abc"));
    await log.flushed();
    await log.sync();
    expect(log.durableOffset).toBe(BASE);
    expect(told.failed).toHaveLength(1);
    await log.abandon();
  });

  test("waits on abandon for calls of other threads on the descriptor", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { log } = openLog(dir, disk);
    const held = disk.hold("write");
    log.append(chunk("abc"));
    const over = log.abandon();
    await Bun.sleep(5);
    expect(disk.openFds.size).toBe(1);
    held.release();
    await over;
    expect(disk.openFds.size).toBe(0);
    log.append(chunk("more"));
    expect(log.receivedOffset).toBe(BASE + 3);
  });

  test("closes the descriptor once where a failure during close() abandons the log", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk({ operation: "syncData", code: "EIO" });
    const over = Promise.withResolvers<void>();
    const { log } = openLog(dir, disk, {
      onFailed: () => over.resolve(log.abandon()),
    });
    log.append(chunk("abc"));
    await log.close();
    await over.promise;
    expect(disk.count("close")).toBe(1);
  });

  test("ignores an error of close(2), because everything was synced before", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk({ operation: "close", code: "EIO" });
    const { log, told } = openLog(dir, disk);
    log.append(chunk("abc"));
    await log.close();
    expect(log.durableOffset).toBe(BASE + 3);
    expect(told.failed).toEqual([]);
    await until(() => disk.openFds.size === 0, { what: "the close" });
  });
});
