import { ReplicaError } from "../base/errors.ts";
import { targetAt } from "../config/primary-url.ts";
import { array, bulk, error, integer, simple } from "../resp/reply.ts";
import type { Call } from "./call.ts";

const OK = simple("OK");
/** No name in the DNS is longer. */
const MAX_HOST_CHARS = 253;

export function role({ context }: Call): Uint8Array {
  const { state, log } = context.replica;
  const [host, port] = context.replica.primary.hostAndPort;
  // ROLE knows five words for a replica's link ("Redis, replication.c, roleCommand").
  const link =
    state.at === "none" ||
    state.at === "connect" ||
    state.at === "connecting" ||
    state.at === "connected"
      ? state.at
      : state.at === "transfer"
        ? "sync"
        : "handshake";
  const offset = state.at === "connected" ? (log?.writtenOffset ?? 0) : -1;
  return array([bulk("slave"), bulk(host), integer(port), bulk(link), integer(offset)]);
}

/** BGSAVE [SCHEDULE]: a new generation over a second link, while the first one follows on. */
export function bgsave({ client, context, args }: Call): Uint8Array {
  const [option, ...more] = args;
  if (more.length > 0 || (option !== undefined && option.toUpperCase() !== "SCHEDULE")) {
    return error("ERR syntax error");
  }
  const { renewal } = context.replica;
  if (renewal.runningSeconds !== undefined) return error("ERR Background save already in progress");
  try {
    renewal.begin(`BGSAVE from ${client.address}`);
    return simple("Background saving started");
  } catch (refused) {
    if (!(refused instanceof ReplicaError)) throw refused;
    return error(`ERR ${refused.message}`);
  }
}

/** REPLICAOF host port, and NO ONE. TLS and the login stay as they are, as with a Redis replica. */
export function replicaOf({ client, context, args }: Call): Uint8Array {
  const { replica } = context;
  const [host = "", port = ""] = args;
  if (host.toLowerCase() === "no" && port.toLowerCase() === "one") {
    replica.leave(client.address);
    return OK;
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) return error("ERR Invalid master port");
  // What would be a login in a URL isn't said back.
  if (host.length > MAX_HOST_CHARS || /[@/?#%]/.test(host)) return error("ERR Invalid master host");
  const { source, hostAndPort } = replica.primary;
  const tls = source.kind === "sentinel" ? source.tls : source.kind === "tls";
  try {
    const target = targetAt(tls ? "tls" : "tcp", host, port, source);
    const isSame = host === hostAndPort[0] && Number(port) === hostAndPort[1];
    if (isSame && replica.isFollowing) {
      return simple("OK Already connected to specified master");
    }
    replica.follow(target, client.address);
    return OK;
  } catch (refused) {
    if (!(refused instanceof ReplicaError)) throw refused;
    return error(`ERR ${refused.message}`);
  }
}
