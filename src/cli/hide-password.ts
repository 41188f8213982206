import { dlopen, FFIType, ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { joinPassword, splitPassword } from "../config/primary-url.ts";

/** Carries the URL's password through the restart, so that it stays the one that comes first. */
const variable = "REPLICA_URL_PASSWORD";

/**
 * Takes the password of a URL on the command line out of the process list: this process executes
 * itself anew (same pid), with the URL bare and its password in the environment, which only its owner
 * can read. Where that can't be done (no /proc, no glibc: macOS, Alpine) it returns, and all goes on
 * as before.
 */
export function hideUrlPassword(argv: readonly string[]): void {
  if (!argv.some((argument) => splitPassword(argument) !== undefined)) return;
  try {
    // As bytes: arguments and environment go on exactly as they came, bun's own included.
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
    // Not being able to hide it is no reason not to run: the help says where it can be seen.
  }
}

/**
 * Puts a password that `hideUrlPassword` took out back into its URL, in memory alone, and removes it
 * from `env`, so that no child process inherits it.
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

/** execve(2): returns only where it fails. */
function execute(path: string, args: readonly string[], env: readonly string[]): void {
  const libc = dlopen("libc.so.6", {
    execve: { args: [FFIType.cstring, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  });
  // The strings must outlive the call.
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
