import { archiveFields } from "./archive-info.ts";
import { type Field, oneLine } from "./info-field.ts";
import {
  type InfoSections,
  type InfoSurroundings,
  type StateSurroundings,
  processSections,
} from "./process-info.ts";
import type { LinkStatus, ReplicaStatus, SnapshotStatus } from "../replica/status.ts";

const NO_ID = "0".repeat(40);

/**
 * The sections of INFO with Redis 7.2's field names (server.c, genRedisInfoString). A section is read
 * when its function is called.
 */
export function infoSections(status: ReplicaStatus, about: InfoSurroundings): InfoSections {
  const { server, clients, memory, cpu } = processSections(status, about);
  const { Persistence, Replication, Keyspace, Replica } = stateSections(status, about);
  return new Map([
    ["Server", server],
    ["Clients", clients],
    ["Memory", memory],
    ["Persistence", Persistence],
    ["Stats", () => stats(status, about)],
    ["Replication", Replication],
    ["CPU", cpu],
    ["Keyspace", Keyspace],
    ["Replica", Replica],
  ]);
}

/** The sections that say how the replica does, and nothing of its port. */
export function stateSections(status: ReplicaStatus, about: StateSurroundings) {
  return {
    Persistence: () => persistence(status),
    Replication: () => replication(status, about),
    Keyspace: () => keyspace(status),
    Replica: () => own(status, about),
  };
}

function persistence(status: ReplicaStatus): Field[] {
  const { snapshot, currentGeneration: generation, lastBreak, link } = status;
  // The last error stays; while the link is up, the log is being written again.
  const isFailing = link.state !== "connected" && lastBreak?.code.startsWith("DISK") === true;
  return [
    ["loading", 0],
    ["async_loading", 0],
    ["rdb_bgsave_in_progress", snapshot.runningSeconds === undefined ? 0 : 1],
    ["rdb_last_save_time", Math.floor((generation?.currentAtMs ?? 0) / 1000)],
    ["rdb_last_bgsave_status", snapshot.last?.error === undefined ? "ok" : "err"],
    ["rdb_last_bgsave_time_sec", Math.floor(snapshot.last?.seconds ?? -1)],
    ["rdb_current_bgsave_time_sec", Math.floor(snapshot.runningSeconds ?? -1)],
    ["aof_enabled", 1],
    ["aof_rewrite_in_progress", 0],
    ["aof_last_write_status", isFailing ? "err" : "ok"],
    ["aof_base_size", generation?.rdbBytes ?? 0],
    ["aof_current_size", (generation?.rdbBytes ?? 0) + status.cursors.logBytes],
  ];
}

function stats({ receivedBytes, relay }: ReplicaStatus, { counts }: InfoSurroundings): Field[] {
  const replicationBytes = receivedBytes.snapshot + receivedBytes.stream;
  return [
    ["total_connections_received", counts.connections],
    ["total_commands_processed", counts.commands],
    // Redis, too, counts replication traffic in both totals.
    ["total_net_input_bytes", counts.inputBytes + replicationBytes],
    ["total_net_output_bytes", counts.outputBytes],
    ["total_net_repl_input_bytes", replicationBytes],
    ["total_net_repl_output_bytes", relay.counts.snapshot + relay.counts.stream],
    ["rejected_connections", counts.rejected],
    ["evicted_clients", counts.evicted],
    // Syncs granted to replicas of this one, as in Redis. Those that the primary granted are in section Replica.
    ["sync_full", relay.counts.full],
    ["sync_partial_ok", relay.counts.partial],
    ["sync_partial_err", relay.counts.refused],
  ];
}

