import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endingWithParent, endWithProcess } from "../test/support/children.ts";

/** The measurements of one run. */
export interface Figures {
  /** Until everything was durable, or dropped. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
  /** Further measurements, such as the time in which a server loads what was transferred. */
  readonly more?: Readonly<Record<string, number>>;
}

const scratchDirectories = new Set<string>();
process.on("exit", () => {
  for (const path of scratchDirectories) fs.rmSync(path, { recursive: true, force: true });
});
// Stop on a signal: the files are large, and the processes busy.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));

/** A scratch directory, removed by `using` and at the latest when this process exits. */
export function scratchDirectory(): { readonly path: string } & Disposable {
  const path = fs.mkdtempSync(join(tmpdir(), "replica-bench-"));
  scratchDirectories.add(path);
  return {
    path,
    [Symbol.dispose]: () => {
      fs.rmSync(path, { recursive: true, force: true });
      scratchDirectories.delete(path);
    },
  };
}

/** A run that takes longer hangs; it is killed, and the bench fails. */
const RUN_LIMIT_MS = 600_000;
const TICKS_A_SECOND = 100;
const SAMPLE_MS = 10;

/** The CPU time of a process so far; undefined once it is gone. */
export function cpuSecondsOf(pid: number): number | undefined {
  const stat = readProc(pid, "stat");
  if (stat === undefined) return undefined;
  // The name in parentheses may contain spaces, so count fields after it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}

/** The peak resident memory of a process; undefined once it is gone. */
export function peakRssOf(pid: number): number | undefined {
  const kib = /^VmHWM:\s+(\d+) kB/m.exec(readProc(pid, "status") ?? "")?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

function readProc(pid: number, name: string): string | undefined {
  try {
    return fs.readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return undefined;
  }
}

/** A child process whose peak memory is sampled while it runs: wait(2) would include this process, from before exec. */
export class Measured {
  readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly beganMs = performance.now();
  said = "";
  #peakRssBytes = 0;
  readonly #sampler: ReturnType<typeof setInterval>;
  readonly #limit: ReturnType<typeof setTimeout>;
  readonly #read: Promise<unknown>;
  #onSaid: () => void = () => undefined;

  /** @param env variables that it gets besides those of this process. */
  constructor(argv: readonly string[], cwd?: string, env: Readonly<Record<string, string>> = {}) {
    this.child = Bun.spawn(endingWithParent(argv), {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...env },
      ...(cwd === undefined ? {} : { cwd }),
    });
    endWithProcess(this.child);
    this.#limit = setTimeout(() => this.child.kill("SIGKILL"), RUN_LIMIT_MS);
    this.#sampler = setInterval(() => this.#sample(), SAMPLE_MS);
    this.#read = Promise.all([this.#collect(this.child.stdout), this.#collect(this.child.stderr)]);
  }

  #sample(): void {
    this.#peakRssBytes = Math.max(this.#peakRssBytes, peakRssOf(this.child.pid) ?? 0);
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const bytes of stream) {
      this.said += Buffer.from(bytes).toString();
      this.#onSaid();
    }
  }

  get seconds(): number {
    return (performance.now() - this.beganMs) / 1000;
  }

  /** The measurements so far. */
  figures(more?: Record<string, number>): Figures {
    this.#sample();
    const cpuSeconds = cpuSecondsOf(this.child.pid) ?? 0;
    const { seconds } = this;
    const peakRssBytes = this.#peakRssBytes;
    return { seconds, cpuSeconds, peakRssBytes, ...(more === undefined ? {} : { more }) };
  }

  /** Writes to its standard input. */
  tell(text: string): void {
    void this.child.stdin.write(text);
    void this.child.stdin.flush();
  }

  /** Resolves with the match once the output matches. @throws Error if the process ends first. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    const found = Promise.withResolvers<RegExpExecArray>();
    const look = () => {
      const match = pattern.exec(this.said);
      if (match !== null) found.resolve(match);
    };
    this.#onSaid = look;
    look();
    const ended = Promise.all([this.child.exited, this.#read]).then(() => {
      look();
      found.reject(new Error(`it ended: ${this.said.slice(-2000)}`));
    });
    ended.catch(() => undefined);
    return await found.promise;
  }

  /** Waits until the process exits. @throws Error unless it exits with 0. */
  async ends(): Promise<Figures> {
    const exitCode = await this.child.exited;
    const { seconds } = this;
    await this.#stop();
    if (exitCode !== 0) throw new Error(`it ended with ${exitCode}: ${this.said.slice(-2000)}`);
    const cpuTime = this.child.resourceUsage()?.cpuTime.total ?? 0n;
    return { seconds, cpuSeconds: Number(cpuTime) / 1e6, peakRssBytes: this.#peakRssBytes };
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.child.kill(signal);
    await this.child.exited;
    await this.#stop();
  }

  async #stop(): Promise<void> {
    clearInterval(this.#sampler);
    clearTimeout(this.#limit);
    await this.#read;
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
