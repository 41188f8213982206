import type { ReplicaError } from "../../base/errors.ts";
import { describeAddress } from "../../base/address.ts";
import { printable } from "../../base/printable.ts";
import { type DatabaseKeys, parseInfo, parseKeyspace } from "../../resp/info-text.ts";
import { isRunId } from "../../base/capabilities.ts";

/** What a primary says of itself in INFO, as far as it matters to who follows it. */
export interface PrimaryFacts {
  /** Another one means another process. Empty where none is shown. */
  readonly runId: string;
  readonly uptimeSeconds: number | undefined;
  /** `unknown` where it names none, or one of its own kind. */
  readonly role: "master" | "slave" | "unknown";
  /** Where it is a replica itself: of whom, and whether that one feeds it; undefined in every other role. */
  readonly upstream: UpstreamFacts | undefined;
  /** The last byte of its stream. */
  readonly offset: number | undefined;
  readonly lastSaveFailed: boolean;
  readonly isSaving: boolean;
  readonly lastForkMs: number | undefined;
  readonly backlogBytes: number;
  /** How many clients it closed for their output buffers; undefined where it doesn't count them, as Redis 7.0. */
  readonly bufferDisconnections: number | undefined;
  /** Its keys; undefined where it doesn't say. */
  readonly keyspace: KeyspaceFacts | undefined;
  /** How many of them have hash fields with an expiry, where it is a Valkey that has such. */
  readonly fieldExpiries: number;
  /** Whether it is a node of a cluster. */
  readonly isClusterNode: boolean;
  /** How many of its replicas count for min-replicas-to-write; undefined where that isn't set, or it doesn't say. */
  readonly goodReplicas: number | undefined;
  /** Its replicas. */
  readonly replicas: readonly ReplicaRow[];
}

/** What a primary says of one of its replicas. */
export interface ReplicaRow {
  /** The one that it announced; 0 where it announced none. */
  readonly port: number;
  /** `online` once its snapshot is there. */
  readonly state: string;
  /** How long it has said nothing. */
  readonly lagSeconds: number;
}

/** The other side of a primary that is itself a replica. */
export interface UpstreamFacts {
  /** `host:port`, as it names it; empty where it follows nobody. */
  readonly name: string;
  /** The port of it; 0 where it has none, or doesn't say. */
  readonly port: number;
  /** Whether its link is up. */
  readonly isUp: boolean;
  /** How long it has been down; undefined where that isn't known. */
  readonly downSeconds: number | undefined;
  /** How long it has heard nothing from there; undefined while its link is down. */
  readonly silentSeconds: number | undefined;
  /** Why it has no data to pass on, in words of the `replica` that it is; empty in every other case. */
  readonly reason: string;
  /** The processes above it, nearest first; only another `replica` names them. */
  readonly runIds: readonly string[];
}

/** What asking the primary brought. */
export type Answer =
  | { readonly kind: "facts"; readonly facts: PrimaryFacts }
  /** It answers, but not this: the login may not ask, or what answers is no server of that kind. */
  | { readonly kind: "refused" }
  | { readonly kind: "away"; readonly error: ReplicaError };

/** A chain is never this long; a longer list is no list of run ids. */
export const MAX_CHAIN = 32;
const MAX_REASON_CHARS = 300;
const MAX_NAME_CHARS = 300;

/** Reads INFO. Whatever is missing or malformed counts as not known. */
export function readFacts(infoText: string): PrimaryFacts {
  const info = parseInfo(infoText);
  const text = (name: string): string => info.get(name) ?? "";
  const number = (name: string): number | undefined =>
    /^\d{1,15}$/.test(text(name)) ? Number(text(name)) : undefined;
  const forkMicros = number("latest_fork_usec");
  const said = text("role");
  const role = said === "master" || said === "slave" ? said : "unknown";
  return {
    runId: isRunId(text("run_id")) ? text("run_id") : "",
    uptimeSeconds: number("uptime_in_seconds"),
    role,
    upstream: role === "slave" ? readUpstream(text, number) : undefined,
    offset: number("master_repl_offset"),
    lastSaveFailed: text("rdb_last_bgsave_status") === "err",
    isSaving: text("rdb_bgsave_in_progress") === "1",
    lastForkMs: forkMicros === undefined ? undefined : forkMicros / 1000,
    backlogBytes: number("repl_backlog_size") ?? 0,
    bufferDisconnections: number("client_output_buffer_limit_disconnections"),
    keyspace: readKeyspace(infoText),
    fieldExpiries: countFieldExpiries(info),
    isClusterNode: text("cluster_enabled") === "1",
    goodReplicas: number("min_slaves_good_slaves"),
    replicas: [...info].flatMap(([name, row]) => (/^slave\d+$/.test(name) ? readRow(row) : [])),
  };
}

