import * as fs from "node:fs";
import { join } from "node:path";
import { freePort } from "../test/support/ports.ts";
import { cpuSecondsOf, Measured, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
/** At rest, Bun looks for garbage once a second for half a minute, then every 30 s. */
const SETTLE_SECONDS = 40;
const READY_MS = 120_000;

/** What following so many shards took, of one process. */
export interface ClusterRow {
  readonly shards: number;
  /** SETs a second of each shard. */
  readonly rate: number;
  readonly rssMiB: number;
  readonly descriptors: number;
  readonly threads: number;
  /** CPU time as a share of one core, in percent. */
  readonly cpuPercent: number;
  /** From the start until all shards are ready. */
  readonly readySeconds: number;
}

/** Measures `replica` while it follows clusters of several sizes, at rest and at small rates. */
export async function benchCluster(quick: boolean): Promise<ClusterRow[]> {
  refuseWithoutProgram();
  const rows: ClusterRow[] = [];
  for (const shards of quick ? [1, 8] : [1, 8, 32, 64]) {
    rows.push(...(await measured(shards, quick ? [0, 100] : [0, 10, 100], quick ? 5 : 20)));
  }
  print(rows);
  return rows;
}

async function measured(
  shards: number,
  rates: readonly number[],
  seconds: number,
): Promise<ClusterRow[]> {
  using scratch = scratchDirectory();
  const cluster = new Measured([
    process.execPath,
    join(import.meta.dir, "fake-cluster.ts"),
    String(shards),
  ]);
  let replica: Measured | undefined;
  try {
    const [, first = ""] = await cluster.says(/^(\d+)$/m);
    const http = freePort();
    const own = ["--dir", join(scratch.path, "data"), "--port", "0", "--no-progress"];
    const beganMs = performance.now();
    replica = new Measured([
      PROGRAM,
      "follow",
      `redis+cluster://127.0.0.1:${first}`,
      ...own,
      "--http",
      `127.0.0.1:${http}`,
    ]);
    await ready(http);
    const readySeconds = (performance.now() - beganMs) / 1000;
    const { pid } = replica.child;
    const rows: ClusterRow[] = [];
    for (const rate of rates) {
      await load(cluster, rate, rate === 0 && seconds > 5 ? SETTLE_SECONDS : 2);
      const before = cpuSecondsOf(pid) ?? 0;
      await load(cluster, rate, seconds);
      const cpuPercent = (((cpuSecondsOf(pid) ?? 0) - before) / seconds) * 100;
      rows.push({ shards, rate, ...taken(pid), cpuPercent, readySeconds });
    }
    return rows;
  } finally {
    await replica?.kill("SIGKILL");
    await cluster.kill("SIGKILL");
  }
}

async function ready(http: number): Promise<void> {
  const endMs = performance.now() + READY_MS;
  let said = "nothing";
  while (performance.now() < endMs) {
    const answer = await fetch(`http://127.0.0.1:${http}/readyz`).catch(() => undefined);
    if (answer?.ok === true) return;
    said = (await answer?.text()) ?? said;
    await Bun.sleep(20);
  }
  throw new Error(`not ready within ${READY_MS / 1000} s: ${said}`);
}

async function load(cluster: Measured, rate: number, seconds: number): Promise<void> {
  cluster.said = "";
  cluster.tell(`${rate} ${seconds}\n`);
  await cluster.says(/^\{.*\}$/m);
}

function taken(pid: number): Pick<ClusterRow, "rssMiB" | "descriptors" | "threads"> {
  const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
  const number = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]);
  const descriptors = fs.readdirSync(`/proc/${pid}/fd`).length;
  return { rssMiB: number("VmRSS") / 1024, descriptors, threads: number("Threads") };
}

function print(rows: readonly ClusterRow[]): void {
  console.log("\ncluster: one process follows every shard; each sends 64-byte SETs\n");
  console.log(
    "| shards | writes/s each | RSS | a shard beyond 64 MiB | descriptors | threads | % of a core | ready after |\n|--:|--:|--:|--:|--:|--:|--:|--:|",
  );
  for (const { shards, rate, rssMiB, ...row } of rows) {
    console.log(
      `| ${shards} | ${rate} | ${rssMiB.toFixed(0)} MiB | ${((rssMiB - 64) / shards).toFixed(1)} MiB | ${row.descriptors} | ${row.threads} | ${row.cpuPercent.toFixed(1)} | ${row.readySeconds.toFixed(1)} s |`,
    );
  }
}
