/**
 * What `import … from "bun-replica"` gives, as users' compilers see it. `src/index.ts` holds itself to it; docs/LIBRARY.md
 * shows its use. Only types stand here: nothing of the program has to be read to check a user's code.
 */

import type { ErrorCode, SourceOptions, Stoppable } from "./common.d.ts";
import type { Following, FollowOptions } from "./follow.d.ts";
import type { KeyEntry, LogEntry, RdbStream, ReadKeysOptions, ReadLogOptions } from "./read.d.ts";
import type { Restored, RestoreOptions, Snapshot, Verified, VerifyOptions } from "./restore.d.ts";

export type * from "./common.d.ts";
export type * from "./follow.d.ts";
export type * from "./read.d.ts";
export type * from "./restore.d.ts";

/**
 * The one error that this library rejects with, besides a signal's own reason. Its message is one line for people: what,
 * where, and what to do next, without secrets.
 */
export declare class ReplicaError extends Error {
  readonly code: ErrorCode;
  /** Whether the same call may succeed later, or not until a person has changed something. */
  readonly retry: "backoff" | "never";
  constructor(
    code: ErrorCode,
    details: { message: string; retry?: "backoff" | "never"; cause?: unknown },
  );
}

/**
 * Follows a primary into a data directory, as `replica follow` does, in this process: durable, through breaks, by partial
 * resync where that is granted. Handles no signal, sets no exit code, and writes no log; logs go to LogTape under the
 * category `replica`, which a program may configure.
 *
 * One reader at a time: up to 1000 events wait for it, then the oldest are dropped. The iteration ends when following
 * ends, and throws what `ended` rejects with. A signal ends it as `stop()` does: that is no error.
 */
export declare function follow(options: FollowOptions, more?: Stoppable): Following;

/**
 * Lists what a data directory or an archive keeps, oldest first; also while a replica runs on it.
 * @throws ReplicaError USAGE for another source, DIRECTORY_DAMAGED, of the archive's store; the signal's reason.
 */
export declare function snapshots(source: string, options?: SourceOptions): Promise<Snapshot[]>;

/**
 * Checks every checksum and every frame of an RDB file, a data directory or an archive. Damage is a result, no error.
 * @throws ReplicaError USAGE for another source, DIRECTORY_DAMAGED for a database that can't be read at all, DISK_FAILED;
 * of the archive's store; the signal's reason.
 */
export declare function verify(source: string, options?: VerifyOptions): Promise<Verified>;

/**
 * Writes into `target`, a folder that is new or empty, what a stock server starts from, as of a kept moment. What it
 * writes is whole and durable, or not there.
 * @throws ReplicaError USAGE for a point that isn't kept, or another target; DIRECTORY_DAMAGED, ARCHIVE_DAMAGED; DISK_FULL,
 * DISK_FAILED; the signal's reason.
 */
export declare function restore(
  source: string,
  target: string,
  options?: RestoreOptions,
): Promise<Restored>;

/**
 * Reads the keys of a snapshot in flat memory, in the order of the RDB: the file is read on as fast as the keys are taken.
 * @param source an RDB file, an RDB's bytes as they come, a data directory or an archive; of these, the snapshot of a
 * generation, without the log after it.
 * @throws ReplicaError USAGE for another source, BAD_PAYLOAD or BAD_CHECKSUM for a damaged one, which is only known at its
 * end; DISK_FAILED; of the archive's store; the signal's reason.
 */
export declare function readKeys(
  source: string | RdbStream,
  options?: ReadKeysOptions,
): AsyncIterableIterator<KeyEntry>;

/**
 * Reads what was written, in order, with bytes of its own for each command; also while a replica writes. What two
 * generations hold comes once. From the position that the last entry ended at, reading goes on behind it after a restart:
 * each command comes at least once, a transaction whole again if the position lies inside.
 * @throws ReplicaError USAGE for another source, or bounds that aren't kept; LOG_GAP where what comes next is not kept, and
 * where `from` is of another history; DIRECTORY_DAMAGED, ARCHIVE_DAMAGED; DISK_FAILED; of the archive's store; the signal's
 * reason.
 */
export declare function readLog(
  source: string,
  options?: ReadLogOptions,
): AsyncIterableIterator<LogEntry>;
