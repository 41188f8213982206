import { describeAddress } from "../../base/address.ts";
import { ReplicaError } from "../../base/errors.ts";
import { formatAge } from "../../base/quantity.ts";
import { describeTarget, type PrimaryTarget } from "../../config/primary-url.ts";
import { parseInfo } from "../../resp/info-text.ts";
import type { PrimaryFacts } from "./primary-facts.ts";

/**
 * Why a primary has no data to pass on; undefined where nothing says so.
 * @param name what people call it.
 * @param facts what it said a moment ago; undefined where it says nothing.
 * @param silentMs how long nothing has come from it.
 * @param timeoutMs --timeout
 */
export function troubleOf(
  name: string,
  facts: Pick<PrimaryFacts, "role" | "upstream"> | undefined,
  silentMs: number,
  timeoutMs: number,
): string | undefined {
  const upstream = facts?.upstream;
  if (upstream !== undefined && !upstream.isUp) {
    // Another `replica` says who above it has none.
    if (upstream.reason !== "") return upstream.reason;
    if (upstream.name === "") return `${name} follows no primary`;
    const { downSeconds } = upstream;
    const since = downSeconds === undefined ? "" : ` for ${formatAge(downSeconds)}`;
    return `${name} is a replica of ${upstream.name}, and that link has been down${since}`;
  }
  // A primary pings, by default each 10 s; a replica passes on the pings of its own primary, and sends none.
  const limitMs = timeoutMs / 2;
  const quietMs = Math.max(silentMs, (upstream?.silentSeconds ?? 0) * 1000);
  if (facts?.role === "master" || quietMs < limitMs) return undefined;
  const quiet = formatAge(quietMs / 1000);
  if (upstream === undefined) return `${name} has sent nothing for ${quiet}, not even a PING`;
  return `${name} is a replica of ${upstream.name}, and nothing has come from there for ${quiet}`;
}

/**
 * What following one node of a cluster means, and how to follow all.
 * @param clusterInfo what it answers to CLUSTER INFO; empty where it doesn't tell.
 */
export function describeCluster(target: PrimaryTarget, clusterInfo: string): string {
  const size = parseInfo(clusterInfo).get("cluster_size") ?? "";
  const of = /^[1-9]\d{0,4}$/.test(size) ? ` of ${size}` : "";
  return `${describeTarget(target)} is a node of a cluster: only its shard, one${of}, is followed; to follow all, give ${clusterUrl(target)}`;
}

function clusterUrl(target: PrimaryTarget): string {
  const scheme = target.kind === "tls" ? "rediss" : "redis";
  const address = target.kind === "unix" ? "HOST:PORT" : describeAddress(target);
  return `${scheme}+cluster://${address}`;
}

/** What a snapshot of one node of a cluster means, and how to have all. */
export function describeShard(target: PrimaryTarget): string {
  return `${describeTarget(target)} is a node of a cluster, so this snapshot holds its shard alone: back up the primary of each shard, or follow all with ${clusterUrl(target)}`;
}

/**
 * Says that the primary refuses writes because none of its replicas counts, and why this one doesn't; undefined where its
 * figures don't bear that out ("Redis 7.0, replication.c, refreshGoodSlavesCount").
 * @param servedPorts by which it knows this replica.
 * @returns `why` without what changes from one moment to the next.
 */
export function describeRefusedWrites(
  { goodReplicas, replicas }: Pick<PrimaryFacts, "goodReplicas" | "replicas">,
  servedPorts: readonly number[],
): { readonly text: string; readonly why: string } | undefined {
  const [mine, ...others] = replicas.filter(({ port }) => servedPorts.includes(port));
  if (goodReplicas !== 0 || mine === undefined || others.length > 0) return undefined;
  const what =
    "the primary refuses writes: it has min-replicas-to-write, and counts no replica (min_slaves_good_slaves:0)";
  if (mine.state !== "online") {
    const why = `this one counts once its snapshot is here (state ${mine.state})`;
    return { text: `${what}; ${why}`, why };
  }
  const why = "this one doesn't count, since it was not heard within min-replicas-max-lag";
  const silent = `for ${formatAge(mine.lagSeconds)}: see the network, and the disk here`;
  return { text: `${what}; ${why}, ${silent}`, why };
}

/** The error for following this process itself, or a server that it feeds. */
export function loopError(message: string): ReplicaError {
  return new ReplicaError("REPLICATION_LOOP", {
    message: `${message}: REPLICAOF must name a server that is supplied from elsewhere`,
  });
}
