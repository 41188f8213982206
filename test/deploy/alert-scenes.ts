/** What Prometheus has scraped: the value of a series in each minute; undefined where the series isn't there. */
export type Values = number | ((minute: number) => number | undefined);

/** Series by name and labels, without those of the target: `replica_state{state="none"}`. */
export type Series = Readonly<Record<string, Values>>;

export const GB = 1e9;
export const MINUTE = 60;
export const DAY = 86_400;

const STATES = ["none", "connect", "receive-psync", "receive-bulk-header", "transfer", "connected"];
export type State = (typeof STATES)[number];

/** The link's state, and whether it is up. */
export function link(at: (minute: number) => State): Series {
  return {
    replica_link_up: (minute) => (at(minute) === "connected" ? 1 : 0),
    ...Object.fromEntries(
      STATES.map((state) => [
        `replica_state{state="${state}"}`,
        (minute: number) => (at(minute) === state ? 1 : 0),
      ]),
    ),
  };
}

/** How many of so many syncs a minute took how long, since the start. */
export function fsyncs(at: (minute: number) => { fast: number; slow: number }): Series {
  const until = (minute: number, isSlowToo: boolean) => {
    let sum = 0;
    for (let one = 1; one <= minute; one++) sum += at(one).fast + (isSlowToo ? at(one).slow : 0);
    return sum;
  };
  const bucket = (le: string, isSlowToo: boolean): Series => ({
    [`replica_fsync_duration_seconds_bucket{le="${le}"}`]: (minute) => until(minute, isSlowToo),
  });
  return {
    ...bucket("0.01", false),
    ...bucket("0.5", false),
    ...bucket("1", true),
    ...bucket("+Inf", true),
  };
}

const REASONS = ["nothing-kept", "other-history", "backlog-too-small", "disk-full"];
const CODES = ["CONNECT_FAILED", "LINK_LOST", "TIMED_OUT", "PRIMARY_BUSY", "DISK_FULL"];

/** The process of a replica. */
const PROCESS: Series = {
  up: 1,
  replica_start_time_seconds: -DAY,
  replica_resident_memory_bytes: 100e6,
  ...fsyncs(() => ({ fast: 60, slow: 0 })),
};

/** What is said of one replica, or of a shard, that follows its primary. */
const FOLLOWING: Series = {
  ...link(() => "connected"),
  replica_newest_restorable_timestamp_seconds: (minute) => minute * MINUTE - 1,
  replica_primary_unsupplied_seconds: 0,
  replica_durable_lag_seconds: 0.4,
  'replica_received_bytes_total{phase="snapshot"}': 50 * GB,
  'replica_received_bytes_total{phase="stream"}': (minute) => minute * 60e6,
  'replica_syncs_total{kind="partial",reason=""}': 1,
  ...all("replica_syncs_total", "reason", REASONS, 'kind="full",'),
  ...all("replica_breaks_total", "code", CODES),
  ...all("replica_attempts_failed_total", "code", CODES),
  ...all("replica_snapshots_total", "result", ["ok", "failed"]),
  replica_snapshot_in_progress: 0,
  replica_disk_free_bytes: 300 * GB,
  replica_disk_removable_bytes: 50 * GB,
  replica_disk_left_seconds: Infinity,
  replica_disk_low: 0,
  replica_full_resync_lacks_room_bytes: 0,
  replica_snapshot_bytes: 50 * GB,
  replica_snapshots_on_disk_bytes: 100 * GB,
  replica_log_bytes: 10 * GB,
  replica_logs_on_disk_bytes: 20 * GB,
  replica_shrunken: 0,
  replica_generation_id: 7,
  replica_generation_timestamp_seconds: -DAY / 2,
  'replica_generations{state="current"}': 1,
  'replica_generations{state="sealed"}': 1,
};

/** What is said besides where something is archived. */
export const ARCHIVED: Series = {
  replica_archive_up: 1,
  replica_archive_lag_seconds: 5,
  'replica_archive_sent_bytes_total{kind="piece"}': 50 * GB,
  'replica_archive_sent_bytes_total{kind="segment"}': (minute) => minute * 20e6,
};

/** A replica that is well. */
export const HEALTHY: Series = { ...PROCESS, ...FOLLOWING };

function all(name: string, label: string, values: readonly string[], more = ""): Series {
  return Object.fromEntries(values.map((value) => [`${name}{${more}${label}="${value}"}`, 0]));
}

/** The same with the label of a shard. */
function ofShard(shard: string, series: Series): Series {
  const labeled = Object.entries(series).map(([key, values]) => {
    const [name = "", labels = "}"] = key.split("{");
    return [`${name}{shard="${shard}"${labels === "}" ? "" : ","}${labels}`, values] as const;
  });
  return Object.fromEntries(labeled);
}

