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
 * How a primary gives its snapshot on a link of its own, as it answered PSYNC: Redis from 8.0 starts the stream by itself
 * once the second link has named the first one's client; Valkey from 8.0 continues it where the first link asks for that.
 */
export type TwoLinks =
  { readonly by: "redis"; readonly clientId: string } | { readonly by: "valkey" };

/** What the second link awaits: its connection, or the reply to a command. */
export type SecondAt = "connect" | "auth" | "replconf" | "sync";

/** What the first link does while the second one brings the snapshot. */
export type FirstLink =
  /** Valkey: what to ask for is told on the second link. */
  | { readonly does: "wait" }
  /** Valkey: REPLCONF set-rdb-client-id is out, then PSYNC. */
  | { readonly does: "name-second" | "ask"; readonly position: Position }
  /** So many bytes of the stream have come. */
  | { readonly does: "stream"; readonly streamedBytes: number }
  /** It broke once the snapshot was granted, and leaves that to the second link. */
  | { readonly does: "lost"; readonly error: ReplicaError };

/**
 * Where the session stands, in Redis's names (replication.c, REPL_STATE_*). Each state holds exactly
 * what is valid in it, and no state object ever changes: the session replaces it.
 */
export type State =
  | { readonly at: "none" }
  | { readonly at: "connect" }
  | { readonly at: "connecting" }
  | HandshakeState
  | SecondLinkState
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
  /** `door`: the primary refused, and what it says of itself may tell why. */
  | { readonly at: "receive-version"; readonly asked: "version" | "info" | "door" }
  | {
      readonly at: "receive-psync";
      readonly asked: Position | undefined;
      readonly second?: undefined;
    };

/** PSYNC was answered with a second link, which has to be granted the full resync. */
export interface SecondLinkState {
  readonly at: "receive-psync";
  readonly second: SecondAt;
  readonly first: FirstLink;
}

/** A full resync is granted; its payload has not begun. `first` is set where it comes on a second link. */
export type BulkHeaderState =
  | {
      readonly at: "receive-bulk-header";
      readonly waits: "line";
      readonly grant: FullSyncGrant;
      readonly first?: FirstLink;
    }
  | {
      readonly at: "receive-bulk-header";
      /** The temporary file is being opened; bytes that arrive meanwhile are held. */
      readonly waits: "file";
      readonly grant: FullSyncGrant;
      readonly form: BulkForm;
      readonly first?: FirstLink;
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
  /**
   * Why the link that the stream is on broke, after which the snapshot is kept all the same: the payload is complete, or
   * comes on the other one.
   */
  readonly lost: ReplicaError | undefined;
  /** Set where the payload comes on a second link. */
  readonly first?: FirstLink;
}

/** The stream that is coming in. */
export interface Following {
  /** Undefined after SYNC with a primary that names no history: there is nothing to resume from. */
  readonly replid: ReplicationId | undefined;
  /** The last byte of the stream that was received. */
  readonly receivedOffset: Offset;
}