function replication(status: ReplicaStatus, { announced }: StateSurroundings): Field[] {
  const { link, primary, cursors, generation, relay, history } = status;
  const { written } = cursors;
  const { replid, secondReplid, secondEndOffset } = history;
  const { trouble, troubleSeconds } = status.supply;
  const isConnected = link.state === "connected";
  // A link over which nothing can come is none, for a replica of this one and for tools.
  const up = isConnected && trouble === undefined;
  const downSeconds = isConnected ? troubleSeconds : (link.downSeconds ?? -1);
  return [
    ["role", "slave"],
    ["master_host", primary.host],
    ["master_port", primary.port],
    ["master_link_status", up ? "up" : "down"],
    ["master_last_io_seconds_ago", isConnected ? Math.floor(link.silentMs / 1000) : -1],
    ["master_sync_in_progress", isSyncing(link) ? 1 : 0],
    ["slave_read_repl_offset", cursors.received],
    ["slave_repl_offset", written],
    ...(isSyncing(link) ? syncFields(link) : []),
    ...(up ? [] : [["master_link_down_since_seconds", downSeconds] as const]),
    ["slave_priority", 0],
    ["slave_read_only", 1],
    // Sentinel keeps a replica with 0 to itself: it repoints it, and names it to no client.
    ["replica_announced", announced ? 1 : 0],
    ["connected_slaves", relay.downstreams.length],
    ...relay.downstreams.map(({ ip, port, state, ackedOffset, lagSeconds }, index): Field => {
      const value = `ip=${ip},port=${port},state=${state},offset=${ackedOffset},lag=${lagSeconds}`;
      return [`slave${index}`, value];
    }),
    ["master_failover_state", "no-failover"],
    ["master_replid", replid ?? NO_ID],
    ["master_replid2", secondReplid ?? NO_ID],
    ["master_repl_offset", history.endOffset],
    // Redis names the first offset at which the second id no longer holds.
    ["second_repl_offset", secondReplid === undefined ? -1 : secondEndOffset + 1],
    ["repl_backlog_active", history.isOpen ? 1 : 0],
    ["repl_backlog_size", cursors.logBytes],
    ["repl_backlog_first_byte_offset", generation === undefined ? 0 : generation.baseOffset + 1],
    ["repl_backlog_histlen", generation === undefined ? 0 : written - generation.baseOffset],
  ];
}

function isSyncing({ state }: LinkStatus): boolean {
  return state === "transfer" || state === "receive-bulk-header";
}

function syncFields({ transfer, silentMs }: LinkStatus): Field[] {
  const read = transfer?.readBytes ?? 0;
  const total = transfer?.totalBytes ?? 0;
  return [
    ["master_sync_total_bytes", total],
    ["master_sync_read_bytes", read],
    ["master_sync_left_bytes", total - read],
    ["master_sync_perc", total === 0 ? "0.00" : ((100 * read) / total).toFixed(2)],
    ["master_sync_last_io_seconds_ago", Math.floor(silentMs / 1000)],
  ];
}

/**
 * What is known of the keys, under Redis's names, without the average time to live, which nobody knows;
 * `keyspace_time` says when that was so.
 */
function keyspace(status: ReplicaStatus): Field[] {
  const { databases = [] } = status.keyspace ?? {};
  return databases.map(({ database, keys, expires }) => [
    `db${database}`,
    `keys=${keys},expires=${expires}`,
  ]);
}

