import type { Address } from "../../base/address.ts";
import { isIP } from "../../base/address.ts";
import { ReplicaError } from "../../base/errors.ts";
import { printableAscii } from "../../base/printable.ts";
import type { SlotRange } from "../slots/slot-ranges.ts";

/** A slot that a node says it is migrating, to or from another node. */
export interface OpenMark {
  readonly slot: number;
  readonly way: "to" | "from";
  readonly nodeId: string;
}

/** A node of a cluster, as one node sees it. */
export interface ClusterNode {
  /** 40 hex digits. */
  readonly id: string;
  /** Where to connect to it; undefined where that isn't known. */
  readonly address: Address | undefined;
  readonly role: "primary" | "replica";
  /** Of a replica; undefined where it isn't known. */
  readonly primaryId: string | undefined;
  /** `suspected`: by the node that was asked alone (PFAIL). */
  readonly health: "ok" | "suspected" | "failed";
  /** A replica that has no data yet. */
  readonly isLoading: boolean;
  readonly slots: readonly SlotRange[];
  readonly configEpoch: number;
  /** A node tells its own alone. */
  readonly open: readonly OpenMark[];
}

/** A primary and its replicas, as one node sees them. */
export interface ShardView {
  /** As the servers name it; undefined where none has told. */
  readonly shardId: string | undefined;
  /** Its role is `replica` where it says so itself: then another one is about to take over. */
  readonly primary: ClusterNode;
  readonly replicas: readonly ClusterNode[];
  readonly slots: readonly SlotRange[];
}

/** A cluster as one of its nodes sees it. */
export interface Topology {
  /** The node that was asked; undefined where it doesn't say. */
  readonly myId: string | undefined;
  /** cluster_current_epoch: rises with each change of who owns what. */
  readonly epoch: number;
  /** Whether the node takes the cluster for able to work (cluster_state:ok). */
  readonly isOk: boolean;
  readonly slotsAssigned: number;
  readonly nodes: ReadonlyMap<string, ClusterNode>;
  /** In the order of their first slots; those without slots come last. */
  readonly shards: readonly ShardView[];
}

/** Where and how a node was asked: what it leaves open of its own address is filled in from there. */
export interface Asked {
  readonly host: string;
  readonly tls: boolean;
}

/** Node ids and shard ids ("Redis cluster specification"). */
export const IS_ID = /^[0-9a-f]{40}$/;

/**
 * An address as a peer names it; undefined for none.
 * @throws ReplicaError PROTOCOL for one that can't be.
 */
export function announced(host: string, port: string): Address | undefined {
  if (host === "" || port === "" || port === "0") return undefined;
  const isHost = isIP(host) !== 0 || /^[\p{L}\p{N}_.-]{1,255}$/u.test(host);
  if (!isHost || !/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
    throw malformed("an address", `${host}:${port}`);
  }
  return { host, port: Number(port) };
}

/** The error for an answer that no cluster's node gives. */
export function malformed(what: string, said: string): ReplicaError {
  return new ReplicaError("PROTOCOL", {
    message: `this isn't a cluster's node: it answers ${what} with "${printableAscii(said, 100)}"`,
  });
}
