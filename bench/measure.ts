import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endingWithParent, endWithProcess } from "../test/support/children.ts";

/** What one run of a receiver came to. */
export interface Figures {
  /** Until all of it was durable, or dropped. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
  /** Figures of its own, such as the load of a server after its transfer. */
  readonly more?: Readonly<Record<string, number>>;
}

const scratchFolders = new Set<string>();
process.on("exit", () => {
  for (const path of scratchFolders) fs.rmSync(path, { recursive: true, force: true });
});
// What began a bench may end it: its files are large, and its processes busy.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));

/** A folder for what is measured, gone with `using` and, in any case, with this process. */
export function scratchFolder(): { readonly path: string } & Disposable {
  const path = fs.mkdtempSync(join(tmpdir(), "replica-bench-"));
  scratchFolders.add(path);
  return {
    path,
    [Symbol.dispose]: () => {
      fs.rmSync(path, { recursive: true, force: true });
      scratchFolders.delete(path);
    },
  };
}

/** No run takes so long; one that hangs ends the bench. */
const RUN_LIMIT_MS = 600_000;
const TICKS_A_SECOND = 100;
const SAMPLE_MS = 10;

/** CPU time of a process so far; undefined once it is gone. */
export function cpuSecondsOf(pid: number): number | undefined {
  const stat = readProc(pid, "stat");
  if (stat === undefined) return undefined;
  // The name in parentheses may hold spaces: what follows it is counted from there.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}

/** The most that was ever resident of a process; undefined once it is gone. */
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

/** A child whose peak is looked at while it lives: what wait(2) tells includes our own, from before exec. */
export class Measured {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly beganMs = performance.now();
  said = "";
  #peakRssBytes = 0;
  readonly #sampler: ReturnType<typeof setInterval>;
  readonly #limit: ReturnType<typeof setTimeout>;
  readonly #read: Promise<unknown>;
  #onSaid: () => void = () => undefined;

  constructor(argv: readonly string[], cwd?: string) {
    this.child = Bun.spawn(endingWithParent(argv), {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
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

  /** What it has used until now. */
  figures(more?: Record<string, number>): Figures {
    this.#sample();
    const cpuSeconds = cpuSecondsOf(this.child.pid) ?? 0;
    const { seconds } = this;
    const peakRssBytes = this.#peakRssBytes;
    return { seconds, cpuSeconds, peakRssBytes, ...(more === undefined ? {} : { more }) };
  }

  /** Resolves with the match once it has said so. @throws Error where it ends before. */
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

  /** Waits until it has ended by itself, with 0. */
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