function own(status: ReplicaStatus, { readyLagMs }: StateSurroundings): Field[] {
  const { link, cursors, generation, receivedBytes, bytesPerSecond, syncs } = status;
  const { snapshot, lastBreak, shrunken, supply, room } = status;
  const notReady = status.whyNotReady(readyLagMs);
  return [
    ["state", link.state],
    ["ready", notReady === undefined ? 1 : 0],
    ["not_ready_reason", oneLine(notReady)],
    // Empty after REPLICAOF NO ONE. master_host keeps the last primary, because tools expect a host there.
    ["primary", status.isFollowing ? status.primary.name : ""],
    ["primary_role", supply.role],
    // Empty where it is, as far as is known.
    ["unsupplied_reason", oneLine(supply.trouble)],
    ["unsupplied_seconds", supply.troubleSeconds],
    ["upstream_run_ids", status.upstreamRunIds.join(",")],
    ["offline", status.isOffline ? 1 : 0],
    ["served_offset", status.servedOffset ?? 0],
    ["received_offset", cursors.received],
    ["written_offset", cursors.written],
    ["durable_offset", cursors.durable],
    ["durable_lag_bytes", cursors.received - cursors.durable],
    ["durable_age_seconds", status.durableAgeSeconds.toFixed(1)],
    ["link_down_seconds", link.downForSeconds],
    ["newest_restorable_time", Math.floor((status.newestRestorableMs ?? 0) / 1000)],
    ["oldest_restorable_time", orUnknown(() => oldestSeconds(status))],
    ["stale_seconds", Math.floor(status.staleSeconds ?? -1)],
    ["received_bytes_per_second", Math.round(bytesPerSecond.received)],
    ["durable_bytes_per_second", Math.round(bytesPerSecond.durable)],
    ...arriving("sync", link),
    ["received_snapshot_bytes", receivedBytes.snapshot],
    ["received_stream_bytes", receivedBytes.stream],
    ["generation", generation?.id ?? 0],
    ["sealed_generations", orUnknown(() => sealed(status.generationsByState()))],
    ["log_bytes", cursors.logBytes],
    ["rdb_bytes", generation?.rdbBytes ?? 0],
    ["rdb_crc64", generation?.rdbCrc64 ?? ""],
    ["keyspace_source", status.keyspace?.source ?? "unknown"],
    ["keyspace_time", Math.floor((status.keyspace?.atMs ?? 0) / 1000)],
    ["disk_free_bytes", orUnknown(() => status.freeBytes())],
    ["disk_low", room.isLow ? 1 : 0],
    ["disk_removable_bytes", room.removableBytes],
    ["full_resync_lacks_room_bytes", Math.ceil(room.refusedResyncBytes)],
    // -1: nothing is written, or new snapshots keep the log short enough.
    ["disk_left_seconds", secondsOrNever(room.leftSeconds)],
    ["shrunken", shrunken === undefined ? 0 : 1],
    ["shrunken_seconds", Math.floor(shrunken?.seconds ?? 0)],
    [
      "shrunken_from",
      shrunken === undefined ? "" : `generation ${shrunken.guarded}: ${shrunken.had}`,
    ],
    ["full_syncs", syncs.full],
    ...Object.entries(syncs.fullByReason).map(([reason, count]): Field => [
      `full_syncs_${reason.replaceAll("-", "_")}`,
      count,
    ]),
    ["partial_syncs", syncs.partial],
    // Empty unless the history of quite another primary has come since the start.
    ["other_history", oneLine(status.otherHistory?.text)],
    ["other_history_time", Math.floor((status.otherHistory?.atMs ?? 0) / 1000)],
    ["breaks", sumOf(status.breaks)],
    ["attempts_failed", sumOf(status.failedAttempts)],
    ...renewalFields(snapshot),
    ["last_snapshot_error", oneLine(snapshot.last?.error)],
    ["last_error", oneLine(lastBreak?.message)],
    ["last_error_code", lastBreak?.code ?? ""],
    ["last_error_cause", oneLine(lastBreak?.cause)],
    ["last_error_time", Math.floor((lastBreak?.atMs ?? 0) / 1000)],
    ...archiveFields(status),
  ];
}

function renewalFields(snapshot: SnapshotStatus): Field[] {
  return [
    ["snapshot_read_bytes", snapshot.transfer?.readBytes ?? 0],
    ["snapshot_total_bytes", snapshot.transfer?.totalBytes ?? 0],
    ...arriving("snapshot", snapshot),
  ];
}

/** What is told of a snapshot before its end: of a full resync (`sync`), or of a new one over a second link. */
function arriving(
  name: "sync" | "snapshot",
  { transfer, preparingSeconds }: Pick<LinkStatus, "transfer" | "preparingSeconds">,
): Field[] {
  return [
    // An estimate, where the primary doesn't tell the length; 0: nothing tells, or more has come.
    [`${name}_expected_bytes`, transfer?.expectedBytes ?? 0],
    // -1: the primary isn't about to send one that it has granted.
    [`${name}_preparing_seconds`, Math.floor(preparingSeconds ?? -1)],
  ];
}

function secondsOrNever(seconds: number): number {
  return Number.isFinite(seconds) ? Math.floor(seconds) : -1;
}

/** In whole seconds, rounded up: a restore by a time that is shown must find it. */
function oldestSeconds({ oldestRestorableMs }: ReplicaStatus): number {
  return Math.ceil((oldestRestorableMs ?? 0) / 1000);
}

function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

function sealed(counts: readonly (readonly [state: string, count: number])[]): number {
  return counts.find(([state]) => state === "sealed")?.[1] ?? 0;
}

/** INFO must answer while the disk fails. Returns -1, Redis's word for unknown, where `look` throws. */
function orUnknown(look: () => number): number {
  try {
    return look();
  } catch {
    return -1;
  }
}
