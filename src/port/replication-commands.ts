import { ReplicaError, unreachable } from "../base/errors.ts";
import { targetAt } from "../config/primary-url.ts";
import type { PsyncRequest } from "../downstream/relay.ts";
import type { LinkStatus, ReplicaStatus } from "../replica/status.ts";
import { array, bulk, error, integer, simple } from "../resp/reply.ts";
import { newerThanOf, runIdOf } from "../base/capabilities.ts";
import { type ReplicaCall, type ReplicaCommand, MAY_ONLY_LOOK } from "./call.ts";
import type { Answer } from "./clients/client.ts";

const OK = simple("OK");
const NOT_AN_INTEGER = error("ERR value is not an integer or out of range");
/** Redis's limit for an announced address (NET_HOST_STR_LEN). */
const MAX_ANNOUNCED_BYTES = 255;
/** No DNS name is longer. */
const MAX_HOST_CHARS = 253;
/**
 * How long a replica that is ahead of this one waits for its answer. It has followed the primary directly, and
 * the bytes that it has are on their way here.
 */
const AHEAD_MS = 2_000;
/** A replica gives up a primary that says nothing for --sync-timeout; a newline before the reply to PSYNC counts. */
const NEWLINE = Buffer.from("\n");
const NEWLINE_EVERY_MS = 1_000;
/** The longest delay of a timer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

const REPLICAOF = {
  arity: 3,
  flags: ["admin", "noscript", "stale"],
  changes: true,
  summary: "Follows another primary, or none.",
  run: replicaOf,
} as const;

export const replicationCommands: readonly ReplicaCommand[] = [
  {
    name: "role",
    arity: 1,
    flags: ["fast", "stale"],
    summary: "Returns the state of the link to the primary.",
    run: role,
  },
  { name: "replicaof", ...REPLICAOF },
  { name: "slaveof", ...REPLICAOF },
  {
    name: "replconf",
    arity: -1,
    flags: ["admin", "noscript", "loading", "stale"],
    alone: true,
    summary: "Announces a replica of this one, and acknowledges what it has.",
    run: replconf,
  },
  {
    name: "psync",
    arity: -3,
    flags: ["admin", "noscript"],
    alone: true,
    summary: "Attaches a replica, by partial resync where its offset is kept.",
    run: psync,
  },
  {
    name: "sync",
    arity: 1,
    flags: ["admin", "noscript"],
    alone: true,
    summary: "Attaches a replica by full resync.",
    run: sync,
  },
  {
    name: "wait",
    arity: 3,
    flags: ["blocking"],
    alone: true,
    summary: "Waits until enough replicas of this one have acknowledged what is written.",
    run: wait,
  },
];

function role({ context }: ReplicaCall): Uint8Array {
  const { link, primary, cursors } = context.status;
  const offset = link.state === "connected" ? cursors.written : -1;
  const words = [bulk("slave"), bulk(primary.host), integer(primary.port), bulk(roleState(link))];
  return array([...words, integer(offset)]);
}

/** One of the five words that ROLE has for the state of a replica's link ("Redis, replication.c, roleCommand"). */
function roleState({ state }: LinkStatus): string {
  switch (state) {
    case "none":
    case "connect":
    case "connecting":
    case "connected":
      return state;
    case "transfer":
      return "sync";
    case "receive-pong":
    case "receive-auth":
    case "receive-port":
    case "receive-ip":
    case "receive-capa":
    case "receive-version":
    case "receive-psync":
    case "receive-bulk-header":
      return "handshake";
    default:
      return unreachable(state);
  }
}

/** REPLICAOF: what the primary has sent by now counts, so it is read first. */
function replicaOf(call: ReplicaCall): Answer {
  return call.context.replica.hear()?.then(() => replicaOfNow(call)) ?? replicaOfNow(call);
}

