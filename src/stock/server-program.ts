import { resolve } from "node:path";
import { ReplicaError, usageError } from "../base/errors.ts";

/** `--version` says one line, without reading any file. */
const VERSION_TIMEOUT_MS = 10_000;

/** A stock server's program, as it was found. */
export interface ServerProgram {
  readonly product: "Redis" | "Valkey";
  /** `7.0.15`. */
  readonly version: string;
  readonly major: number;
  readonly minor: number;
  /** The words to run it with, to which its arguments are added. */
  readonly argv: readonly string[];
}

/** As people call it: `Redis 7.0.15`. */
export function nameOf({ product, version }: ServerProgram): string {
  return `${product} ${version}`;
}

/**
 * Finds the server to boot: the one at `path`, else `redis-server`, else `valkey-server` on PATH.
 * @param path a path, or a name that is looked for on PATH.
 * @throws ReplicaError USAGE where `path` is no such server, SERVER_FAILED where there is none.
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
            "neither redis-server nor valkey-server is on PATH: install one, or name one with --server PATH",
        })
      : notOne(path, "it is not on PATH");
  }
  // Through the guard first: not every setpriv knows how.
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

/** By the PATH of now; without being told, Bun takes that of the start. */
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
 * The words before a program that let the kernel end it with us, even where we are killed and no code
 * of ours runs any more. None where the machine has no such tool; and a script in the program's place
 * must `exec` it, since only the process that we start ends so.
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
    env: foreignEnvironment(),
    timeout: VERSION_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const [text] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  return text;
}

/** Reads `Redis server v=7.0.15 sha=…`, `Valkey server v=8.1.1 …`; undefined for anything else. */
export function parseServerVersion(text: string): Omit<ServerProgram, "argv"> | undefined {
  const match = /^(Redis|Valkey) server v=((\d+)\.(\d+)\.\d+\S*)/m.exec(text);
  if (match === null) return undefined;
  return {
    product: match[1] === "Redis" ? "Redis" : "Valkey",
    version: match[2]!,
    major: Number(match[3]),
    minor: Number(match[4]),
  };
}

/** Our environment without our own variables: one of them may hold a password. */
export function foreignEnvironment(): Record<string, string | undefined> {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith("REPLICA_"));
  return Object.fromEntries(entries);
}
