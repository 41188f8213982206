import { resolve } from "node:path";
import { ReplicaError, usageError } from "../base/errors.ts";

/** `--version` prints one line and reads no file. */
const VERSION_TIMEOUT_MS = 10_000;

/** The program of a stock server. */
export interface ServerProgram {
  readonly product: "Redis" | "Valkey";
  /** `7.0.15`. */
  readonly version: string;
  readonly major: number;
  readonly minor: number;
  /** The command to run it with, without arguments. */
  readonly argv: readonly string[];
}

/** Its name for people: `Redis 7.0.15`. */
export function nameOf({ product, version }: ServerProgram): string {
  return `${product} ${version}`;
}

/** Whether its clusters can have databases beside 0 ("Valkey 9.0": cluster-databases). */
export function hasClusterDatabases({ product, major }: ServerProgram): boolean {
  return product === "Valkey" && major >= 9;
}

/**
 * Finds the server to start: `path` if given, else `redis-server` or `valkey-server` on PATH.
 * @param path a path, or a name to look up on PATH.
 * @throws ReplicaError USAGE if `path` is not such a server, SERVER_FAILED if there is none on PATH.
 */
export async function findServer(path: string | undefined): Promise<ServerProgram> {
  const found =
    path === undefined
      ? (onPath("redis-server") ?? onPath("valkey-server"))
      : path.includes("/")
        ? resolve(path)
        : onPath(path);
  if (found === null) {
    throw path === undefined
      ? new ReplicaError("SERVER_FAILED", {
          retry: "never",
          message:
            "neither redis-server nor valkey-server is on PATH: install one, or give one with --server PATH",
        })
      : notOne(path, "it is not on PATH");
  }
  // With the guard first, then without: not every setpriv has --pdeathsig.
  const ways = [...guard(), []].map((words) => [...words, found]);
  let said: unknown;
  for (const argv of ways) {
    try {
      const text = await versionText(argv);
      const about = parseServerVersion(text);
      if (about !== undefined) return { ...about, argv };
      said = `--version says "${text.replace(/\s+/g, " ").slice(0, 100).trim()}"`;
    } catch (cause) {
      said = cause;
    }
  }
  throw notOne(found, said);
}

/** Looks a name up on the current PATH; by default Bun uses the PATH of its start. */
function onPath(name: string): string | null {
  return Bun.which(name, { PATH: process.env["PATH"] ?? "" });
}

function notOne(path: string, why: unknown): ReplicaError {
  const text = why instanceof Error ? why.message : String(why);
  return usageError(
    `${path} is not a redis-server or valkey-server that runs here (${text}): give one with --server PATH`,
    why,
  );
}

/**
 * The command prefix that makes the kernel kill the server when this process dies, even if by SIGKILL.
 * Empty if the machine has no setpriv. It reaches only the process started here, so a wrapper script must
 * `exec` the server.
 */
function guard(): string[][] {
  const setpriv = onPath("setpriv");
  return setpriv === null ? [] : [[setpriv, "--pdeathsig", "KILL", "--"]];
}

async function versionText(argv: readonly string[]): Promise<string> {
  const child = Bun.spawn([...argv, "--version"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
    env: serverEnvironment(),
    timeout: VERSION_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const [text] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  return text;
}

/** Reads `Redis server v=7.0.15 sha=…`, `Valkey server v=8.1.1 …`; undefined for anything else. */
function parseServerVersion(text: string): Omit<ServerProgram, "argv"> | undefined {
  const match = /^(Redis|Valkey) server v=((\d+)\.(\d+)\.\d+\S*)/m.exec(text);
  if (match === null) return undefined;
  return {
    product: match[1] === "Redis" ? "Redis" : "Valkey",
    version: match[2]!,
    major: Number(match[3]),
    minor: Number(match[4]),
  };
}

/**
 * The environment without this program's variables, which may include a password, and in the locale that every
 * machine has: Redis 8 and Valkey don't start with one that is not installed, as ssh often hands one on.
 */
export function serverEnvironment(): Record<string, string | undefined> {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith("REPLICA_"));
  return { ...Object.fromEntries(entries), LC_ALL: "C" };
}
