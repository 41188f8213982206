import type { ReplicaStatus } from "../../replica/status.ts";
import {
  type ClusterStatus,
  type ShardStatus,
  whyShardNotReady,
} from "../status/cluster-status.ts";
import { formatRanges } from "../slots/slot-ranges.ts";
import { type Field, oneLine } from "../../monitor/info-field.ts";
import {
  type InfoSections,
  type InfoSurroundings,
  type StateSurroundings,
  processSections,
} from "../../monitor/process-info.ts";

/**
 * The sections of INFO where the port answers for all shards of a cluster. What Redis's own fields can't say of several
 * primaries at once is left out; the section `Shards` has a row for each.
 */
export function clusterSections(status: ClusterStatus, about: InfoSurroundings): InfoSections {
  const { server, clients, memory, cpu } = processSections(status, about);
  const { Persistence, Replication, Replica } = clusterStateSections(status, about);
  return new Map([
    ["Server", server],
    ["Clients", clients],
    ["Memory", memory],
    ["Persistence", Persistence],
    ["Replication", Replication],
    ["CPU", cpu],
    ["Replica", Replica],
    ["Shards", () => status.shown.flatMap((shard) => rowsOf(shard, about.readyLagMs))],
  ]);
}

/** The sections that say how all shards together do, and nothing of the port. */
export function clusterStateSections(status: ClusterStatus, about: StateSurroundings) {
  return {
    Persistence: () => persistence(status),
    Replication: () => replication(status, about),
    Replica: () => own(status, about),
  };
}

/** The replicas that run. */
export function replicasOf({ live }: ClusterStatus): ReplicaStatus[] {
  return live.flatMap(({ replica }) => replica ?? []);
}

function sum(replicas: readonly ReplicaStatus[], read: (one: ReplicaStatus) => number): number {
  return replicas.reduce((total, one) => total + read(one), 0);
}

function persistence(status: ClusterStatus): Field[] {
  const replicas = replicasOf(status);
  const running = replicas.filter(({ snapshot }) => snapshot.runningSeconds !== undefined);
  const saved = replicas.map(({ currentGeneration }) => currentGeneration?.currentAtMs ?? 0);
  const isErr = replicas.some(({ snapshot }) => snapshot.last?.error !== undefined);
  return [
    ["loading", 0],
    ["async_loading", 0],
    ["rdb_bgsave_in_progress", running.length > 0 ? 1 : 0],
    // Of the shard whose snapshot is the oldest.
    ["rdb_last_save_time", Math.floor(Math.min(...saved, ...(saved.length > 0 ? [] : [0])) / 1000)],
    ["rdb_last_bgsave_status", isErr ? "err" : "ok"],
    ["aof_enabled", 1],
    ["aof_rewrite_in_progress", 0],
    ["aof_base_size", sum(replicas, (one) => one.currentGeneration?.rdbBytes ?? 0)],
    [
      "aof_current_size",
      sum(replicas, (one) => (one.currentGeneration?.rdbBytes ?? 0) + one.cursors.logBytes),
    ],
  ];
}

function replication(status: ClusterStatus, { announced }: StateSurroundings): Field[] {
  const replicas = replicasOf(status);
  const isUp = (one: ReplicaStatus) =>
    one.link.state === "connected" && one.supply.trouble === undefined;
  const areUp = replicas.length > 0 && replicas.every(isUp);
  return [
    ["role", "slave"],
    // Each shard has a primary of its own: see the section Shards.
    ["master_host", ""],
    ["master_port", 0],
    ["master_link_status", areUp ? "up" : "down"],
    ["slave_priority", 0],
    ["slave_read_only", 1],
    ["replica_announced", announced ? 1 : 0],
    ["connected_slaves", sum(replicas, (one) => one.relay.downstreams.length)],
    ["master_failover_state", "no-failover"],
  ];
}

