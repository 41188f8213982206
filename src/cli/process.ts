import { FFIType } from "bun:ffi";
import { printable } from "../base/printable.ts";
import { ReplicaError } from "../base/errors.ts";
import { checkInvariants } from "../base/invariants.ts";
import { libc } from "../base/libc.ts";
import { withoutPasswords } from "../config/redact.ts";
import { hasTerminal, isHangupIgnored } from "./hangup.ts";
import { hidePasswords } from "./hide-password.ts";
import { OutputClosed, standardError, standardOutput } from "./terminal/output.ts";

const stdout = standardOutput();
const stderr = standardError();
const stopping = new AbortController();

/** Whether errors come with their stack; a guess until the settings are known. */
let debug = false;
/** The arguments with the URL's password, which errors may quote. */
const argv: readonly string[] = process.argv.slice(2);

/**
 * The signal that asked to stop. A signal to a whole process group (Ctrl-C, systemd) also reaches `bun run` or
 * npm, which pass it on: the same signal again within this time does not count as a second one.
 */
const ECHO_MS = 500;
let asked: { readonly signal: NodeJS.Signals; readonly atMs: number } | undefined;

/** What SIGHUP does in place of a stop, and whether this one is a stop nevertheless. */
let renewal: { readonly renew: () => void; readonly isStop: () => boolean } | undefined;

/** Runs this process's command line, and ends the process with the exit code. */
export function runProcess(): void {
  process.on("uncaughtException", (error) => exit(report(error)));
  process.on("unhandledRejection", (reason) => exit(report(reason)));
  void run().then(exit, (error: unknown) => exit(report(error)));
}

async function run(): Promise<number> {
  // First, before anything else is loaded: until then, every user of this machine can read the password.
  hidePasswords(argv, "REPLICA_PASSWORD", process.env);
  debug =
    process.env["REPLICA_LOG_LEVEL"] === "debug" ||
    / --log-level[= ]debug( |$)/.test(` ${argv.join(" ")}`);
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  const isIgnored = isHangupIgnored();
  if (!isIgnored) process.on("SIGHUP", stop);
  const { runCommandLine } = await import("./run.ts");
  return await runCommandLine(argv, {
    env: process.env,
    signal: stopping.signal,
    stdout,
    stderr,
    platform: process.platform,
    onDebug: (isDebug) => {
      debug = isDebug;
      if (isDebug) checkInvariants();
    },
    onHangup: (renew) => {
      // Under nohup one that its terminal sends at its end asks for a renewal, too: it does no harm.
      renewal = { renew, isStop: isIgnored ? () => false : stopsWithTerminal() };
      process.off("SIGHUP", stop);
      process.on("SIGHUP", stop);
    },
  });
}

/** Returns what tells whether the terminal that controls this process, if one does, was closed meanwhile. */
function stopsWithTerminal(): () => boolean {
  const hadTerminal = hasTerminal();
  return () => hadTerminal !== hasTerminal();
}

/**
 * The first signal asks to stop; the second one exits at once. SIGHUP never counts as a second one: a terminal
 * that closes sends it twice, and systemd sends it together with SIGTERM at the end of a session.
 */
function stop(signal: NodeJS.Signals): void {
  const atMs = performance.now();
  if (asked !== undefined) {
    if (signal === "SIGHUP") return;
    const isEcho = asked.signal === signal || asked.signal === "SIGHUP";
    if (isEcho && atMs - asked.atMs < ECHO_MS) return;
    exit(1);
  }
  if (signal === "SIGHUP" && renewal !== undefined && !renewal.isStop()) return renewal.renew();
  asked = { signal, atMs };
  stopping.abort(new ReplicaError("STOPPED", { message: `stopped by ${signal}`, retry: "never" }));
}

/** Prints what went wrong, in one line, and returns the exit code. */
function report(error: unknown): number {
  // The reader has seen enough: `replica --help | head -1`.
  if (error instanceof OutputClosed) return 0;
  const code = error instanceof ReplicaError ? error.code : undefined;
  const message = redacted(error instanceof Error ? error.message || error.name : String(error));
  const hint =
    code === undefined && !debug
      ? " (unexpected: --log-level debug shows where it comes from)"
      : "";
  stderr.endLiveLine();
  stderr.write(`replica: ${printable(message.replace(/\s*[\r\n]+\s*/g, " "))}${hint}\n`);
  if (debug) stderr.write(`${redacted(stackOf(error))}\n`);
  switch (code) {
    case "USAGE":
      return 2;
    case "DIRECTORY_DAMAGED":
    case "RESTORE_UNUSABLE":
    case "ARCHIVE_DAMAGED":
      return 3;
    default:
      return 1;
  }
}

/** The text without the passwords of URLs, which may have been given as any argument or variable. */
function redacted(text: string): string {
  const variables = Object.entries(process.env).filter(([name]) => name.startsWith("REPLICA_"));
  return withoutPasswords(text, [...argv, ...variables.map(([, value]) => value ?? "")]);
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const stack = error.stack ?? error.message;
  return error.cause === undefined ? stack : `${stack}\ncaused by: ${stackOf(error.cause)}`;
}

/**
 * Exits at once, without Bun's own exit: that would close the database, which waits for the disk twice more,
 * and a stop may take 2 s. Everything that must be kept is already durable, and output is already written.
 */
function exit(code: number): never {
  stderr.endLiveLine();
  try {
    // oxlint-disable-next-line no-underscore-dangle -- the C library's own name
    libc({ _exit: { args: [FFIType.i32], returns: FFIType.void } }).symbols._exit(code);
  } catch {
    // The system has no such function.
  }
  process.exit(code);
}
