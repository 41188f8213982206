import * as fs from "node:fs";
import { join } from "node:path";
import { median, peakRssOf, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";
import { EmbeddedPrimary } from "../src/demo/primary.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const ROUNDS = 20;

/** A start until the link was up. */
interface Start {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakRssBytes: number;
}

/** Measures what the compiled program takes from its start to its partial resync: without metrics, and with them. */
export async function benchRestart(): Promise<void> {
  refuseWithoutProgram();
  using scratch = scratchDirectory();
  const dir = scratch.path;
  const primary = await EmbeddedPrimary.start({
    seed: 1,
    keys: 1000,
    valueBytes: 100,
    payloadForm: "length",
    backlogBytes: 16 * 1024 * 1024,
    writesPerSecond: 1000,
  });
  try {
    await startUntil(/connected by full resync/, primary.url, dir);
    const ways = [
      { name: "dist/replica", flags: [], starts: [] as Start[] },
      { name: "with --http", flags: ["--http", "127.0.0.1:0"], starts: [] as Start[] },
    ];
    for (let round = 0; round < ROUNDS; round++) {
      for (const { flags, starts } of ways) {
        starts.push(await startUntil(/connected by partial resync/, primary.url, dir, flags));
      }
    }
    for (const { name, starts } of ways) tell(name, starts);
  } finally {
    primary.stop();
  }
}

function tell(name: string, starts: readonly Start[]): void {
  const wallMs = starts.map((start) => start.wallMs);
  const cpuMs = median(starts.map((start) => start.cpuMs));
  const rssMiB = median(starts.map((start) => start.peakRssBytes)) / 2 ** 20;
  console.log(
    `restart: ${name} follows by partial resync ${median(wallMs).toFixed(0)} ms after its start (median of ${ROUNDS}; ${Math.max(...wallMs).toFixed(0)} ms at most), after ${cpuMs.toFixed(0)} ms of CPU and with ${rssMiB.toFixed(0)} MiB`,
  );
}

async function startUntil(
  line: RegExp,
  url: string,
  dir: string,
  flags: readonly string[] = [],
): Promise<Start> {
  const beganMs = performance.now();
  const argv = [PROGRAM, "follow", url, "--dir", join(dir, "data"), "--port", "0", ...flags];
  const child = Bun.spawn(argv, { stderr: "pipe" });
  let said = "";
  let start: Start | undefined;
  for await (const bytes of child.stderr) {
    said += Buffer.from(bytes).toString();
    if (start !== undefined || !line.test(said)) continue;
    const wallMs = performance.now() - beganMs;
    start = { wallMs, cpuMs: cpuMsOf(child.pid), peakRssBytes: peakRssOf(child.pid) ?? Number.NaN };
    child.kill("SIGTERM");
  }
  await child.exited;
  if (start === undefined) throw new Error(`the program printed: ${said}`);
  return start;
}

/** The CPU time of all threads so far: as the scheduler counts it, because a tick is as long as half of a start. */
function cpuMsOf(pid: number): number {
  const threads = `/proc/${pid}/task`;
  return fs
    .readdirSync(threads)
    .map((id) => fs.readFileSync(`${threads}/${id}/schedstat`, "latin1").split(" ")[0])
    .reduce((sum, ns) => sum + Number(ns) / 1e6, 0);
}
