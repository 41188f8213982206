import {
  ARCHIVED,
  cluster,
  DAY,
  firstSnapshot,
  fsyncs,
  GB,
  HEALTHY,
  link,
  MINUTE,
  type Series,
  type Values,
  where,
} from "./alert-scenes.ts";

/** A cause, or what looks like one, and which alerts it brings. */
export interface AlertCase {
  readonly name: string;
  readonly minutes: number;
  /** What is scraped of the replica in the job "replica". */
  readonly series: Series;
  /** All alerts that fire meanwhile, each with the minute in which it begins; with `0002` behind it, of that shard. */
  readonly fires: Readonly<Record<string, number>>;
  /** Alerts that a worse rule would fire here. */
  readonly quiet?: readonly string[];
}

/** 0 until the minute `from`, then so much more each minute. */
const growing =
  (from: number, perMinute: number): Values =>
  (minute) =>
    Math.max(0, minute - from) * perMinute;
/** One value within these minutes, another one before and after. */
const within =
  (from: number, to: number, value: number, otherwise = 0): Values =>
  (minute) =>
    minute >= from && minute < to ? value : otherwise;
/** A counter that goes up by one in each of these minutes. */
const counts =
  (...minutes: readonly number[]): Values =>
  (minute) =>
    minutes.filter((one) => one <= minute).length;
const well = (more: Series = {}): Series => ({ ...HEALTHY, ...more });
/** What holds from a minute on. */
const from = (minute: number, value: number, otherwise = 0) =>
  within(minute, Infinity, value, otherwise);
/** The newest moment stays where it was in this minute. */
const staleFrom = (since: number, until = Infinity): Series => ({
  replica_newest_restorable_timestamp_seconds: (minute) =>
    (minute >= since && minute < until ? since : minute) * MINUTE - 1,
});
const away = (since: number, until = Infinity): Series => ({
  ...link((minute) => (minute >= since && minute < until ? "connect" : "connected")),
  ...staleFrom(since, until),
});
const kept = { 'replica_generations{state="sealed"}': 1 };

const TARGET: readonly AlertCase[] = [
  {
    name: "no target in the job",
    minutes: 10,
    series: {},
    fires: { ReplicaAbsent: 5 },
  },
  {
    name: "a replica that has ended",
    minutes: 60,
    series: { ...where(HEALTHY, (minute) => minute < 10), up: within(0, 10, 1) },
    fires: { ReplicaDown: 12 },
    quiet: ["ReplicaAbsent", "ReplicaLinkDown", "ReplicaStale"],
  },
  {
    name: "an upgrade that takes a minute",
    minutes: 60,
    series: { ...where(HEALTHY, (minute) => minute !== 10), up: within(10, 11, 0, 1) },
    fires: {},
    quiet: ["ReplicaDown", "ReplicaRestarting", "ReplicaAbsent"],
  },
  {
    name: "a directory that is filled from the archive for three hours",
    minutes: 300,
    series: { ...where(HEALTHY, (minute) => minute >= 180), up: 1 },
    fires: {},
    quiet: ["ReplicaDown", "ReplicaNothingKept"],
  },
  {
    name: "a directory that is filled from the archive without end",
    minutes: 800,
    series: { up: 1 },
    fires: { ReplicaNothingKept: 720 },
  },
  {
    name: "a program that ends again and again",
    minutes: 60,
    series: well({
      replica_start_time_seconds: counts(10, 12, 14, 16),
      'replica_syncs_total{kind="partial",reason=""}': 1,
    }),
    fires: { ReplicaRestarting: 17 },
  },
  {
    name: "three starts within half an hour, of somebody who tries settings",
    minutes: 60,
    series: well({ replica_start_time_seconds: counts(10, 20, 30) }),
    fires: {},
    quiet: ["ReplicaRestarting"],
  },
  {
    name: "a process that leaks",
    minutes: 60,
    series: well({ replica_resident_memory_bytes: from(10, 600e6) }),
    fires: { ReplicaMemory: 40 },
  },
  {
    name: "a leak in a replica of a cluster",
    minutes: 60,
    series: cluster(32, () => ({}), { replica_resident_memory_bytes: from(10, 1.1e9) }),
    fires: { ReplicaMemory: 40 },
  },
  {
    name: "a cluster of 32 shards",
    minutes: 60,
    series: cluster(32, () => ({}), { replica_resident_memory_bytes: 800e6 }),
    fires: {},
    quiet: ["ReplicaMemory"],
  },
];

