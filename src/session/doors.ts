import { ReplicaError } from "../base/errors.ts";
import { formatAge } from "../base/quantity.ts";
import { printable, printableBytes } from "../base/printable.ts";
import { describeAddress } from "../base/address.ts";
import { parseInfo } from "../resp/info-text.ts";

/*
 * Who answers at the other end where it is no primary that can be followed: each is told in one line, with what to do
 * next.
 */

/** What a server says of itself in INFO, as far as it tells why it can't be followed. */
export interface Door {
  /** The names under which a sentinel watches primaries; undefined where it is no sentinel. */
  readonly masters: readonly string[] | undefined;
  /** `host:port` of whom it is a replica; undefined where it is none, or doesn't say. */
  readonly primary: string | undefined;
  /** How far it has loaded its data, in percent, and how many seconds it still expects; undefined while it doesn't load. */
  readonly loading:
    { readonly percent: string; readonly leftSeconds: number | undefined } | undefined;
  /** The managed service that it belongs to, as people call it; undefined where nothing says so. */
  readonly service: string | undefined;
}

/** One that says nothing of itself. */
export const UNKNOWN_DOOR: Door = {
  masters: undefined,
  primary: undefined,
  loading: undefined,
  service: undefined,
};

const MAX_NAME_CHARS = 200;
const MAX_MASTERS = 8;

/** Reads INFO. Whatever is missing or malformed counts as not known. @param infoText undefined: it doesn't say. */
export function readDoor(infoText: string | undefined): Door {
  if (infoText === undefined) return UNKNOWN_DOOR;
  const info = parseInfo(infoText);
  // Valkey from 8.0 says server_mode in place of redis_mode.
  const mode = info.get("server_mode") ?? info.get("redis_mode");
  return {
    masters: mode === "sentinel" ? readMasters(info) : undefined,
    primary: readPrimary(info),
    loading: readLoading(info),
    service: readService(info),
  };
}

/** `master0:name=mymaster,status=ok,…` ("Redis 7.0, sentinel.c, sentinelInfoCommand"). */
function readMasters(info: ReadonlyMap<string, string>): string[] {
  const names = [...info].flatMap(([field, value]) => {
    const name = /^master\d+$/.test(field) ? /^name=(.+?),status=/.exec(value)?.[1] : undefined;
    return name === undefined ? [] : [printable(name.slice(0, MAX_NAME_CHARS))];
  });
  return names.slice(0, MAX_MASTERS);
}

function readPrimary(info: ReadonlyMap<string, string>): string | undefined {
  const host = printable((info.get("master_host") ?? "").slice(0, MAX_NAME_CHARS));
  const port = info.get("master_port") ?? "";
  if (host === "" || !/^\d{1,5}$/.test(port)) return undefined;
  return describeAddress({ host, port: Number(port) });
}

function readLoading(info: ReadonlyMap<string, string>): Door["loading"] {
  const percent = info.get("loading_loaded_perc") ?? "";
  if (info.get("loading") !== "1" || !/^\d{1,3}(?:\.\d{1,4})?$/.test(percent)) return undefined;
  const left = info.get("loading_eta_seconds") ?? "";
  return { percent, leftSeconds: /^\d{1,9}$/.test(left) ? Number(left) : undefined };
}

function readService(info: ReadonlyMap<string, string>): string | undefined {
  if (info.get("os") === "Amazon ElastiCache") return "Amazon ElastiCache";
  return info.has("upstash_version") ? "Upstash" : undefined;
}

/** The error for a peer that answers PING with something else than a reply of Redis. */
export function notARedisServer(line: Uint8Array): ReplicaError {
  // An alert of TLS, whose first byte says so ("RFC 8446, 5.1").
  const isTls = line[0] === 0x15 && line[1] === 0x03;
  const said = printableBytes(line);
  const hint = said.startsWith("HTTP/")
    ? "; that is an HTTP server: give Redis's own port, 6379 unless it was changed"
    : "";
  return new ReplicaError("NOT_A_PRIMARY", {
    message: isTls
      ? "the primary speaks TLS: use rediss://"
      : `this isn't a Redis server: it answers PING with "${said}"${hint}`,
  });
}

