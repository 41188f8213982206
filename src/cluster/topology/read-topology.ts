import { ReplicaError } from "../../base/errors.ts";
import { printableAscii } from "../../base/printable.ts";
import { parseInfo } from "../../resp/info-text.ts";
import { countSlots } from "../slots/slot-ranges.ts";
import { type NodesReply, parseClusterNodes } from "./cluster-nodes.ts";
import { parseClusterShards, type ShardReply } from "./cluster-shards.ts";
import { errorOf, type ReplyTree, textOf } from "./reply-tree.ts";
import {
  type Asked,
  type ClusterNode,
  IS_ID,
  malformed,
  type ShardView,
  type Topology,
} from "./topology.ts";

/** What a node is asked, in this order. */
export const TOPOLOGY_QUESTIONS = [
  ["CLUSTER", "INFO"],
  ["CLUSTER", "NODES"],
  ["CLUSTER", "SHARDS"],
  ["CLUSTER", "MYSHARDID"],
] as const;

/** The permissions that a user needs for the questions, and to ask a node who it is (INFO replication). */
const ACL_RULES = "+cluster|shards +cluster|nodes +cluster|info +cluster|myshardid +info";

/**
 * Makes one topology of a node's replies to `TOPOLOGY_QUESTIONS`. CLUSTER NODES or CLUSTER SHARDS is enough: SHARDS came
 * with 7.0, and knows addresses better; NODES knows epochs and the slots that are open.
 * @param user the user of the login, for an error about its permissions.
 * @throws ReplicaError AUTH_FAILED where both are forbidden; PRIMARY_REFUSED where the node belongs to no cluster, or
 * answers no question; PROTOCOL for malformed replies.
 */
export function readTopology(
  [info, nodesTree, shardsTree, shardIdTree]: readonly ReplyTree[],
  asked: Asked,
  user: string | undefined,
): Topology {
  const refused = errorOf(nodesTree) ?? "no answer";
  const hasNodes = errorOf(nodesTree) === undefined;
  const hasShards = errorOf(shardsTree) === undefined;
  if (!hasNodes && !hasShards) throw refusal(refused, user);
  const nodesReply = hasNodes
    ? parseClusterNodes(textOf(nodesTree) ?? "", asked)
    : { myId: undefined, nodes: new Map<string, ClusterNode>() };
  const shards = hasShards ? parseClusterShards(shardsTree, asked) : [];
  const nodes = hasNodes ? withShards(nodesReply, shards) : nodesOf(shards);
  const { myId } = nodesReply;
  const myShardId = textOf(shardIdTree) ?? "";
  const views = viewsOf(nodes, (id) => {
    const told = shards.find((shard) => shard.nodes.some((node) => node.id === id))?.shardId;
    return told ?? (id === myId && IS_ID.test(myShardId) ? myShardId : undefined);
  });
  return { myId, nodes, shards: views, ...readInfo(info, nodes, views) };
}

/** What CLUSTER NODES says, with the addresses that CLUSTER SHARDS knows better. */
function withShards(
  { nodes }: NodesReply,
  shards: readonly ShardReply[],
): ReadonlyMap<string, ClusterNode> {
  const better = nodesOf(shards);
  return new Map(
    [...nodes].map(([id, node]) => {
      const { address = node.address, isLoading = false } = better.get(id) ?? {};
      return [id, { ...node, address, isLoading }];
    }),
  );
}

function nodesOf(shards: readonly ShardReply[]): ReadonlyMap<string, ClusterNode> {
  return new Map(shards.flatMap(({ nodes }) => nodes.map((node) => [node.id, node])));
}

function viewsOf(
  nodes: ReadonlyMap<string, ClusterNode>,
  shardIdOf: (nodeId: string) => string | undefined,
): ShardView[] {
  const replicas = Map.groupBy(
    [...nodes.values()].filter(({ role }) => role === "replica"),
    (node) => primaryOf(node, nodes)?.id,
  );
  const views = [...nodes.values()]
    .filter(({ role }) => role === "primary")
    .map((primary): ShardView => {
      const others = replicas.get(primary.id) ?? [];
      const ids = [primary, ...others].map(({ id }) => shardIdOf(id));
      const shardId = ids.find((id) => id !== undefined);
      return { shardId, primary, replicas: others, slots: primary.slots };
    });
  const first = ({ slots }: ShardView) => slots[0]?.[0] ?? Infinity;
  return views.toSorted((one, other) => {
    const [a, b] = [first(one), first(other)];
    return a === b ? (one.primary.id < other.primary.id ? -1 : 1) : a - b;
  });
}

/** The primary at the head of a chain of replicas: a replica may follow one for a moment after a failover. */
function primaryOf(
  node: ClusterNode,
  nodes: ReadonlyMap<string, ClusterNode>,
): ClusterNode | undefined {
  const seen = new Set<string>();
  for (let at: ClusterNode | undefined = node; at !== undefined;) {
    if (at.role === "primary") return at;
    if (seen.has(at.id)) return undefined;
    seen.add(at.id);
    at = nodes.get(at.primaryId ?? "");
  }
  return undefined;
}

function readInfo(
  tree: ReplyTree | undefined,
  nodes: ReadonlyMap<string, ClusterNode>,
  views: readonly ShardView[],
): Pick<Topology, "epoch" | "isOk" | "slotsAssigned"> {
  const slotsAssigned = views.reduce((sum, { slots }) => sum + countSlots(slots), 0);
  // Without the permission to ask for it.
  const highest = [...nodes.values()].reduce((most, one) => Math.max(most, one.configEpoch), 0);
  if (errorOf(tree) !== undefined) return { epoch: highest, isOk: true, slotsAssigned };
  const text = textOf(tree) ?? "";
  const info = parseInfo(text);
  const epoch = info.get("cluster_current_epoch") ?? "";
  const state = info.get("cluster_state");
  if (state === undefined || !/^\d{1,15}$/.test(epoch)) throw malformed("CLUSTER INFO", text);
  return { epoch: Number(epoch), isOk: state === "ok", slotsAssigned };
}

function refusal(said: string, user: string | undefined): ReplicaError {
  const shown = printableAscii(said, 200);
  if (/cluster support disabled/i.test(said)) {
    return new ReplicaError("PRIMARY_REFUSED", {
      retry: "never",
      message: `this server is no cluster's node (${shown}): follow it alone, with redis://host:port`,
    });
  }
  if (said.startsWith("NOPERM")) {
    const who = user ?? "default";
    return new ReplicaError("AUTH_FAILED", {
      message: `the user ${who} may not ask for the cluster's nodes (${shown}): run ACL SETUSER ${who} ${ACL_RULES} on every node`,
    });
  }
  if (said.startsWith("NOAUTH")) {
    return new ReplicaError("AUTH_FAILED", {
      message: `the node requires a password (${shown}): put it into the URL, or into a file for --password-file`,
    });
  }
  return new ReplicaError("PRIMARY_REFUSED", {
    message: `the node tells nothing of its cluster: ${shown}`,
  });
}