const LINK: readonly AlertCase[] = [
  {
    name: "a primary that is gone",
    minutes: 60,
    series: well({
      ...away(10),
      'replica_breaks_total{code="LINK_LOST"}': counts(10),
      'replica_attempts_failed_total{code="CONNECT_FAILED"}': growing(10, 12),
    }),
    // The copy is as old as that 15 minutes later, and 5 more.
    fires: { ReplicaLinkDown: 15, ReplicaStale: 30 },
    quiet: ["ReplicaBreaks", "ReplicaNothingKept"],
  },
  {
    name: "a failover of four minutes",
    minutes: 60,
    series: well(away(10, 14)),
    fires: {},
    quiet: ["ReplicaLinkDown", "ReplicaStale", "ReplicaBreaks"],
  },
  {
    name: "REPLICAOF NO ONE for two hours",
    minutes: 140,
    series: well({
      ...link((minute) => (minute < 10 ? "connected" : "none")),
      ...staleFrom(10),
    }),
    fires: { ReplicaFollowsNoOne: 70 },
    quiet: ["ReplicaLinkDown", "ReplicaStale"],
  },
  {
    name: "REPLICAOF NO ONE for 50 minutes of maintenance",
    minutes: 120,
    series: well({
      ...link((minute) => (minute < 10 || minute >= 60 ? "connected" : "none")),
      ...staleFrom(10, 60),
    }),
    fires: {},
    quiet: ["ReplicaFollowsNoOne", "ReplicaStale"],
  },
  {
    name: "an empty replica with --offline",
    minutes: 800,
    series: well({
      ...link(() => "none"),
      replica_newest_restorable_timestamp_seconds: 0,
    }),
    fires: { ReplicaFollowsNoOne: 60 },
    quiet: ["ReplicaNothingKept", "ReplicaStale"],
  },
  {
    name: "a primary's own primary that is gone",
    minutes: 60,
    series: well({
      replica_primary_unsupplied_seconds: growing(10, MINUTE),
      ...staleFrom(10),
    }),
    fires: { ReplicaUnsupplied: 13, ReplicaStale: 30 },
  },
  {
    name: "a failover above the primary",
    minutes: 60,
    series: well({ replica_primary_unsupplied_seconds: within(10, 11, 50) }),
    fires: {},
    quiet: ["ReplicaUnsupplied"],
  },
  {
    name: "a shard that is disconnected while another one takes a snapshot",
    minutes: 25,
    series: cluster(2, (shard) =>
      shard === 1
        ? link(() => "transfer")
        : { ...away(10), replica_newest_restorable_timestamp_seconds: 1 },
    ),
    fires: { "ReplicaLinkDown 0002": 15, "ReplicaStale 0002": 21, "ReplicaTransferStuck 0001": 11 },
  },
  {
    name: "a full resync of 50 GB that takes three hours",
    minutes: 240,
    series: well({
      ...staleFrom(10, 190),
      ...link((minute) => (minute < 10 || minute >= 190 ? "connected" : "transfer")),
      'replica_received_bytes_total{phase="snapshot"}': (minute) =>
        Math.max(0, Math.min(180, minute - 10)) * 0.28 * GB,
      'replica_syncs_total{kind="full",reason="backlog-too-small"}': counts(10),
    }),
    // That is the truth: nothing newer can be restored meanwhile.
    fires: { ReplicaStale: 30 },
    quiet: ["ReplicaLinkDown", "ReplicaTransferStuck", "ReplicaFullResyncs", "ReplicaDiskTooFull"],
  },
  {
    name: "a link that breaks once a minute",
    minutes: 40,
    series: well({ 'replica_breaks_total{code="TIMED_OUT"}': growing(10, 1) }),
    fires: { ReplicaBreaks: 21 },
  },
  {
    name: "a resync that breaks in the primary's output buffer, each two minutes",
    minutes: 40,
    series: well({
      ...link((minute) => (minute < 10 ? "connected" : "transfer")),
      'replica_received_bytes_total{phase="snapshot"}': growing(10, GB),
      'replica_attempts_failed_total{code="LINK_LOST"}': (minute) =>
        Math.max(0, Math.floor((minute - 10) / 2)),
      'replica_syncs_total{kind="full",reason="backlog-too-small"}': (minute) =>
        Math.max(0, Math.floor((minute - 8) / 2)),
    }),
    fires: { ReplicaFullResyncs: 13, ReplicaBreaks: 27 },
  },
  {
    name: "a primary that loads 50 GB after its start, for 20 minutes",
    minutes: 60,
    series: well({
      ...away(10, 30),
      'replica_breaks_total{code="LINK_LOST"}': counts(10),
      'replica_attempts_failed_total{code="PRIMARY_BUSY"}': (minute) =>
        Math.min(240, Math.max(0, minute - 10) * 12),
    }),
    fires: { ReplicaLinkDown: 15 },
    quiet: ["ReplicaBreaks", "ReplicaStale"],
  },
  {
    name: "a network that is away for a moment, of a cluster of eight shards",
    minutes: 60,
    series: cluster(8, () => ({
      'replica_breaks_total{code="LINK_LOST"}': counts(10),
      'replica_syncs_total{kind="full",reason="backlog-too-small"}': counts(10),
    })),
    fires: {},
    quiet: ["ReplicaBreaks", "ReplicaFullResyncs"],
  },
  {
    name: "a backlog that is too small, twice",
    minutes: 120,
    series: well({
      'replica_syncs_total{kind="full",reason="backlog-too-small"}': counts(10, 40),
    }),
    fires: { ReplicaFullResyncs: 41 },
  },
  {
    name: "a full resync, and a start that sets the counters back",
    minutes: 120,
    series: well({
      replica_start_time_seconds: from(40, 1),
      'replica_syncs_total{kind="full",reason="backlog-too-small"}': within(10, 40, 1),
      'replica_breaks_total{code="LINK_LOST"}': within(0, 40, 9),
      'replica_snapshots_total{result="ok"}': within(0, 40, 3),
    }),
    fires: {},
    quiet: ["ReplicaFullResyncs", "ReplicaBreaks", "ReplicaSnapshotsFail"],
  },
];

