import { closeSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { endWithProcess, endingWithParent } from "./children.ts";
import { compiledProgram } from "./compiled.ts";
import { tempDir } from "./temp.ts";
import { PATIENCE_MS, until } from "./wait.ts";

const projectDir = join(import.meta.dir, "../..");
const STOP_TIMEOUT_MS = 10_000;
/** On a machine that is busy, a test's own primary is silent for longer than the 5 s that a real one is given. */
const PATIENT = { REPLICA_SYNC_TIMEOUT: "60s" };

/**
 * The environment for a `replica` process: this one's without what would be a setting, such as where the tests'
 * servers are.
 */
export function programEnvironment(): Record<string, string | undefined> {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("REPLICA_"));
  return Object.fromEntries(own);
}

export interface ReplicaOptions {
  /** Added to this process's environment, without its REPLICA_… variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** The working folder. Default: the project's. */
  readonly cwd?: string;
  /**
   * What `bun run build` makes, or `bun src/main.ts`, which takes three times as long to start, or a program elsewhere.
   * Default: compiled.
   */
  readonly binary?: "source" | "compiled" | { readonly at: string };
  /** A program that executes it, such as `nohup`. */
  readonly under?: readonly string[];
}

/** How the program ended: with an exit code, or by a signal. */
export interface Ending {
  readonly exitCode: number | null;
  readonly signal: string | null;
}

/** A file that is looked at again and again while it grows; it is read only where it has. */
class Output {
  readonly #path: string;
  #bytes = 0;
  #text = "";

  constructor(path: string) {
    this.#path = path;
  }

  text(): string {
    const { size } = statSync(this.#path);
    if (size !== this.#bytes) {
      this.#text = readFileSync(this.#path, "utf8");
      this.#bytes = size;
    }
    return this.#text;
  }
}

function programOf(binary: NonNullable<ReplicaOptions["binary"]>): string[] {
  if (binary === "source") return [process.execPath, join(projectDir, "src/main.ts")];
  return [binary === "compiled" ? compiledProgram() : binary.at];
}

/** A `replica` process. */
export class ReplicaProcess implements AsyncDisposable {
  readonly #child: Bun.Subprocess<"ignore", number, number>;
  /** Output goes to files: in Bun 1.4.5 the reader of a pipe sometimes gets nothing more, not even the end. */
  readonly #outputs = tempDir("outputs");
  readonly #stdout = new Output(this.#outputs.file("stdout"));
  readonly #stderr = new Output(this.#outputs.file("stderr"));
  #rssPeakBytes = 0;

  constructor(args: readonly string[], options: ReplicaOptions) {
    const program = programOf(options.binary ?? "compiled");
    const [stdout, stderr] = ["stdout", "stderr"].map((name) =>
      openSync(this.#outputs.file(name), "a"),
    ) as [number, number];
    this.#child = Bun.spawn(endingWithParent([...(options.under ?? []), ...program, ...args]), {
      stdin: "ignore",
      stdout,
      stderr,
      cwd: options.cwd ?? projectDir,
      env: { ...programEnvironment(), ...PATIENT, NO_COLOR: "1", ...options.env },
    });
    closeSync(stdout);
    closeSync(stderr);
    endWithProcess(this.#child);
  }

  get pid(): number {
    return this.#child.pid;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Its standard output so far. */
  get stdout(): string {
    return this.#stdout.text();
  }

  /** Its standard error so far. */
  get stderr(): string {
    return this.#stderr.text();
  }

  /**
   * Waits for a matching line on standard error or output; earlier lines count.
   * @throws Error with all output on timeout, or if the program ends without such a line.
   */
  async waitForLine(pattern: RegExp, timeoutMs = PATIENCE_MS): Promise<RegExpExecArray> {
    const matcher = new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, ""));
    const find = (): RegExpExecArray | undefined => {
      for (const text of [this.stderr, this.stdout]) {
        const lines = text.split("\n");
        // The last line may be incomplete.
        if (this.isRunning) lines.pop();
        for (const line of lines) {
          const match = matcher.exec(line);
          if (match !== null) return match;
        }
      }
      return undefined;
    };
    try {
      const found = await until(
        async () => {
          const match = find();
          if (match !== undefined || this.isRunning) return match;
          return find() ?? "ended";
        },
        { timeoutMs, what: `a line like ${String(pattern)}` },
      );
      if (found === "ended")
        throw new Error(
          `replica ended (${this.#describeEnding()}) without a line like ${String(pattern)}`,
        );
      return found;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`${why}\n${this.output()}`, { cause: error });
    }
  }

  /** Both outputs, for a message. */
  output(): string {
    return `stderr:\n${this.stderr.slice(-8000)}\nstdout:\n${this.stdout.slice(-8000)}`;
  }

  signal(name: NodeJS.Signals): void {
    this.rssPeakBytes();
    this.#child.kill(name);
  }

  /** Waits until it ends. @throws Error with its output on timeout. */
  async ended(timeoutMs = PATIENCE_MS): Promise<Ending> {
    await until(() => !this.isRunning, { timeoutMs, what: "replica to end" }).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}\n${this.output()}`, { cause: error });
      },
    );
    await this.#child.exited;
    const { exitCode, signalCode } = this.#child;
    return { exitCode, signal: signalCode === null ? null : String(signalCode) };
  }

  /** Sends SIGTERM and waits for the end; SIGKILL after 10 s. */
  async stop(): Promise<Ending> {
    if (this.isRunning) {
      this.#child.kill("SIGCONT");
      this.signal("SIGTERM");
    }
    try {
      return await this.ended(STOP_TIMEOUT_MS);
    } catch {
      return await this.kill9();
    }
  }

  /** Kills it, as a crash would. */
  async kill9(): Promise<Ending> {
    if (this.isRunning) this.signal("SIGKILL");
    return await this.ended();
  }

  /** Peak memory in bytes (VmHWM); after its end, the last value read. */
  rssPeakBytes(): number {
    return (this.#rssPeakBytes = this.#statusKiB("VmHWM") ?? this.#rssPeakBytes);
  }

  /** Current memory in bytes (VmRSS); 0 after its end. */
  rssBytes(): number {
    return this.#statusKiB("VmRSS") ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#outputs.remove();
  }

  #statusKiB(field: string): number | undefined {
    try {
      const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
      const kiB = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1];
      return kiB === undefined ? undefined : Number(kiB) * 1024;
    } catch {
      return undefined;
    }
  }

  #describeEnding(): string {
    return `exit code ${this.#child.exitCode}, signal ${this.#child.signalCode}`;
  }
}

/** Starts `replica` with these arguments. It ends with `await using`, and with this process. */
export function startReplica(
  args: readonly string[],
  options: ReplicaOptions = {},
): ReplicaProcess {
  return new ReplicaProcess(args, options);
}

/** Runs `replica` to its end; returns how it ended and its output. */
export async function runReplica(
  args: readonly string[],
  options: ReplicaOptions & { readonly timeoutMs?: number } = {},
): Promise<Ending & { stdout: string; stderr: string }> {
  await using replica = startReplica(args, options);
  const ending = await replica.ended(options.timeoutMs);
  return { ...ending, stdout: replica.stdout, stderr: replica.stderr };
}
