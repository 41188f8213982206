import { dlopen, FFIType, ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { joinPassword, splitPassword } from "../config/primary-url.ts";

/** Carries the URL's password across the re-execution, so that it keeps its precedence. */
const variable = "REPLICA_URL_PASSWORD";

/**
 * Hides the password of a URL on the command line from the process list: the process executes itself
 * again (same pid), with the password moved from the URL to the environment, which only its owner can
 * read. Returns without doing anything if that is impossible (no /proc or no glibc: macOS, Alpine).
 */
export function hideUrlPassword(argv: readonly string[]): void {
  if (!argv.some((argument) => splitPassword(argument) !== undefined)) return;
  try {
    // As bytes, so that arguments and environment are passed on unchanged, Bun's own included.
    const commandLine = readStrings("/proc/self/cmdline");
    let password: string | undefined;
    const bare = commandLine.map((argument) => {
      const split = splitPassword(argument);
      password ??= split?.password;
      return split?.url ?? argument;
    });
    if (password === undefined) return;
    const environment = readStrings("/proc/self/environ").filter(
      (entry) => !entry.startsWith(`${variable}=`),
    );
    execute(process.execPath, bare, [...environment, `${variable}=${password}`]);
  } catch {
    // Run even where the password can't be hidden; the help says where it can be seen.
  }
}

/**
 * Puts the password that `hideUrlPassword` removed back into its URL, in memory only, and removes it from
 * `env`, so that no child process inherits it.
 */
export function restoreUrlPassword(
  argv: readonly string[],
  env: Record<string, string | undefined>,
): string[] {
  const password = env[variable];
  if (password === undefined) return [...argv];
  const index = argv.findIndex((argument) => joinPassword(argument, password) !== undefined);
  if (index === -1) return [...argv];
  delete env[variable];
  return argv.with(index, joinPassword(argv[index]!, password)!);
}

function readStrings(path: string): string[] {
  return readFileSync(path, "latin1").split("\0").slice(0, -1);
}

/** Calls execve(2), which returns only if it fails. */
function execute(path: string, args: readonly string[], env: readonly string[]): void {
  const libc = dlopen("libc.so.6", {
    execve: { args: [FFIType.cstring, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  });
  // Keep the strings alive during the call.
  const strings: Buffer[] = [];
  const pointers = (texts: readonly string[]): BigUint64Array => {
    const list = new BigUint64Array(texts.length + 1);
    for (const [index, text] of texts.entries()) {
      const bytes = Buffer.from(`${text}\0`, "latin1");
      strings.push(bytes);
      list[index] = BigInt(ptr(bytes));
    }
    return list;
  };
  libc.symbols.execve(Buffer.from(`${path}\0`), ptr(pointers(args)), ptr(pointers(env)));
  libc.close();
}