const SNAPSHOT: readonly AlertCase[] = [
  {
    name: "a first snapshot that breaks each twenty minutes, without end",
    minutes: 800,
    series: well({
      ...firstSnapshot({ forkMinutes: 1, bytes: 1e15, bytesPerMinute: GB, freeBytes: 1e15 }),
      'replica_syncs_total{kind="full",reason="nothing-kept"}': (minute) => Math.floor(minute / 20),
      'replica_attempts_failed_total{code="LINK_LOST"}': (minute) => Math.floor(minute / 20),
    }),
    fires: { ReplicaFullResyncs: 65, ReplicaNothingKept: 720 },
  },
  {
    name: "a first snapshot that takes eleven hours, at the second try",
    minutes: 800,
    series: well({
      ...firstSnapshot({
        forkMinutes: 10,
        bytes: 50 * GB,
        bytesPerMinute: (50 * GB) / 650,
        freeBytes: 300 * GB,
      }),
      'replica_syncs_total{kind="full",reason="nothing-kept"}': counts(1, 5),
    }),
    fires: {},
    quiet: ["ReplicaNothingKept", "ReplicaFullResyncs", "ReplicaStale", "ReplicaTransferStuck"],
  },
  {
    name: "a snapshot that stalls",
    minutes: 40,
    series: well({
      ...firstSnapshot({ forkMinutes: 1, bytes: 50 * GB, bytesPerMinute: GB, freeBytes: 300 * GB }),
      'replica_received_bytes_total{phase="snapshot"}': (minute) => Math.min(10, minute) * GB,
    }),
    fires: { ReplicaTransferStuck: 25 },
  },
  {
    name: "a shard that takes a slow snapshot beside one that is connected",
    minutes: 120,
    series: cluster(2, (shard) =>
      shard === 2
        ? {}
        : firstSnapshot({
            forkMinutes: 5,
            bytes: 50 * GB,
            bytesPerMinute: 60e6,
            freeBytes: 300 * GB,
          }),
    ),
    fires: {},
    quiet: ["ReplicaTransferStuck", "ReplicaLinkDown"],
  },
  {
    name: "new snapshots that fail",
    minutes: 600,
    series: well({ 'replica_snapshots_total{result="failed"}': counts(10, 70) }),
    fires: { ReplicaSnapshotsFail: 15 },
  },
  {
    name: "a new snapshot that fails, and one that doesn't",
    minutes: 600,
    series: well({
      'replica_snapshots_total{result="failed"}': counts(10),
      'replica_snapshots_total{result="ok"}': counts(12),
    }),
    fires: {},
    quiet: ["ReplicaSnapshotsFail"],
  },
  {
    name: "a FLUSHALL by mistake",
    minutes: 60,
    series: well({ replica_shrunken: from(10, 1) }),
    fires: { ReplicaShrunken: 11 },
  },
  {
    name: "a new snapshot that is smaller, and REPLICA ACCEPT at once",
    minutes: 60,
    series: well({
      replica_shrunken: within(10, 11, 1),
      replica_snapshot_bytes: within(0, 10, 50 * GB, 10 * GB),
    }),
    fires: {},
    quiet: ["ReplicaShrunken"],
  },
  {
    name: "new snapshots that are turned off",
    minutes: 120,
    series: well({
      replica_generation_timestamp_seconds: -8 * DAY,
      replica_snapshot_bytes: 2 * GB,
      replica_log_bytes: (minute) => 19.5 * GB + minute * 0.05 * GB,
    }),
    fires: { ReplicaGenerationOld: 71 },
  },
  {
    name: "new snapshots that are turned off, of a primary that is empty",
    minutes: 120,
    series: well({
      replica_generation_timestamp_seconds: -8 * DAY,
      replica_snapshot_bytes: 182,
      replica_log_bytes: (minute) => 1e6 + minute * 84,
    }),
    fires: {},
    quiet: ["ReplicaGenerationOld"],
  },
];

