import type { ReplicaError } from "../base/errors.ts";
import type { BulkForm, BulkReader } from "../resp/bulk-reader.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";

/**
 * What the primary granted: with PSYNC it names its history and the last byte that the snapshot
 * covers; with SYNC it says nothing, and only the snapshot's own aux fields may know.
 */
export type FullSyncGrant =
  { readonly by: "psync"; readonly position: Position } | { readonly by: "sync" };

/**
 * Where the replica stands, in Redis's names ("replication.c", REPL_STATE_*), each with exactly what
 * is valid in it.
 */
export type State =
  | { readonly at: "none" }
  | { readonly at: "connect" }
  | { readonly at: "connecting" }
  | { readonly at: "receive-pong" }
  | { readonly at: "receive-auth" }
  | { readonly at: "receive-port" }
  | { readonly at: "receive-ip" }
  | { readonly at: "receive-capa"; readonly asked: "capa" | "rdb-only" }
  | { readonly at: "receive-version" }
  | { readonly at: "receive-psync"; readonly asked: Position | undefined }
  | { readonly at: "receive-bulk-header"; readonly waits: "line"; readonly grant: FullSyncGrant }
  | {
      readonly at: "receive-bulk-header";
      /** The temporary file is being opened; what arrives meanwhile is held. */
      readonly waits: "file";
      readonly grant: FullSyncGrant;
      readonly form: BulkForm;
    }
  | ({ readonly at: "transfer" } & Transfer)
  | ({ readonly at: "connected" } & Following);

/** The bulk payload under way, and its file. */
export interface Transfer {
  readonly grant: FullSyncGrant;
  readonly reader: BulkReader;
  /** The temporary file that takes the payload. */
  readonly file: string;
  /** The whole payload in bytes; undefined while nobody knows (`$EOF`). */
  totalBytes: number | undefined;
  readBytes: number;
  /** Bytes of the payload that a data sync covers. */
  syncedBytes: number;
  lastByteAtMs: number;
  /** True once the payload is whole and is being checked, synced and named. */
  finishing: boolean;
  /** Why the link broke while finishing; the payload is whole, so it is kept all the same. */
  lost: ReplicaError | undefined;
}

/** The stream under way. */
export interface Following {
  /** Undefined after SYNC with a primary that names no history: there is nothing to resume from. */
  replid: ReplicationId | undefined;
  /** The last byte of the stream that has come in. */
  receivedOffset: Offset;
}
