import * as fs from "node:fs";
import { join } from "node:path";
import { freePort } from "../test/support/ports.ts";
import { tool } from "../test/support/servers.ts";
import { loadSettings } from "../src/config/load-settings.ts";
import { parsePrimaryUrl } from "../src/config/primary-url.ts";
import { realClock } from "../src/base/clock.ts";
import { assemble } from "../src/program/assemble.ts";
import { realDisk } from "../src/store/disk/disk.ts";
import { blast, MEGABYTE, SET_BYTES, setBlock } from "./blaster.ts";
import { cpuSecondsOf, Measured, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const FIXED_RATE = 20 * MEGABYTE;

/** The measurements of one follower. */
export interface StreamRow {
  readonly name: string;
  /** The rate at which the primary sent, in bytes per second; undefined: as fast as possible. */
  readonly rate: number | undefined;
  readonly megabytesPerSecond: number;
  readonly commandsPerSecond: number;
  /** From the last byte of a GETACK to the ACK that covers it. */
  readonly lagMedianMs: number;
  readonly lagMostMs: number;
  readonly cpuSecondsPerGB: number;
  readonly peakRssMiB: number;
}

/** Measures the stream: at full speed in one process, then compared with a real replica at full and at a fixed rate. */
export async function benchStream(quick: boolean): Promise<StreamRow[]> {
  refuseWithoutProgram();
  using scratch = scratchDirectory();
  const dir = scratch.path;
  await inOneProcess(dir, quick ? 500 * MEGABYTE : 2_000 * MEGABYTE);
  const rows: StreamRow[] = [];
  for (const rate of [undefined, FIXED_RATE]) {
    const bytes = (rate ?? 100 * MEGABYTE) * (quick ? 2 : 10);
    for (const follower of followers) rows.push(await measure(follower, dir, bytes, rate));
  }
  console.log(
    "\n| the stream, 64-byte SETs | sent | MB/s | commands/s | GETACK median | most | CPU s/GB | peak RSS |\n|---|---|--:|--:|--:|--:|--:|--:|",
  );
  for (const row of rows) {
    const sent = row.rate === undefined ? "full speed" : `${row.rate / MEGABYTE} MB/s`;
    console.log(
      `| ${row.name} | ${sent} | ${row.megabytesPerSecond.toFixed(0)} | ${row.commandsPerSecond.toFixed(0)} | ${row.lagMedianMs.toFixed(1)} ms | ${row.lagMostMs.toFixed(1)} ms | ${row.cpuSecondsPerGB.toFixed(2)} | ${row.peakRssMiB.toFixed(0)} MiB |`,
    );
  }
  return rows;
}

export interface Follower {
  readonly name: string;
  /** Variables that its process gets. */
  readonly env?: Readonly<Record<string, string>>;
  argv(primaryPort: number, dir: string): string[];
}

const followers: readonly Follower[] = [
  {
    name: "replica, --fsync everysec",
    argv: (port, dir) => {
      const url = `redis://127.0.0.1:${port}`;
      return [PROGRAM, "follow", url, "--dir", join(dir, "data"), "--port", "0", "--no-progress"];
    },
  },
  {
    name: "redis-server 7.0 replica, appendonly yes",
    argv: (port, dir) => {
      const own = ["--port", String(freePort()), "--dir", dir, "--save", ""];
      const aof = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"];
      const from = ["--replicaof", "127.0.0.1", String(port)];
      return [...tool("redis-7.0", "redis-server"), ...own, ...aof, ...from];
    },
  },
];

/** Measures one follower of a stream of so many bytes. */
export async function measure(
  follower: Follower,
  dir: string,
  bytes: number,
  rate: number | undefined,
): Promise<StreamRow> {
  const own = join(dir, "follower");
  fs.mkdirSync(own);
  const flags = rate === undefined ? [] : ["--rate", String(rate)];
  const program = join(import.meta.dir, "blaster.ts");
  const primary = new Measured([process.execPath, program, "--bytes", String(bytes), ...flags]);
  let running: Measured | undefined;
  try {
    const [, port] = await primary.says(/^(\d+)$/m);
    running = new Measured(follower.argv(Number(port), own), own, follower.env);
    // From the beginning of the stream, without the start of the program.
    await primary.says(/^online$/m);
    const before = cpuSecondsOf(running.child.pid) ?? 0;
    const [line] = await primary.says(/^\{.*\}$/m);
    const seen: { seconds: number; bytes: number; medianMs: number; mostMs: number } =
      JSON.parse(line);
    const { cpuSeconds, peakRssBytes } = running.figures();
    return {
      name: follower.name,
      rate,
      megabytesPerSecond: seen.bytes / seen.seconds / MEGABYTE,
      commandsPerSecond: seen.bytes / SET_BYTES / seen.seconds,
      lagMedianMs: seen.medianMs,
      lagMostMs: seen.mostMs,
      cpuSecondsPerGB: ((cpuSeconds - before) / seen.bytes) * 1e9,
      peakRssMiB: peakRssBytes / 2 ** 20,
    };
  } finally {
    await running?.kill("SIGKILL");
    await primary.kill("SIGKILL");
    fs.rmSync(own, { recursive: true });
  }
}

/** Runs primary and replica in this process until the stream is durable, and compares with a bare write. */
async function inOneProcess(dir: string, totalBytes: number): Promise<void> {
  const primary = blast(totalBytes);
  const settings = loadSettings({
    flags: new Map([
      ["dir", join(dir, "data")],
      ["port", "0"],
    ]),
    env: {},
  });
  const stop = new AbortController();
  const target = parsePrimaryUrl(`redis://127.0.0.1:${primary.port}`);
  const { replica, run, close } = assemble(target, realDisk, realClock, settings, "bench");
  const running = run(stop.signal);
  const beganMs = performance.now();
  const cpu = process.cpuUsage();
  while ((replica.log?.writtenOffset ?? 0) < totalBytes) await Bun.sleep(1);
  const writtenSeconds = (performance.now() - beganMs) / 1000;
  while ((replica.log?.durableOffset ?? 0) < totalBytes) await Bun.sleep(1);
  const seconds = (performance.now() - beganMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const bytes = primary.sentBytes();
  stop.abort();
  await running;
  close();
  primary.stop();
  const acks = primary.ackMs.toSorted((a, b) => a - b);
  const floorSeconds = bareWrite(join(dir, "floor"), totalBytes);
  const rate = (perSeconds: number) => `${(bytes / perSeconds / MEGABYTE).toFixed(0)} MB/s`;
  console.log(`\nstream: ${(bytes / MEGABYTE).toFixed(0)} MB of 64-byte SETs, --fsync everysec`);
  console.log(`  until written        ${writtenSeconds.toFixed(2)} s, ${rate(writtenSeconds)}`);
  console.log(
    `  until durable        ${seconds.toFixed(2)} s, ${rate(seconds)}, sender and replica in one process, ${((user + system) / 1e6).toFixed(2)} CPU s`,
  );
  console.log(`  floor: write + sync  ${floorSeconds.toFixed(2)} s, ${rate(floorSeconds)}`);
  console.log(
    `  GETACK answered in   ${acks[acks.length >> 1]?.toFixed(1)} ms median, ${acks.at(-1)?.toFixed(1)} ms at most, of ${acks.length}`,
  );
}

function bareWrite(path: string, totalBytes: number): number {
  const block = setBlock();
  const beganMs = performance.now();
  const fd = fs.openSync(path, "wx");
  for (let at = 0; at < totalBytes; at += block.length) fs.writeSync(fd, block);
  fs.fdatasyncSync(fd);
  fs.closeSync(fd);
  return (performance.now() - beganMs) / 1000;
}
