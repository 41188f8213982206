import * as fs from "node:fs";
import { join } from "node:path";
import { formatBytes } from "../src/base/quantity.ts";
import { type Figures, Measured, median, scratchDirectory } from "./measure.ts";
import {
  cFloors,
  dropped,
  rawDisk,
  type Receiver,
  realReplicas,
  redisCli,
  refuseWithoutProgram,
  replicaBackup,
  replicaFollow,
  unchecked,
} from "./receivers.ts";

export interface TransferOptions {
  readonly bytes: number;
  readonly rounds: number;
  /** Only the essential receivers. */
  readonly quick: boolean;
}

/** All runs of one receiver, and their medians. */
interface TransferRow {
  readonly name: string;
  readonly kind: Receiver["kind"];
  readonly form: "length" | "eof";
  readonly seconds: number;
  readonly megabytesPerSecond: number;
  readonly cpuSecondsPerGiB: number;
  readonly peakRssMiB: number;
  /** Speed relative to `redis-cli --rdb`; the median of the ratios per round. */
  readonly timesRedisCli: number | undefined;
  readonly runs: readonly Figures[];
}

export interface TransferResult {
  readonly bytes: number;
  readonly rounds: number;
  readonly rows: readonly TransferRow[];
}

interface Entry {
  readonly receiver: Receiver;
  readonly form: "length" | "eof";
}

function entries(dir: string, quick: boolean): Entry[] {
  const length = (receiver: Receiver): Entry => ({ receiver, form: "length" });
  const eof = (receiver: Receiver): Entry => ({ receiver, form: "eof" });
  const essential = [
    length(replicaBackup("compiled", "auto")),
    eof(replicaBackup("compiled", "auto")),
    length(replicaFollow("compiled", "auto")),
    length(unchecked(dir, "direct")),
    length(redisCli),
    length(dropped),
    length(rawDisk),
  ];
  if (quick) return essential;
  const others = (["direct", "buffered"] as const).flatMap((io) => [
    length(replicaBackup("compiled", io)),
    length(replicaFollow("compiled", io)),
  ]);
  const source = (["auto", "direct", "buffered"] as const).flatMap((io) => [
    length(replicaBackup("bun run", io)),
    length(replicaFollow("bun run", io)),
  ]);
  const servers = realReplicas().map(length);
  const floors = cFloors(dir).map(length);
  return [
    ...essential,
    ...others,
    ...source,
    length(unchecked(dir, "buffered")),
    eof(replicaFollow("compiled", "auto")),
    eof(dropped),
    ...servers,
    ...floors,
  ];
}

/** Measures whole transfers from a sender in its own process: in each round, all receivers take turns. */
export async function benchTransfer(options: TransferOptions): Promise<TransferResult> {
  refuseWithoutProgram();
  using scratch = scratchDirectory();
  const dir = scratch.path;
  const senders: Measured[] = [];
  try {
    const ports = { length: 0, eof: 0 };
    let bytes = 0;
    for (const form of ["length", "eof"] as const) {
      const sender = startSender(options.bytes, form);
      senders.push(sender);
      const [, port, size] = await sender.says(/^(\d+) (\d+)$/m);
      ports[form] = Number(port);
      bytes = Number(size);
    }
    const source = join(dir, "source.rdb");
    const taken = await replicaBackup("compiled", "buffered").run({
      port: ports.length,
      dir,
      source,
    });
    fs.renameSync(join(dir, "out.rdb"), source);
    progress(`${formatBytes(bytes)}; the first copy took ${taken.seconds.toFixed(1)} s`);
    const all = entries(dir, options.quick);
    const runs = new Map<Entry, Figures[]>(all.map((entry) => [entry, []]));
    for (let round = 0; round < options.rounds; round++) {
      // Rotate the order, so that no receiver always follows the same one.
      for (let n = 0; n < all.length; n++) {
        const entry = all[(n + round * 3) % all.length]!;
        const figures = await runOne(entry, ports[entry.form], dir, source);
        runs.get(entry)!.push(figures);
        progress(`round ${round + 1}: ${figures.seconds.toFixed(2)} s  ${nameOf(entry)}`);
      }
    }
    const cli = all.find((entry) => entry.receiver === redisCli);
    const cliRuns = cli === undefined ? [] : runs.get(cli)!;
    const rows = all.map((entry) => rowOf(entry, runs.get(entry)!, cliRuns, bytes));
    return { bytes, rounds: options.rounds, rows };
  } finally {
    for (const sender of senders) await sender.kill("SIGKILL");
  }
}

function startSender(bytes: number, form: "length" | "eof"): Measured {
  const program = join(import.meta.dir, "sender.ts");
  return new Measured([process.execPath, program, "--bytes", String(bytes), "--form", form]);
}

async function runOne(
  { receiver }: Entry,
  port: number,
  dir: string,
  source: string,
): Promise<Figures> {
  const own = join(dir, "run");
  fs.mkdirSync(own);
  try {
    // Write out dirty pages left by the previous run; dd reads its source from memory.
    Bun.spawnSync(["sync"]);
    if (receiver === rawDisk) Bun.spawnSync(["cat", source], { stdout: "ignore" });
    return await receiver.run({ port, dir: own, source });
  } finally {
    fs.rmSync(own, { recursive: true });
  }
}

function nameOf({ receiver, form }: Entry): string {
  return form === "eof" ? `${receiver.name} ($EOF)` : receiver.name;
}

function rowOf(
  entry: Entry,
  runs: readonly Figures[],
  cliRuns: readonly Figures[],
  bytes: number,
): TransferRow {
  const seconds = median(runs.map((run) => run.seconds));
  const ratios = cliRuns.map((cli, round) => cli.seconds / (runs[round]?.seconds ?? Number.NaN));
  return {
    name: nameOf(entry),
    kind: entry.receiver.kind,
    form: entry.form,
    seconds,
    megabytesPerSecond: bytes / seconds / 1e6,
    cpuSecondsPerGiB: (median(runs.map((run) => run.cpuSeconds)) * 2 ** 30) / bytes,
    peakRssMiB: Math.max(...runs.map((run) => run.peakRssBytes)) / 2 ** 20,
    timesRedisCli: ratios.length === 0 ? undefined : median(ratios),
    runs,
  };
}

function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** The rows as a Markdown table, the fastest first. */
export function transferTable({ bytes, rounds, rows }: TransferResult): string {
  const lines = [
    `${formatBytes(bytes)}, medians of ${rounds} rounds, highest peak; × is the speed relative to redis-cli --rdb in the same rounds`,
    "",
    "| receiver | until durable | MB/s | × | CPU s/GiB | peak RSS | |",
    "|---|--:|--:|--:|--:|--:|---|",
  ];
  for (const row of rows.toSorted((a, b) => a.seconds - b.seconds)) {
    const loads = row.runs.map((run) => run.more?.["loadSeconds"] ?? 0);
    const load = loads.some((value) => value > 0)
      ? `then ${median(loads).toFixed(1)} s to load it`
      : "";
    lines.push(
      `| ${row.name} | ${row.seconds.toFixed(2)} s | ${row.megabytesPerSecond.toFixed(0)} | ${row.timesRedisCli?.toFixed(1) ?? ""} | ${row.cpuSecondsPerGiB.toFixed(2)} | ${row.peakRssMiB.toFixed(0)} MiB | ${load} |`,
    );
  }
  return lines.join("\n");
}
