import type { ReplicaError } from "../base/errors.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import type { Offset, Position, ReplicationId } from "../base/history.ts";
import type { FullSyncGrant } from "./state.ts";

/** What happens to a session. Times are milliseconds of a clock that never runs backwards. */
export type Event =
  /** Follow a primary from now on. */
  | { readonly type: "follow" }
  /** REPLICAOF NO ONE: leave the primary, in whatever state the link is. */
  | { readonly type: "leave" }
  /** Make an attempt; `resume` is the last byte that is kept, where there is one. */
  | { readonly type: "attempt"; readonly nowMs: number; readonly resume: Position | undefined }
  | { readonly type: "opened"; readonly nowMs: number }
  | { readonly type: "bytes"; readonly nowMs: number; readonly bytes: Uint8Array }
  /** The link broke, or what an effect asked for could not be done. */
  | { readonly type: "lost"; readonly error: ReplicaError }
  | { readonly type: "snapshot-opened"; readonly nowMs: number; readonly file: string }
  | { readonly type: "snapshot-synced"; readonly bytes: number }
  /** The snapshot is whole, verified, durable and named; `position` is where the stream stands. */
  | {
      readonly type: "snapshot-kept";
      readonly nowMs: number;
      readonly replid: ReplicationId | undefined;
      readonly receivedOffset: Offset;
    }
  | { readonly type: "snapshot-failed"; readonly error: ReplicaError }
  /** The clock. While the link is paused for our own disk, silence is ours, not the primary's. */
  | { readonly type: "tick"; readonly nowMs: number; readonly paused: boolean };

/** What the link and the store are to do, in this order. */
export type Effect =
  | { readonly do: "open-link" }
  | { readonly do: "close-link" }
  | { readonly do: "send"; readonly bytes: Uint8Array }
  | { readonly do: "note"; readonly level: "info" | "warn"; readonly message: string }
  /** Open the temporary file, and say `snapshot-opened`; no payload comes before. */
  | { readonly do: "open-snapshot"; readonly grant: FullSyncGrant; readonly form: BulkForm }
  | { readonly do: "payload"; readonly bytes: Uint8Array }
  /** The payload is whole: check, sync and name it, and say `snapshot-kept` or `snapshot-failed`. */
  | { readonly do: "finish-snapshot" }
  | { readonly do: "discard-snapshot" }
  /** The primary continues where we stopped, perhaps under a new replication id. */
  | { readonly do: "continue"; readonly replid: ReplicationId | undefined }
  | { readonly do: "stream"; readonly bytes: Uint8Array }
  /** Acknowledge as soon as everything up to `offset` is written. */
  | { readonly do: "acknowledge"; readonly offset: Offset }
  /** The attempt is over; the next one comes after the back-off. */
  | { readonly do: "failed"; readonly error: ReplicaError };
