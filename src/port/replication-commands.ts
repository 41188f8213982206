import { ReplicaError } from "../base/errors.ts";
import { targetAt } from "../config/primary-url.ts";
import { array, bulk, error, integer, simple } from "../resp/reply.ts";
import type { LinkStatus } from "../replica/status.ts";
import type { Call } from "./call.ts";

const OK = simple("OK");
/** No name in the DNS is longer. */
const MAX_HOST_CHARS = 253;

export function role({ context }: Call): Uint8Array {
  const { link, primary, cursors } = context.status;
  const offset = link.state === "connected" ? cursors.written : -1;
  const words = [bulk("slave"), bulk(primary.host), integer(primary.port), bulk(roleState(link))];
  return array([...words, integer(offset)]);
}

/** ROLE's five words for the state of a replica's link ("Redis, replication.c, roleCommand"). */
function roleState({ state }: LinkStatus): string {
  switch (state) {
    case "none":
    case "connect":
    case "connecting":
    case "connected":
      return state;
    case "transfer":
      return "sync";
    default:
      return "handshake";
  }
}

/** BGSAVE [SCHEDULE]: a new generation over a second link, while the first one follows on. */
export function bgsave({ client, context, args }: Call): Uint8Array {
  const [option, ...more] = args;
  if (more.length > 0 || (option !== undefined && option.toUpperCase() !== "SCHEDULE")) {
    return error("ERR syntax error");
  }
  if (context.status.snapshot.runningSeconds !== undefined) {
    return error("ERR Background save already in progress");
  }
  try {
    context.replica.renewal.begin(`BGSAVE from ${client.address}`);
    return simple("Background saving started");
  } catch (refused) {
    if (!(refused instanceof ReplicaError)) throw refused;
    return error(`ERR ${refused.message}`);
  }
}

/** REPLICAOF host port, and NO ONE. TLS and the login stay as they are, as with a Redis replica. */
export function replicaOf({ client, context, args }: Call): Uint8Array {
  const { replica, status } = context;
  const [host = "", port = ""] = args;
  if (host.toLowerCase() === "no" && port.toLowerCase() === "one") {
    replica.leave(client.address);
    return OK;
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) return error("ERR Invalid master port");
  // What would be a login in a URL isn't said back.
  if (host.length > MAX_HOST_CHARS || /[@/?#%]/.test(host)) return error("ERR Invalid master host");
  const { source } = replica.primary;
  const tls = source.kind === "sentinel" ? source.tls : source.kind === "tls";
  try {
    const target = targetAt(tls ? "tls" : "tcp", host, port, source);
    const isSame = host === status.primary.host && Number(port) === status.primary.port;
    if (isSame && status.isFollowing) {
      return simple("OK Already connected to specified master");
    }
    replica.follow(target, client.address);
    return OK;
  } catch (refused) {
    if (!(refused instanceof ReplicaError)) throw refused;
    return error(`ERR ${refused.message}`);
  }
}