/**
 * A replica of a whole cluster.
 * @param of what is said of each shard, from 1 on, where that isn't what is said of one that is well.
 */
export function cluster(shards: number, of: (shard: number) => Series, more: Series = {}): Series {
  const numbers = Array.from({ length: shards }, (_, index) => index + 1);
  return {
    ...PROCESS,
    ...Object.assign(
      {},
      ...numbers.map((shard) =>
        ofShard(String(shard).padStart(4, "0"), { ...FOLLOWING, ...of(shard) }),
      ),
    ),
    'replica_cluster_shards{state="following"}': shards,
    'replica_cluster_shards{state="failed"}': 0,
    replica_cluster_slots_uncovered: 0,
    replica_cluster_snapshots_waiting: 0,
    replica_cluster_topology_age_seconds: 1,
    ...more,
  };
}

/** Nothing of all this is scraped where `isThere` says no. */
export function where(series: Series, isThere: (minute: number) => boolean): Series {
  const only = Object.entries(series).map(([key, values]) => [
    key,
    (minute: number) => (isThere(minute) ? valueAt(values, minute) : undefined),
  ]);
  return Object.fromEntries(only);
}

export function valueAt(values: Values, minute: number): number | undefined {
  return typeof values === "number" ? values : values(minute);
}

export interface FirstSnapshot {
  /** When the primary is asked. Default: 0. */
  readonly from?: number;
  /** Minutes until the primary has made it, and sends. */
  readonly forkMinutes: number;
  readonly bytes: number;
  readonly bytesPerMinute: number;
  /** What is free before it comes, on a disk that nobody else writes to. */
  readonly freeBytes: number;
  /** How fast the archive gets it, from when it begins to come. Default: nothing is archived. */
  readonly archivedBytesPerMinute?: number;
}

/** A replica that keeps nothing, and takes its first snapshot. */
export function firstSnapshot(plan: FirstSnapshot): Series {
  const { from = 0, forkMinutes, bytes, bytesPerMinute, freeBytes } = plan;
  const begins = from + forkMinutes;
  const whole = begins + Math.ceil(bytes / bytesPerMinute);
  const came = (minute: number) => Math.min(bytes, Math.max(0, (minute - begins) * bytesPerMinute));
  const once =
    (value: number, before = 0) =>
    (minute: number) =>
      minute < whole ? before : value;
  const logged = (minute: number) => Math.max(0, minute - whole) * 60e6;
  return {
    ...link((minute) => {
      if (minute < from) return "connect";
      if (minute < begins) return "receive-bulk-header";
      return minute < whole ? "transfer" : "connected";
    }),
    replica_newest_restorable_timestamp_seconds: (minute) => once(minute * MINUTE - 1)(minute),
    'replica_received_bytes_total{phase="snapshot"}': came,
    'replica_received_bytes_total{phase="stream"}': logged,
    'replica_syncs_total{kind="full",reason="nothing-kept"}': (minute) => (minute < from ? 0 : 1),
    replica_disk_free_bytes: (minute) => freeBytes - came(minute) - logged(minute),
    replica_disk_removable_bytes: 0,
    replica_snapshot_bytes: once(bytes),
    replica_snapshots_on_disk_bytes: came,
    replica_log_bytes: logged,
    replica_logs_on_disk_bytes: logged,
    replica_generation_id: once(1),
    replica_generation_timestamp_seconds: once(whole * MINUTE),
    'replica_generations{state="receiving"}': (minute) => (minute < whole ? 1 : undefined),
    'replica_generations{state="current"}': (minute) => (minute < whole ? undefined : 1),
    'replica_generations{state="sealed"}': () => undefined,
    ...archivedFirst(plan, begins, whole),
  };
}

function archivedFirst(
  { archivedBytesPerMinute: rate, bytes }: FirstSnapshot,
  begins: number,
  whole: number,
): Series {
  if (rate === undefined) return {};
  const archived = Math.max(whole, begins + bytes / rate);
  // Then what piled up meanwhile goes out, ten times as fast as it came.
  const caughtUp = archived + (archived - whole) / 10;
  return {
    ...ARCHIVED,
    replica_archive_lag_seconds: (minute) => {
      if (minute < whole || minute > caughtUp) return minute < whole ? 0 : 5;
      if (minute < archived) return (minute - whole) * MINUTE;
      return (minute - whole - (minute - archived) * 10) * MINUTE + 5;
    },
    'replica_archive_sent_bytes_total{kind="piece"}': (minute) =>
      Math.min(bytes, Math.max(0, minute - begins) * rate),
    'replica_archive_sent_bytes_total{kind="segment"}': (minute) =>
      Math.max(0, minute - archived) * 20e6,
  };
}
