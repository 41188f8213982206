import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { Random } from "../../src/demo/random.ts";
import type { ReplicaError } from "../../src/base/errors.ts";
import { crc64 } from "../../src/rdb/crc64.ts";
import type { Offset } from "../../src/base/history.ts";
import { GenerationKeeper } from "../../src/upstream/keeper.ts";
import { Resyncs } from "../../src/upstream/resyncs.ts";
import type { Generation } from "../../src/store/ledger/ledger.ts";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { restore } from "../../src/store/restore/restore.ts";
import { restorePoint } from "../../src/store/restore/restore-point.ts";
import { filesIn } from "../integration/bad-input-rig.ts";
import { keep } from "../store/restore/kept.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { generationFiles } from "../support/generation-files.ts";
import { ModelPrimary } from "../support/model-primary.ts";
import type { PowerCut, Survivors } from "../support/power-cut.ts";
import { PowerCutDisk } from "../support/power-cut-disk.ts";
import { tempDir } from "../support/temp.ts";
import { IS_FULL, seedOf, stride, swept } from "../support/sweep.ts";
import { until } from "../support/wait.ts";
import { Lifetime, RememberingDisk } from "./lifetime-rig.ts";
import {
  FIRST_ID,
  HEADER,
  live,
  type Mode,
  type Moment,
  type Promised,
  Rig,
  SECOND,
  SECOND_ID,
  silent,
  THIRD,
  type Snapshot,
  stream,
} from "./power-cut-rig.ts";

/** Decides the order of the calls and what survives a cut. A failing cut names its own. */
const SEED = seedOf("POWER_CUT_SEED", 1);
/** `npm test` takes about one moment, and one sync, in so many. */
const ONE_IN = 10;

function query<T>(path: string, sql: string): T[] {
  using db = new Database(join(path, "replica.db"));
  return db.query<T, []>(sql).all();
}

function tablesIn(db: Database): number {
  try {
    db.run("PRAGMA synchronous = OFF");
    const count = "SELECT count(*) AS tables FROM sqlite_master";
    return db.query<{ tables: number }, []>(count).get()!.tables;
  } catch {
    return 0;
  }
}

/** Makes the next start look like one after a reboot. */
function bootAgain(path: string): void {
  if (!fs.existsSync(join(path, "replica.db"))) return;
  using db = new Database(join(path, "replica.db"));
  // Neither the tables may be durable yet, nor the first page.
  if (tablesIn(db) > 0) db.run("UPDATE boot SET boot_id = 'another'");
}

/** Expects a generation to be whole, and its log to hold the stream up to `least` at least. */
function checkGeneration(path: string, id: number, snapshot: Snapshot, least: Offset): void {
  const files = generationFiles(path, id);
  expect(fs.readFileSync(files.manifest, "latin1")).toBe(files.manifestText);
  expect(fs.readFileSync(files.base).equals(snapshot.rdb)).toBe(true);
  const log = fs.readFileSync(files.log);
  const promisedBytes = HEADER.length + least - snapshot.baseOffset;
  expect(log.length).toBeGreaterThanOrEqual(promisedBytes);
  const expected = Buffer.concat([HEADER, stream(snapshot.baseOffset, least)]);
  expect(log.subarray(0, promisedBytes).equals(expected)).toBe(true);
}

/** Expects the checksums of the marks to be those of the stream. */
function checkSegments(path: string): void {
  const marks = query<{ from: number; to: number; crc: string }>(
    path,
    'SELECT crc_from AS "from", durable_offset AS "to", crc64 AS crc FROM marks WHERE crc64 IS NOT NULL',
  );
  for (const { from, to, crc } of marks) expect(crc).toBe(checksumOf(from, to));
}

const checksums = new Map<string, string>();
/** The checksum of the stream after `from` up to `to`; cached, since many cuts need it. */
function checksumOf(from: Offset, to: Offset): string {
  const key = `${from} ${to}`;
  const known = checksums.get(key) ?? crc64(stream(from, to)).toString(16).padStart(16, "0");
  checksums.set(key, known);
  return known;
}

/** Expects the promised generation to be current, or one that was about to follow it. Whether that one is whole is checked elsewhere. */
function expectPromised(current: Generation | undefined, { generation }: Promised): void {
  expect(current?.id ?? 0).toBeGreaterThanOrEqual(generation ?? 0);
}

/** How far a generation must be durable: one that took over the stream holds what was acknowledged before. */
function fackOf(id: number, { facks, snapshots }: Promised): Offset {
  const before = snapshots.get(id) === THIRD ? Math.max(0, ...facks.values()) : 0;
  return Math.max(before, facks.get(id) ?? 0);
}

