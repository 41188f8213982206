import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface RunOptions {
  /** Default: this process's. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Default: nothing. */
  readonly stdin?: Uint8Array;
  /** It is killed after so long. Default: never. */
  readonly timeoutMs?: number;
}

/** What a program wrote, and how it ended; the code is null where it was killed. */
export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | null;
}

/**
 * Runs a program that ends by itself. Its output goes to files: in Bun 1.4.5 the reader of a pipe sometimes gets nothing
 * more, not even the end, and whoever waits for that waits forever.
 */
export async function runProgram(
  argv: readonly string[],
  { env = process.env, cwd, stdin, timeoutMs }: RunOptions = {},
): Promise<Ran> {
  const folder = mkdtempSync(join(tmpdir(), "ran-"));
  const paths = ["stdout", "stderr"].map((name) => join(folder, name)) as [string, string];
  const [stdout, stderr] = paths.map((path) => openSync(path, "w")) as [number, number];
  try {
    const child = Bun.spawn([...argv], {
      stdin: stdin ?? "ignore",
      stdout,
      stderr,
      killSignal: "SIGKILL",
      env,
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
      ...(cwd === undefined ? {} : { cwd }),
    });
    await child.exited;
    const [out, err] = paths.map((path) => readFileSync(path, "utf8")) as [string, string];
    return { stdout: out, stderr: err, exitCode: child.exitCode };
  } finally {
    closeSync(stdout);
    closeSync(stderr);
    rmSync(folder, { recursive: true, force: true });
  }
}