function own(status: ClusterStatus, { readyLagMs }: StateSurroundings): Field[] {
  const { topology, live, shards } = status;
  const replicas = replicasOf(status);
  const notReady = status.whyNotReady(readyLagMs);
  const ready = live.filter((shard) => whyShardNotReady(shard, readyLagMs) === undefined);
  const bytesPerSecond = replicas.map((one) => one.bytesPerSecond);
  return [
    ["state", stateOf(live)],
    ["ready", notReady === undefined ? 1 : 0],
    ["not_ready_reason", oneLine(notReady)],
    ["primary", status.name],
    ["cluster_state", oneLine(topology.state ?? "unknown")],
    ["cluster_current_epoch", topology.epoch],
    ["cluster_known_nodes", topology.knownNodes],
    ["cluster_slots_covered", status.coveredSlots],
    ["topology_age_seconds", Math.floor(topology.ageSeconds ?? -1)],
    ["topology_trouble", oneLine(topology.trouble)],
    ["shards", live.length],
    ["shards_ready", ready.length],
    ["shards_ended", shards.length - live.length],
    ["newest_restorable_time", Math.floor((status.newestRestorableMs ?? 0) / 1000)],
    ["stale_seconds", Math.floor(status.staleSeconds ?? -1)],
    [
      "received_bytes_per_second",
      Math.round(total(bytesPerSecond.map(({ received }) => received))),
    ],
    ["durable_bytes_per_second", Math.round(total(bytesPerSecond.map(({ durable }) => durable)))],
    ["received_snapshot_bytes", sum(replicas, (one) => one.receivedBytes.snapshot)],
    ["received_stream_bytes", sum(replicas, (one) => one.receivedBytes.stream)],
    ["log_bytes", sum(replicas, (one) => one.cursors.logBytes)],
    ["rdb_bytes", sum(replicas, (one) => one.currentGeneration?.rdbBytes ?? 0)],
    ["full_syncs", sum(replicas, (one) => one.syncs.full)],
    ["partial_syncs", sum(replicas, (one) => one.syncs.partial)],
    ...archiveOf(status),
    ["breaks", sum(replicas, (one) => total(Object.values(one.breaks)))],
  ];
}

/** How far the archive has what was recorded of the cluster itself; each shard's own archive is told with the shard. */
function archiveOf({ layoutsArchive }: ClusterStatus): Field[] {
  if (layoutsArchive === undefined) return [];
  return [
    ["layouts_archived_time", Math.floor((layoutsArchive.archivedMs ?? 0) / 1000)],
    ["layouts_archive_error", oneLine(layoutsArchive.error)],
  ];
}

/** `connected` where all are, else the state of the first that isn't. */
function stateOf(live: readonly ShardStatus[]): string {
  const states = live.map(({ replica }) => replica?.link.state ?? "none");
  return states.find((state) => state !== "connected") ?? states[0] ?? "none";
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0);
}

/** `shard0001:state=…,ready=…`; what may hold any text has a field of its own. */
function rowsOf(shard: ShardStatus, readyLagMs: number): Field[] {
  const { label, state, slots, replica, relayPort } = shard;
  const why = whyShardNotReady(shard, readyLagMs);
  const values: Field[] = [
    ["state", state === "following" ? (replica?.link.state ?? state) : state],
    ["ready", why === undefined ? 1 : 0],
    // Ranges are separated by spaces.
    ["slots", formatRanges(slots)],
  ];
  if (replica !== undefined) {
    const { cursors, syncs, primary, staleSeconds, currentGeneration } = replica;
    values.push(
      ["primary", primary.name],
      ["received_offset", cursors.received],
      ["durable_offset", cursors.durable],
      ["generation", currentGeneration?.id ?? 0],
      ["rdb_bytes", currentGeneration?.rdbBytes ?? 0],
      ["log_bytes", cursors.logBytes],
      ["full_syncs", syncs.full],
      ["partial_syncs", syncs.partial],
      ["stale_seconds", Math.floor(staleSeconds ?? -1)],
    );
  }
  const { archive } = replica ?? {};
  if (archive?.lag !== undefined) {
    values.push(["archive_lag_bytes", archive.lag.lagBytes + archive.lag.lagBaseBytes]);
    values.push(["archive_lag_seconds", (archive.lag.lagMs / 1000).toFixed(1)]);
  }
  if (relayPort !== undefined) values.push(["relay_port", relayPort]);
  return [
    [`shard${label}`, values.map(([name, value]) => `${name}=${value}`).join(",")],
    [`shard${label}_not_ready_reason`, oneLine(why)],
    [`shard${label}_last_error`, oneLine(replica?.lastBreak?.message)],
    ...(archive === undefined
      ? []
      : [[`shard${label}_archive_state`, oneLine(archive.text)] as const]),
  ];
}
