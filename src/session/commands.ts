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
 * ask for the newest format.
 */
const ANNOUNCED_VERSION = "255.255.255";

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

/**
 * Announces the $EOF form of the payload, and replication ids that change after a failover.
 * @param runId of this process; undefined where none serves that could be followed in a circle.
 * @param newerThan asks another `replica` for a snapshot that is newer; undefined where any will do.
 */
export function capabilitiesCommand(
  runId: string | undefined,
  newerThan: Offset | undefined,
): Uint8Array {
  const mine = runId === undefined ? [] : ["capa", runIdCapability(runId)];
  if (newerThan !== undefined) mine.push("capa", newerThanCapability(newerThan));
  return encodeCommand("REPLCONF", "capa", "eof", "capa", "psync2", ...mine);
}

/** Asks for the snapshot alone: the primary buffers no stream for this link (Redis 7.0). */
export function rdbOnlyCommand(): Uint8Array {
  return encodeCommand("REPLCONF", "rdb-only", 1);
}

/** See ANNOUNCED_VERSION. */
export function versionCommand(): Uint8Array {
  return encodeCommand("REPLCONF", "version", ANNOUNCED_VERSION);
}

/** INFO: how large the primary's data set is, and what its backlog holds. One word: Redis 6.2 takes one section. */
export function infoCommand(): Uint8Array {
  return encodeCommand("INFO");
}

/** PSYNC for the byte after `resume`; `? -1`, a full resync, where nothing is kept. */
export function psyncCommand(resume: Position | undefined): Uint8Array {
  return resume === undefined
    ? encodeCommand("PSYNC", "?", -1)
    : encodeCommand("PSYNC", resume.replid, resume.offset + 1);
}

/** SYNC: a full resync from a primary that doesn't know PSYNC. */
export function syncCommand(): Uint8Array {
  return encodeCommand("SYNC");
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
