import * as os from "node:os";
import type { Field } from "./info-field.ts";
import type { PortCounts } from "./port-counts.ts";

/** The settings that the state of a replica is judged by. */
export interface StateSurroundings {
  /** --ready-lag */
  readonly readyLagMs: number;
  /** --announce */
  readonly announced: boolean;
}

/** What INFO needs beside the status of what the port answers for. */
export interface InfoSurroundings extends StateSurroundings {
  readonly version: string;
  readonly port: number;
  /** As Redis tells of where it listens ("Redis 7.2, networking.c, getListensInfoString"). */
  readonly listener: string;
  readonly nowMs: number;
  readonly connectedClients: number;
  readonly blockedClients: number;
  readonly maxClients: number;
  readonly counts: Readonly<PortCounts>;
}

/**
 * The version of Redis whose fields and replies the port uses: tools choose by it what to ask for. This
 * program's own version is `replica_version`.
 */
export const SPOKEN_VERSION = "7.2.0";

/** What INFO says of the process itself. */
export interface ProcessStatus {
  readonly runId: string;
  readonly uptimeSeconds: number;
}

/** Sections of INFO by their names; a section is read when its function is called. */
export type InfoSections = ReadonlyMap<string, () => readonly Field[]>;

/** The sections about the process, with Redis 7.2's field names (server.c, genRedisInfoString). */
export function processSections(status: ProcessStatus, about: InfoSurroundings) {
  return {
    server: () => server(status, about),
    clients: () => clients(about),
    memory,
    cpu,
  };
}

function server(
  { runId, uptimeSeconds }: ProcessStatus,
  { version, port, listener, nowMs }: InfoSurroundings,
): Field[] {
  return [
    ["redis_version", SPOKEN_VERSION],
    ["redis_mode", "standalone"],
    ["os", `${os.type()} ${os.release()} ${os.machine()}`],
    ["arch_bits", 64],
    ["replica_version", version],
    ["process_id", process.pid],
    ["run_id", runId],
    ["tcp_port", port],
    ["listener0", listener],
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

/** All 0 where the process is out of file descriptors: reading it opens a file. */
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
    // Peak resident memory: the runtime does not record the peak of its heap.
    ["used_memory_peak", peak],
    ["used_memory_peak_human", human(peak)],
    ["mem_fragmentation_ratio", (rss / Math.max(1, heapUsed)).toFixed(2)],
    ["total_system_memory", os.totalmem()],
    ["maxmemory", 0],
    ["maxmemory_policy", "noeviction"],
  ];
}

/** Bytes in Redis's format: `1.23M` ("Redis, util.c, bytesToHuman"). */
function human(bytes: number): string {
  const units = ["B", "K", "M", "G", "T"];
  const power = Math.min(Math.floor(Math.log2(Math.max(1, bytes)) / 10), units.length - 1);
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(2)}${units[power] ?? ""}`;
}

function cpu(): Field[] {
  const { user, system } = process.cpuUsage();
  return [
    ["used_cpu_sys", (system / 1e6).toFixed(6)],
    ["used_cpu_user", (user / 1e6).toFixed(6)],
  ];
}

/**
 * Renders INFO as Redis prints it.
 * @param only names of sections, in any case; none, `all`, `default` and `everything` mean all.
 */
export function infoText(sections: InfoSections, only: readonly string[]): string {
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
