import type { Address } from "../../base/address.ts";
import { limits } from "../../config/limits.ts";
import { SLOTS, type SlotRange } from "../slots/slot-ranges.ts";
import { elementsOf, fieldsOf, type ReplyTree, textOf } from "./reply-tree.ts";
import { announced, type Asked, type ClusterNode, IS_ID, malformed } from "./topology.ts";

/** A shard in the reply to CLUSTER SHARDS. */
export interface ShardReply {
  /** From Valkey 9 on. */
  readonly shardId: string | undefined;
  readonly slots: readonly SlotRange[];
  readonly nodes: readonly ClusterNode[];
}

const WHAT = "CLUSTER SHARDS";

/**
 * Parses the reply to CLUSTER SHARDS ("Redis commands, CLUSTER SHARDS"). A node's `endpoint` is where clients should
 * connect to; where it is `?` (a host name that isn't known), empty or null, its `ip` is where it is, or else what CLUSTER NODES
 * says. A node without either is where the one that was asked is ("cluster-preferred-endpoint-type": unknown-endpoint).
 * @throws ReplicaError PROTOCOL for anything else.
 */
export function parseClusterShards(tree: ReplyTree | undefined, asked: Asked): ShardReply[] {
  const shards = elementsOf(tree);
  if (shards === undefined) throw malformed(WHAT, textOf(tree) ?? "no array");
  const read = shards.map((shard) => readShard(shard, asked));
  const count = read.reduce((sum, { nodes }) => sum + nodes.length, 0);
  if (count > limits.clusterNodes) throw malformed(WHAT, `${count} nodes`);
  return read;
}

function readShard(tree: ReplyTree, asked: Asked): ShardReply {
  const fields = fieldsOf(tree);
  const nodes = elementsOf(fields?.get("nodes"));
  const bounds = elementsOf(fields?.get("slots"));
  if (fields === undefined || nodes === undefined || bounds === undefined) {
    throw malformed(WHAT, "a shard without slots or nodes");
  }
  const slots = readBounds(bounds);
  const id = textOf(fields.get("id")) ?? "";
  const all = nodes.map((node) => readNode(node, asked));
  const primaries = all.filter(({ role }) => role === "primary");
  const owner = primaries.find(({ health }) => health === "ok") ?? primaries[0];
  return {
    shardId: IS_ID.test(id) ? id : undefined,
    slots,
    nodes: all.map((node) => {
      if (node === owner) return { ...node, slots };
      return node.role === "replica" ? { ...node, primaryId: owner?.id } : node;
    }),
  };
}

/** First and last slot of each range, in turn. */
function readBounds(bounds: readonly ReplyTree[]): SlotRange[] {
  const numbers = bounds.map((bound) => {
    const text = textOf(bound) ?? "";
    const number = Number(text);
    if (!/^\d{1,5}$/.test(text) || number >= SLOTS) throw malformed(WHAT, `the slot ${text}`);
    return number;
  });
  const ranges: SlotRange[] = [];
  for (let at = 0; at < numbers.length; at += 2) {
    const [first, last] = [numbers[at]!, numbers[at + 1] ?? -1];
    if (last < first) throw malformed(WHAT, `the slots ${first} to ${last}`);
    ranges.push([first, last]);
  }
  return ranges;
}

function readNode(tree: ReplyTree, asked: Asked): ClusterNode {
  const fields = fieldsOf(tree);
  const text = (name: string) => textOf(fields?.get(name)) ?? "";
  const id = text("id");
  const role = text("role");
  if (!IS_ID.test(id) || !["master", "replica", "slave"].includes(role)) {
    throw malformed(WHAT, `the node ${id} as a ${role}`);
  }
  const health = text("health");
  return {
    id,
    address: addressOf(text, asked),
    role: role === "master" ? "primary" : "replica",
    primaryId: undefined,
    health: health.startsWith("fail") ? "failed" : "ok",
    isLoading: health === "loading",
    slots: [],
    configEpoch: 0,
    open: [],
  };
}

function addressOf(text: (name: string) => string, asked: Asked): Address | undefined {
  const endpoint = text("endpoint");
  const ip = text("ip");
  const port = text(asked.tls ? "tls-port" : "port");
  if (endpoint !== "" && endpoint !== "?") return announced(endpoint, port);
  if (ip !== "" && ip !== "?") return announced(ip, port);
  // Of a host name that isn't known nothing follows for the address: the asked node's would be another node's.
  return endpoint === "?" ? undefined : announced(asked.host, port);
}
