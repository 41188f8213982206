import { readdirSync, readFileSync } from "node:fs";
import type { ErrorCode } from "../base/errors.ts";
import type { LinkState } from "../replica/status.ts";
import { ARCHIVE_METRICS } from "./archive-metrics.ts";
import { flag, labeled, type Metric, type Sample } from "./metric.ts";

/** A new state of the link must be added here, or this does not compile. */
const STATES = Object.keys({
  none: true,
  connect: true,
  connecting: true,
  "receive-pong": true,
  "receive-auth": true,
  "receive-port": true,
  "receive-ip": true,
  "receive-capa": true,
  "receive-version": true,
  "receive-psync": true,
  "receive-bulk-header": true,
  transfer: true,
  connected: true,
} satisfies Record<LinkState, true>);

/**
 * Which errors may end an attempt that is then repeated: a new code must be added here, or this does not
 * compile.
 */
const ENDS_ATTEMPTS: Readonly<Record<ErrorCode, boolean>> = {
  USAGE: false,
  CONNECT_FAILED: true,
  LINK_LOST: true,
  TIMED_OUT: true,
  TLS_FAILED: true,
  PRIMARY_UNKNOWN: true,
  NOT_A_PRIMARY: true,
  AUTH_FAILED: true,
  PRIMARY_BUSY: true,
  PRIMARY_REFUSED: true,
  REPLICATION_LOOP: true,
  PROTOCOL: true,
  NOT_FOLLOWING: false,
  BAD_PAYLOAD: true,
  BAD_CHECKSUM: true,
  LOG_GAP: false,
  BAD_FRAME: false,
  DISK_FULL: true,
  DISK_FAILED: true,
  DIRECTORY_IN_USE: false,
  DIRECTORY_LOST: false,
  DIRECTORY_DAMAGED: false,
  DIRECTORY_TOO_NEW: false,
  RESTORE_UNUSABLE: false,
  KEYS_NOT_FOUND: false,
  SERVER_FAILED: false,
  TARGET_REFUSED: false,
  ARCHIVE_FAILED: false,
  ARCHIVE_FORBIDDEN: false,
  ARCHIVE_CONFLICT: false,
  ARCHIVE_DAMAGED: false,
  ARCHIVE_TOO_NEW: false,
  PORT_IN_USE: false,
  LISTEN_FAILED: false,
  STOPPED: false,
  UNEXPECTED: false,
};

/** Their counters start at 0: rate() misses the first event of a series that appears with it. */
const NO_BREAKS: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(ENDS_ATTEMPTS).flatMap(([code, endsAttempts]) =>
    endsAttempts ? [[code, 0]] : [],
  ),
);

/** What is said of the process, however many replicas run in it. */
export const PROCESS_METRICS: readonly Metric<{ readonly startedAtMs: number }>[] = [
  {
    name: "build_info",
    type: "gauge",
    help: "Always 1. The label is the version of the program.",
    labels: ["version"],
    read: (_, version) => [[{ version }, 1]],
  },
  {
    name: "start_time_seconds",
    type: "gauge",
    help: "When the process started, in unix time.",
    read: ({ startedAtMs }) => startedAtMs / 1000,
  },
  {
    name: "resident_memory_bytes",
    type: "gauge",
    help: "Resident memory of the process.",
    read: () => process.memoryUsage.rss(),
  },
  {
    name: "cpu_seconds_total",
    type: "counter",
    help: "CPU time of the process, by mode.",
    labels: ["mode"],
    read: () => {
      const { user, system } = process.cpuUsage();
      return labeled("mode", { user: user / 1e6, system: system / 1e6 });
    },
  },
  // What Prometheus's client libraries tell of every program ("Prometheus, Writing client libraries, Standard and runtime
  // collectors"), so that what knows no program in particular knows this one. What /proc lacks is left out.
  {
    prefix: "process_",
    name: "cpu_seconds_total",
    type: "counter",
    help: "Total user and system CPU time spent in seconds.",
    read: () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    },
  },
  {
    prefix: "process_",
    name: "resident_memory_bytes",
    type: "gauge",
    help: "Resident memory size in bytes.",
    read: () => process.memoryUsage.rss(),
  },
  {
    prefix: "process_",
    name: "open_fds",
    type: "gauge",
    help: "Number of open file descriptors.",
    // The list itself takes one while it is read.
    read: () => readdirSync("/proc/self/fd").length - 1,
  },
  {
    prefix: "process_",
    name: "max_fds",
    type: "gauge",
    help: "Maximum number of open file descriptors.",
    read: () => maxFds(readFileSync("/proc/self/limits", "latin1")),
  },
  {
    prefix: "process_",
    name: "start_time_seconds",
    type: "gauge",
    help: "Start time of the process since unix epoch in seconds.",
    read: ({ startedAtMs }) => startedAtMs / 1000,
  },
];

