import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import * as fs from "node:fs";
import { thrownBy } from "../../support/error-of.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { PieceCheckers } from "../../../src/store/pieces/piece-checkers.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import type { KeptGeneration } from "../../../src/store/restore/kept-generation.ts";
import { soundLogInPieces } from "../../../src/store/restore/log-in-pieces.ts";
import { scanLog } from "../../../src/store/restore/log-scan.ts";
import { checkRdbInPieces } from "../../../src/store/restore/rdb-in-pieces.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import {
  verifyGeneration,
  type VerifyOptions,
  verifyRdb,
} from "../../../src/store/restore/verify.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { Random } from "../../support/fill.ts";
import { generationFiles } from "../../support/generation-files.ts";
import { amount, seedOf, swept } from "../../support/sweep.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { trickyLog } from "../../support/tricky-log.ts";
import { BASE_OFFSET, clock, HEADER, keep } from "./kept.ts";

const SEED = seedOf("PIECES_SEED");
/** How many damages to try in each file. */
const DAMAGES = amount("PIECES_DAMAGES", { sample: 8, full: 300 });
const PIECE_BYTES = [50, 100, 333, 4_096];

const { signal } = new AbortController();
const alone: VerifyOptions = { disk: realDisk, signal, onProgress: () => undefined };
const pools = PIECE_BYTES.map(
  (pieceBytes) => new PieceCheckers({ signal, workers: 2, fromBytes: 0, pieceBytes }),
);

let made: TempDir;
let path: string;
let log: string;
let base: string;
let stream: Buffer;
/** The offsets of the marks: a restore may end at any of them. */
const marks: number[] = [];

/** A log with marks at any byte, some a few bytes apart and some many pieces. */
beforeAll(async () => {
  made = tempDir("in-pieces");
  path = made.file("data");
  const random = new Random(SEED);
  const disk = new FaultyDisk();
  const directory = new DataDirectory(path, disk, clock);
  const open = await keep(directory, disk);
  stream = trickyLog(random, 150);
  for (let at = 0; at < stream.length;) {
    const end = at + 1 + random.below([20, 300, 6_000][random.below(3)]!);
    open.append(Uint8Array.from(stream.subarray(at, end)));
    await open.sync();
    at = Math.min(end, stream.length);
    marks.push(at);
  }
  await open.close();
  directory.stopped(open);
  directory.close();
  const files = generationFiles(path, 1);
  [base, log] = [files.base, files.log];
});

afterAll(() => {
  for (const pool of pools) pool[Symbol.dispose]();
  made[Symbol.dispose]();
});

function generationOf(catalogue: Catalogue): KeptGeneration {
  return catalogue.generations[0]!;
}

/** What verify finds, for comparing. */
async function findings(options: VerifyOptions) {
  using catalogue = new Catalogue(path);
  return await verifyGeneration(catalogue, generationOf(catalogue), options);
}

test("a sound log is found sound in pieces of any size, up to any byte", async () => {
  using catalogue = new Catalogue(path);
  const generation = generationOf(catalogue);
  const random = new Random(SEED);
  const segments = () => catalogue.segments(generation.id);
  const ends = [HEADER.length, ...marks.map((at) => HEADER.length + at)];
  const anywhere = Array.from({ length: 10 }, () => random.below(stream.length) + HEADER.length);
  for (const until of swept([...anywhere, ...ends], 6, random)) {
    const plain = await scanLog(realDisk, generation, segments(), until, () => undefined, signal);
    expect(plain.damage).toBeUndefined();
    for (const pool of pools) {
      const checked: number[] = [];
      const found = await soundLogInPieces(generation, segments(), until, pool, {
        disk: realDisk,
        signal,
        onChecked: (toByte) => checked.push(toByte),
      });
      expect([until, pool.pieceBytes, found]).toEqual([until, pool.pieceBytes, plain]);
      expect(checked).toEqual(checked.toSorted((a, b) => a - b));
      expect(checked.at(-1)).toBeGreaterThanOrEqual(until);
    }
  }
});

test("a sound snapshot is found sound in pieces", async () => {
  const plain = await verifyRdb(base, alone);
  for (const pool of pools.slice(0, 3)) {
    const progress: number[] = [];
    const onProgress = (_: string, bytes: number) => progress.push(bytes);
    const found = await checkRdbInPieces(base, plain.bytes, pool, { ...alone, onProgress });
    expect([pool.pieceBytes, found]).toEqual([pool.pieceBytes, plain]);
    expect(progress).toEqual(progress.toSorted((a, b) => a - b));
    expect(progress.at(-1)).toBe(plain.bytes);
  }
});

/** Compares what one core and several find. */
async function compare(what: unknown): Promise<number> {
  const plain = await findings(alone);
  for (const checkers of pools) {
    const found = await findings({ ...alone, checkers });
    expect([what, checkers.pieceBytes, found]).toEqual([what, checkers.pieceBytes, plain]);
  }
  return plain.damages.length;
}

test("damage anywhere is told in the same words on one core and on several", async () => {
  const random = new Random(SEED);
  expect(await compare("nothing")).toBe(0);
  for (const file of [base, log]) {
    const original = fs.readFileSync(file);
    for (let n = 0; n < DAMAGES; n++) {
      const at = random.below(original.length);
      const kind = random.below(3);
      const damaged = Buffer.from(kind === 2 ? original.subarray(0, at) : original);
      if (kind === 0) damaged[at]! ^= 1 << random.below(8);
      // Many bytes at once, of one of those that bound commands.
      const end = Math.min(original.length, at + 1 + random.below(200));
      if (kind === 1) damaged.fill("\r\n*$1"[random.below(5)]!, at, end);
      fs.writeFileSync(file, damaged);
      const found = await compare({ file, at, kind });
      if (!damaged.equals(original)) expect([file, at, kind, found]).toEqual([file, at, kind, 1]);
    }
    fs.writeFileSync(file, original);
  }
}, 600_000);

test("a database whose marks overlap is judged as on one core", async () => {
  const database = `${path}/replica.db`;
  const original = fs.readFileSync(database);
  for (const sql of [
    "UPDATE marks SET crc_from = crc_from - 1 WHERE id = 3",
    "UPDATE marks SET crc_from = crc_from + 1 WHERE id = 3",
    "UPDATE marks SET crc_from = durable_offset WHERE id = 3",
    "UPDATE marks SET crc64 = NULL, crc_from = NULL WHERE id IN (2, 5)",
    "UPDATE marks SET crc64 = '0000000000000000' WHERE id = 4",
  ]) {
    using db = new Database(database);
    db.run(sql);
    db.close();
    await compare(sql);
    fs.writeFileSync(database, original);
  }
});

test("a restore checks the snapshot in pieces too", async () => {
  using catalogue = new Catalogue(path);
  const generation = generationOf(catalogue);
  const point = { generation, offset: BASE_OFFSET + stream.length };
  const options = { ...alone, checkers: pools[0]!, layout: "multipart" as const };
  const restored = await restore(catalogue, point, made.file("target"), options);
  const copied = fs.readFileSync(`${restored.dir}/appendonlydir/appendonly.aof.1.base.rdb`);
  expect(copied.equals(fs.readFileSync(base))).toBe(true);
  const original = fs.readFileSync(base);
  const damaged = Buffer.from(original);
  damaged[300]! ^= 1;
  fs.writeFileSync(base, damaged);
  expect(await thrownBy(restore(catalogue, point, made.file("none"), options))).toThrow(
    "nothing of this generation can be restored",
  );
  fs.writeFileSync(base, original);
});
