import {
  decode,
  describeTarget,
  type Login,
  parsePrimaryUrl,
  type PrimaryTarget,
  readAuthority,
  redactUrl,
  splitUrl,
} from "./primary-url.ts";
import { type Address, describeAddress } from "../base/address.ts";
import { usageError } from "../base/errors.ts";

/** The Sentinels that know where the primary is, and the login for that primary. */
export type SentinelSource = Login & {
  readonly kind: "sentinel";
  /** Whether to use TLS, both to the Sentinels and to the primary. */
  readonly tls: boolean;
  /** At least one, in the order in which to ask them. */
  readonly sentinels: readonly Address[];
  /** The name of the master that they watch. */
  readonly master: string;
};

/** Any nodes of a cluster, which know the others, and the login for all of them. */
export type ClusterSource = Login & {
  readonly kind: "cluster";
  /** Whether to use TLS, to every node. */
  readonly tls: boolean;
  /** At least one, in the order in which to ask them. */
  readonly seeds: readonly Address[];
};

/** One shard of a cluster: whoever is its primary. */
export type ShardSource = Login & {
  readonly kind: "shard";
  readonly tls: boolean;
  /** For people: the cluster's URL without its password, and the shard. */
  readonly name: string;
  readonly naming: PrimaryNaming;
};

/** Names the primary to follow, for each attempt anew. */
export interface PrimaryNaming {
  /**
   * The primary to try next, with its login. Undefined as soon as `signal` is aborted.
   * @param followed the one that was followed last.
   * @throws ReplicaError PRIMARY_UNKNOWN where nobody names one.
   */
  locate(signal: AbortSignal, followed?: PrimaryTarget): Promise<PrimaryTarget | undefined>;
  /** Takes the outcome of the attempt with a primary that it named. */
  judge(target: PrimaryTarget, isConnected: boolean): void;
  /** Aborted as soon as it would name another primary than last time: an attempt need not wait any more. */
  readonly changed?: AbortSignal;
  /**
   * A full resync is granted by the primary that it named last.
   * @throws ReplicaError where that one may continue what is kept, but not replace it.
   */
  refuseFull?(): Promise<void>;
  /**
   * Waits until a snapshot over a second link may begin.
   * @returns a release function; undefined once `signal` is aborted.
   */
  snapshotTurn?(signal: AbortSignal): Promise<(() => void) | undefined>;
}

/** What one data directory follows: a primary, or whichever primary the Sentinels or a cluster name. */
export type PrimarySource = PrimaryTarget | SentinelSource | ShardSource;

/** What to follow: one primary, or every shard of a cluster. */
export type Source = PrimaryTarget | SentinelSource | ClusterSource;

/** The default port of a cluster's node. */
const NODE_PORT = 6379;

/** The default port of a Sentinel. */
const SENTINEL_PORT = 26379;

/**
 * Parses what to follow: as `parsePrimarySource`, or any nodes of a cluster:
 * `redis+cluster://[user[:password]@]host[:port][,host[:port]…]`, `rediss+cluster://…` (TLS).
 * @throws ReplicaError USAGE if it is malformed; the message never contains the password.
 */
export function parseSource(url: string): Source {
  if (!IS_CLUSTER.test(url)) return parsePrimarySource(url);
  const { scheme, login, rest, refuse } = splitUrl(url);
  const [list = "", ...path] = rest.split("/");
  const seeds = list.split(",").map((one) => readAuthority(one, NODE_PORT, refuse));
  if (path.join("/") !== "") {
    throw refuse(
      `a path is not allowed: a cluster has no name and one database: ${scheme}://host[:port],…`,
    );
  }
  return { kind: "cluster", tls: scheme.startsWith("rediss"), seeds, ...login };
}

const IS_CLUSTER = /^rediss?\+cluster:\/\//i;

/**
 * Parses a primary's URL (`parsePrimaryUrl`), or one that lists Sentinels:
 * `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/name`, `rediss+sentinel://…` (TLS).
 * @throws ReplicaError USAGE if it is malformed; the message never contains the password.
 */
export function parsePrimarySource(url: string): PrimaryTarget | SentinelSource {
  if (IS_CLUSTER.test(url)) {
    throw usageError(
      `${redactUrl(url)} names a whole cluster, and this takes one primary: give the URL of one shard's primary, redis://host:port`,
    );
  }
  if (!/^rediss?\+sentinel:\/\//i.test(url)) return parsePrimaryUrl(url);
  const { scheme, login, rest, refuse } = splitUrl(url);
  const [list = "", ...names] = rest.split("/");
  const sentinels = list.split(",").map((one) => readAuthority(one, SENTINEL_PORT, refuse));
  const [name = "", ...more] = names;
  if (name === "") {
    throw refuse(`the master's name is missing: ${scheme}://host[:port],…/name`);
  }
  if (more.length > 0) throw refuse("nothing may follow the master's name: write / in it as %2F");
  const master = decode(name, "the master's name", refuse);
  if (/\p{Cc}/u.test(master)) throw refuse("the master's name contains a control character");
  return { kind: "sentinel", tls: scheme.startsWith("rediss"), sentinels, master, ...login };
}

/** Whether somebody else names the primary. */
export function isNamedElsewhere(source: PrimarySource): source is SentinelSource | ShardSource {
  return source.kind === "sentinel" || source.kind === "shard";
}

/** The source as a URL without its password, for logs and errors; of a shard, its name. */
export function describeSource(source: PrimarySource | ClusterSource): string {
  if (source.kind === "shard") return source.name;
  if (source.kind !== "sentinel" && source.kind !== "cluster") return describeTarget(source);
  const user = source.username === undefined ? "" : `${encodeURIComponent(source.username)}@`;
  const scheme = `${source.tls ? "rediss" : "redis"}+${source.kind}://${user}`;
  if (source.kind === "cluster") return scheme + source.seeds.map(describeAddress).join(",");
  const sentinels = source.sentinels.map(describeAddress).join(",");
  return `${scheme}${sentinels}/${encodeURIComponent(source.master)}`;
}
