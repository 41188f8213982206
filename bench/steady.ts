import * as fs from "node:fs";
import { join } from "node:path";
import { freePort } from "../test/support/ports.ts";
import { tool } from "../test/support/servers.ts";
import { Measured, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
/** Writes a second. */
const RATES = [0, 100, 1_000, 10_000, 50_000, 100_000];
/** First of all: what the compiler of a young process takes is no part of a steady state. */
const WARM_UP = { rate: 20_000, seconds: 10 };
/** Before each measurement, so that what a change of the rate costs isn't counted. */
const SETTLE_SECONDS = 3;
/** At rest, Bun looks for garbage once a second for half a minute, then every 30 s. */
const SETTLE_AT_REST_SECONDS = 40;

/** What one follower took at one rate. */
export interface SteadyRow {
  readonly name: string;
  readonly rate: number;
  /** Whether a GETACK came every 100 ms, as while somebody uses WAIT. */
  readonly isAwaited: boolean;
  /** CPU time as a share of one core, in percent. */
  readonly cpuPercent: number;
  /** How often a second one of its threads went to sleep, and how often one was put aside. */
  readonly wakeups: number;
  readonly preempted: number;
  readonly rssMiB: number;
  readonly diskBytesPerSecond: number;
  /** From a GETACK to the ACK of all before it; undefined where none is sent. */
  readonly ackMedianMs: number | undefined;
  readonly ackP99Ms: number | undefined;
}

interface Follower {
  readonly name: string;
  readonly port: number;
  readonly running: Measured;
}

/**
 * Measures `replica` and a stock replica that follow the same primary at the same time, at rest and at steady rates.
 * @param seconds how long each rate is measured.
 */
export async function benchSteady(seconds: number): Promise<SteadyRow[]> {
  refuseWithoutProgram();
  using scratch = scratchDirectory();
  const pacer = new Measured([process.execPath, join(import.meta.dir, "pacer.ts")]);
  const followers: Follower[] = [];
  const rows: SteadyRow[] = [];
  try {
    const [, primaryPort = ""] = await pacer.says(/^(\d+)$/m);
    followers.push(startReplica(primaryPort, scratch.path), startStock(primaryPort, scratch.path));
    await pacer.says(new RegExp(`^online ${followers.length}$`, "m"));
    const phase = async (rate: number, forSeconds: number, how = "") => {
      pacer.said = "";
      pacer.tell(`${rate} ${forSeconds} ${how}\n`);
      const [line] = await pacer.says(/^\{.*\}$/m);
      const { acks }: { acks: Record<string, number[]> } = JSON.parse(line);
      return acks;
    };
    await phase(WARM_UP.rate, WARM_UP.seconds);
    // What is awaited comes last: a replica reads as promptly for a while after it.
    const phases = [false, true].flatMap((isAwaited) => RATES.map((rate) => ({ rate, isAwaited })));
    for (const { rate, isAwaited } of phases) {
      const how = isAwaited ? "awaited" : "";
      await phase(rate, rate === 0 ? SETTLE_AT_REST_SECONDS : SETTLE_SECONDS, how);
      const before = followers.map(({ running }) => usageOf(running.child.pid));
      const acks = await phase(rate, seconds, how);
      for (const [at, { name, port, running }] of followers.entries()) {
        const used = since(before[at]!, usageOf(running.child.pid));
        const sorted = (acks[String(port)] ?? []).toSorted((a, b) => a - b);
        const share = (part: number) => sorted[Math.ceil(part * sorted.length) - 1];
        rows.push({
          name,
          rate,
          isAwaited,
          ...used,
          ackMedianMs: share(0.5),
          ackP99Ms: share(0.99),
        });
      }
    }
  } finally {
    for (const { running } of followers) await running.kill("SIGKILL");
    await pacer.kill("SIGKILL");
  }
  print(rows, seconds);
  return rows;
}

function startReplica(primaryPort: string, dir: string): Follower {
  const port = freePort();
  const own = ["--dir", join(dir, "data"), "--port", String(port), "--no-progress"];
  const running = new Measured([PROGRAM, "follow", `redis://127.0.0.1:${primaryPort}`, ...own]);
  return { name: "replica", port, running };
}

function startStock(primaryPort: string, dir: string): Follower {
  const port = freePort();
  const own = join(dir, "stock");
  fs.mkdirSync(own);
  const aof = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--save", ""];
  const from = ["--replicaof", "127.0.0.1", primaryPort];
  const argv = [
    ...tool("redis-7.0", "redis-server"),
    "--port",
    String(port),
    "--dir",
    own,
    ...aof,
    ...from,
  ];
  return { name: "redis-server 7.0, appendonly yes", port, running: new Measured(argv, own) };
}

/** What one thread has used since its start. */
interface ThreadUsage {
  readonly cpuNs: number;
  readonly sleeps: number;
  readonly preempted: number;
}

/** The counters of a process. */
interface Usage {
  readonly atMs: number;
  /** By thread: what one that has ended used is no longer told. */
  readonly threads: ReadonlyMap<string, ThreadUsage>;
  readonly writtenBytes: number;
  readonly rssMiB: number;
}

function usageOf(pid: number): Usage {
  const number = (name: string, pattern: RegExp) =>
    Number(pattern.exec(fs.readFileSync(`/proc/${pid}/${name}`, "utf8"))?.[1]);
  const threads = new Map<string, ThreadUsage>();
  for (const thread of fs.readdirSync(`/proc/${pid}/task`)) {
    threads.set(thread, {
      cpuNs: number(`task/${thread}/schedstat`, /^(\d+)/),
      sleeps: number(`task/${thread}/status`, /^voluntary_ctxt_switches:\s+(\d+)/m),
      preempted: number(`task/${thread}/status`, /^nonvoluntary_ctxt_switches:\s+(\d+)/m),
    });
  }
  return {
    threads,
    atMs: performance.now(),
    writtenBytes: number("io", /^write_bytes: (\d+)/m),
    rssMiB: number("status", /^VmRSS:\s+(\d+)/m) / 1024,
  };
}

function since(before: Usage, after: Usage) {
  const seconds = (after.atMs - before.atMs) / 1000;
  const grown = (counter: keyof ThreadUsage) =>
    [...after.threads].reduce(
      (sum, [thread, now]) => sum + now[counter] - (before.threads.get(thread)?.[counter] ?? 0),
      0,
    );
  return {
    cpuPercent: (grown("cpuNs") / 1e9 / seconds) * 100,
    wakeups: grown("sleeps") / seconds,
    preempted: grown("preempted") / seconds,
    diskBytesPerSecond: (after.writtenBytes - before.writtenBytes) / seconds,
    rssMiB: after.rssMiB,
  };
}

function print(rows: readonly SteadyRow[], seconds: number): void {
  console.log(
    `\nsteady: the same stream of 64-byte SETs to both at the same time, ${seconds} s at each rate\n`,
  );
  console.log(
    "| writes/s | WAIT | replica | % of a core | wake-ups/s | preempted/s | RSS | written | GETACK median | p99 |\n|--:|---|---|--:|--:|--:|--:|--:|--:|--:|",
  );
  const ms = (value: number | undefined) => (value === undefined ? "" : `${value.toFixed(1)} ms`);
  for (const row of rows) {
    console.log(
      `| ${row.rate} | ${row.isAwaited ? "yes" : ""} | ${row.name} | ${row.cpuPercent.toFixed(2)} | ${row.wakeups.toFixed(0)} | ${row.preempted.toFixed(0)} | ${row.rssMiB.toFixed(0)} MiB | ${(row.diskBytesPerSecond / 1024).toFixed(0)} KiB/s | ${ms(row.ackMedianMs)} | ${ms(row.ackP99Ms)} |`,
    );
  }
}