/** The error for a primary that answers PING, or the connect, with an error. */
export function refusedPing(line: Uint8Array): ReplicaError {
  const said = printableBytes(line);
  return new ReplicaError("PRIMARY_REFUSED", {
    message: `the primary answers PING with ${said}${pingHint(said)}`,
  });
}

function pingHint(said: string): string {
  // "Redis 7.0, networking.c, clientAcceptHandler": with a password no connection is refused.
  if (/^-DENIED\b.*protected mode/i.test(said)) {
    return ": it takes connections only from its own machine. Set requirepass there and --password-file here, or, in a network that nobody else reaches, CONFIG SET protected-mode no there";
  }
  if (said.startsWith("-ERR max number of clients")) return ": raise maxclients there";
  // "Redis 7.0, server.c, processCommand": even PING is refused while its own snapshots fail.
  if (said.startsWith("-MISCONF")) {
    return ": its own snapshots fail, so free its disk, or CONFIG SET stop-writes-on-bgsave-error no there";
  }
  return "";
}

/** Whether the primary says that it can't serve now, and will later ("Redis 7.0, server.c, processCommand"). */
export function isNotNow(line: Uint8Array): boolean {
  return /^-(?:NOMASTERLINK|LOADING|MASTERDOWN|BUSY|TRYAGAIN)\b/.test(printableBytes(line));
}

/** Whether what it says of itself in INFO tells more about such an answer. */
export function isWorthAsking(line: Uint8Array): boolean {
  return /^-(?:NOMASTERLINK|LOADING|MASTERDOWN)\b/.test(printableBytes(line));
}

/** The error for a primary that can't serve now. */
export function notNow(line: Uint8Array, { loading, primary }: Door): ReplicaError {
  const said = printableBytes(line);
  if (said.startsWith("-LOADING")) {
    const left = loading?.leftSeconds;
    const eta = left === undefined ? "" : `, and it expects ${formatAge(left)} more`;
    const far = loading === undefined ? "" : `: ${loading.percent} % are loaded${eta}`;
    return busy(`the primary is still loading its data (${said})${far}`);
  }
  if (/^-(?:NOMASTERLINK|MASTERDOWN)\b/.test(said)) {
    const [of, instead] = primary === undefined ? ["", ""] : [` of ${primary}`, `, or follow it`];
    return busy(
      `the server is itself a replica${of}, and that link is down, so it has nothing to pass on (${said}): see why in its log${instead}`,
    );
  }
  return busy(`the primary can't serve a sync now: ${said}`);
}

function busy(message: string): ReplicaError {
  return new ReplicaError("PRIMARY_BUSY", { message });
}

/**
 * The error for a sentinel.
 * @param masters the names of the primaries that it watches.
 * @param address where it listens, `host:port`; undefined for a socket's path.
 */
export function sentinelDoor(
  masters: readonly string[],
  { address, isTls }: { readonly address: string | undefined; readonly isTls: boolean },
): ReplicaError {
  const scheme = isTls ? "rediss" : "redis";
  const [only, ...others] = masters;
  const name = only === undefined || others.length > 0 ? "NAME" : encodeURIComponent(only);
  const url = `${scheme}+sentinel://${address ?? "HOST:PORT"}/${name}`;
  const which =
    only === undefined
      ? "; it watches no primary yet"
      : others.length > 0
        ? `, where NAME is one of ${masters.join(", ")}`
        : "";
  return new ReplicaError("NOT_A_PRIMARY", {
    message: `this is a sentinel, which holds no data: to follow the primary that it names, give ${url}${which}`,
  });
}
