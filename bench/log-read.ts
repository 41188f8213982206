import * as fs from "node:fs";
import { join } from "node:path";
import { selectCommand } from "../src/resp/encode.ts";
import { fileNames, generationPath } from "../src/store/generation/layout.ts";
import { encodeCommand } from "../test/support/resp.ts";
import { rdbOf } from "../test/store/rdb.ts";
import { median, scratchDirectory } from "./measure.ts";
import { refuseWithoutProgram } from "./receivers.ts";

const PROGRAM = join(import.meta.dir, "../dist/replica");
const ROUNDS = 5;
const BATCH = 20_000;
/** As many keys take turns. */
const KEYS = 1_000_000;

const WAYS = [
  { name: "--key of one key", flags: ["--key", "user:424242:*"] },
  { name: "--key of none", flags: ["--key", "nobody:*"] },
  { name: "--key '*42*'", flags: ["--key", "*42*"] },
  { name: "--command DEL", flags: ["--command", "DEL"] },
  { name: "--json of all", flags: ["--json"] },
] as const;

/** Measures `replica log` on a log of small commands: the time of the compiled program from its start to its end. */
export async function benchLogRead(quick: boolean): Promise<Record<string, number>> {
  refuseWithoutProgram();
  using scratch = scratchDirectory();
  const bytes = writeLog(scratch.path, quick ? 64e6 : 512e6);
  const results: Record<string, number> = {};
  for (const { name, flags } of WAYS) {
    const seconds: number[] = [];
    for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
      const startedMs = performance.now();
      const child = Bun.spawn([PROGRAM, "log", scratch.path, ...flags], {
        stdin: "ignore",
        stdout: Bun.file("/dev/null"),
        stderr: "ignore",
      });
      if ((await child.exited) !== 0) throw new Error(`replica log ${flags.join(" ")} failed`);
      seconds.push((performance.now() - startedMs) / 1000);
    }
    results[name] = bytes / 1e6 / median(seconds);
    console.log(`log-read: ${name}: ${results[name].toFixed(0)} MB/s`);
  }
  return results;
}

/** A data directory without a database: one generation, its log full of SETs of 60 to 140 bytes. @returns its bytes. */
function writeLog(dir: string, leastBytes: number): number {
  const generation = join(dir, generationPath(1));
  fs.mkdirSync(generation, { recursive: true });
  const { base, log } = fileNames(1);
  fs.writeFileSync(join(generation, base), rdbOf(500));
  const path = join(generation, log);
  fs.writeFileSync(path, selectCommand(3));
  let bytes = 0;
  for (let n = 0; bytes < leastBytes;) {
    const batch: Uint8Array[] = [];
    for (; batch.length < BATCH; n++) {
      batch.push(encodeCommand(["SET", `user:${n % KEYS}:name`, "v".repeat(60 + (n % 80))]));
    }
    const joined = Buffer.concat(batch);
    fs.appendFileSync(path, joined);
    bytes += joined.length;
  }
  return bytes;
}
