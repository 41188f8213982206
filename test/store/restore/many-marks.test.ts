import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { thrownBy } from "../../support/error-of.ts";
import { hex64 } from "../../../src/base/hex64.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { encodeCommand } from "../../../src/resp/encode.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { PieceCheckers } from "../../../src/store/pieces/piece-checkers.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { soundLogInPieces } from "../../../src/store/restore/log-in-pieces.ts";
import { scanLog } from "../../../src/store/restore/log-scan.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { verifyCatalogue, verifyGeneration } from "../../../src/store/restore/verify.ts";
import { tempDir, type TempDir } from "../../support/temp.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { BASE_OFFSET, keep } from "./kept.ts";

const PING = encodeCommand("PING");
const MARK_BYTES = 2;
const MARKS_A_PING = PING.length / MARK_BYTES;
const PINGS = 30_000;
const MARKS = PINGS * MARKS_A_PING;
const BEGAN_MS = 1_700_000_000_000;

let made: TempDir;
let path: string;

/** A log of some hundred kilobytes with a mark for every two bytes of it, one a second. */
beforeAll(async () => {
  made = tempDir("many-marks");
  path = made.file("data");
  const disk = new FaultyDisk();
  const directory = new DataDirectory(path, disk, { now: () => BEGAN_MS });
  const log = await keep(directory, disk);
  log.append(Uint8Array.from(Buffer.alloc(PINGS * PING.length, PING)));
  await log.sync();
  await log.close();
  directory.stopped(log);
  directory.close();
  const sums = Array.from({ length: MARKS_A_PING }, (_, n) =>
    hex64(crc64(PING.subarray(MARK_BYTES * n, MARK_BYTES * (n + 1)))),
  );
  using db = new Database(`${path}/replica.db`);
  db.run("DELETE FROM marks WHERE id > 1");
  db.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${MARKS})
     INSERT INTO marks SELECT NULL, 1, ${BEGAN_MS} + 1000 * i, at, at, at - ${MARK_BYTES}, sum FROM (
       SELECT i, ${BASE_OFFSET} + ${MARK_BYTES} * i AS at,
         CASE i % ${MARKS_A_PING} ${sums.map((sum, n) => `WHEN ${(n + 1) % MARKS_A_PING} THEN '${sum}'`).join(" ")} END AS sum
       FROM n)`,
  );
});

afterAll(() => made[Symbol.dispose]());

function optionsWith(signal: AbortSignal) {
  return { disk: realDisk, signal, onProgress: () => undefined, layout: "multipart" as const };
}

test("verifies every one of two hundred thousand segments, and restores any moment", async () => {
  using catalogue = new Catalogue(path);
  const { signal } = new AbortController();
  expect(await verifyCatalogue(catalogue, signal)).toEqual([]);
  const [generation] = catalogue.generations;
  const { damages, log } = await verifyGeneration(catalogue, generation!, optionsWith(signal));
  expect(damages).toEqual([]);
  expect(log).toMatchObject({ commands: PINGS, uncheckedBytes: 0 });
  for (const n of [7, 70_000, MARKS]) {
    const atMs = BEGAN_MS + 1000 * n + 500;
    const wanted = { generation: undefined, atMs, offset: undefined };
    const point = restorePoint(catalogue, wanted, Date.now());
    expect(point.offset).toBe(BASE_OFFSET + MARK_BYTES * n);
    const target = made.file(`target-${n}`);
    const restored = await restore(catalogue, point, target, optionsWith(signal));
    expect([restored.commands, restored.atMs]).toEqual([n / MARKS_A_PING, atMs - 500]);
  }
});

test("verifies them in pieces too, each of no more than some thousand segments", async () => {
  using catalogue = new Catalogue(path);
  const { signal } = new AbortController();
  using checkers = new PieceCheckers({ signal, workers: 2, fromBytes: 0 });
  const generation = catalogue.generations[0]!;
  const until = PINGS * PING.length;
  const checked: number[] = [];
  const found = await soundLogInPieces(
    generation,
    catalogue.segments(generation.id),
    until,
    checkers,
    { disk: realDisk, signal, onChecked: (toByte) => checked.push(toByte) },
  );
  const plain = await scanLog(
    realDisk,
    generation,
    catalogue.segments(generation.id),
    until,
    () => undefined,
    signal,
  );
  expect(found).toEqual(plain);
  expect(plain.damage).toBeUndefined();
  expect(checked.length).toBeGreaterThan(MARKS / 2 / 10_000);
});

/** A signal that is aborted in the next turn of the event loop, as by SIGTERM. */
function soon(): AbortSignal {
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error("it was told to stop")), 0);
  return stop.signal;
}

test("a scan that is stopped looks at no more than some thousand segments of the block it is at", async () => {
  using catalogue = new Catalogue(path);
  const generation = catalogue.generations[0]!;
  const stop = new AbortController();
  let seen = 0;
  const segments = catalogue.segments(generation.id).map((segment) => {
    if (++seen === 15_000) stop.abort(new Error("it was told to stop"));
    return segment;
  });
  const until = PINGS * PING.length;
  const scanning = scanLog(realDisk, generation, segments, until, () => undefined, stop.signal);
  expect(await thrownBy(scanning)).toThrow("told to stop");
  expect(seen).toBeLessThan(30_000);
});

test("a verify and a restore that are stopped end amid the marks of one block", async () => {
  using catalogue = new Catalogue(path);
  expect(await thrownBy(verifyCatalogue(catalogue, soon()))).toThrow("told to stop");
  const [generation] = catalogue.generations;
  for (const act of [
    (signal: AbortSignal) => verifyGeneration(catalogue, generation!, optionsWith(signal)),
    (signal: AbortSignal) => {
      const point = { generation: generation!, offset: generation!.durableOffset };
      return restore(catalogue, point, made.file("stopped"), optionsWith(signal));
    },
  ]) {
    expect(await thrownBy(act(soon()))).toThrow("told to stop");
  }
});