const DISK: readonly AlertCase[] = [
  {
    name: "a disk that hangs",
    minutes: 60,
    series: well({ replica_durable_lag_seconds: growing(10, MINUTE) }),
    fires: { ReplicaNotDurable: 12 },
  },
  {
    name: "a disk that is slow for a moment",
    minutes: 60,
    series: well({ replica_durable_lag_seconds: within(10, 30, 25) }),
    fires: {},
    quiet: ["ReplicaNotDurable"],
  },
  {
    name: "a disk that fails",
    minutes: 60,
    series: well(fsyncs((minute) => (minute < 10 ? { fast: 60, slow: 0 } : { fast: 55, slow: 5 }))),
    fires: { ReplicaFsyncSlow: 26 },
  },
  {
    name: "a first snapshot over a fast network, to a slow disk",
    minutes: 180,
    series: well({
      ...firstSnapshot({
        forkMinutes: 5,
        bytes: 50 * GB,
        bytesPerMinute: 0.5 * GB,
        freeBytes: 300 * GB,
      }),
      ...fsyncs((minute) => (minute < 105 ? { fast: 10, slow: 50 } : { fast: 60, slow: 0 })),
    }),
    fires: {},
    quiet: ["ReplicaFsyncSlow"],
  },
  {
    name: "a new snapshot beside the stream, to a slow disk",
    minutes: 180,
    series: well({
      replica_snapshot_in_progress: within(10, 110, 1),
      ...fsyncs((minute) =>
        minute < 10 || minute >= 110 ? { fast: 60, slow: 0 } : { fast: 60, slow: 50 },
      ),
    }),
    fires: {},
    quiet: ["ReplicaFsyncSlow"],
  },
  {
    name: "a disk without room for another snapshot",
    minutes: 50,
    series: well({ replica_disk_free_bytes: from(10, 4 * GB, 300 * GB) }),
    fires: { ReplicaDiskTooFull: 15 },
  },
  {
    name: "a disk for two snapshots, while the second one comes",
    minutes: 240,
    series: well({
      replica_snapshot_in_progress: within(10, 110, 1),
      replica_disk_free_bytes: (minute) =>
        (60 - 0.5 * Math.min(100, Math.max(0, minute - 10))) * GB,
      replica_disk_removable_bytes: from(110, 50 * GB),
      replica_disk_left_seconds: within(60, 110, 2_000, Infinity),
      replica_snapshots_on_disk_bytes: (minute) =>
        (50 + 0.5 * Math.min(100, Math.max(0, minute - 10))) * GB,
      'replica_snapshots_total{result="ok"}': counts(110),
    }),
    fires: {},
    quiet: ["ReplicaDiskTooFull", "ReplicaDiskFills", "ReplicaDiskFullSoon"],
  },
  {
    name: "a disk that is full before the new snapshot is whole",
    minutes: 60,
    series: well({
      replica_snapshot_in_progress: 1,
      replica_disk_left_seconds: (minute) => Math.max(0, 40 - minute) * MINUTE,
    }),
    // Less than ten minutes are left from minute 31 on.
    fires: { ReplicaDiskFullSoon: 32 },
  },
  {
    name: "a full resync that doesn't fit",
    minutes: 60,
    series: well({
      ...away(10),
      replica_full_resync_lacks_room_bytes: from(10, 50 * GB),
    }),
    fires: { ReplicaNoRoomForResync: 15, ReplicaLinkDown: 15, ReplicaStale: 30 },
  },
  {
    name: "a full resync that doesn't fit until old generations have gone",
    minutes: 60,
    series: well({
      ...away(10, 13),
      replica_full_resync_lacks_room_bytes: within(10, 13, 50 * GB),
    }),
    fires: {},
    quiet: ["ReplicaNoRoomForResync"],
  },
  {
    name: "less than --min-free",
    minutes: 60,
    series: well({ replica_disk_low: from(10, 1) }),
    fires: { ReplicaDiskLow: 20 },
  },
  {
    name: "less than --min-free, until the log is shortened",
    minutes: 60,
    series: well({ replica_disk_low: within(10, 19, 1) }),
    fires: {},
    quiet: ["ReplicaDiskLow"],
  },
  {
    name: "a log that nothing shortens",
    minutes: 180,
    series: well({
      replica_disk_left_seconds: (minute) => (24.5 * 60 - minute * 10) * MINUTE,
    }),
    fires: { ReplicaDiskFills: 64, ReplicaDiskFullSoon: 143 },
  },
  {
    name: "a burst of writes, for some minutes",
    minutes: 180,
    series: well({ replica_disk_left_seconds: within(10, 40, 2 * 3_600, Infinity) }),
    fires: {},
    quiet: ["ReplicaDiskFills", "ReplicaDiskFullSoon"],
  },
  {
    name: "another program that fills the disk at 5 GB an hour",
    minutes: 8 * 60,
    series: well({
      replica_disk_free_bytes: (minute) => Math.max(0, 200 - (minute / 60) * 5) * GB,
      replica_disk_removable_bytes: 0,
    }),
    // No room is left after 30 hours, and the alert is due a day before.
    fires: { ReplicaDiskFills: 425 },
  },
  {
    name: "another program that takes 1 GB an hour",
    minutes: 12 * 60,
    series: well({
      replica_disk_free_bytes: (minute) => (200 - minute / 60) * GB,
    }),
    fires: {},
    quiet: ["ReplicaDiskFills"],
  },
  {
    name: "a new snapshot each six hours, which pushes an old one out",
    minutes: 20 * 60,
    series: well(renewals()),
    fires: {},
    quiet: ["ReplicaDiskFills", "ReplicaDiskTooFull", "ReplicaSnapshotsFail"],
  },
  {
    name: "a day of history that piles up, and gives way to what comes",
    minutes: 24 * 60,
    series: well(pilingUp()),
    fires: {},
    quiet: ["ReplicaDiskFills", "ReplicaDiskTooFull"],
  },
];

