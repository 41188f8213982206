import * as os from "node:os";
import type { PortCounts } from "./port-counts.ts";
import { cursorsOf } from "../replica/cursors.ts";
import { FULL_REASONS } from "../upstream/link/full-reason.ts";
import { whyNotReady } from "../replica/readiness.ts";
import type { Replica } from "../replica/replica.ts";

/** What INFO tells of beside the replica itself. */
export interface InfoSurroundings {
  readonly version: string;
  readonly port: number;
  readonly nowMs: number;
  /** --ready-lag */
  readonly readyLagMs: number;
  readonly connectedClients: number;
  readonly blockedClients: number;
  readonly maxClients: number;
  readonly counts: Readonly<PortCounts>;
}

type Field = readonly [name: string, value: string | number];

/**
 * The Redis whose fields and replies these are: tools choose by it what to ask. `replica_version` is our
 * own.
 */
export const SPOKEN_VERSION = "7.2.0";

const NO_ID = "0".repeat(40);

/**
 * What INFO tells, section by section, in Redis 7.2's field names (server.c, genRedisInfoString). Each is
 * looked up when it is asked for.
 */
export function infoSections(
  replica: Replica,
  about: InfoSurroundings,
): ReadonlyMap<string, () => Field[]> {
  return new Map([
    ["Server", () => server(replica, about)],
    ["Clients", () => clients(about)],
    ["Memory", memory],
    ["Persistence", () => persistence(replica)],
    ["Stats", () => stats(replica, about)],
    ["Replication", () => replication(replica)],
    ["CPU", cpu],
    ["Keyspace", () => []],
    ["Replica", () => own(replica, about)],
  ]);
}

function server(replica: Replica, { version, port, nowMs }: InfoSurroundings): Field[] {
  const { uptimeSeconds } = replica;
  return [
    ["redis_version", SPOKEN_VERSION],
    ["redis_mode", "standalone"],
    ["os", `${os.type()} ${os.release()} ${os.machine()}`],
    ["arch_bits", 64],
    ["replica_version", version],
    ["process_id", process.pid],
    ["run_id", replica.runId],
    ["tcp_port", port],
    ["server_time_usec", nowMs * 1000],
    ["uptime_in_seconds", uptimeSeconds],
    ["uptime_in_days", Math.floor(uptimeSeconds / 86_400)],
  ];
}

function clients({ connectedClients, blockedClients, maxClients }: InfoSurroundings): Field[] {
  return [
    ["connected_clients", connectedClients],
    ["maxclients", maxClients],
    ["blocked_clients", blockedClients],
  ];
}

/** The system tells it through a file, which takes a descriptor: where there is none, 0. */
function memoryUsage(): { readonly rss: number; readonly heapUsed: number } {
  try {
    return process.memoryUsage();
  } catch {
    return { rss: 0, heapUsed: 0 };
  }
}

function memory(): Field[] {
  const { rss, heapUsed } = memoryUsage();
  const peak = Math.max(rss, process.resourceUsage().maxRSS * 1024);
  return [
    ["used_memory", heapUsed],
    ["used_memory_human", human(heapUsed)],
    ["used_memory_rss", rss],
    ["used_memory_rss_human", human(rss)],
    // The most that was resident, in KiB there: of the heap alone nobody knows it.
    ["used_memory_peak", peak],
    ["used_memory_peak_human", human(peak)],
    ["mem_fragmentation_ratio", (rss / Math.max(1, heapUsed)).toFixed(2)],
    ["total_system_memory", os.totalmem()],
    ["maxmemory", 0],
    ["maxmemory_policy", "noeviction"],
  ];
}

