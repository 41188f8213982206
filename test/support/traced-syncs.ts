import { readFileSync } from "node:fs";
import type { TempDir } from "./temp.ts";

/** All calls that wait until the device has something. */
const SYNCS = "fsync,fdatasync,sync,syncfs,sync_file_range,msync";

/** One sync: by which thread, of what. */
export interface TracedSync {
  readonly thread: number;
  readonly call: string;
}

/** Runs a program under strace(1), which records its syncs and makes each of them late. */
export class SyncTrace {
  readonly #file: string;
  /** Put this before the program's own command line. */
  readonly under: readonly string[];

  /** @param lateMs by how much each sync is late. */
  constructor(dir: TempDir, name: string, lateMs: number) {
    this.#file = dir.file(name);
    const late = `inject=fsync,fdatasync:delay_enter=${lateMs * 1000}`;
    this.under = [
      "strace",
      "-f",
      "-qq",
      "-y",
      "-o",
      this.#file,
      "-e",
      `trace=${SYNCS}`,
      "-e",
      late,
    ];
  }

  /** The syncs so far. */
  get syncs(): TracedSync[] {
    return readFileSync(this.#file, "latin1")
      .split("\n")
      .map((line) => /^(\d+) +(\w+\(.*)/.exec(line))
      .filter((match) => match !== null)
      .map(([, thread, call]) => ({ thread: Number(thread), call: call! }));
  }
}

/** Whether strace is there and may trace; where not, says so, so that a skipped test is no silent one. */
export function mayTrace(what = "which thread syncs"): boolean {
  const tried =
    Bun.which("strace") !== null &&
    Bun.spawnSync(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"], {
      stderr: "ignore",
      timeout: 20_000,
    }).success;
  if (!tried) {
    console.warn(`strace is missing here, or may not trace: ${what} is NOT tested`);
  }
  return tried;
}
