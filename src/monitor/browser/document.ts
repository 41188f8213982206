/*
 * What `/status.json` holds. The page reads it, and so may anyone else: docs/OPERATIONS.md describes it. Text may come from
 * a peer. Times are milliseconds since 1970, rates bytes a second; null: nobody knows, or there is none.
 */

/** How serious a state is: data comes, it is about to come, it stands still by choice, or something is wrong. */
export type Tone = "good" | "busy" | "idle" | "bad";

/** The state in words. */
export interface Headline {
  readonly tone: Tone;
  /** In few words: `following`, `receiving`, `stale for 28 min`, `offline`. */
  readonly state: string;
  /** One sentence more. */
  readonly text: string;
}

/** How it did over time, a column for each value; the newest is the last. */
export interface SampleColumns {
  readonly at_ms: readonly number[];
  readonly received: readonly number[];
  readonly written: readonly number[];
  readonly durable: readonly number[];
  readonly archived: readonly (number | null)[];
  readonly lag_ms: readonly (number | null)[];
  readonly archive_lag_ms: readonly (number | null)[];
  readonly is_up: readonly number[];
}

export interface EventEntry {
  readonly at_ms: number;
  readonly kind: string;
  readonly text: string;
}

export interface GenerationEntry {
  readonly id: number;
  readonly state: "current" | "sealed";
  readonly sealed_reason: string | null;
  readonly from_ms: number;
  readonly to_ms: number;
  readonly from_offset: number;
  readonly to_offset: number;
  readonly rdb_bytes: number;
  readonly archived: "all" | "part" | "none";
}

/** What can be restored. Of a cluster: what can be restored of all shards; the generations are told shard by shard. */
export interface TimelineEntry {
  readonly oldest_ms: number | null;
  readonly newest_ms: number | null;
  /** Up to when the archive has it. */
  readonly archived_ms: number | null;
  readonly generations: readonly GenerationEntry[];
  readonly gaps: readonly { readonly from_ms: number; readonly to_ms: number }[];
}

export interface DownstreamEntry {
  readonly address: string;
  readonly state: string;
  readonly acked_offset: number;
  readonly behind_bytes: number;
  readonly lag_seconds: number;
}

export interface ShardEntry {
  readonly shard: string;
  readonly slots: string;
  readonly primary: string | null;
  readonly headline: Headline;
  readonly ready: boolean;
  readonly not_ready_reason: string | null;
  readonly durable_offset: number | null;
  readonly newest_ms: number | null;
}

export interface StatusDocument {
  readonly format: 1;
  readonly version: string;
  readonly kind: "replica" | "shard" | "cluster";
  readonly now_ms: number;
  readonly uptime_seconds: number;
  /** The primary or the cluster that is followed, or was last, without its password. */
  readonly name: string;
  /** The data directory, and the archive. */
  readonly directory: string;
  readonly archive: string | null;
  readonly headline: Headline;
  readonly ready: boolean;
  readonly not_ready_reason: string | null;
  /** Fields of INFO, by their names: what `replica status --json` prints of the state. */
  readonly status: Readonly<Record<string, string | number>>;
  readonly samples: SampleColumns;
  /** The newest first. */
  readonly events: readonly EventEntry[];
  readonly timeline: TimelineEntry;
  readonly downstreams: readonly DownstreamEntry[];
  /** How many there are, shown or not. */
  readonly downstream_count: number;
  readonly shards: readonly ShardEntry[];
}