/** REPLICAOF host port, and NO ONE. Keeps TLS as it is. The login is only for whom the start names, too. */
function replicaOfNow({ client, context, args }: ReplicaCall): Uint8Array {
  const { replica, status } = context;
  const [host = "", port = ""] = args;
  if (host.toLowerCase() === "no" && port.toLowerCase() === "one") {
    replica.leave(client.address);
    return OK;
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) return error("ERR Invalid master port");
  // An error about a URL would echo the login in it.
  if (host.length > MAX_HOST_CHARS || /[@/?#%]/.test(host)) return error("ERR Invalid master host");
  try {
    const target = targetAt(replica.primary.usesTls ? "tls" : "tcp", host, port, {
      username: undefined,
      password: undefined,
    });
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

/** Reads a whole number as Redis does (string2ll). Undefined past 2^53, too, where numbers lose precision. */
function integerOf(text: string): number | undefined {
  const value = Number(text);
  return /^(?:0|-?[1-9]\d*)$/.test(text) && Number.isSafeInteger(value) ? value : undefined;
}

/**
 * REPLCONF: reads its options in order ("Redis 7.2, replication.c, replconfCommand"). An attached replica gets
 * no reply, which would land in its stream.
 */
function replconf(call: ReplicaCall): Uint8Array | undefined {
  const { client, args } = call;
  if (args.length % 2 !== 0) return unlessAttached(call, error("ERR syntax error"));
  for (let at = 0; at < args.length; at += 2) {
    const [option, value] = [args[at]!.toLowerCase(), args[at + 1]!];
    // Redis, too, ignores the options after ACK.
    if (option === "ack" || option === "fack") {
      const offset = integerOf(value);
      if (option === "ack" && offset !== undefined) client.downstream?.acknowledge(offset);
      return undefined;
    }
    if (option === "getack") return undefined;
    const refused = announce(call, option, value);
    if (refused !== undefined) return unlessAttached(call, refused);
  }
  return unlessAttached(call, OK);
}

function unlessAttached({ client }: ReplicaCall, reply: Uint8Array): Uint8Array | undefined {
  return client.downstream === undefined ? reply : undefined;
}

/** Notes one option of REPLCONF. Returns the error where its value is refused. */
function announce({ client }: ReplicaCall, option: string, value: string): Uint8Array | undefined {
  const { announced } = client;
  const number = integerOf(value);
  switch (option) {
    case "listening-port":
      if (number === undefined) return NOT_AN_INTEGER;
      // A number that isn't a port counts as none.
      announced.listeningPort = number > 0 && number <= 65_535 ? number : 0;
      return undefined;
    case "ip-address":
      // A name or an address. INFO separates its fields with commas, and the log shows it in the place of the address.
      if (value.length > MAX_ANNOUNCED_BYTES || !/^[\w.:%-]*$/.test(value)) {
        return error("ERR REPLCONF ip-address provided by replica instance is not a valid address");
      }
      announced.ip = value;
      return undefined;
    case "capa":
      // Other capabilities are ignored, as by Redis.
      announced.runId = runIdOf(value) ?? announced.runId;
      announced.newerThan = newerThanOf(value) ?? announced.newerThan;
      if (value.toLowerCase() === "psync2") announced.psync2 = true;
      return undefined;
    case "rdb-only":
      if (number !== 0 && number !== 1) return error("ERR value is out of range");
      announced.rdbOnly = number === 1;
      return undefined;
    case "version":
      return undefined;
    default:
      return error(`ERR Unrecognized REPLCONF option: ${option.slice(0, 60)}`);
  }
}

/** PSYNC replid offset ("Redis 7.2, replication.c, syncCommand"). */
function psync(call: ReplicaCall): Uint8Array | undefined {
  const [replid = "", offset = "", failover] = call.args;
  if (failover?.toLowerCase() === "failover") {
    return error("ERR this replica keeps its data on disk and can't be promoted");
  }
  const nextOffset = integerOf(offset);
  if (nextOffset === undefined) return NOT_AN_INTEGER;
  const asked = { replid, nextOffset };
  const { relay } = call.context.replica;
  const reply = () => attach(call, asked);
  const renewing = replid === "?" ? newerSnapshot(call) : undefined;
  if (renewing !== undefined) return afterRenewal(call, renewing, reply);
  return relay.isAhead(asked) ? later(call, AHEAD_MS, () => !relay.isAhead(asked), reply) : reply();
}

/**
 * Asks for a newer snapshot where the client wants one; resolves once that is current, or can't be taken. It costs the
 * primary a fork, as BGSAVE does, so it is for those that may send that. Undefined: it gets the one that is there.
 */
function newerSnapshot({ client, context }: ReplicaCall): Promise<void> | undefined {
  const { newerThan } = client.announced;
  if (newerThan === undefined) return undefined;
  if (context.mayChange) return context.replica.upkeep.demand.ask(newerThan, client.address);
  context.alarm(client, `no new snapshot is taken for a downstream: ${MAY_ONLY_LOOK}`);
  return undefined;
}

/** SYNC: a full resync for replicas without PSYNC, and for redis-cli. */
function sync(call: ReplicaCall): Uint8Array | undefined {
  return attach(call, undefined);
}

function attach(
  { client, context }: ReplicaCall,
  asked: PsyncRequest | undefined,
): Uint8Array | undefined {
  if (client.unsentBytes > 0) {
    return error("ERR SYNC and PSYNC are invalid with pending output");
  }
  const loop = loopWith(client.announced.runId, context.status);
  if (loop !== undefined) return error(`LOOP ${loop}`);
  const { relay } = context.replica;
  // Anybody can say that they are the primary, which would then count as fed from here: a circle that ends the link.
  const runId = context.mayChange ? client.announced.runId : "";
  const socket = {
    address: client.address,
    offer: (bytes: Uint8Array) => client.offer(bytes),
    close: () => client.kill(),
  };
  return relay.attach(asked, { ...client.announced, runId }, socket, (downstream, reply) => {
    // A message of its subscriptions would land in its stream.
    context.pubsub.forget(client);
    client.downstream = downstream;
    client.onGone = () => downstream.end("its link was closed");
    if (reply !== undefined) client.send(reply);
  });
}

/** Why feeding another `replica` would close a circle without a primary; undefined where it wouldn't. */
function loopWith(
  runId: string,
  { runId: mine, upstreamRunIds }: ReplicaStatus,
): string | undefined {
  if (runId === "") return undefined;
  if (runId === mine) return "what answers there is this replica itself";
  if (!upstreamRunIds.includes(runId)) return undefined;
  return "what answers there is itself fed by this replica, so neither has a primary";
}

/** WAIT numreplicas timeout: waits until that many replicas have acknowledged what is written now. */
function wait(call: ReplicaCall): Uint8Array | undefined {
  const [needed, timeoutMs] = call.args.map(integerOf);
  if (needed === undefined) return NOT_AN_INTEGER;
  if (timeoutMs === undefined) return error("ERR timeout is not an integer or out of range");
  if (timeoutMs < 0) return error("ERR timeout is negative");
  const { relay } = call.context.replica;
  // While nothing may be served, no replica counts.
  const offset = relay.endOffset ?? Infinity;
  const isEnough = () => relay.countAt(offset) >= needed;
  const reply = () => integer(relay.countAt(offset));
  return isEnough() ? reply() : later(call, timeoutMs, isEnough, reply);
}

/**
 * Blocks the client until `holds` returns true, then sends the reply.
 * @param limitMs after which it is sent anyway; 0 for no limit.
 * @returns undefined: the reply is sent later.
 */
function later(
  call: ReplicaCall,
  limitMs: number,
  holds: () => boolean,
  reply: () => Uint8Array | undefined,
): undefined {
  return blocked(call, reply, (go) => {
    const cancel = call.context.replica.relay.when(holds, go);
    const timer = limitMs > 0 ? setTimeout(go, Math.min(limitMs, MAX_TIMER_MS)) : undefined;
    return () => {
      clearTimeout(timer);
      cancel();
    };
  });
}

/** The same until a new snapshot is current, or can't be taken. Meanwhile the client gets a newline now and then. */
function afterRenewal(
  call: ReplicaCall,
  renewing: Promise<void>,
  reply: () => Uint8Array | undefined,
): undefined {
  return blocked(call, reply, (go) => {
    const beat = setInterval(() => call.client.send(NEWLINE), NEWLINE_EVERY_MS);
    void renewing.then(go);
    return () => clearInterval(beat);
  });
}

/** Blocks the client. @param wait gets what sends the reply, and returns what ends the waiting. */
function blocked(
  { client }: ReplicaCall,
  reply: () => Uint8Array | undefined,
  wait: (go: () => void) => () => void,
): undefined {
  let isOver = false;
  const over = () => {
    isOver = true;
    end();
  };
  const end = wait(() => {
    if (isOver) return;
    over();
    client.onGone = () => undefined;
    client.unblock(reply);
  });
  client.blocked = true;
  client.onGone = over;
}
