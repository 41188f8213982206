import { join } from "node:path";
import { scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";
import { EmbeddedPrimary } from "../src/demo/primary.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const ROUNDS = 10;

/** Measures how long the compiled program takes from its start to its partial resync. */
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
    const tookMs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      tookMs.push(await startUntil(/connected by partial resync/, primary.url, dir));
    }
    tookMs.sort((a, b) => a - b);
    console.log(
      `restart: dist/replica follows by partial resync ${tookMs[ROUNDS >> 1]?.toFixed(0)} ms after its start (median of ${ROUNDS}; ${tookMs.at(-1)?.toFixed(0)} ms at most)`,
    );
  } finally {
    primary.stop();
  }
}

async function startUntil(line: RegExp, url: string, dir: string): Promise<number> {
  const beganMs = performance.now();
  const child = Bun.spawn([PROGRAM, "follow", url, "--dir", join(dir, "data"), "--port", "0"], {
    stderr: "pipe",
  });
  let said = "";
  let tookMs: number | undefined;
  for await (const bytes of child.stderr) {
    said += Buffer.from(bytes).toString();
    if (tookMs !== undefined || !line.test(said)) continue;
    tookMs = performance.now() - beganMs;
    child.kill("SIGTERM");
  }
  await child.exited;
  if (tookMs === undefined) throw new Error(`the program printed: ${said}`);
  return tookMs;
}