/** Each six hours a snapshot of 50 GB comes within an hour, and pushes out another, whose log of 6 GB goes too. */
function renewals(): Series {
  const came = (minute: number) => Math.min(50, ((minute / 60) % 6) * 50) * GB;
  const snapshots = (minute: number) => 100 * GB + (came(minute) === 50 * GB ? 0 : came(minute));
  const logs = (minute: number) => 6 * GB + ((minute / 60) % 6) * GB;
  return {
    replica_snapshot_in_progress: (minute) => (minute % 360 < 60 ? 1 : 0),
    replica_snapshots_on_disk_bytes: snapshots,
    replica_logs_on_disk_bytes: logs,
    replica_disk_free_bytes: (minute) => 250 * GB - snapshots(minute) - logs(minute),
    'replica_snapshots_total{result="ok"}': (minute) => Math.floor((minute + 300) / 360),
  };
}

/** 20 GB of log an hour, and a new generation each hour; the oldest goes once nothing is free. */
function pilingUp(): Series {
  const logs = (minute: number) => Math.min(330, (minute / 60) * 20) * GB;
  const snapshots = (minute: number) => Math.min(20, 1 + Math.floor(minute / 60)) * GB;
  return {
    replica_snapshot_bytes: GB,
    replica_log_bytes: (minute) => ((minute % 60) / 3) * GB,
    replica_snapshots_on_disk_bytes: snapshots,
    replica_logs_on_disk_bytes: logs,
    replica_disk_removable_bytes: (minute) => Math.min(350, Math.floor(minute / 60) * 21) * GB,
    replica_disk_free_bytes: (minute) => 400 * GB - logs(minute) - snapshots(minute),
  };
}

