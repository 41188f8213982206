/** What went wrong, for programs: see "Error codes" in docs/OPERATIONS.md. */
export type ErrorCode =
  | "USAGE"
  | "CONNECT_FAILED"
  | "LINK_LOST"
  | "TIMED_OUT"
  | "TLS_FAILED"
  | "PRIMARY_UNKNOWN"
  | "NOT_A_PRIMARY"
  | "AUTH_FAILED"
  | "PRIMARY_BUSY"
  | "PRIMARY_REFUSED"
  | "REPLICATION_LOOP"
  | "PROTOCOL"
  | "NOT_FOLLOWING"
  | "BAD_PAYLOAD"
  | "BAD_CHECKSUM"
  | "BAD_FRAME"
  | "LOG_GAP"
  | "DISK_FULL"
  | "DISK_FAILED"
  | "DIRECTORY_IN_USE"
  | "DIRECTORY_LOST"
  | "DIRECTORY_DAMAGED"
  | "DIRECTORY_TOO_NEW"
  | "RESTORE_UNUSABLE"
  | "SERVER_FAILED"
  | "TARGET_REFUSED"
  | "KEYS_NOT_FOUND"
  | "ARCHIVE_FAILED"
  | "ARCHIVE_FORBIDDEN"
  | "ARCHIVE_CONFLICT"
  | "ARCHIVE_DAMAGED"
  | "ARCHIVE_TOO_NEW"
  | "PORT_IN_USE"
  | "LISTEN_FAILED"
  | "STOPPED"
  | "UNEXPECTED";

/** A length of time: `"90s"`, `"15m"`, `"2h"`, `"1d"`, or a number of seconds, as on the command line. */
export type Duration = string | number;

/** A number of bytes, or a text such as `"8MiB"`. */
export type Size = string | number;

/** A moment: a `Date`, or milliseconds since 1970. */
export type Moment = Date | number;

export interface Stoppable {
  /** Ends what was begun, and what it has open; the call then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How an archive is reached, where the source is the URL of one. Credentials come from the environment, as for every S3 tool. */
export interface ArchiveOptions {
  /** The address of an S3-compatible server. */
  readonly archiveEndpoint?: string | undefined;
  readonly archiveRegion?: string | undefined;
  /** The file of the age identity that reads an encrypted archive. */
  readonly archiveIdentity?: string | undefined;
}

/** What a reader of a source takes. */
export interface SourceOptions extends Stoppable, ArchiveOptions {
  /** Called with what is damaged or missing beside what was asked for, one line for people. Default: the log. */
  readonly onWarning?: ((text: string) => void) | undefined;
}

/** How far a long piece of work is: bytes of a file that are done, and all of them. */
export type OnProgress = (file: string, bytes: number, totalBytes: number) => void;
