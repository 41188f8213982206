import type { Replica } from "./replica.ts";

/** What INFO tells, section by section, in Redis 7.2's field names (server.c, genRedisInfoString). */
export function infoSections(
  replica: Replica,
  about: { version: string; port: number; nowMs: number },
): Map<string, [string, string | number][]> {
  const { state, log, directory, target } = replica;
  const generation = directory.current;
  const received = state.at === "connected" ? state.receivedOffset : (log?.receivedOffset ?? 0);
  const written = log?.writtenOffset ?? 0;
  const inTransfer = state.at === "transfer" || state.at === "receive-bulk-header";
  const up = state.at === "connected";
  const [host, port] = target.kind === "unix" ? [target.path, 0] : [target.host, target.port];

  const replication: [string, string | number][] = [
    ["role", "slave"],
    ["master_host", host],
    ["master_port", port],
    ["master_link_status", up ? "up" : "down"],
    ["master_last_io_seconds_ago", up ? Math.floor(replica.silentMs / 1000) : -1],
    ["master_sync_in_progress", inTransfer ? 1 : 0],
    ["slave_read_repl_offset", received],
    ["slave_repl_offset", written],
  ];
  if (state.at === "transfer") {
    const total = state.totalBytes ?? 0;
    replication.push(
      ["master_sync_total_bytes", total],
      ["master_sync_read_bytes", state.readBytes],
      ["master_sync_left_bytes", total === 0 ? 0 : total - state.readBytes],
      ["master_sync_last_io_seconds_ago", Math.floor(replica.silentMs / 1000)],
    );
  }
  if (!up) {
    replication.push(["master_link_down_since_seconds", Math.floor(replica.linkDownMs / 1000)]);
  }
  replication.push(
    ["slave_priority", 0],
    ["slave_read_only", 1],
    ["replica_announced", 1],
    ["connected_slaves", 0],
    ["master_replid", directory.replid ?? "0".repeat(40)],
    ["master_repl_offset", written],
  );
  const own: [string, string | number][] = [
    ["state", state.at],
    ["received_offset", received],
    ["written_offset", written],
    ["durable_offset", log?.durableOffset ?? 0],
    ["generation", generation?.id ?? 0],
    ["log_bytes", log?.fileBytes ?? 0],
    ["rdb_bytes", generation?.rdbBytes ?? 0],
    ["rdb_crc64", generation?.rdbCrc64 ?? ""],
    ["full_syncs", replica.syncs.full],
    ["partial_syncs", replica.syncs.partial],
    ["last_error", replica.lastError?.message.replace(/[\r\n]+/g, " ") ?? ""],
  ];
  return new Map([
    [
      "Server",
      [
        ["redis_mode", "standalone"],
        ["replica_version", about.version],
        ["process_id", process.pid],
        ["run_id", replica.runId],
        ["tcp_port", about.port],
        ["uptime_in_seconds", Math.floor((about.nowMs - replica.startedAtMs) / 1000)],
      ],
    ],
    ["Replication", replication],
    ["Replica", own],
  ]);
}

/** INFO as Redis prints it; `only` names sections, in any case; none, `all`, `default` and `everything` mean all. */
export function infoText(
  sections: Map<string, [string, string | number][]>,
  only: readonly string[],
): string {
  const wanted = new Set(only.map((name) => name.toLowerCase()));
  const all =
    wanted.size === 0 || ["all", "default", "everything"].some((name) => wanted.has(name));
  return [...sections]
    .filter(([name]) => all || wanted.has(name.toLowerCase()))
    .map(
      ([name, fields]) =>
        `# ${name}\r\n${fields.map(([key, value]) => `${key}:${value}\r\n`).join("")}`,
    )
    .join("\r\n");
}