interface Recovered {
  readonly rig: Rig;
  readonly disk: PowerCutDisk;
}

/** Starts on what a cut has left, and compares it with what was promised. */
async function recover(
  path: string,
  promised: Promised,
  seed: number,
  onMoment?: (disk: PowerCutDisk, label: string) => void,
): Promise<Recovered> {
  const disk = new PowerCutDisk(path, path, seed);
  if (onMoment !== undefined) disk.onMoment((label) => onMoment(disk, label));
  // Throws if it finds damage.
  const rig = new Rig(path, disk, { fsync: "everysec", ack: "written" }, promised);
  const { current, replid } = rig.directory;
  expectPromised(current, promised);
  const position = await rig.resume();
  // Every folder has a row, so that unfinished ones are removed.
  const rows = query<{ id: number }>(path, "SELECT id FROM generations").map(({ id }) => id);
  const folders = fs.readdirSync(join(path, "generations")).map(Number);
  expect(folders.filter((id) => !rows.includes(id))).toEqual([]);
  for (const { id } of query<{ id: number }>(
    path,
    "SELECT id FROM generations WHERE state = 'sealed'",
  )) {
    const least = promised.facks.get(id) ?? 0;
    const snapshot = promised.snapshots.get(id)!;
    checkGeneration(path, id, snapshot, Math.max(snapshot.baseOffset, least));
  }
  checkSegments(path);
  if (current === undefined) {
    expect(position).toBeUndefined();
    return { rig, disk };
  }
  const snapshot = promised.snapshots.get(current.id);
  if (snapshot === undefined) throw new Error(`generation ${current.id} has no snapshot`);
  expect(position).toEqual({ replid: replid!, offset: rig.keeper.log!.writtenOffset });
  expect([FIRST_ID, SECOND_ID]).toContain(replid!);
  expect(rig.keeper.log!.durableOffset).toBe(position!.offset);
  expect(position!.offset).toBeGreaterThanOrEqual(fackOf(current.id, promised));
  const bytes = position!.offset - snapshot.baseOffset + HEADER.length;
  expect(fs.statSync(generationFiles(path, current.id).log).size).toBe(bytes);
  checkGeneration(path, current.id, snapshot, position!.offset);
  expect(current.rdbBytes).toBe(snapshot.rdb.length);
  expect(BigInt(`0x${current.rdbCrc64}`)).toBe(crc64(snapshot.rdb.subarray(0, -8)));
  expect(fs.readlinkSync(join(path, "current"))).toBe(
    `generations/${String(current.id).padStart(10, "0")}`,
  );
  return { rig, disk };
}

/** Continues the stream at the end of the log; expects the file to have no seam. */
async function goOn(path: string, { rig }: Recovered, random: Random): Promise<void> {
  const { current } = rig.directory;
  if (current === undefined) {
    await rig.fullResync(SECOND, SECOND_ID);
  } else {
    await rig.streamTo(rig.keeper.log!.writtenOffset + 400, random);
  }
  await rig.settle();
  const { durableOffset } = rig.keeper.log!;
  const { generation, snapshot } = rig.promised;
  await rig.close();
  checkSegments(path);
  checkGeneration(path, generation!, snapshot!, durableOffset);
}

const WORST: Survivors = { bytes: "none", names: "none" };
const OUTCOMES: readonly Survivors[] = [
  WORST,
  { bytes: "none", names: "all" },
  { bytes: "all", names: "none" },
  { bytes: "torn", names: "some" },
  { bytes: "torn", names: "all" },
];

/** Adds the seed and the label of the cut to a failure. */
async function named<T>(label: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`POWER_CUT_SEED=${SEED}, ${label}: ${message}`, { cause: error });
  }
}

/** Cuts the power at `moment` and starts again; with `again`, returns the moments of that start. */
async function cutAt(moment: Moment, survivors: Survivors, seed: number, again: boolean) {
  using dir = tempDir("power-cut");
  const random = new Random(seed);
  const path = dir.file("data");
  const { cut, promised } = moment;
  const second: Moment[] = [];
  await named(`${cut.label}; ${JSON.stringify(survivors)}`, async () => {
    cut.restore(path, survivors, random);
    bootAgain(path);
    let rig: Rig | undefined;
    const watch = (disk: PowerCutDisk, label: string) => {
      const then = rig?.promised ?? promised;
      second.push({ cut: disk.cut(`${cut.label}, then ${label}`), promised: then });
    };
    const recovered = await recover(path, promised, seed, again ? watch : undefined);
    ({ rig } = recovered);
    if (again) rig.onAcknowledged = (label) => watch(recovered.disk, label);
    if (again) await goOn(path, recovered, random);
    else await rig.close();
  });
  return second;
}

