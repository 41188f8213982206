import * as fs from "node:fs";
import { join } from "node:path";
import { formatBytes } from "../src/base/quantity.ts";
import { openStore } from "../src/archive/store/open-store.ts";
import { realFolderDisk } from "../src/archive/store/folder-disk.ts";
import { realClock } from "../src/base/clock.ts";
import { startRadosgw } from "../test/support/radosgw.ts";
import { fetched, programCommand, pythonEnvironment } from "../test/support/server-catalog.ts";
import { MEGABYTE, setBlock } from "./blaster.ts";
import { type Figures, Measured, median, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";
import { BASE, makeData } from "./restore.ts";
import { type Follower, measure, type StreamRow } from "./stream.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const ARCHIVER = join(import.meta.dir, "archiver-process.ts");
const GIB = 2 ** 30;
const CAPACITY_BYTES = 8 * GIB;
const LOG_RATE = 50 * MEGABYTE;
const BUCKET = "bench";
/** The snapshot before a log. */
const SMALL_BYTES = 16 * 2 ** 20;

/** The medians of one program that carries a snapshot there or back. */
export interface CarryRow {
  readonly what: string;
  readonly program: string;
  readonly megabytesPerSecond: number;
  readonly cpuSecondsPerGiB: number;
  readonly peakRssMiB: number;
}

/** What became of a log that grew at a steady rate. */
export interface LogRow {
  readonly store: string;
  /** The longest that a written byte was missing in the archive meanwhile. */
  readonly lagMostSeconds: number;
  /** From the last byte until the archive had it. */
  readonly afterSeconds: number;
  readonly cpuPercent: number;
}

/** A follower's figures beside what it archived to. */
export interface EffectRow extends StreamRow {
  readonly archive: string;
}

interface Options {
  readonly bytes: number;
  readonly rounds: number;
  readonly quick: boolean;
}

/** A store to send to: where it is, and the variables that lead there. */
interface Place {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A program that copies the snapshot to `s3://bench/NAME` and back; both resolve with its figures. */
interface Carrier {
  readonly name: string;
  readonly there: (data: string, place: Place) => Promise<Figures>;
  readonly back?: (target: string, place: Place) => Promise<Figures>;
}

function archiver(name: string, flags: readonly string[], isReadable: boolean): Carrier {
  const url = `s3://${BUCKET}/archive`;
  const restore = ["restore", url, "--no-progress"];
  return {
    name: `replica, ${name}`,
    there: async (data, { env }) => {
      const argv = [process.execPath, ARCHIVER, "--dir", data, "--archive", url, ...flags];
      const figures = await new Measured(argv, undefined, env).ends();
      // Where it is archived: another store doesn't have it.
      for (const id of fs.readdirSync(join(data, "generations")))
        fs.rmSync(join(data, "generations", id, "archive.jsonl"), { force: true });
      return figures;
    },
    ...(isReadable
      ? {
          back: (target, { env }) =>
            new Measured([PROGRAM, ...restore.toSpliced(2, 0, target)], undefined, env).ends(),
        }
      : {}),
  };
}

/** A tool that copies one file; what it wrote is synced, since a restore is durable when it ends. */
function copier(
  name: string,
  command: readonly string[],
  copy: (...paths: string[]) => string[],
  env: Record<string, string>,
  scheme: string,
): Carrier {
  const run = (paths: string[], place: Place) =>
    new Measured([...command, ...copy(...paths)], undefined, { ...place.env, ...env }).ends();
  const there = `${scheme}${BUCKET}/base.rdb`;
  return {
    name,
    there: (data, place) => run([join(data, BASE), there], place),
    back: async (target, place) => {
      fs.mkdirSync(target);
      const file = join(target, "base.rdb");
      const copied = await run([there, file], place);
      return withSync(copied, await new Measured(["sync", file]).ends());
    },
  };
}

function withSync(copied: Figures, synced: Figures): Figures {
  return {
    seconds: copied.seconds + synced.seconds,
    cpuSeconds: copied.cpuSeconds + synced.cpuSeconds,
    peakRssBytes: copied.peakRssBytes,
  };
}

function carriers(): Carrier[] {
  const rclone = fetched("rclone");
  const aws = fetched("awscli");
  const rcloneEnv = {
    RCLONE_CONFIG: "/dev/null",
    RCLONE_CONFIG_STORE_TYPE: "s3",
    RCLONE_CONFIG_STORE_PROVIDER: "Ceph",
    RCLONE_CONFIG_STORE_ENV_AUTH: "true",
  };
  return [
    archiver("plain", ["--codec", "none"], true),
    archiver("zstd", [], true),
    archiver("zstd and age", ["--encrypted"], false),
    copier(
      "rclone copyto",
      programCommand(rclone.dir, rclone.stamp, "rclone"),
      (from = "", to = "") => ["copyto", "--s3-no-check-bucket", from, to],
      rcloneEnv,
      "store:",
    ),
    copier(
      "aws s3 cp",
      programCommand(aws.dir, aws.stamp, "aws", "python3"),
      (from = "", to = "") => ["s3", "cp", "--only-show-errors", from, to],
      pythonEnvironment(aws.dir),
      "s3://",
    ),
  ];
}

/**
 * Compares what carries a snapshot to radosgw and back; lets a log grow while it is archived; and measures what an
 * archive does to the stream that a replica follows.
 */
export async function benchArchive(options: Options) {
  refuseWithoutProgram();
  const all = carriers();
  using scratch = scratchDirectory();
  const data = join(scratch.path, "data");
  await makeData(data, options.bytes, setBlock(), 0);
  const carried = await benchCarriers(all, data, scratch.path, options);
  const logs = await benchLog(scratch.path, options.quick ? 4 : 20);
  const stream = await benchEffect(scratch.path, options.quick ? 4 : 20);
  return { carried, logs, stream };
}

async function withRadosgw<T>(work: (place: Place) => Promise<T>): Promise<T> {
  await using server = await startRadosgw({ capacityBytes: CAPACITY_BYTES });
  await server.createBucket(BUCKET);
  return await work({ name: "radosgw", env: server.environment });
}

async function withSink<T>(
  work: (place: Place) => Promise<T>,
  flags: readonly string[] = [],
): Promise<T> {
  const sink = new Measured([process.execPath, join(import.meta.dir, "s3-sink.ts"), ...flags]);
  try {
    const [, port] = await sink.says(/^(\d+)$/m);
    const endpoint = `http://127.0.0.1:${port}`;
    const keys = { AWS_ACCESS_KEY_ID: "none", AWS_SECRET_ACCESS_KEY: "none" };
    return await work({ name: "a bare sink", env: { ...keys, AWS_ENDPOINT_URL: endpoint } });
  } finally {
    await sink.kill("SIGKILL");
  }
}

async function benchCarriers(
  all: readonly Carrier[],
  data: string,
  dir: string,
  { bytes, rounds }: Options,
): Promise<CarryRow[]> {
  const runs = new Map<string, Figures[]>();
  const note = (what: string, program: string, figures: Figures) => {
    const key = `${what}\t${program}`;
    runs.set(key, [...(runs.get(key) ?? []), figures]);
  };
  const target = join(dir, "target");
  const clear = () => fs.rmSync(target, { recursive: true, force: true });
  for (let round = 0; round < rounds; round++) {
    for (const carrier of all) {
      // One server each: what was deleted stays in memory for a while.
      await withRadosgw(async (place) => {
        note("to radosgw", carrier.name, await carrier.there(data, place));
        if (carrier.back !== undefined)
          note("from radosgw", carrier.name, await carrier.back(target, place));
        clear();
      });
    }
    for (const carrier of all.slice(0, 3))
      note("to a bare sink", carrier.name, await withSink((place) => carrier.there(data, place)));
    for (const { name, there, back } of all.slice(0, 2)) {
      const kept = join(dir, "kept");
      await withSink(
        async (place) => {
          await there(data, place);
          if (back !== undefined) note("from a bare store", name, await back(target, place));
        },
        ["--keep", kept],
      );
      for (const path of [kept, target]) fs.rmSync(path, { recursive: true, force: true });
    }
    fs.mkdirSync(target);
    const copy = await new Measured(["cp", join(data, BASE), target]).ends();
    const sync = await new Measured(["sync", join(target, "appendonly.aof.1.base.rdb")]).ends();
    note("from the same disk", "cp, sync", withSync(copy, sync));
    clear();
  }
  const rows = [...runs].map(([key, figures]): CarryRow => {
    const [what = "", program = ""] = key.split("\t");
    return {
      what,
      program,
      megabytesPerSecond: bytes / median(figures.map((one) => one.seconds)) / MEGABYTE,
      cpuSecondsPerGiB: (median(figures.map((one) => one.cpuSeconds)) / bytes) * GIB,
      peakRssMiB: Math.max(...figures.map((one) => one.peakRssBytes)) / 2 ** 20,
    };
  });
  console.log(
    `\narchive: a snapshot of ${formatBytes(bytes)}, ${rounds} rounds\n\n| | program | MB/s | CPU s/GiB | peak RSS |\n|---|---|--:|--:|--:|`,
  );
  for (const row of rows.toSorted((a, b) => b.what.localeCompare(a.what))) {
    console.log(
      `| ${row.what} | ${row.program} | ${row.megabytesPerSecond.toFixed(0)} | ${row.cpuSecondsPerGiB.toFixed(2)} | ${row.peakRssMiB.toFixed(0)} MiB |`,
    );
  }
  return rows;
}

async function benchLog(dir: string, seconds: number): Promise<LogRow[]> {
  const rows: LogRow[] = [];
  const run = async (place: Place, flags: readonly string[] = []) => {
    const data = join(dir, "log");
    await makeData(data, SMALL_BYTES, setBlock(), 0);
    const url = `s3://${BUCKET}/log`;
    const grow = ["--rate", String(LOG_RATE), "--seconds", String(seconds)];
    const argv = [process.execPath, ARCHIVER, "--dir", data, "--archive", url, ...grow, ...flags];
    const running = new Measured(argv, undefined, place.env);
    await running.ends();
    const [line] = /^\{.*\}$/m.exec(running.said)!;
    const seen: { afterSeconds: number; lagMostMs: number; cpuPercent: number } = JSON.parse(line);
    rows.push({
      store: place.name,
      lagMostSeconds: seen.lagMostMs / 1_000,
      afterSeconds: seen.afterSeconds,
      cpuPercent: seen.cpuPercent,
    });
    fs.rmSync(data, { recursive: true });
  };
  await run({ name: "none", env: {} }, ["--no-archive"]);
  await withRadosgw(run);
  await withSink(run);
  console.log(
    `\narchive: a log of 64-byte SETs that grows by ${LOG_RATE / MEGABYTE} MB/s for ${seconds} s, --archive-every 1s\n\n| store | lag at most | whole after | % of a core |\n|---|--:|--:|--:|`,
  );
  for (const row of rows) {
    const isArchived = row.store !== "none";
    const lag = isArchived
      ? `${row.lagMostSeconds.toFixed(1)} s | ${row.afterSeconds.toFixed(1)} s`
      : "|";
    console.log(`| ${row.store} | ${lag} | ${row.cpuPercent.toFixed(0)} |`);
  }
  return rows;
}

/** What the stream loses to an archive: the same stream, without one and with one. */
async function benchEffect(dir: string, seconds: number): Promise<EffectRow[]> {
  const rows: EffectRow[] = [];
  const run = async (archive: string, rate: number | undefined, place?: Place) => {
    const url = `s3://${BUCKET}/effect-${rate ?? "full"}`;
    const flags = place === undefined ? [] : ["--archive", url, "--archive-every", "1s"];
    const follower: Follower = {
      name: archive,
      env: place?.env ?? {},
      argv: (port, own) => {
        const where = ["--dir", join(own, "data"), "--port", "0", "--no-progress"];
        return [PROGRAM, "follow", `redis://127.0.0.1:${port}`, ...where, ...flags];
      },
    };
    const bytes = (rate ?? 100 * MEGABYTE) * seconds;
    const row = await measure(follower, dir, bytes, rate);
    if (place === undefined || (await isArchived(url, place))) rows.push({ ...row, archive });
    else console.log(`dist/replica follow put nothing in ${url}: what that costs isn't measured`);
  };
  for (const rate of [LOG_RATE, undefined]) {
    await run("none", rate);
    await withRadosgw((place) => run(place.name, rate, place));
  }
  console.log(
    "\n| archive | sent | MB/s | GETACK median | most | CPU s/GB | peak RSS |\n|---|---|--:|--:|--:|--:|--:|",
  );
  for (const row of rows) {
    const sent = row.rate === undefined ? "full speed" : `${row.rate / MEGABYTE} MB/s`;
    console.log(
      `| ${row.archive} | ${sent} | ${row.megabytesPerSecond.toFixed(0)} | ${row.lagMedianMs.toFixed(1)} ms | ${row.lagMostMs.toFixed(1)} ms | ${row.cpuSecondsPerGB.toFixed(2)} | ${row.peakRssMiB.toFixed(0)} MiB |`,
    );
  }
  return rows;
}

/** Whether there is an archive: the figures of a program that archives nothing say nothing about archives. */
async function isArchived(url: string, { env }: Place): Promise<boolean> {
  const seams = { clock: realClock, disk: realFolderDisk, environment: env };
  const credentials = () => Promise.reject(new Error("there are none"));
  const store = openStore(url, {}, { ...seams, credentials });
  const found = await store.get("archive.json", { maxBytes: 2 ** 20 }, AbortSignal.timeout(30_000));
  return found !== undefined;
}
