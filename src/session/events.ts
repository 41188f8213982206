import type { ReplicaError } from "../base/errors.ts";
import type { Offset, ReplicationId } from "../base/history.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import type { AttemptTerms } from "./handshake.ts";
import type { FullSyncGrant, State } from "./state.ts";

/** Where the stream begins after a snapshot. */
export interface StreamStart {
  /** Undefined where the primary names no history. */
  readonly replid: ReplicationId | undefined;
  /** The last byte of the stream that was received: the snapshot's offset, and what came after it. */
  readonly receivedOffset: Offset;
}

/** What happens to a session. Times are milliseconds of a clock that never runs backwards. */
export type Event =
  /** Follow a primary from now on. */
  | { readonly type: "follow" }
  /** REPLICAOF NO ONE: leave the primary, in whatever state the link is. */
  | { readonly type: "leave" }
  /** Make an attempt. */
  | ({ readonly type: "attempt"; readonly nowMs: number } & AttemptTerms)
  | { readonly type: "opened"; readonly nowMs: number }
  | { readonly type: "bytes"; readonly nowMs: number; readonly bytes: Uint8Array }
  /** The link broke. */
  | { readonly type: "lost"; readonly error: ReplicaError }
  /** The same of the second link of a full sync. */
  | { readonly type: "second-opened"; readonly nowMs: number }
  | { readonly type: "second-bytes"; readonly nowMs: number; readonly bytes: Uint8Array }
  | { readonly type: "second-lost"; readonly error: ReplicaError }
  | { readonly type: "snapshot-opened"; readonly nowMs: number; readonly file: string }
  /**
   * The snapshot is verified, durable and named; `stream` is where the stream stands, undefined for a
   * backup, which follows none.
   */
  | {
      readonly type: "snapshot-kept";
      readonly nowMs: number;
      readonly stream: StreamStart | undefined;
    }
  /** The snapshot or the log can't be kept: the disk failed, or the payload is damaged. */
  | { readonly type: "keep-failed"; readonly error: ReplicaError }
  /** The clock. While a link is paused for our own disk, the silence is ours, not the primary's. */
  | {
      readonly type: "tick";
      readonly nowMs: number;
      readonly paused: boolean;
      readonly secondPaused?: boolean;
    };

/** What the link and the store must do, in this order. */
export type Effect =
  | { readonly do: "open-link" }
  /** Ends the attempt's links, both where there are two. */
  | { readonly do: "close-link" }
  | { readonly do: "send"; readonly bytes: Uint8Array }
  /** Open another link to the same primary. */
  | { readonly do: "open-second" }
  | { readonly do: "send-second"; readonly bytes: Uint8Array }
  | { readonly do: "close-one"; readonly link: "first" | "second" }
  | { readonly do: "note"; readonly level: "info" | "warn"; readonly message: string }
  /**
   * Report `keep-failed` where what the primary would send can't be kept, by what it says of itself in INFO;
   * undefined where it says nothing.
   */
  | { readonly do: "weigh"; readonly info: string | undefined }
  /** Open the temporary file and report `snapshot-opened`; no payload comes before that. */
  | {
      readonly do: "open-snapshot";
      readonly grant: FullSyncGrant;
      readonly form: BulkForm;
      /** Whether the stream comes beside the payload, not behind it. */
      readonly beside?: boolean;
    }
  | { readonly do: "payload"; readonly bytes: Uint8Array }
  /** The payload is complete: check, sync and name it; report `snapshot-kept` or `keep-failed`. */
  | { readonly do: "finish-snapshot" }
  | { readonly do: "discard-snapshot" }
  /** The primary continues where we stopped, perhaps under a new replication id. */
  | { readonly do: "continue"; readonly replid: ReplicationId | undefined }
  | { readonly do: "stream"; readonly bytes: Uint8Array }
  /** Acknowledge as soon as everything up to `offset` is written; `asked`: the primary wants it, by GETACK. */
  | { readonly do: "acknowledge"; readonly offset: Offset; readonly asked: boolean }
  /** The attempt is over, broken off in state `from`; the next one comes after the back-off. */
  | { readonly do: "failed"; readonly error: ReplicaError; readonly from: State };
