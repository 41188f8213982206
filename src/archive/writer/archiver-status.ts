import type { ErrorCode, ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import type { ObjectKind } from "./generation-writer.ts";

/** What the archive has got since the start. */
export interface SentObjects {
  readonly objects: number;
  /** Their size in the store. */
  readonly bytes: number;
}

export interface ArchiverStatus {
  /** The generation that is being archived; undefined before the first. */
  readonly generation: number | undefined;
  /** Up to where that one can be restored from the archive; undefined before its base is whole there. */
  readonly archivedOffset: Offset | undefined;
  /** Durable bytes that the archive lacks: of the logs, and of the bases. */
  readonly lagBytes: number;
  readonly lagBaseBytes: number;
  /** For how long the oldest byte of a log that the archive lacks has been written, in milliseconds; 0: it lacks none. */
  readonly lagMs: number;
  readonly sent: Readonly<Record<ObjectKind, SentObjects>>;
  /** How often each code has failed since the start. */
  readonly failures: ReadonlyMap<ErrorCode, number>;
  /** Why the archive gets nothing at present; undefined while all is well. */
  readonly error: ReplicaError | undefined;
  /** The generations that were given up, each with its reason. */
  readonly stopped: ReadonlyMap<number, ReplicaError>;
}
