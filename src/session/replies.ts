import { ReplicaError } from "../base/errors.ts";
import {
  type Position,
  parseOffset,
  parseReplicationId,
  type ReplicationId,
} from "../base/history.ts";
import { printableBytes } from "../base/printable.ts";
import type { TwoLinks } from "./state.ts";
import { isNotNow, notARedisServer, refusedPing } from "./doors.ts";
import { isUnknownCommand, isWithheldCommand } from "./services.ts";

const decoder = new TextDecoder("latin1");

/**
 * What the reply to PING says. `no-permission`: logged in as a user that may not send PING. `not-now`: alive, and can't
 * serve yet.
 */
export type Pong = "alive" | "needs-login" | "no-permission" | "not-now";

/**
 * Reads the reply to PING. `+…` is alive; -NOAUTH, -NOPERM and, from old servers, "-ERR operation
 * not permitted" all mean that the primary is alive (Redis 7.2, replication.c, syncWithMaster).
 * @throws ReplicaError PRIMARY_REFUSED on any other error, NOT_A_PRIMARY on a line that isn't a reply.
 */
export function readPong(line: Uint8Array): Pong {
  const text = decoder.decode(line);
  if (text.startsWith("+")) return "alive";
  if (/^-NOPERM\b/.test(text)) return "no-permission";
  if (/^-NOAUTH\b/.test(text) || text.startsWith("-ERR operation not permitted"))
    return "needs-login";
  if (isNotNow(line)) return "not-now";
  throw text.startsWith("-") ? refusedPing(line) : notARedisServer(line);
}

/**
 * Reads the reply to AUTH, of a primary or of a sentinel: both answer as Redis servers do.
 * @param from where the login comes from, for the error: "--username and --password-file".
 * @throws ReplicaError AUTH_FAILED with the peer's answer and what to check.
 */
export function readAuth(
  line: Uint8Array,
  peer: "the primary" | "the sentinel" | "the node" | "the target",
  from: string,
): void {
  if (line[0] === 0x2b) return;
  // A server that doesn't know AUTH quotes its arguments: the password.
  const said = printableBytes(line).replace(/,? with args beginning with.*$/i, "");
  const unwanted = /no password is set|without any password configured/i.test(said);
  throw new ReplicaError("AUTH_FAILED", {
    message: unwanted
      ? `${peer} expects no password (${said}): leave it out`
      : `${peer} refuses the login (${said}): check ${from}`,
  });
}

/** What the reply to PSYNC says. */
export type PsyncReply =
  | { readonly kind: "full"; readonly position: Position }
  | { readonly kind: "partial"; readonly replid: ReplicationId | undefined }
  /** The snapshot comes on a second link, to whoever announced that. */
  | { readonly kind: "two-links"; readonly two: TwoLinks }
  /** The only answer that leads to SYNC. */
  | { readonly kind: "unknown-command" }
  /** A service refuses the command as such. */
  | { readonly kind: "withheld-command" }
  | { readonly kind: "not-now" }
  /** The user lacks a right, or must log in. */
  | { readonly kind: "no-right" }
  /** The payload begins at once: a stock server takes PSYNC by another name for SYNC. */
  | { readonly kind: "payload" };

/**
 * Reads the reply to PSYNC (a keepalive is not one).
 * @param isRenamed whether PSYNC was sent by another name.
 * @throws ReplicaError REPLICATION_LOOP; PRIMARY_REFUSED for an error of no other kind, PROTOCOL for a malformed reply.
 */
export function readPsync(line: Uint8Array, isRenamed = false): PsyncReply {
  const text = decoder.decode(line);
  const words = text.split(" ");
  if (words[0] === "+FULLRESYNC") {
    // Some services append more words.
    const position = {
      replid: parseReplicationId(words[1] ?? ""),
      offset: parseOffset(words[2] ?? ""),
    };
    return { kind: "full", position };
  }
  if (words[0] === "+CONTINUE") {
    const id = words[1] ?? "";
    return { kind: "partial", replid: id === "" ? undefined : parseReplicationId(id) };
  }
  const said = printableBytes(line);
  if (words[0] === "+DUALCHANNELSYNC") return { kind: "two-links", two: { by: "valkey" } };
  if (words[0] === "+RDBCHANNELSYNC" && /^\d+$/.test(words[1] ?? "")) {
    return { kind: "two-links", two: { by: "redis", clientId: words[1]! } };
  }
  if (isUnknownCommand(line)) return { kind: "unknown-command" };
  if (isWithheldCommand(line)) return { kind: "withheld-command" };
  if (isNotNow(line)) return { kind: "not-now" };
  // Only another `replica` says this.
  if (/^-LOOP\b/.test(text)) {
    throw new ReplicaError("REPLICATION_LOOP", {
      message: `${said.slice("-LOOP ".length)}: REPLICAOF must name a server that is supplied from elsewhere`,
    });
  }
  if (/^-(NOPERM|NOAUTH)\b/.test(text)) return { kind: "no-right" };
  // "Redis 7.0, replication.c, syncCommand": it looks at the name that was sent.
  if (isRenamed && text.startsWith("$")) return { kind: "payload" };
  if (text.startsWith("-")) {
    throw new ReplicaError("PRIMARY_REFUSED", { message: `the primary refuses PSYNC: ${said}` });
  }
  throw new ReplicaError("PROTOCOL", { message: `the primary answers PSYNC with "${said}"` });
}
