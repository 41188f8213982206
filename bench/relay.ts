import { join } from "node:path";
import { formatBytes } from "../src/base/quantity.ts";
import { freePort } from "../test/support/ports.ts";
import { type RealServer, startServer } from "../test/support/servers.ts";
import { certificates } from "../test/support/tls.ts";
import { until } from "../test/support/wait.ts";
import { cpuSecondsOf, Measured, median, peakRssOf, scratchDirectory } from "./measure.ts";
import { compiledC, refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const DROP = join(import.meta.dir, "receivers/drop.ts");
const LINKS = 10;
/** Large values are little work for a primary, small ones a lot. */
const VALUE_BYTES = [64 * 1024, 256];
const LIMIT_MS = 600_000;
const MEGABYTE = 1e6;

/** The cost of serving ten full syncs at once. */
interface Served {
  readonly seconds: number;
  /** Of the server, including its forked child. */
  readonly cpuSeconds: number;
}

export interface RelayRow {
  readonly valueBytes: number;
  readonly name: string;
  /** The sum over all links. */
  readonly megabytesPerSecond: number;
  /** Speed relative to the primary, disk-based or diskless, whichever is faster; the median of the ratios per round. */
  readonly timesPrimary: number;
  readonly cpuSeconds: number;
  /** The replica's resident memory before the first sync, and its peak; 0 for the others. */
  readonly rssBeforeMiB: number;
  readonly peakRssMiB: number;
}

interface Options {
  readonly bytes: number;
  readonly rounds: number;
}

/** Feeds ten replicas at once: from a real primary, and from a replica attached to it. */
export async function benchRelay(options: Options): Promise<RelayRow[]> {
  refuseWithoutProgram();
  const rows: RelayRow[] = [];
  for (const valueBytes of VALUE_BYTES) rows.push(...(await benchValues(valueBytes, options)));
  console.log(
    `\nrelay: ${LINKS} full syncs of ${formatBytes(options.bytes)} at once, medians of ${options.rounds} rounds; × is the speed relative to the faster primary of the same round\n`,
  );
  console.log(
    "| values of | served by | MB/s | × | CPU s | RSS before | peak RSS |\n|--:|---|--:|--:|--:|--:|--:|",
  );
  for (const row of rows) {
    const mib = (value: number) => (value === 0 ? "" : `${value.toFixed(0)} MiB`);
    console.log(
      `| ${formatBytes(row.valueBytes)} | ${row.name} | ${row.megabytesPerSecond.toFixed(0)} | ${row.timesPrimary.toFixed(2)} | ${row.cpuSeconds.toFixed(2)} | ${mib(row.rssBeforeMiB)} | ${mib(row.peakRssMiB)} |`,
    );
  }
  return rows;
}

async function benchValues(valueBytes: number, options: Options): Promise<RelayRow[]> {
  using scratch = scratchDirectory();
  // The primary waits for all ten, so that they share one fork.
  const flags = ["--repl-diskless-sync-delay", "60", "--repl-diskless-sync-max-replicas"];
  flags.push(`${LINKS}`, "--rdbcompression", "no", "--enable-debug-command", "local");
  await using primary = await startServer("redis-7.0", {
    args: [...flags, "--save", "", "--repl-diskless-sync", "no"],
    startTimeoutMs: LIMIT_MS,
  });
  await primary.send("DEBUG", "POPULATE", Math.ceil(options.bytes / valueBytes), "key", valueBytes);
  const port = freePort();
  const data = join(scratch.path, "data");
  const own = ["--dir", data, "--port", String(port), "--no-progress"];
  const replica = new Measured([PROGRAM, "follow", primary.url(), ...own]);
  await replica.says(/connected by full resync/);
  const overTls = await secondRelay(`redis://127.0.0.1:${port}`, join(scratch.path, "second"));
  try {
    const { pid } = replica.child;
    const base = Bun.file(join(data, "current/appendonly.aof.1.base.rdb"));
    const rssBeforeMiB = (peakRssOf(pid) ?? 0) / 2 ** 20;
    const floor = compiledC(scratch.path, "serve-floor");
    const runs = {
      disk: [] as Served[],
      diskless: [] as Served[],
      relay: [] as Served[],
      tls: [] as Served[],
      floor: [] as Served[],
    };
    for (let round = 0; round < options.rounds; round++) {
      const forksBefore = (await primary.info("stats"))["total_forks"];
      runs.relay.push(await serve(port, () => cpuSecondsOf(pid) ?? 0));
      runs.tls.push(await serve(overTls.port, () => cpuSecondsOf(overTls.pid) ?? 0, ["tls"]));
      if ((await primary.info("stats"))["total_forks"] !== forksBefore) {
        throw new Error("the primary forked although the replica was feeding");
      }
      if (floor !== undefined) runs.floor.push(await serveByFloor(floor, base.name!));
      for (const kind of ["disk", "diskless"] as const) {
        const value = kind === "diskless" ? "yes" : "no";
        await primary.send("CONFIG", "SET", "repl-diskless-sync", value);
        runs[kind].push(await serveFrom(primary));
      }
    }
    const best = runs.disk.map(({ seconds }, n) => Math.min(seconds, runs.diskless[n]!.seconds));
    const row = (name: string, served: readonly Served[]): RelayRow => ({
      valueBytes,
      name,
      megabytesPerSecond: median(
        served.map(({ seconds }) => (LINKS * base.size) / MEGABYTE / seconds),
      ),
      timesPrimary: median(served.map(({ seconds }, n) => best[n]! / seconds)),
      cpuSeconds: median(served.map(({ cpuSeconds }) => cpuSeconds)),
      rssBeforeMiB: served === runs.relay ? rssBeforeMiB : 0,
      peakRssMiB: served === runs.relay ? (peakRssOf(pid) ?? 0) / 2 ** 20 : 0,
    });
    return [
      row("redis-server 7.0, disk-based", runs.disk),
      row("redis-server 7.0, diskless", runs.diskless),
      row("replica", runs.relay),
      row("replica, over TLS", runs.tls),
      ...(floor === undefined ? [] : [row("floor: C, read and write", runs.floor)]),
    ];
  } finally {
    await replica.kill("SIGTERM");
    await overTls.end();
  }
}

/** Another one, which serves the same over TLS. */
async function secondRelay(url: string, dir: string) {
  const port = freePort();
  const { cert, key } = certificates.server;
  const tls = ["--port-tls-cert", cert, "--port-tls-key", key];
  const own = ["--dir", dir, "--port", String(port), "--no-progress"];
  const relay = new Measured([PROGRAM, "follow", url, ...own, ...tls]);
  await relay.says(/connected by full resync/);
  return { port, pid: relay.child.pid, end: () => relay.kill("SIGTERM") };
}

async function serveFrom(primary: RealServer): Promise<Served> {
  const isIdle = async () => (await primary.info("persistence"))["rdb_bgsave_in_progress"] === "0";
  const idle = () => until(isIdle, { what: "the primary to be idle", timeoutMs: LIMIT_MS });
  await idle();
  const cpu = async () => {
    const info = await primary.info("cpu");
    return ["used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children"]
      .map((name) => Number(info[name]))
      .reduce((sum, seconds) => sum + seconds);
  };
  const before = await cpu();
  const { seconds } = await serve(primary.port, () => 0);
  await idle();
  return { seconds, cpuSeconds: (await cpu()) - before };
}

async function serve(
  port: number,
  cpuSeconds: () => number,
  more: readonly string[] = [],
): Promise<Served> {
  const before = cpuSeconds();
  const argv = [process.execPath, DROP, String(port), String(LINKS), ...more];
  const { seconds } = await new Measured(argv).ends();
  return { seconds, cpuSeconds: cpuSeconds() - before };
}

async function serveByFloor(program: string, file: string): Promise<Served> {
  const run = new Measured([program, file]);
  await run.ends();
  const [seconds = Number.NaN, cpuSeconds = Number.NaN] = run.said.split(" ").map(Number);
  return { seconds, cpuSeconds };
}
