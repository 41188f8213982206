import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import type { Offset } from "../../src/base/history.ts";
import type { Random } from "../../src/demo/random.ts";
import { crc64 } from "../../src/rdb/crc64.ts";
import type { Generation } from "../../src/store/ledger/ledger.ts";
import { generationFiles } from "../support/generation-files.ts";
import type { Survivors } from "../support/power-cut.ts";
import { PowerCutDisk } from "../support/power-cut-disk.ts";
import { seedOf } from "../support/sweep.ts";
import {
  FIRST_ID,
  HEADER,
  type MakeRig,
  type Promised,
  type Rig,
  SECOND,
  SECOND_ID,
  type Snapshot,
  stream,
  THIRD,
} from "./power-cut-rig.ts";

/** Decides the order of the calls and what survives a cut. A failing cut names its own. */
export const SEED = seedOf("POWER_CUT_SEED", 1);

export function query<T>(path: string, sql: string): T[] {
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
export function bootAgain(path: string): void {
  if (!fs.existsSync(join(path, "replica.db"))) return;
  using db = new Database(join(path, "replica.db"));
  // Neither the tables may be durable yet, nor the first page.
  if (tablesIn(db) > 0) db.run("UPDATE boot SET boot_id = 'another'");
}

/** Expects a generation to be whole, and its log to hold the stream up to `least` at least. */
export function checkGeneration(path: string, id: number, snapshot: Snapshot, least: Offset): void {
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
export function expectPromised(current: Generation | undefined, { generation }: Promised): void {
  expect(current?.id ?? 0).toBeGreaterThanOrEqual(generation ?? 0);
}

/** How far a generation must be durable: one that took over the stream holds what was acknowledged before. */
export function fackOf(id: number, { facks, snapshots }: Promised): Offset {
  const before = snapshots.get(id) === THIRD ? Math.max(0, ...facks.values()) : 0;
  return Math.max(before, facks.get(id) ?? 0);
}

export interface Recovered<T extends Rig> {
  readonly rig: T;
  readonly disk: PowerCutDisk;
}

export interface RecoverOptions<T extends Rig> {
  readonly make: MakeRig<T>;
  /** The disk, where it holds more than the data directory. */
  readonly root?: string;
  readonly onMoment?: ((disk: PowerCutDisk, label: string) => void) | undefined;
}

/** Starts on what a cut has left, and compares it with what was promised. */
export async function recover<T extends Rig>(
  path: string,
  promised: Promised,
  seed: number,
  { make, root = path, onMoment }: RecoverOptions<T>,
): Promise<Recovered<T>> {
  const disk = new PowerCutDisk(root, path, seed);
  if (onMoment !== undefined) disk.onMoment((label) => onMoment(disk, label));
  // Throws if it finds damage.
  const rig = make(path, disk, { fsync: "everysec", ack: "written" }, promised);
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
export async function goOn(path: string, { rig }: Recovered<Rig>, random: Random): Promise<void> {
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

export const WORST: Survivors = { bytes: "none", names: "none" };
export const OUTCOMES: readonly Survivors[] = [
  WORST,
  { bytes: "none", names: "all" },
  { bytes: "all", names: "none" },
  { bytes: "torn", names: "some" },
  { bytes: "torn", names: "all" },
];

/** Adds the seed and the label of the cut to a failure. */
export async function named<T>(label: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`POWER_CUT_SEED=${SEED}, ${label}: ${message}`, { cause: error });
  }
}