const ARCHIVE: readonly AlertCase[] = [
  {
    name: "an archive that takes nothing",
    minutes: 60,
    series: well({
      ...ARCHIVED,
      replica_archive_up: within(0, 10, 1),
      replica_archive_lag_seconds: growing(10, MINUTE),
    }),
    fires: { ReplicaArchiveFailing: 20, ReplicaArchiveLag: 31 },
  },
  {
    name: "an archive that is away for five minutes",
    minutes: 60,
    series: well({
      ...ARCHIVED,
      replica_archive_up: within(10, 15, 0, 1),
      replica_archive_lag_seconds: (minute) =>
        minute < 10 || minute > 15 ? 5 : (minute - 10) * MINUTE,
    }),
    fires: {},
    quiet: ["ReplicaArchiveFailing", "ReplicaArchiveLag"],
  },
  {
    name: "layouts of a cluster that don't get into the archive",
    minutes: 60,
    series: cluster(2, () => ARCHIVED, {
      replica_cluster_layouts_archive_up: within(0, 10, 1),
    }),
    fires: { ReplicaArchiveFailing: 20 },
  },
  {
    name: "a new snapshot that the network keeps from the archive for three hours",
    minutes: 240,
    series: well({
      ...ARCHIVED,
      ...kept,
      replica_archive_lag_seconds: (minute) =>
        minute < 10 || minute > 190 ? 5 : (minute - 10) * MINUTE,
      'replica_archive_sent_bytes_total{kind="piece"}': growing(10, 0.28 * GB),
    }),
    fires: { ReplicaArchiveLag: 31 },
  },
  {
    name: "a first snapshot that doesn't get into the archive",
    minutes: 240,
    series: well({
      ...firstSnapshot({
        forkMinutes: 1,
        bytes: 50 * GB,
        bytesPerMinute: 5 * GB,
        freeBytes: 300 * GB,
        archivedBytesPerMinute: 1,
      }),
      'replica_archive_sent_bytes_total{kind="piece"}': (minute) => Math.min(20, minute) * 16e6,
    }),
    fires: { ReplicaArchiveLag: 85 },
  },
];

const CLUSTER: readonly AlertCase[] = [
  {
    name: "slots without an owner",
    minutes: 60,
    series: cluster(3, () => ({}), { replica_cluster_slots_uncovered: from(10, 5_461) }),
    fires: { ReplicaClusterSlotsUncovered: 20 },
  },
  {
    name: "a failover that takes five minutes to be seen",
    minutes: 60,
    series: cluster(3, () => ({}), {
      replica_cluster_slots_uncovered: within(10, 15, 5_461),
      replica_cluster_topology_age_seconds: within(10, 15, 200, 1),
    }),
    fires: {},
    quiet: ["ReplicaClusterSlotsUncovered", "ReplicaClusterTopologyStale"],
  },
  {
    name: "nodes of which none answers any more",
    minutes: 60,
    series: cluster(3, () => ({}), { replica_cluster_topology_age_seconds: growing(10, MINUTE) }),
    fires: { ReplicaClusterTopologyStale: 18 },
  },
  {
    name: "nodes of which none has ever answered",
    minutes: 60,
    series: cluster(0, () => ({}), {
      replica_cluster_slots_uncovered: 16_384,
      replica_cluster_topology_age_seconds: () => undefined,
    }),
    fires: { ReplicaClusterSlotsUncovered: 10 },
  },
  {
    name: "a shard that can't go on",
    minutes: 30,
    series: cluster(3, () => ({}), { 'replica_cluster_shards{state="failed"}': from(10, 1) }),
    fires: { ReplicaClusterShardFailed: 15 },
  },
  {
    name: "a shard that fails, and a start",
    minutes: 30,
    series: cluster(3, () => ({}), { 'replica_cluster_shards{state="failed"}': within(10, 14, 1) }),
    fires: {},
    quiet: ["ReplicaClusterShardFailed"],
  },
];

