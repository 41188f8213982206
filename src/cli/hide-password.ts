import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { bareUrl } from "../config/primary-url.ts";

/** The fields of /proc/self/stat that say where each begins in this process's memory (proc_pid_stat(5)). */
const ARG_START = 48;
const ENV_START = 50;

/**
 * Hides the passwords of URLs from the process list, and the value of a variable from /proc/self/environ, by writing
 * over them in this process's own memory, where the kernel reads both. Does nothing where that is impossible (no /proc:
 * macOS). What has started the process may still show them.
 * @param argv read before this, because Bun takes it from the same memory.
 * @param env likewise; the process keeps its value.
 */
export function hidePasswords(
  argv: readonly string[],
  variable: string,
  env: Readonly<Record<string, string | undefined>>,
): void {
  try {
    if (argv.some((argument) => bareArgument(argument) !== undefined)) {
      overwrite("/proc/self/cmdline", ARG_START, bareArgument);
    }
    if (env[variable] !== undefined) {
      const name = `${variable}=`;
      overwrite("/proc/self/environ", ENV_START, (one) =>
        one.startsWith(name) ? name : undefined,
      );
    }
  } catch {
    // Run even where a password can't be hidden; a URL's is warned of.
  }
}

/** An argument without its password: a URL, alone or behind a flag (`--into=URL`). Undefined where it has none. */
function bareArgument(argument: string): string | undefined {
  const [, flag = "", value = ""] = /^(--[a-z-]+=)?(.*)$/s.exec(argument) ?? [];
  const bare = bareUrl(value);
  return bare === undefined ? undefined : flag + bare;
}

/**
 * Replaces some of the NUL-ended strings that the kernel shows as `file`. Each begins where it was, because others
 * point there; what becomes free behind it is filled with NULs.
 */
function overwrite(
  file: string,
  startField: number,
  bare: (one: string) => string | undefined,
): void {
  // In latin1 each character is a byte: all else stays as it is.
  const strings = readFileSync(file, "latin1").split("\0");
  const shown = strings.map((one) => (bare(one) ?? one).padEnd(one.length, "\0")).join("\0");
  const memory = openSync("/proc/self/mem", "r+");
  try {
    const bytes = Buffer.from(shown, "latin1");
    writeSync(memory, bytes, 0, bytes.length, addressIn(startField));
  } finally {
    closeSync(memory);
  }
}

/** An address of user space is below 2^47, so a number holds it. */
function addressIn(field: number): number {
  const stat = readFileSync("/proc/self/stat", "latin1");
  // Field 2 is the program's name in brackets, and may hold spaces and brackets itself.
  const fromThird = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fromThird[field - 3]);
}
