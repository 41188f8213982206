/**
 * What went wrong, for programs. The message says it for people: what, where, and what to do next.
 */
export type ErrorCode =
  // The command line, a variable, the settings file.
  | "USAGE"
  // The link.
  | "CONNECT_FAILED"
  | "LINK_LOST"
  | "TIMED_OUT"
  | "TLS_FAILED"
  // No Sentinel reports a primary.
  | "PRIMARY_UNKNOWN"
  // The primary's answers.
  | "NOT_A_PRIMARY"
  | "AUTH_FAILED"
  | "PRIMARY_BUSY"
  | "PRIMARY_REFUSED"
  // It is this replica itself, or is fed by it.
  | "REPLICATION_LOOP"
  | "PROTOCOL"
  | "NOT_FOLLOWING"
  // The snapshot.
  | "BAD_PAYLOAD"
  | "BAD_CHECKSUM"
  // The log.
  | "BAD_FRAME"
  // What follows isn't kept, or is of another history: who follows the log must begin anew.
  | "LOG_GAP"
  // The disk and the data directory.
  | "DISK_FULL"
  | "DISK_FAILED"
  | "DIRECTORY_IN_USE"
  | "DIRECTORY_LOST"
  | "DIRECTORY_DAMAGED"
  | "DIRECTORY_TOO_NEW"
  // A restore, and the stock server started on it: the files are at fault, or the server is.
  | "RESTORE_UNUSABLE"
  | "SERVER_FAILED"
  // The running server that keys are brought into.
  | "TARGET_REFUSED"
  // Keys that were asked for: there are none.
  | "KEYS_NOT_FOUND"
  // The archive: it can't be reached or fails, forbids, holds other bytes under a name that is written once, is damaged.
  | "ARCHIVE_FAILED"
  | "ARCHIVE_FORBIDDEN"
  | "ARCHIVE_CONFLICT"
  | "ARCHIVE_DAMAGED"
  | "ARCHIVE_TOO_NEW"
  // This process.
  | "PORT_IN_USE"
  | "LISTEN_FAILED"
  | "STOPPED"
  // What none of the above is: a bug, which the library must tell by this class too.
  | "UNEXPECTED";

/** Whether to try again after the back-off, or not until a person has changed something. */
export type Retry = "backoff" | "never";

/**
 * The one error that reaches people. Its message is one line without secrets; `cause` is the error that
 * was caught, shown at `--log-level debug`.
 */
export class ReplicaError extends Error {
  readonly code: ErrorCode;
  readonly retry: Retry;

  constructor(code: ErrorCode, details: { message: string; retry?: Retry; cause?: unknown }) {
    super(details.message, details.cause === undefined ? {} : { cause: details.cause });
    this.name = "ReplicaError";
    this.code = code;
    this.retry = details.retry ?? "backoff";
  }
}

/** The error for a wrong command line, setting, URL or path: exit code 2, and a retry can't help. */
export function usageError(message: string, cause?: unknown): ReplicaError {
  return new ReplicaError("USAGE", { message, retry: "never", cause });
}

/**
 * Asserts what only a bug in this program can break. Bad input from a peer, a file or a person must never
 * get here: that is a ReplicaError.
 */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`);
}

/** Ends an exhaustive switch: if a case is added and not handled, the program no longer compiles. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}

/**
 * What went wrong, and what was found out about it, as one sentence.
 * @param cause figures that complete the message ("after 2 MiB of 9 MiB"), a clause of its own, or nothing.
 */
export function withCause(message: string, cause: string): string {
  if (cause === "") return message;
  return `${message}${/^(?:after |\()/.test(cause) ? " " : "; "}${cause}`;
}
