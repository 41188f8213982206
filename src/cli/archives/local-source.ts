import { type Stats, statSync } from "node:fs";
import { usageError } from "../../base/errors.ts";

/**
 * Whether a path is a directory rather than a file. Anything else is refused: opening a pipe without a writer would wait
 * forever.
 * @param give what the command takes, after "give".
 * @throws ReplicaError USAGE, also where nothing is there.
 */
export function isDirectory(path: string, give: string): boolean {
  let found: Stats;
  try {
    found = statSync(path);
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    throw usageError(
      `can't open ${path}: ${isMissing ? "there is no such file or directory" : String(cause)}`,
      cause,
    );
  }
  if (found.isFile() || found.isDirectory()) return found.isDirectory();
  throw usageError(`${path} is neither a file nor a directory: give ${give}`);
}
