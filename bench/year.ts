import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { join } from "node:path";
import { formatBytes } from "../src/base/quantity.ts";
import { hex64 } from "../src/base/hex64.ts";
import { crc64 } from "../src/rdb/crc64.ts";
import { encodeCommand, selectCommand } from "../src/resp/encode.ts";
import { realDisk } from "../src/store/disk/disk.ts";
import { DataDirectory } from "../src/store/generation/data-directory.ts";
import { Catalogue } from "../src/store/restore/catalogue.ts";
import { restorePoint } from "../src/store/restore/restore-point.ts";
import { rdbOf } from "../test/store/rdb.ts";
import { Measured, median, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const SECOND_MS = 1_000;
const DAY_SECONDS = 86_400;
const DAY_MS = DAY_SECONDS * SECOND_MS;
/** When the made year begins. */
const BEGAN_MS = Date.UTC(2025, 0, 1);
const ROUNDS = 5;
/** A primary at rest sends these; here one a second, so that each second has its mark. */
const PING = encodeCommand("PING");
/** The widest distance of two marks: behind a week, one in ten minutes is kept. */
const WIDEST_MS = 600_000;

/** What a year costs, with one generation or with one a day. */
export interface YearRow {
  readonly what: string;
  readonly marks: number;
  readonly databaseBytes: number;
  readonly startMs: number;
  readonly snapshotsMs: number;
  /** The longest of the moments, one a week: opening the directory and picking the point. */
  readonly pickMs: number;
  readonly restoreMs: number;
  readonly verifyMs: number;
}

/** Makes data directories that were followed for a year, a mark a second, and measures what is done with them. */
export async function benchYear(quick: boolean): Promise<YearRow[]> {
  refuseWithoutProgram();
  const days = quick ? 10 : 365;
  const rows = [
    await measure(`${days} days in one generation`, days, days),
    await measure(`${days} days, a generation each`, days, 1),
  ];
  console.log(
    "\n| | marks | replica.db | start | snapshots | picking a moment | restore --at | verify |\n|---|--:|--:|--:|--:|--:|--:|--:|",
  );
  for (const row of rows) {
    const times = [row.startMs, row.snapshotsMs, row.pickMs, row.restoreMs, row.verifyMs];
    console.log(
      `| ${row.what} | ${row.marks} | ${formatBytes(row.databaseBytes)} | ${times.map((ms) => `${ms.toFixed(0)} ms`).join(" | ")} |`,
    );
  }
  return rows;
}

async function measure(what: string, days: number, daysEach: number): Promise<YearRow> {
  using scratch = scratchDirectory();
  const data = join(scratch.path, "data");
  const target = join(scratch.path, "target");
  await makeYear(data, days, daysEach);
  const timed = async (argv: readonly string[]) =>
    (await new Measured([PROGRAM, ...argv]).ends()).seconds * 1000;
  const middle = new Date(BEGAN_MS + (days / 2) * DAY_MS).toISOString();
  return {
    what,
    marks: countMarks(data),
    databaseBytes: fs.statSync(join(data, "replica.db")).size,
    startMs: await startOn(data),
    snapshotsMs: await timed(["snapshots", data]),
    pickMs: slowestPick(data, days),
    restoreMs: await timed(["restore", data, target, "--at", middle, "--no-progress"]),
    verifyMs: await timed(["verify", data, "--no-progress"]),
  };
}

/** A data directory that was followed without a break: thinned each day, as a running replica does all the time. */
async function makeYear(data: string, days: number, daysEach: number): Promise<void> {
  let nowMs = BEGAN_MS;
  const directory = new DataDirectory(data, realDisk, { now: () => nowMs });
  using db = new Database(join(data, "replica.db"));
  const pings = Buffer.alloc(DAY_SECONDS * PING.length, PING);
  let generation = 0;
  for (let day = 0; day < days; day++) {
    if (day % daysEach === 0) generation = await beginGeneration(directory, day);
    fs.appendFileSync(directory.logPath(generation), pings);
    addMarks(db, generation, day);
    nowMs = BEGAN_MS + (day + 1) * DAY_MS;
    thinOut(directory, nowMs - BEGAN_MS);
  }
  directory.close();
}

const offsetAt = (seconds: number): number => seconds * PING.length;

async function beginGeneration(directory: DataDirectory, day: number): Promise<number> {
  const rdb = rdbOf(500);
  const { id } = await directory.begin("127.0.0.1:6379");
  fs.writeFileSync(directory.basePath(id), rdb);
  const header = selectCommand(0);
  const baseOffset = offsetAt(day * DAY_SECONDS);
  const log = await directory.createLog(id, baseOffset, header, {
    fsync: "everysec",
    maxQueuedBytes: 2 ** 20,
    onMoved: () => undefined,
    onFailed: (error) => {
      throw error;
    },
  });
  const kept = {
    replid: undefined,
    baseOffset,
    streamDb: 0,
    rdbBytes: rdb.length,
    rdbCrc64: hex64(crc64(rdb.subarray(0, -8))),
    rdbChecked: true,
    logHeaderBytes: header.length,
  };
  await directory.promote(id, kept, "replaced (--snapshot-every)");
  await log.close();
  return id;
}

/** A mark for each second of a day. */
function addMarks(db: Database, generation: number, day: number): void {
  const [from, bytes] = [day * DAY_SECONDS, PING.length];
  db.run(
    `WITH RECURSIVE seconds(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seconds WHERE n < ${DAY_SECONDS})
     INSERT INTO marks (generation, at_ms, written_offset, durable_offset, crc_from, crc64)
     SELECT ?1, ?2 + n * 1000, ?3 + n * ${bytes}, ?3 + n * ${bytes}, ?3 + (n - 1) * ${bytes}, ?4 FROM seconds`,
    [generation, BEGAN_MS + from * SECOND_MS, offsetAt(from), hex64(crc64(PING))],
  );
}

/** Until all marks were looked at: the time in between passes for both clocks. */
function thinOut(directory: DataDirectory, passedMs: number): void {
  directory.thinning.tick(passedMs);
  while (directory.thinning.isUnderWay) directory.thinning.tick(passedMs);
}

function countMarks(data: string): number {
  using db = new Database(join(data, "replica.db"), { readonly: true });
  return db.query<{ count: number }, []>("SELECT count(*) AS count FROM marks").get()!.count;
}

/** From the start of the program until it tries to connect, to a port where nothing listens; milliseconds. */
async function startOn(data: string): Promise<number> {
  const tookMs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const flags = ["--dir", data, "--port", "0", "--no-progress", "--keep-for", "3660d"];
    const program = new Measured([PROGRAM, "follow", "redis://127.0.0.1:1", ...flags]);
    await program.says(/connection refused/);
    tookMs.push(program.seconds * 1000);
    await program.kill("SIGTERM");
  }
  return median(tookMs);
}

/** @throws Error for a point that is not the last mark's before the moment. */
function slowestPick(data: string, days: number): number {
  let slowestMs = 0;
  for (let day = 0; day < days; day += 7) {
    const seconds = day * DAY_SECONDS + 12_345;
    const beganMs = performance.now();
    using catalogue = new Catalogue(data);
    const wanted = { generation: undefined, offset: undefined };
    const point = restorePoint(catalogue, { ...wanted, atMs: BEGAN_MS + seconds * SECOND_MS });
    slowestMs = Math.max(slowestMs, performance.now() - beganMs);
    const missing = (offsetAt(seconds) - point.offset) / PING.length;
    if (missing < 0 || missing * SECOND_MS > WIDEST_MS) {
      throw new Error(`day ${day}: the point is ${missing} s before the moment`);
    }
  }
  return slowestMs;
}
