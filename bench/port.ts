import { join } from "node:path";
import { freePort } from "../test/support/ports.ts";
import { RespClient } from "../test/support/resp-client.ts";
import { tool } from "../test/support/servers.ts";
import { MEGABYTE } from "./blaster.ts";
import { Measured, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const RATE = 20 * MEGABYTE;
const CLIENTS = 50;
/** The command that clients send, and how many they pipeline. */
const LOADS = [
  ["PING", 16],
  ["INFO", 1],
  ["INFO", 16],
] as const;
const PAUSE_MS = 5;

export interface PortRow {
  readonly load: string;
  /** Commands per second that the port answered meanwhile; 0 without clients. */
  readonly commandsPerSecond: number;
  readonly metricsMedianMs: number;
  readonly metricsP99Ms: number;
  readonly metricsMostMs: number;
}

/** Measures GET /metrics, and the port, under a stream and many clients. */
export async function benchPort(quick: boolean): Promise<PortRow[]> {
  refuseWithoutProgram();
  using scratch = scratchDirectory();
  const looks = quick ? 100 : 500;
  const rows: PortRow[] = [];
  // More than is sent before all loads are done.
  const program = [process.execPath, join(import.meta.dir, "blaster.ts")];
  const primary = new Measured([...program, "--bytes", String(RATE * 600), "--rate", String(RATE)]);
  let replica: Measured | undefined;
  try {
    const [, primaryPort] = await primary.says(/^(\d+)$/m);
    const [port, http] = [freePort(), freePort()];
    const own = ["--port", String(port), "--http", `127.0.0.1:${http}`, "--no-progress"];
    const url = `redis://127.0.0.1:${primaryPort}`;
    replica = new Measured([PROGRAM, "follow", url, "--dir", join(scratch.path, "data"), ...own]);
    await primary.says(/^online$/m);
    rows.push({ load: "the stream alone", commandsPerSecond: 0, ...(await look(http, looks)) });
    await using counter = await RespClient.connect({ port });
    for (const [command, pipelined] of LOADS) {
      const shape = ["-c", String(CLIENTS), "-P", String(pipelined), "-l", command];
      const benchmark = [...tool("redis-7.0", "redis-benchmark"), "-p", String(port), ...shape];
      const load = new Measured(benchmark);
      try {
        const before = await commandsOf(counter);
        const beganMs = performance.now();
        const seen = await look(http, looks);
        const seconds = (performance.now() - beganMs) / 1000;
        const commandsPerSecond = ((await commandsOf(counter)) - before) / seconds;
        const name = `${CLIENTS} clients, each ${pipelined} ${command} at a time`;
        rows.push({ load: name, commandsPerSecond, ...seen });
      } finally {
        await load.kill("SIGKILL");
      }
    }
  } finally {
    await replica?.kill("SIGKILL");
    await primary.kill("SIGKILL");
  }
  console.log(
    `\nport: during a stream of ${RATE / MEGABYTE} MB/s, ${looks} GET /metrics per load, ${PAUSE_MS} ms apart\n`,
  );
  console.log("| load | commands/s | /metrics median | p99 | most |\n|---|--:|--:|--:|--:|");
  for (const row of rows) {
    const rate = row.commandsPerSecond === 0 ? "" : row.commandsPerSecond.toFixed(0);
    const [median, p99, most] = [row.metricsMedianMs, row.metricsP99Ms, row.metricsMostMs].map(
      (ms) => `${ms.toFixed(2)} ms`,
    );
    console.log(`| ${row.load} | ${rate} | ${median} | ${p99} | ${most} |`);
  }
  return rows;
}

/** The number of commands that the port has answered so far. */
async function commandsOf(counter: RespClient): Promise<number> {
  const info = String(await counter.send("INFO", "stats"));
  return Number(/total_commands_processed:(\d+)/.exec(info)?.[1]);
}

async function look(httpPort: number, times: number) {
  const tookMs: number[] = [];
  for (let time = 0; time < times; time++) {
    const beganMs = performance.now();
    const response = await fetch(`http://127.0.0.1:${httpPort}/metrics`);
    const text = await response.text();
    tookMs.push(performance.now() - beganMs);
    if (!text.includes("\nreplica_link_up 1\n")) throw new Error(`/metrics answered: ${text}`);
    await Bun.sleep(PAUSE_MS);
  }
  tookMs.sort((a, b) => a - b);
  const at = (share: number) => tookMs[Math.ceil(share * tookMs.length) - 1] ?? Number.NaN;
  return { metricsMedianMs: at(0.5), metricsP99Ms: at(0.99), metricsMostMs: at(1) };
}