const MODES: readonly Mode[] = [
  { fsync: "everysec", ack: "written" },
  { fsync: "always", ack: "durable" },
];

test.each(MODES)(
  "loses nothing promised after a cut at any moment, with --fsync $fsync",
  async (mode) => {
    using dir = tempDir("power-cut");
    const { moments, rig } = await live(dir.path, mode, SEED);
    expect(rig.failures).toBe(0);
    expect(moments.length).toBeGreaterThan(200);
    for (const [n, moment] of swept([...moments.entries()], ONE_IN, new Random(SEED))) {
      for (const [outcome, survivors] of OUTCOMES.entries()) {
        // The worst outcome at each moment, the others in turn.
        if (outcome > 0 && (outcome + n) % 2 === 0) continue;
        await cutAt(moment, survivors, SEED + 10 * n + outcome, false);
      }
    }
  },
  600_000,
);

test("a generation is whole on the device from the moment that it is current", async () => {
  using dir = tempDir("power-cut");
  const { moments } = await live(dir.path, MODES[0]!, SEED);
  const isFirst = ({ promised }: Moment, n: number) =>
    promised.generation !== undefined &&
    promised.generation !== moments[n - 1]?.promised.generation;
  const first = moments.filter(isFirst);
  // Two came over the first link, and were written past the page cache; the third over a second link.
  expect(first.length).toBe(3);
  for (const moment of first) await cutAt(moment, WORST, SEED, false);
});

test("loses nothing promised in a folder that it made itself", async () => {
  using dir = tempDir("power-cut");
  const { moments } = await live(dir.path, MODES[0]!, SEED, undefined, "made/by/us");
  for (const [n, { cut, promised }] of swept([...moments.entries()], ONE_IN, new Random(SEED))) {
    using after = tempDir("power-cut");
    const root = after.file("root");
    await named(`${cut.label}`, async () => {
      cut.restore(root, WORST, new Random(n));
      const path = join(root, "made/by/us");
      // The next start uses the folder, or makes it.
      fs.mkdirSync(path, { recursive: true });
      bootAgain(path);
      const { rig } = await recover(path, promised, n);
      await rig.close();
    });
  }
});

test("loses nothing after a second cut, during or after the start that follows the first", async () => {
  using dir = tempDir("power-cut");
  const { moments } = await live(dir.path, MODES[0]!, SEED + 1);
  const random = new Random(SEED);
  let cuts = 0;
  const oneIn = IS_FULL ? 1 : ONE_IN;
  for (let n = random.below(11); n < moments.length; n += 1 + random.below(14 * oneIn)) {
    const first = OUTCOMES[random.below(OUTCOMES.length)]!;
    const second = await cutAt(moments[n]!, first, SEED + n, true);
    for (let m = random.below(4); m < second.length; m += 1 + random.below(8)) {
      await cutAt(second[m]!, OUTCOMES[random.below(OUTCOMES.length)]!, SEED + m, false);
      cuts++;
    }
  }
  expect(cuts).toBeGreaterThan(300 / oneIn);
}, 600_000);

test.each(MODES)(
  "after any failed sync it goes back to the last mark and on from there, with --fsync $fsync",
  async (mode) => {
    const random = new Random(SEED);
    let failures = 0;
    for (let failingSync = 1; ; failingSync += stride(ONE_IN, random)) {
      using dir = tempDir("power-cut");
      const path = dir.file("data");
      fs.mkdirSync(path);
      const { moments, rig, disk } = await named(`sync ${failingSync} fails`, () =>
        live(path, mode, SEED + failingSync, failingSync),
      );
      if (disk.syncs < failingSync) {
        expect(rig.failures).toBe(0);
        break;
      }
      failures += rig.failures;
      const last = moments.at(-1)!;
      await named(`sync ${failingSync} failed, then a start of the same boot`, () =>
        startAgain(path, last.promised),
      );
      for (let n = random.below(25); n < moments.length; n += 1 + random.below(50)) {
        await named(`sync ${failingSync} failed`, () =>
          cutAt(moments[n]!, OUTCOMES[random.below(OUTCOMES.length)]!, SEED + n, false),
        );
      }
    }
    expect(failures).toBeGreaterThan(IS_FULL ? 20 : 0);
  },
  600_000,
);

