import { closeSync, openSync, readFileSync } from "node:fs";
import { AwsV4Signer } from "aws4fetch";
import { endWithProcess, endingWithParent } from "./children.ts";
import { type TempDir, tempDir } from "./temp.ts";
import { until, within } from "./wait.ts";

/** A real S3 server that is up, with one user who may do everything. */
export interface S3Server extends AsyncDisposable {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKey: string;
  readonly secretKey: string;
  /** The variables that every S3 tool reads. */
  readonly environment: Readonly<Record<string, string>>;
  /** The ids of its processes. */
  readonly pids: readonly number[];
  /** Makes a bucket. @throws Error with what the server says. */
  createBucket(name: string): Promise<void>;
}

const START_TIMEOUT_MS = 120_000;
const SHOWN_CHARACTERS = 4_000;

interface Running {
  readonly name: string;
  readonly child: Bun.Subprocess;
}

/** The processes of one server and their folder. They end with `end`, and with this process. */
export class ServerProcesses {
  readonly #dir: TempDir;
  readonly #env: Readonly<Record<string, string>>;
  readonly #running: Running[] = [];

  constructor(purpose: string, env: Readonly<Record<string, string>> = {}) {
    this.#dir = tempDir(purpose);
    this.#env = env;
  }

  get pids(): number[] {
    return this.#running.map(({ child }) => child.pid);
  }

  file(...names: string[]): string {
    return this.#dir.file(...names);
  }

  /** Starts one that stays. What it says goes into a file. */
  start(name: string, argv: readonly string[]): void {
    const log = openSync(this.file(`${name}.log`), "a");
    const child = Bun.spawn(endingWithParent(argv), this.#options(log));
    closeSync(log);
    endWithProcess(child);
    this.#running.push({ name, child });
  }

  /** Runs one that ends. @returns its standard output. @throws Error with what it said where it fails or hangs. */
  async run(name: string, argv: readonly string[]): Promise<string> {
    const log = openSync(this.file(`${name}.log`), "a");
    const options = { ...this.#options(log), stdout: "pipe" } as const;
    const child = Bun.spawn(endingWithParent(argv), options);
    closeSync(log);
    endWithProcess(child);
    const stdout = new Response(child.stdout).text();
    try {
      const code = await within(START_TIMEOUT_MS, `${name} to end`, child.exited);
      if (code !== 0) throw new Error(`${name} ended with ${code}`);
      return await stdout;
    } catch (error) {
      child.kill("SIGKILL");
      throw this.#withLog(error, name);
    }
  }

  /** Waits until `isUp`. @throws Error with its log once one of the processes has ended. */
  async up(what: string, isUp: () => Promise<boolean>): Promise<void> {
    let ended: Running | undefined;
    const hasEnded = ({ child }: Running) => child.exitCode !== null || child.signalCode !== null;
    try {
      const condition = async () =>
        (ended = this.#running.find(hasEnded)) !== undefined || (await isUp());
      await until(condition, { what, timeoutMs: START_TIMEOUT_MS, everyMs: 20 });
      if (ended !== undefined) throw new Error(`${ended.name} ended while starting`);
    } catch (error) {
      throw this.#withLog(error, ended?.name ?? this.#running.at(-1)?.name ?? "");
    }
  }

  /** Ends all of them and removes the folder. */
  async end(): Promise<void> {
    for (const { child } of this.#running) child.kill("SIGKILL");
    await Promise.all(this.#running.map(({ child }) => child.exited));
    this.#dir.remove();
  }

  #options(log: number) {
    const env = { ...process.env, ...this.#env, LC_ALL: "C.UTF-8" };
    return { stdin: "ignore", stdout: log, stderr: log, cwd: this.#dir.path, env } as const;
  }

  /** What one of them has said. */
  log(name: string): string {
    return readFileSync(this.file(`${name}.log`), "utf8");
  }

  #withLog(error: unknown, name: string): Error {
    const why = error instanceof Error ? error.message : String(error);
    const log = this.log(name).slice(-SHOWN_CHARACTERS);
    return new Error(`${why}; the log of ${name}:\n${log}`, { cause: error });
  }
}

/** Whether it answers HTTP at all. */
export async function answers(endpoint: string): Promise<boolean> {
  const response = await fetch(endpoint, { signal: AbortSignal.timeout(2_000) });
  await response.arrayBuffer();
  return response.status < 500;
}

const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** The server, as tests see it. */
export function serverOf(
  processes: ServerProcesses,
  place: Pick<S3Server, "endpoint" | "region" | "accessKey" | "secretKey">,
): S3Server {
  const { endpoint, region, accessKey, secretKey } = place;
  return {
    ...place,
    environment: {
      AWS_ACCESS_KEY_ID: accessKey,
      AWS_SECRET_ACCESS_KEY: secretKey,
      AWS_REGION: region,
      AWS_ENDPOINT_URL: endpoint,
    },
    pids: processes.pids,
    createBucket: async (name) => {
      const signer = new AwsV4Signer({
        method: "PUT",
        url: `${endpoint}/${name}`,
        headers: { "x-amz-content-sha256": EMPTY_SHA256, "content-length": "0" },
        accessKeyId: accessKey,
        secretAccessKey: secretKey,
        service: "s3",
        region,
        allHeaders: true,
      });
      const { url, headers } = await signer.sign();
      const response = await fetch(url, { method: "PUT", headers });
      const said = await response.text();
      if (!response.ok) throw new Error(`bucket ${name} can't be made: ${response.status} ${said}`);
    },
    [Symbol.asyncDispose]: () => processes.end(),
  };
}

/** Starts again on other ports where another process has taken one meanwhile. */
export async function startedOnFreePorts<T>(start: () => Promise<T>): Promise<T> {
  for (let left = 3; ; left--) {
    try {
      return await start();
    } catch (error) {
      const isTaken = error instanceof Error && /address already in use/i.test(error.message);
      if (!isTaken || left === 0) throw error;
    }
  }
}
