import * as fs from "node:fs";
import { join } from "node:path";
import { loadSettings } from "../src/config/load-settings.ts";
import { formatBytes } from "../src/base/quantity.ts";
import { encodeCommand } from "../src/resp/encode.ts";
import { DataDirectory } from "../src/store/generation/data-directory.ts";
import { realDisk } from "../src/store/disk/disk.ts";
import { setBlock } from "./blaster.ts";
import { type Figures, Measured, median, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const GENERATION = "generations/0000000001";
export const BASE = `${GENERATION}/appendonly.aof.1.base.rdb`;
const LOG = `${GENERATION}/appendonly.aof.1.incr.aof`;
const VALUE_BYTES = 1024;
const BLOCK_BYTES = 2 ** 20;

/** What one program needed for the same bytes. */
export interface RestoreRow {
  readonly what: string;
  readonly program: string;
  readonly bytes: number;
  readonly seconds: number;
  /** Speed relative to the stock tool. */
  readonly timesTool: number;
  readonly peakRssMiB: number;
}

/** Compares verify with cat, and restore with cp and sync, for a snapshot and logs of short and longer values. */
export async function benchRestore(options: {
  readonly bytes: number;
  readonly rounds: number;
}): Promise<RestoreRow[]> {
  refuseWithoutProgram();
  const rows: RestoreRow[] = [];
  const logs = [
    { name: "a log of 64-byte SETs", block: setBlock() },
    { name: "a log of 1 KiB values", block: blockOf(VALUE_BYTES) },
  ];
  for (const { name, block } of logs) {
    using scratch = scratchDirectory();
    const data = join(scratch.path, "data");
    await makeData(data, options.bytes, block, options.bytes / 2);
    if (rows.length === 0)
      rows.push(...(await verifyOf("a snapshot", data, [BASE], BASE, options.rounds)));
    rows.push(
      ...(await verifyOf(`a snapshot, and ${name}`, data, [BASE, LOG], ".", options.rounds)),
    );
    rows.push(...(await restoreOf(`a snapshot, and ${name}`, data, options.rounds)));
  }
  console.log("\n| | bytes | program | seconds | × | peak RSS |\n|---|--:|---|--:|--:|--:|");
  for (const row of rows) {
    console.log(
      `| ${row.what} | ${formatBytes(row.bytes)} | ${row.program} | ${row.seconds.toFixed(2)} | ${row.timesTool.toFixed(2)} | ${row.peakRssMiB.toFixed(0)} MiB |`,
    );
  }
  return rows;
}

function blockOf(valueBytes: number): Uint8Array {
  const value = "v".repeat(valueBytes);
  const commands = Array.from({ length: BLOCK_BYTES / valueBytes }, (_, n) =>
    encodeCommand("SET", `key:${String(n).padStart(8, "0")}`, value),
  );
  return Buffer.concat(commands);
}

/** Makes a data directory as a replica leaves it: a snapshot of `bytes`, and a log of `logBytes`. */
export async function makeData(
  data: string,
  bytes: number,
  block: Uint8Array,
  logBytes: number,
): Promise<void> {
  const program = join(import.meta.dir, "sender.ts");
  const sender = new Measured([
    process.execPath,
    program,
    "--bytes",
    String(bytes),
    "--form",
    "length",
  ]);
  const [, port = ""] = await sender.says(/^(\d+) /m);
  const flags = ["--dir", data, "--port", "0", "--no-progress"];
  const follower = new Measured([PROGRAM, "follow", `redis://127.0.0.1:${port}`, ...flags]);
  await follower.says(/connected by full resync/);
  await follower.kill("SIGTERM");
  await sender.kill("SIGTERM");
  const { fsync } = loadSettings({ env: {} });
  const directory = new DataDirectory(data, realDisk, { now: () => Date.now() });
  const log = await directory.openLog({
    fsync,
    maxQueuedBytes: 4 * BLOCK_BYTES,
    onMoved: () => undefined,
    onFailed: (error) => {
      throw error;
    },
  });
  if (log === undefined) throw new Error("the follower left no log");
  for (let written = 0; written < logBytes; written += block.length) {
    log.append(Uint8Array.from(block));
    await log.flushed();
    // Sync now and then, so that there are several marks.
    if (written % (64 * block.length) === 0) await log.sync();
  }
  await log.close();
  directory.close();
}

async function verifyOf(
  what: string,
  data: string,
  files: readonly string[],
  path: string,
  rounds: number,
): Promise<RestoreRow[]> {
  const paths = files.map((file) => join(data, file));
  const programs = [
    ["cat", () => new Measured(["sh", "-c", 'cat "$@" > /dev/null', "sh", ...paths])],
    ["replica verify", () => new Measured([PROGRAM, "verify", join(data, path), "--no-progress"])],
  ] as const;
  const bytes = sizeOf(paths);
  return [
    ...(await compare(`${what}, from the disk`, bytes, rounds, programs, () => forget(paths))),
    ...(await compare(`${what}, from the page cache`, bytes, rounds, programs)),
  ];
}

async function restoreOf(what: string, data: string, rounds: number): Promise<RestoreRow[]> {
  const target = join(data, "../target");
  const paths = [BASE, LOG].map((file) => join(data, file));
  const script = `mkdir "$0" && cp "$1" "$2" "$0" && sync "$0"/*`;
  return await compare(
    what,
    sizeOf(paths),
    rounds,
    [
      ["cp, sync", () => new Measured(["sh", "-c", script, target, ...paths])],
      ["replica restore", () => new Measured([PROGRAM, "restore", data, target, "--no-progress"])],
    ],
    () => fs.rmSync(target, { recursive: true, force: true }),
  );
}

function sizeOf(paths: readonly string[]): number {
  return paths.reduce((sum, path) => sum + fs.statSync(path).size, 0);
}

/** Drops files from the page cache, so that reads come from the disk. */
function forget(paths: readonly string[]): void {
  for (const path of paths) {
    const argv = ["dd", `if=${path}`, "iflag=nocache", "count=0", "status=none"];
    if (Bun.spawnSync(argv).exitCode !== 0) throw new Error(`dd can't forget ${path}`);
  }
}

/** Runs the stock tool and then `replica` in each round; takes the median of the ratios. */
async function compare(
  what: string,
  bytes: number,
  rounds: number,
  [tool, ours]: readonly (readonly [string, () => Measured])[],
  between: () => void = () => undefined,
): Promise<RestoreRow[]> {
  const runs: { tool: Figures; ours: Figures }[] = [];
  for (let round = 0; round < rounds; round++) {
    between();
    const first = await tool![1]().ends();
    between();
    runs.push({ tool: first, ours: await ours![1]().ends() });
  }
  between();
  const row = (program: string, side: "tool" | "ours"): RestoreRow => ({
    what,
    program,
    bytes,
    seconds: median(runs.map((run) => run[side].seconds)),
    timesTool: median(runs.map((run) => run.tool.seconds / run[side].seconds)),
    peakRssMiB: Math.max(...runs.map((run) => run[side].peakRssBytes)) / 2 ** 20,
  });
  return [row(tool![0], "tool"), row(ours![0], "ours")];
}