/** Bytes as Redis words them: `1.23M` ("Redis, util.c, bytesToHuman"). */
function human(bytes: number): string {
  const units = ["B", "K", "M", "G", "T"];
  const power = Math.min(Math.floor(Math.log2(Math.max(1, bytes)) / 10), units.length - 1);
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(2)}${units[power]}`;
}

function persistence(replica: Replica): Field[] {
  const { renewal } = replica;
  const generation = replica.directory.current;
  const savedAtMs = generation?.currentAtMs;
  return [
    ["loading", 0],
    ["async_loading", 0],
    ["rdb_bgsave_in_progress", renewal.runningSeconds === undefined ? 0 : 1],
    ["rdb_last_save_time", savedAtMs === undefined ? 0 : Math.floor(savedAtMs / 1000)],
    ["rdb_last_bgsave_status", renewal.last?.error === undefined ? "ok" : "err"],
    ["rdb_last_bgsave_time_sec", Math.floor(renewal.last?.seconds ?? -1)],
    ["rdb_current_bgsave_time_sec", Math.floor(renewal.runningSeconds ?? -1)],
    ["aof_enabled", 1],
    ["aof_rewrite_in_progress", 0],
    ["aof_last_write_status", replica.lastError?.code.startsWith("DISK") === true ? "err" : "ok"],
    ["aof_base_size", generation?.rdbBytes ?? 0],
    ["aof_current_size", (generation?.rdbBytes ?? 0) + cursorsOf(replica).logBytes],
  ];
}

function stats({ counts: { bytes }, relay }: Replica, { counts }: InfoSurroundings): Field[] {
  const receivedBytes = bytes.snapshot + bytes.stream;
  return [
    ["total_connections_received", counts.connections],
    ["total_commands_processed", counts.commands],
    // As Redis counts them: what belongs to replication is in both.
    ["total_net_input_bytes", counts.inputBytes + receivedBytes],
    ["total_net_output_bytes", counts.outputBytes],
    ["total_net_repl_input_bytes", receivedBytes],
    ["total_net_repl_output_bytes", relay.counts.snapshot + relay.counts.stream],
    ["rejected_connections", counts.rejected],
    // Of those that sync from here, as with Redis; what the primary granted us is in our own section.
    ["sync_full", relay.counts.full],
    ["sync_partial_ok", relay.counts.partial],
    ["sync_partial_err", relay.counts.refused],
  ];
}

function replication(replica: Replica): Field[] {
  const { state, log, directory, endedStream: ended } = replica;
  const { received, written, logBytes } = cursorsOf(replica);
  const up = state.at === "connected";
  const syncing = state.at === "transfer" || state.at === "receive-bulk-header";
  const [host, port] = replica.primary.hostAndPort;
  const fields: Field[] = [
    ["role", "slave"],
    ["master_host", host],
    ["master_port", port],
    ["master_link_status", up ? "up" : "down"],
    ["master_last_io_seconds_ago", up ? Math.floor(replica.silentMs / 1000) : -1],
    ["master_sync_in_progress", syncing ? 1 : 0],
    ["slave_read_repl_offset", received],
    ["slave_repl_offset", written],
  ];
  if (syncing) {
    const [total, read] = state.at === "transfer" ? [state.totalBytes, state.readBytes] : [0, 0];
    const known = total ?? 0;
    fields.push(
      ["master_sync_total_bytes", known],
      ["master_sync_read_bytes", read],
      ["master_sync_left_bytes", known - read],
      ["master_sync_perc", known === 0 ? "0.00" : ((100 * read) / known).toFixed(2)],
      ["master_sync_last_io_seconds_ago", Math.floor(replica.silentMs / 1000)],
    );
  }
  if (!up) fields.push(["master_link_down_since_seconds", replica.linkDownSeconds ?? -1]);
  const ids = directory.replicationIds;
  const generation = ended?.generation ?? directory.current;
  const [replid, second, from] =
    ended === undefined
      ? [ids.at(-1)?.replid, ids.at(-2)?.replid, ids.at(-1)?.fromOffset ?? 0]
      : [ended.replid, ended.second, ended.writtenOffset];
  fields.push(
    ["slave_priority", 0],
    ["slave_read_only", 1],
    ["replica_announced", 1],
    ["connected_slaves", replica.relay.downstreams.size],
    ...[...replica.relay.downstreams].map((downstream, index): Field => {
      const { ip, listeningPort, state, ackedOffset, lagSeconds } = downstream;
      const about = `ip=${ip},port=${listeningPort},state=${state},offset=${ackedOffset},lag=${lagSeconds}`;
      return [`slave${index}`, about];
    }),
    ["master_failover_state", "no-failover"],
    ["master_replid", replid ?? NO_ID],
    ["master_replid2", second ?? NO_ID],
    ["master_repl_offset", ended?.endOffset ?? written],
    // As Redis counts it: from this offset on the second id no longer holds.
    ["second_repl_offset", second === undefined ? -1 : from + 1],
    ["repl_backlog_active", log === undefined && ended === undefined ? 0 : 1],
    ["repl_backlog_size", logBytes],
    ["repl_backlog_first_byte_offset", generation === undefined ? 0 : generation.baseOffset + 1],
    ["repl_backlog_histlen", generation === undefined ? 0 : written - generation.baseOffset],
  );
  return fields;
}

function cpu(): Field[] {
  const { user, system } = process.cpuUsage();
  return [
    ["used_cpu_sys", (system / 1e6).toFixed(6)],
    ["used_cpu_user", (user / 1e6).toFixed(6)],
  ];
}

function own(replica: Replica, { readyLagMs }: InfoSurroundings): Field[] {
  const { directory, counts, syncs, bytesPerSecond, lastBreak, renewal } = replica;
  const ended = replica.endedStream;
  const generation = ended?.generation ?? directory.current;
  const notReady = whyNotReady(replica, readyLagMs);
  const { received, written, durable, logBytes } = cursorsOf(replica);
  const renewing = renewal.state.at === "transfer" ? renewal.state : undefined;
  return [
    ["state", replica.state.at],
    ["ready", notReady === undefined ? 1 : 0],
    ["not_ready_reason", notReady ?? ""],
    // Empty after REPLICAOF NO ONE; master_host keeps whom it followed last, as tools expect a host there.
    ["primary", replica.isFollowing ? replica.primary.name : ""],
    // With --offline: up to where what is kept is served.
    ["offline", replica.isOffline ? 1 : 0],
    ["served_offset", replica.stream?.writtenOffset ?? 0],
    ["received_offset", received],
    ["written_offset", written],
    ["durable_offset", durable],
    ["durable_lag_bytes", received - durable],
    ["durable_age_seconds", replica.durableAgeSeconds.toFixed(1)],
    ["received_bytes_per_second", Math.round(bytesPerSecond.received)],
    ["durable_bytes_per_second", Math.round(bytesPerSecond.durable)],
    ["received_snapshot_bytes", counts.bytes.snapshot],
    ["received_stream_bytes", counts.bytes.stream],
    ["generation", generation?.id ?? 0],
    ["sealed_generations", orUnknown(() => sealed(directory.countByState()))],
    ["log_bytes", logBytes],
    ["rdb_bytes", generation?.rdbBytes ?? 0],
    ["rdb_crc64", generation?.rdbCrc64 ?? ""],
    ["disk_free_bytes", orUnknown(() => directory.freeBytes)],
    ["disk_low", replica.retention.lowOnRoom ? 1 : 0],
    ["full_syncs", syncs.full],
    ...FULL_REASONS.map((reason): Field => [
      `full_syncs_${reason.replaceAll("-", "_")}`,
      counts.fullSyncs.get(reason) ?? 0,
    ]),
    ["partial_syncs", syncs.partial],
    ["breaks", counts.breaks.values().reduce((sum, count) => sum + count, 0)],
    // Of a new generation under way, while the link follows on.
    ["snapshot_read_bytes", renewing?.readBytes ?? 0],
    ["snapshot_total_bytes", renewing?.totalBytes ?? 0],
    ["last_snapshot_error", oneLine(renewal.last?.error?.message)],
    ["last_error", oneLine(lastBreak?.error.message)],
    ["last_error_code", lastBreak?.error.code ?? ""],
    ["last_error_cause", oneLine(lastBreak?.cause)],
    ["last_error_time", Math.floor((lastBreak?.atMs ?? 0) / 1000)],
  ];
}

function sealed(counts: readonly [state: string, count: number][]): number {
  return counts.find(([state]) => state === "sealed")?.[1] ?? 0;
}

/** Of a disk that fails, the rest of INFO is all the more worth knowing; -1 is Redis's word for it. */
function orUnknown(look: () => number): number {
  try {
    return look();
  } catch {
    return -1;
  }
}

function oneLine(text = ""): string {
  return text.replace(/[\r\n]+/g, " ");
}

/** INFO as Redis prints it; `only` names sections, in any case; none, `all`, `default` and `everything` mean all. */
export function infoText(
  sections: ReadonlyMap<string, () => readonly Field[]>,
  only: readonly string[],
): string {
  const wanted = new Set(only.map((name) => name.toLowerCase()));
  const all =
    wanted.size === 0 || ["all", "default", "everything"].some((name) => wanted.has(name));
  return [...sections]
    .filter(([name]) => all || wanted.has(name.toLowerCase()))
    .map(
      ([name, fields]) =>
        `# ${name}\r\n${fields()
          .map(([key, value]) => `${key}:${value}\r\n`)
          .join("")}`,
    )
    .join("\r\n");
}