/** The soft limit, which is the one that holds; undefined where there is none (proc(5)). */
function maxFds(limits: string): number | undefined {
  const soft = /^Max open files +(\d+) /m.exec(limits);
  return soft === null ? undefined : Number(soft[1]);
}

/** Every metric of a replica. To add one, add a row. */
export const METRICS: readonly Metric[] = [
  {
    name: "link_up",
    type: "gauge",
    help: "1 while the link to the primary is up, else 0.",
    read: ({ link }) => flag(link.state === "connected"),
  },
  {
    name: "state",
    type: "gauge",
    help: "1 for the current state of the link to the primary, 0 for the others.",
    labels: ["state"],
    read: ({ link }) => STATES.map((state) => [{ state }, flag(state === link.state)]),
  },
  {
    name: "link_silent_seconds",
    type: "gauge",
    help: "Seconds since the primary was last heard, or since the start; attempts to connect don't reset it.",
    read: ({ link }) => link.silentMs / 1000,
  },
  {
    name: "link_down_seconds",
    type: "gauge",
    help: "Seconds since the link to the primary was last up, or since the start; 0 while it is up.",
    read: ({ link }) => link.downForSeconds,
  },
  {
    name: "primary_unsupplied_seconds",
    type: "gauge",
    help: "How long the link has been up while nothing could come over it, in seconds: the primary is a replica without a primary, or is silent; else 0.",
    read: ({ supply }) => (supply.trouble === undefined ? 0 : Math.max(1, supply.troubleSeconds)),
  },
  {
    name: "newest_restorable_timestamp_seconds",
    type: "gauge",
    help: "The newest moment that can be restored, in unix time; 0 before the first snapshot.",
    read: ({ newestRestorableMs }) => (newestRestorableMs ?? 0) / 1000,
  },
  {
    name: "oldest_restorable_timestamp_seconds",
    type: "gauge",
    help: "The oldest moment that can be restored, in unix time; 0 before the first snapshot.",
    read: ({ oldestRestorableMs }) => (oldestRestorableMs ?? 0) / 1000,
  },
  {
    name: "offset_bytes",
    type: "gauge",
    help: "Replication offset received, written and durable.",
    labels: ["cursor"],
    read: ({ cursors: { received, written, durable } }) =>
      labeled("cursor", { received, written, durable }),
  },
  {
    name: "durable_lag_bytes",
    type: "gauge",
    help: "Bytes of the stream that are received and not durable yet.",
    read: ({ cursors }) => cursors.received - cursors.durable,
  },
  {
    name: "durable_lag_seconds",
    type: "gauge",
    help: "Age of the oldest received byte that is not durable yet; with --fsync no, not written yet.",
    read: (status) => status.durableAgeSeconds,
  },
  {
    name: "generation_id",
    type: "gauge",
    help: "Id of the current generation; 0 before the first.",
    read: ({ currentGeneration }) => currentGeneration?.id ?? 0,
  },
  {
    name: "generation_timestamp_seconds",
    type: "gauge",
    help: "When the current generation became current, in unix time; 0 before the first.",
    read: ({ currentGeneration }) => (currentGeneration?.currentAtMs ?? 0) / 1000,
  },
  {
    name: "generations",
    type: "gauge",
    help: "Generations in the data directory, by state.",
    labels: ["state"],
    read: (status) => labeled("state", Object.fromEntries(status.generationsByState())),
  },
  {
    name: "snapshot_bytes",
    type: "gauge",
    help: "Size of the current snapshot.",
    read: ({ currentGeneration }) => currentGeneration?.rdbBytes ?? 0,
  },
  {
    name: "snapshots_on_disk_bytes",
    type: "gauge",
    help: "Size of all snapshots on disk: the kept ones, and what has arrived of new ones.",
    read: (status) => status.snapshotsOnDiskBytes(),
  },
  {
    name: "log_bytes",
    type: "gauge",
    help: "Size of the current log.",
    read: ({ cursors }) => cursors.logBytes,
  },
  {
    name: "logs_on_disk_bytes",
    type: "gauge",
    help: "Size of all logs on disk: the current one, and those of the kept generations.",
    read: (status) => status.logsOnDiskBytes(),
  },
  {
    name: "snapshot_in_progress",
    type: "gauge",
    help: "1 while a new snapshot arrives over a second link, else 0.",
    read: ({ snapshot }) => flag(snapshot.runningSeconds !== undefined),
  },
  {
    name: "disk_low",
    type: "gauge",
    help: "1 while less than --min-free is free and no old generation is left that may go, else 0.",
    read: ({ room }) => flag(room.isLow),
  },
  {
    name: "disk_left_seconds",
    type: "gauge",
    help: "Seconds until the disk is full at the present rate of writing; +Inf where new snapshots keep the log short.",
    read: ({ room }) => room.leftSeconds,
  },
  {
    name: "full_resync_lacks_room_bytes",
    type: "gauge",
    help: "Size of the full resync that is needed, and is not asked for since it wouldn't fit on the disk; else 0.",
    read: ({ room }) => room.refusedResyncBytes,
  },
  {
    name: "disk_removable_bytes",
    type: "gauge",
    help: "Size of the old generations that give way where room is short.",
    read: ({ room }) => room.removableBytes,
  },
  {
    name: "shrunken",
    type: "gauge",
    help: "1 while the newest snapshot has less than half of the keys or bytes of an earlier one, which is kept meanwhile.",
    read: ({ shrunken }) => flag(shrunken !== undefined),
  },
  {
    name: "generations_removed_total",
    type: "counter",
    help: "Generations removed because nothing kept them any more (age), or ahead of their time to make room: those that the archive has, or all where there is none (room), and those that it lacked (unarchived).",
    labels: ["reason"],
    read: ({ removedGenerations: { old, room, unarchived } }) =>
      labeled("reason", { age: old, room: room - unarchived, unarchived }),
  },
  {
    name: "disk_free_bytes",
    type: "gauge",
    help: "Free bytes on the file system of the data directory.",
    read: (status) => status.freeBytes(),
  },
  {
    name: "received_bytes_total",
    type: "counter",
    help: "Bytes received from the primary, by phase.",
    labels: ["phase"],
    read: ({ receivedBytes: { snapshot, stream } }) => labeled("phase", { snapshot, stream }),
  },
  {
    name: "syncs_total",
    type: "counter",
    help: "Resyncs that the primary granted, by kind; a full one with its reason.",
    labels: ["kind", "reason"],
    read: ({ syncs }) => [
      [{ kind: "partial", reason: "" }, syncs.partial],
      ...Object.entries(syncs.fullByReason).map(([reason, count]): Sample => [
        { kind: "full", reason },
        count,
      ]),
    ],
  },
  {
    name: "breaks_total",
    type: "counter",
    help: "Outages of the link, by the code of their first error; one counts once, however many attempts it takes.",
    labels: ["code"],
    read: ({ breaks }) => labeled("code", { ...NO_BREAKS, ...breaks }),
  },
  {
    name: "attempts_failed_total",
    type: "counter",
    help: "Attempts to follow the primary that failed before the link was up, or at once at a full disk again, by the error's code.",
    labels: ["code"],
    read: ({ failedAttempts }) => labeled("code", { ...NO_BREAKS, ...failedAttempts }),
  },
  {
    name: "snapshots_total",
    type: "counter",
    help: "Snapshots taken over a second link: those that became current, and those that failed.",
    labels: ["result"],
    read: ({ snapshot: { counts } }) => labeled("result", { ok: counts.ok, failed: counts.failed }),
  },
  {
    name: "downstreams",
    type: "gauge",
    help: "Replicas attached to this one, by state.",
    labels: ["state"],
    read: ({ relay }) => labeled("state", relay.countByState),
  },
  {
    name: "downstream_lag_bytes",
    type: "gauge",
    help: "Bytes that the slowest online replica of this one has not acknowledged.",
    read: ({ relay }) => relay.lagBytes,
  },
  {
    name: "downstream_sent_bytes_total",
    type: "counter",
    help: "Bytes sent to replicas of this one, by phase.",
    labels: ["phase"],
    read: ({ relay: { counts } }) =>
      labeled("phase", { snapshot: counts.snapshot, stream: counts.stream }),
  },
  {
    name: "downstream_syncs_total",
    type: "counter",
    help: "Resyncs granted to replicas of this one, by kind.",
    labels: ["kind"],
    read: ({ relay: { counts } }) =>
      labeled("kind", { full: counts.full, partial: counts.partial }),
  },
  ...ARCHIVE_METRICS,
];