/** What node_exporter tells of the nightly proof. */
const proof = (success: Values, lastGoodAtSeconds: Values): Series =>
  well({
    'replica_proof_success{source="/data"}': success,
    'replica_last_proof_timestamp_seconds{source="/data"}': lastGoodAtSeconds,
  });

const PROOF: readonly AlertCase[] = [
  {
    name: "a proof that fails",
    minutes: 30,
    series: proof(from(10, 0, 1), 0),
    fires: { ReplicaUnproven: 15 },
  },
  {
    name: "a timer that runs no more",
    minutes: 120,
    series: proof(1, -35 * 3_600),
    fires: { ReplicaUnproven: 66 },
  },
  {
    name: "a proof each night, which may take six hours",
    minutes: 120,
    series: proof(1, (minute) => (minute < 60 ? -30 * 3_600 : 60 * MINUTE)),
    fires: {},
    quiet: ["ReplicaUnproven"],
  },
];

/** Nothing is wrong here, whatever the rule. */
const CALM: readonly AlertCase[] = [
  { name: "a replica that is well", minutes: 120, series: HEALTHY, fires: {} },
  {
    name: "a replica that is well, with an archive",
    minutes: 14 * 60,
    series: well({ ...ARCHIVED, ...renewals() }),
    fires: {},
  },
  {
    name: "a first snapshot of 50 GB over a slow line, with 200 GB free, and the day after it",
    minutes: 14 * 60,
    series: well(
      firstSnapshot({
        forkMinutes: 20,
        bytes: 50 * GB,
        bytesPerMinute: 0.12 * GB,
        freeBytes: 200 * GB,
      }),
    ),
    fires: {},
  },
  {
    name: "a first snapshot of 50 GB that fills the disk to the last tenth",
    minutes: 6 * 60,
    series: well(
      firstSnapshot({
        forkMinutes: 5,
        bytes: 50 * GB,
        bytesPerMinute: 6 * GB,
        freeBytes: 160 * GB,
      }),
    ),
    fires: {},
  },
  {
    name: "a first snapshot of 50 GB that gets into the archive over a slow line",
    minutes: 14 * 60,
    series: well(
      firstSnapshot({
        forkMinutes: 5,
        bytes: 50 * GB,
        bytesPerMinute: 6 * GB,
        freeBytes: 200 * GB,
        archivedBytesPerMinute: 0.12 * GB,
      }),
    ),
    fires: {},
  },
  {
    name: "first snapshots of 50 GB of eight shards, two at a time, on one disk, with an archive",
    minutes: 14 * 60,
    series: cluster(8, shardOfEight, {
      replica_cluster_snapshots_waiting: (minute) => Math.max(0, 6 - 2 * Math.floor(minute / 100)),
      replica_cluster_layouts_archive_up: 1,
    }),
    fires: {},
  },
];

/** The shards take their snapshots two by two, each pair for 100 minutes, on a disk of 2 TB. */
function shardOfEight(shard: number): Series {
  const turn = Math.ceil(shard / 2) - 1;
  const plan = {
    forkMinutes: 10,
    bytes: 50 * GB,
    bytesPerMinute: (50 * GB) / 90,
    freeBytes: 2_000 * GB,
  };
  const begins = (of: number) => of * 100 + plan.forkMinutes;
  return {
    ...firstSnapshot({ ...plan, from: turn * 100, archivedBytesPerMinute: plan.bytesPerMinute }),
    replica_disk_free_bytes: (minute) =>
      [0, 1, 2, 3].reduce((free, of) => {
        const came = Math.min(plan.bytes, Math.max(0, minute - begins(of)) * plan.bytesPerMinute);
        const logged = Math.max(0, minute - (of + 1) * 100) * 60e6;
        return free - 2 * (came + logged);
      }, plan.freeBytes),
  };
}

/** What the rules of deploy/alerts.yml are tried with. To add an alert, add a case in which it fires, and one that looks like it. */
export const ALERT_CASES: readonly AlertCase[] = [
  ...TARGET,
  ...LINK,
  ...SNAPSHOT,
  ...DISK,
  ...ARCHIVE,
  ...CLUSTER,
  ...PROOF,
  ...CALM,
];
