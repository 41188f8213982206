import { ReplicaError } from "../base/errors.ts";
import {
  type Position,
  parseOffset,
  parseReplicationId,
  type ReplicationId,
} from "../base/history.ts";
import { printableBytes } from "../base/printable.ts";

const decoder = new TextDecoder("latin1");

/** What the reply to PING says. `no-permission`: logged in as a user that may not send PING. */
export type Pong = "alive" | "needs-login" | "no-permission";

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
  if (text.startsWith("-")) {
    throw new ReplicaError("PRIMARY_REFUSED", {
      message: `the primary answers PING with ${printableBytes(line)}`,
    });
  }
  const tls = line[0] === 0x15 && line[1] === 0x03;
  throw new ReplicaError("NOT_A_PRIMARY", {
    message: tls
      ? "the primary speaks TLS: use rediss://"
      : `this isn't a Redis server: it answers PING with "${printableBytes(line)}"`,
  });
}

/**
 * Reads the reply to AUTH, of a primary or of a sentinel: both answer as Redis servers do.
 * @param from where the login comes from, for the error: "--username and --password-file".
 * @throws ReplicaError AUTH_FAILED with the peer's answer and what to check.
 */
export function readAuth(
  line: Uint8Array,
  peer: "the primary" | "the sentinel",
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

/** What the reply to PSYNC grants. */
export type PsyncReply =
  | { readonly kind: "full"; readonly position: Position }
  | { readonly kind: "partial"; readonly replid: ReplicationId | undefined }
  | { readonly kind: "unknown-command" };

/**
 * Reads the reply to PSYNC (a keepalive is not one). Only an unknown command leads to SYNC.
 * @param withheld why no login was sent though there is one, for the error.
 * @throws ReplicaError PRIMARY_BUSY for "not now", REPLICATION_LOOP, AUTH_FAILED where a permission is missing,
 * PRIMARY_REFUSED for any other error, PROTOCOL for a malformed reply.
 */
export function readPsync(line: Uint8Array, withheld?: string): PsyncReply {
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
  if (/^-ERR unknown command/i.test(text)) return { kind: "unknown-command" };
  if (/^-(NOMASTERLINK|LOADING|MASTERDOWN|BUSY|TRYAGAIN)\b/.test(text)) {
    throw new ReplicaError("PRIMARY_BUSY", {
      message: `the primary can't serve a sync now: ${said}`,
    });
  }
  // Only another `replica` says this.
  if (/^-LOOP\b/.test(text)) {
    throw new ReplicaError("REPLICATION_LOOP", {
      message: `${said.slice("-LOOP ".length)}: REPLICAOF must name a server that is supplied from elsewhere`,
    });
  }
  if (/^-(NOPERM|NOAUTH)\b/.test(text)) {
    const login = withheld ?? "set --username and --password-file";
    throw new ReplicaError("AUTH_FAILED", {
      message: `the primary permits no sync: ${said}; the user needs +psync +sync +replconf +ping, ${login}`,
    });
  }
  if (text.startsWith("-")) {
    throw new ReplicaError("PRIMARY_REFUSED", { message: `the primary refuses PSYNC: ${said}` });
  }
  throw new ReplicaError("PROTOCOL", { message: `the primary answers PSYNC with "${said}"` });
}
