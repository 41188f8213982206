import { ReplicaError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";
import { diskError } from "../disk/disk.ts";

/** The second one: there is no room for the file beside the database that SQLite shares with readers. */
const FULL = /^SQLITE_(?:FULL|IOERR_SHMSIZE)$/;

/** What to do next, which SQLite does not say. It reports a quota as any other failed write. */
const SQLITE_HINTS: readonly (readonly [RegExp, string])[] = [
  [FULL, "the disk is full: make room"],
  [/^SQLITE_BUSY/, "another process keeps it locked: stop the process that has it open"],
  [/^SQLITE_READONLY/, "it is read-only: change its owner, or remount the file system"],
  [/^SQLITE_CANTOPEN/, "it can't be opened: check the folder and its owner"],
  [/^SQLITE_IOERR/, "the device reports an error, or a limit is reached: check disk and quota"],
];

/** An error of SQLite as people read it: what was done to which file, why it failed, what to do next. */
export function databaseError(path: string, cause: unknown, doing = "writing"): ReplicaError {
  if (cause instanceof ReplicaError) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  // SQLITE_ERROR: a table or a column is missing.
  if (code === "SQLITE_NOTADB" || code === "SQLITE_CORRUPT" || code === "SQLITE_ERROR") {
    // SQLite quotes what the file holds: the name of a table, the text of a trigger.
    const what = printable(cause instanceof Error ? cause.message : "");
    return new ReplicaError("DIRECTORY_DAMAGED", {
      retry: "never",
      message: `${path} is damaged (${code}: ${what}): restore it from a copy, or start with a new --dir`,
      cause,
    });
  }
  const hint = SQLITE_HINTS.find(([codes]) => codes.test(code))?.[1];
  if (hint === undefined) return diskError(doing, path, cause);
  return new ReplicaError(FULL.test(code) ? "DISK_FULL" : "DISK_FAILED", {
    message: `${doing} ${path}: ${hint} (${code})`,
    cause,
  });
}
