import { ReplicaError } from "../../base/errors.ts";
import { diskError } from "../disk/disk.ts";

/** What SQLite's own words leave open: what to do next. It tells of a quota as of any failed write. */
const SQLITE_HINTS: readonly (readonly [RegExp, string])[] = [
  [/^SQLITE_FULL$/, "the disk is full: make room"],
  [/^SQLITE_BUSY/, "somebody else keeps it locked: end what has it open"],
  [/^SQLITE_READONLY/, "it can't be written: change its owner, or remount the file system"],
  [/^SQLITE_CANTOPEN/, "it can't be opened: check the folder, and its owner"],
  [/^SQLITE_IOERR/, "the device reports an error, or a limit is reached: check disk and quota"],
];

/** An error of SQLite as people should read it. */
export function databaseError(path: string, cause: unknown, doing = "writing"): ReplicaError {
  if (cause instanceof ReplicaError) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  // SQLITE_ERROR: a table or a column is missing.
  if (code === "SQLITE_NOTADB" || code === "SQLITE_CORRUPT" || code === "SQLITE_ERROR") {
    return new ReplicaError("DIRECTORY_DAMAGED", {
      retry: "never",
      message: `${path} is damaged (${code}: ${cause instanceof Error ? cause.message : ""}): restore it from a copy, or start with a new --dir`,
      cause,
    });
  }
  const hint = SQLITE_HINTS.find(([codes]) => codes.test(code))?.[1];
  if (hint === undefined) return diskError(doing, path, cause);
  return new ReplicaError(code === "SQLITE_FULL" ? "DISK_FULL" : "DISK_FAILED", {
    message: `${doing} ${path}: ${hint} (${code})`,
    cause,
  });
}