/** `ip=10.0.0.1,port=6380,state=online,offset=14,lag=0` ("Redis 7.0, server.c, genRedisInfoString"). */
function readRow(row: string): ReplicaRow[] {
  const match = /(?:^|,)port=(\d{1,5}),state=([a-z_]{1,32}),offset=\d+,lag=(\d{1,15})(?:,|$)/.exec(
    row,
  );
  if (match === null) return [];
  const [, port, state = "", lag] = match;
  return [{ port: Number(port), state, lagSeconds: Number(lag) }];
}

function readUpstream(
  text: (name: string) => string,
  number: (name: string) => number | undefined,
): UpstreamFacts {
  const host = printable(text("master_host").slice(0, MAX_NAME_CHARS));
  const runIds = text("upstream_run_ids").split(",").filter(isRunId).slice(0, MAX_CHAIN);
  // A `replica` that follows nobody goes on showing whom it followed last.
  const port = number("master_port") ?? 0;
  const isAlone = host === "" || text("state") === "none";
  return {
    name: isAlone ? "" : host.includes("/") ? host : describeAddress({ host, port }),
    port,
    isUp: text("master_link_status") === "up",
    downSeconds: number("master_link_down_since_seconds"),
    silentSeconds: number("master_last_io_seconds_ago"),
    reason: printable(text("unsupplied_reason").slice(0, MAX_REASON_CHARS)),
    runIds,
  };
}

/** The limits of a replica's output buffer at the primary. */
export interface BufferLimit {
  /** At this many bytes the link is closed; 0: no limit. */
  readonly hardBytes: number;
  /** Above this many for `softSeconds`, too; 0: no limit. */
  readonly softBytes: number;
  readonly softSeconds: number;
}

/** Reads the value of `client-output-buffer-limit`; undefined where it holds none for replicas. */
export function readBufferLimit(value: string): BufferLimit | undefined {
  const words = /(?:^| )(?:slave|replica) (\d{1,15}) (\d{1,15}) (\d{1,10})(?: |$)/.exec(value);
  if (words === null) return undefined;
  const [hardBytes = 0, softBytes = 0, softSeconds = 0] = words.slice(1).map(Number);
  return { hardBytes, softBytes, softSeconds };
}

/** The local addresses of a server's links to its primary, `host:port`, by `CLIENT LIST` (Redis 6.2: laddr). */
export function readLinkAddresses(clientList: string): string[] {
  const lines = clientList.split("\n").filter((line) => / flags=\w*M/.test(line));
  return lines.flatMap((line) => / laddr=(\S{1,300})/.exec(line)?.[1] ?? []).map(plainAddress);
}

/** An address as both ends of a connection write it: an IPv4 address inside of IPv6 is an IPv4 address. */
export function plainAddress(address: string): string {
  return address.replace(/^\[?::ffff:(\d+\.\d+\.\d+\.\d+)\]?:/i, "$1:");
}

/** What a primary says of its keys. */
export interface KeyspaceFacts {
  readonly databases: readonly DatabaseKeys[];
  /** Whether no other database holds keys. */
  readonly isWhole: boolean;
  /** Since when that is so, in milliseconds since 1970, where it only passes on what it knows; undefined: now. */
  readonly atMs: number | undefined;
}

/** Reads the section Keyspace of INFO; undefined where there is none, or where it is not known there. */
export function readKeyspace(infoText: string): KeyspaceFacts | undefined {
  if (!/^# Keyspace\r?$/m.test(infoText)) return undefined;
  const databases = parseKeyspace(infoText).filter((one) =>
    Object.values(one).every(Number.isSafeInteger),
  );
  const info = parseInfo(infoText);
  // Another `replica` counts no keys either, and says what it knows, and since when.
  const source = info.get("keyspace_source");
  if (source === undefined) return { databases, isWhole: true, atMs: undefined };
  const time = info.get("keyspace_time") ?? "";
  if (!/^[1-9]\d{0,11}$/.test(time)) return undefined;
  return { databases, isWhole: source === "primary", atMs: Number(time) * 1000 };
}

/**
 * How many keys have hash fields with an expiry, as Valkey 9.0 and later say it of each database.
 * @param info INFO's fields by name.
 */
export function countFieldExpiries(info: ReadonlyMap<string, string>): number {
  const counts = [...info].map(([name, value]) => {
    const [, count] = /,keys_with_volatile_items=(\d{1,15})(?:,|$)/.exec(value) ?? [];
    return /^db\d+$/.test(name) ? Number(count ?? 0) : 0;
  });
  return counts.reduce((sum, count) => sum + count, 0);
}