/** Starts again in the same boot: the log is a prefix of the stream, no shorter than promised. */
async function startAgain(path: string, promised: Promised): Promise<void> {
  const disk = new PowerCutDisk(path, path, SEED);
  const rig = new Rig(path, disk, MODES[0]!, promised);
  const { current } = rig.directory;
  expectPromised(current, promised);
  const snapshot = promised.snapshots.get(current!.id)!;
  const position = await rig.resume();
  expect(position!.offset).toBeGreaterThanOrEqual(fackOf(current!.id, promised));
  checkGeneration(path, current!.id, snapshot, position!.offset);
  const size = fs.statSync(generationFiles(path, current!.id).log).size;
  expect(size).toBe(position!.offset - snapshot.baseOffset + HEADER.length);
  await goOn(path, { rig, disk }, new Random(SEED));
}

test("a log that fails during a resume is cut back only after its last sync", async () => {
  using dir = tempDir("power-cut");
  const disk = new FaultyDisk();
  {
    const before = new DataDirectory(dir.path, disk, { now: () => 1_700_000_000_000 });
    await (await keep(before, disk)).close();
    before.close();
  }
  const clock = {
    now: () => 1_700_000_000_000,
    monotonicMs: () => 0,
    sleep: () => Promise.resolve(),
    random: () => 0,
  };
  const directory = new DataDirectory(dir.path, disk, clock);
  const failures: ReplicaError[] = [];
  const options = {
    io: "auto",
    rdbSyncBytes: 400,
    maxQueuedBytes: 1024 * 1024,
    maxLogQueuedBytes: 1024 * 1024,
  } as const;
  const keeper = new GenerationKeeper(
    directory,
    disk,
    clock,
    { ...options, ...MODES[0]!, admit: async () => (bytes) => bytes },
    {
      acknowledge: () => undefined,
      hasRoom: () => undefined,
      failed: (error) => failures.push(error),
    },
    { moved: () => undefined, endAll: () => undefined },
    new Resyncs(clock, directory, silent),
  );
  const { offset } = (await keeper.resume())!;
  keeper.stream(stream(offset, offset + 100));
  await keeper.log!.flushed();
  const sync = disk.hold("syncData");
  keeper.tick();
  const write = disk.hold("write");
  keeper.stream(stream(offset + 100, offset + 150));
  keeper.stream(stream(offset + 150, offset + 200));
  // The link breaks while a sync and a write are under way; the write after them fails.
  const resuming = keeper.resume();
  disk.fail({ operation: "write", code: "ENOSPC" });
  write.release();
  await until(() => failures.length > 0, { what: "the failure of the write" });
  await Bun.sleep(5);
  disk.heal();
  sync.release();
  const position = (await resuming)!;
  // Bytes written before the failed write were made durable: they must not be cut off.
  expect(position.offset).toBe(offset + 150);
  await keeper.close();
  directory.close();
  const again = new DataDirectory(dir.path, disk, clock);
  again.close();
});

test.each(["multipart", "single"] as const)(
  "after a cut during a restore (%s) the target is whole or absent; after the restore it is whole",
  async (layout) => {
    using dir = tempDir("power-cut");
    const data = dir.file("data");
    {
      await using primary = new ModelPrimary();
      await new Lifetime(dir, primary, new RememberingDisk(), { fsync: "always" }).first();
    }
    // The temporary folder is made around this disk. An existing one counts as left by a dead process.
    fs.mkdirSync(dir.file(`.target.restoring-${process.pid}`));
    const disk = new PowerCutDisk(dir.path, data, SEED);
    const cuts: { cut: PowerCut; isDone: boolean }[] = [];
    disk.onMoment((label) => cuts.push({ cut: disk.cut(label), isDone: false }));
    const target = dir.file("target");
    using catalogue = new Catalogue(data);
    const everything = { generation: undefined, atMs: undefined, offset: undefined };
    await restore(catalogue, restorePoint(catalogue, everything), target, {
      disk,
      layout,
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    cuts.push({ cut: disk.cut("after all"), isDone: true });
    const wanted = filesIn(target);
    let missing = 0;
    for (const [n, { cut, isDone }] of swept([...cuts.entries()], ONE_IN, new Random(SEED))) {
      for (const [outcome, survivors] of OUTCOMES.entries()) {
        using after = tempDir("power-cut");
        await named(`${cut.label}; ${JSON.stringify(survivors)}`, async () => {
          cut.restore(after.file("root"), survivors, new Random(SEED + 10 * n + outcome));
          const found = after.file("root", "target");
          if (isDone || fs.existsSync(found)) expect(filesIn(found)).toEqual(wanted);
          else missing++;
        });
      }
    }
    expect(missing).toBeGreaterThan(IS_FULL ? 50 : 0);
  },
);
