import { newerThanCapability, runIdCapability } from "../base/capabilities.ts";
import type { Offset, Position } from "../base/history.ts";
import { encodeCommand } from "../resp/encode.ts";

/*
 * Every command that a replica sends to its primary, encoded in this one place
 * (Redis 7.2, replication.c: syncWithMaster, slaveTryPartialResynchronization, replicationSendAck).
 */

/** The user and password that the primary asks for. */
export interface Credentials {
  /** Undefined: the default user. */
  readonly username: string | undefined;
  readonly password: string;
  /** Where both come from, for a login that is refused: "--username and --password-file". */
  readonly from: string;
}

/**
 * The version told to Valkey, which picks the RDB format by it. The snapshot is kept as it comes, so
 * ask for the newest format, unless an older server is to load it.
 */
const NEWEST_VERSION = "255.255.255";

/** PING: finds out whether a primary that accepts connections also answers. */
export function pingCommand(): Uint8Array {
  return encodeCommand("PING");
}

/** AUTH, with the user where there is one. */
export function authCommand({ username, password }: Omit<Credentials, "from">): Uint8Array {
  return username === undefined
    ? encodeCommand("AUTH", password)
    : encodeCommand("AUTH", username, password);
}

/** The port that the primary shows for this replica in INFO and ROLE. */
export function listeningPortCommand(port: number): Uint8Array {
  return encodeCommand("REPLCONF", "listening-port", port);
}

/** The address that the primary shows for this replica, instead of the one that it sees. */
export function ipAddressCommand(ip: string): Uint8Array {
  return encodeCommand("REPLCONF", "ip-address", ip);
}

/** What a replica tells of itself besides the forms that it knows. */
export interface Announced {
  /** Of this process; undefined where none serves that could be followed in a circle. */
  readonly runId?: string | undefined;
  /** Asks another `replica` for a snapshot that is newer; undefined where any will do. */
  readonly newerThan?: Offset | undefined;
  /** How many links a full sync may take. */
  readonly links?: 1 | 2;
}

/**
 * Announces the $EOF form of the payload, replication ids that change after a failover, and the snapshot on a link of its
 * own, by the names that Redis (8.0) and Valkey (8.0) have for it.
 */
export function capabilitiesCommand({ runId, newerThan, links = 1 }: Announced): Uint8Array {
  const mine = links === 2 ? ["capa", "rdb-channel-repl", "capa", "dual-channel"] : [];
  if (runId !== undefined) mine.push("capa", runIdCapability(runId));
  if (newerThan !== undefined) mine.push("capa", newerThanCapability(newerThan));
  return encodeCommand("REPLCONF", "capa", "eof", "capa", "psync2", ...mine);
}

/** Asks for the snapshot alone: the primary buffers no stream for this link (Redis 7.0). */
export function rdbOnlyCommand(): Uint8Array {
  return encodeCommand("REPLCONF", "rdb-only", 1);
}

/**
 * All that a second link announces, in one command: without `capa eof` Redis 8.0 sends the stream on it, too; address and
 * port are those of the first link, by which Sentinel takes both for one replica.
 * @param options.clientId of the first link (Redis); undefined for Valkey.
 * @param options.version see `versionCommand`.
 */
export function secondLinkCommand({
  clientId,
  port,
  ip,
  version,
}: {
  readonly clientId: string | undefined;
  readonly port: number | undefined;
  readonly ip: string | undefined;
  readonly version: string | undefined;
}): Uint8Array {
  const words: (string | number)[] = ["capa", "eof", "rdb-only", 1, "rdb-channel", 1];
  if (clientId !== undefined) words.push("main-ch-client-id", clientId);
  if (ip !== undefined) words.push("ip-address", ip);
  if (port !== undefined) words.push("listening-port", port);
  // Only Valkey knows this one.
  if (clientId === undefined) words.push("version", version ?? NEWEST_VERSION);
  return encodeCommand("REPLCONF", ...words);
}

/** Names the second link to Valkey on the first one. */
export function rdbClientIdCommand(clientId: string): Uint8Array {
  return encodeCommand("REPLCONF", "set-rdb-client-id", clientId);
}

/**
 * Tells Valkey which RDB format to write.
 * @param version `8.1.0`, of a server that loads it; undefined: see NEWEST_VERSION.
 */
export function versionCommand(version?: string): Uint8Array {
  return encodeCommand("REPLCONF", "version", version ?? NEWEST_VERSION);
}

/** INFO: how large the primary's data set is, and what its backlog holds. One word: Redis 6.2 takes one section. */
export function infoCommand(): Uint8Array {
  return encodeCommand("INFO");
}

/**
 * PSYNC for the byte after `resume`; `? -1`, a full resync, where nothing is kept.
 * @param name what the primary calls PSYNC.
 */
export function psyncCommand(resume: Position | undefined, name: string): Uint8Array {
  return resume === undefined
    ? encodeCommand(name, "?", -1)
    : encodeCommand(name, resume.replid, resume.offset + 1);
}

/** SYNC: a full resync from a primary that doesn't know PSYNC. @param name what the primary calls it. */
export function syncCommand(name: string): Uint8Array {
  return encodeCommand(name);
}

/**
 * Acknowledges two offsets of the stream: `acked` is what WAIT counts, `durable` what WAITAOF counts.
 * One command: versions that don't know FACK ignore the rest of it.
 */
export function ackCommand(acked: Offset, durable: Offset): Uint8Array {
  return encodeCommand("REPLCONF", "ACK", acked, "FACK", durable);
}

/** A bare newline: refreshes this replica's liveness at the primary without acknowledging anything. */
export const KEEPALIVE = new Uint8Array([0x0a]);
