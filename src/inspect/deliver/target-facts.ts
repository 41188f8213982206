import { printable } from "../../base/printable.ts";
import type { Release } from "../../rdb/releases.ts";
import { parseInfo } from "../../resp/info-text.ts";

/** What a server says of itself in INFO, as far as it matters to who writes keys into it. */
export interface TargetFacts {
  /** Undefined where it names no version that is known. */
  readonly release: Release | undefined;
  /** Its name and whole version for people: `Valkey 9.0.1`. */
  readonly server: string;
  readonly role: string;
  /** Where it is a replica: of whom, `host:port`. */
  readonly primary: string;
  readonly isReadOnly: boolean;
  readonly isLoading: boolean;
  /** How far it has loaded, as it says it: `12.5%`; empty where it doesn't. */
  readonly loaded: string;
  readonly isClusterNode: boolean;
  /** Whether it is a `replica` of this kind. */
  readonly isReplicaProgram: boolean;
  /** Another one means another process. */
  readonly runId: string;
  /** The ids of the history of its data: its own, and the one that it went on from as a replica. */
  readonly replids: readonly string[];
  /** By its own clock, in milliseconds since 1970; undefined where it doesn't say. */
  readonly timeMs: number | undefined;
  /** 0: no limit. */
  readonly maxMemoryBytes: number;
  readonly usedMemoryBytes: number;
  /** What it does once that is full: `noeviction` refuses. */
  readonly policy: string;
  /** The modules that it has loaded; undefined where it doesn't say. */
  readonly modules: readonly string[] | undefined;
}

/** Reads the reply to INFO. */
export function readTargetFacts(text: string): TargetFacts {
  const info = parseInfo(text);
  const field = (name: string) => printable((info.get(name) ?? "").slice(0, 300));
  const number = (name: string) => (/^\d{1,16}$/.test(field(name)) ? Number(field(name)) : 0);
  const product = info.has("valkey_version") ? "Valkey" : "Redis";
  const version = field(product === "Valkey" ? "valkey_version" : "redis_version");
  const [, major, minor] = /^(\d{1,3})\.(\d{1,3})(?:\.|$)/.exec(version) ?? [];
  const release: Release | undefined =
    major === undefined ? undefined : { product, major: Number(major), minor: Number(minor) };
  const micros = number("server_time_usec");
  const role = field("role");
  return {
    release,
    server: `${product} ${version}`.trim(),
    role,
    primary: role === "slave" ? `${field("master_host")}:${field("master_port")}` : "",
    isReadOnly: role === "slave" && field("slave_read_only") !== "0",
    isLoading: number("loading") !== 0 || number("async_loading") !== 0,
    loaded: field("loading_loaded_perc"),
    isClusterNode: field("cluster_enabled") === "1",
    isReplicaProgram: info.has("state") && info.has("ready"),
    runId: field("run_id"),
    replids: [field("master_replid"), field("master_replid2")].filter((id) => /[^0]/.test(id)),
    timeMs: micros === 0 ? undefined : Math.floor(micros / 1000),
    maxMemoryBytes: number("maxmemory"),
    usedMemoryBytes: number("used_memory"),
    policy: field("maxmemory_policy"),
    modules: modulesIn(text),
  };
}

/** The section Modules: a line for each ("Redis 7.0, module.c, genModulesInfoString"). */
function modulesIn(text: string): string[] | undefined {
  if (!/^# Modules\r?$/m.test(text)) return undefined;
  const lines = text.matchAll(/^module:name=([^,\r\n]{1,100}),/gm);
  return Array.from(lines, ([, name = ""]) => printable(name));
}
