import type { ReplicaError } from "../base/errors.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";

/**
 * What the primary granted: PSYNC names the history and the last byte that the snapshot covers; SYNC
 * names nothing, and only the snapshot's own aux fields may.
 */
export type FullSyncGrant =
  { readonly by: "psync"; readonly position: Position } | { readonly by: "sync" };

/**
 * Where the session stands, in Redis's names (replication.c, REPL_STATE_*). Each state holds exactly
 * what is valid in it, and no state object ever changes: the session replaces it.
 */
export type State =
  | { readonly at: "none" }
  | { readonly at: "connect" }
  | { readonly at: "connecting" }
  | HandshakeState
  | BulkHeaderState
  | ({ readonly at: "transfer" } & Transfer)
  | ({ readonly at: "connected" } & Following);

/** A command is out, and its reply is awaited. */
export type HandshakeState =
  | { readonly at: "receive-pong" }
  | { readonly at: "receive-auth" }
  | { readonly at: "receive-port" }
  | { readonly at: "receive-ip" }
  | { readonly at: "receive-capa"; readonly asked: "capa" | "rdb-only" }
  | { readonly at: "receive-version"; readonly asked: "version" | "info" }
  | { readonly at: "receive-psync"; readonly asked: Position | undefined };

/** A full resync is granted; its payload has not begun. */
export type BulkHeaderState =
  | { readonly at: "receive-bulk-header"; readonly waits: "line"; readonly grant: FullSyncGrant }
  | {
      readonly at: "receive-bulk-header";
      /** The temporary file is being opened; bytes that arrive meanwhile are held. */
      readonly waits: "file";
      readonly grant: FullSyncGrant;
      readonly form: BulkForm;
    };

/** The bulk payload that is coming in, and its file. */
export interface Transfer {
  readonly grant: FullSyncGrant;
  /** The temporary file that takes the payload. */
  readonly file: string;
  /** Length of the whole payload in bytes; undefined until the end of a `$EOF` payload. */
  readonly totalBytes: number | undefined;
  readonly readBytes: number;
  /** True once the payload is complete and is being checked, synced and named. */
  readonly finishing: boolean;
  /** Why the link broke while finishing; the payload is complete, so it is kept all the same. */
  readonly lost: ReplicaError | undefined;
}

/** The stream that is coming in. */
export interface Following {
  /** Undefined after SYNC with a primary that names no history: there is nothing to resume from. */
  readonly replid: ReplicationId | undefined;
  /** The last byte of the stream that was received. */
  readonly receivedOffset: Offset;
}
