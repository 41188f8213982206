import { printableAscii } from "../../base/printable.ts";
import { ReplicaError } from "../../base/errors.ts";
import { parseInfo } from "../../resp/info-text.ts";
import { parseClusterNodes } from "./cluster-nodes.ts";
import { errorOf, type ReplyTree, textOf } from "./reply-tree.ts";
import type { Asked } from "./topology.ts";

/** Who a server says that it is. */
export type NodeSelf = (
  | {
      readonly kind: "node";
      readonly id: string;
      /** The node that it is a replica of, in its own view; undefined for a primary. */
      readonly primaryId: string | undefined;
    }
  /** It loads its data, or runs a script: it tells later. */
  | { readonly kind: "busy" }
  /** No id: it is no node of a cluster, or the user may not ask. */
  | { readonly kind: "nameless"; readonly said: string }
) & {
  /** What INFO says of its replication; empty where it may not be asked. */
  readonly replication: string;
};

/** What a node is asked about itself, in this order. */
export const SELF_QUESTIONS = [
  ["CLUSTER", "NODES"],
  ["INFO", "replication"],
] as const;

/** Reads the replies to `SELF_QUESTIONS`. */
export function readSelf([nodes, info]: readonly ReplyTree[], asked: Asked): NodeSelf {
  const replication = textOf(info) ?? "";
  const refused = errorOf(nodes);
  if (refused !== undefined) {
    const isBusy = /^(?:LOADING|BUSY|MASTERDOWN|TRYAGAIN)\b/.test(refused);
    if (isBusy) return { kind: "busy", replication };
    return { kind: "nameless", said: printableAscii(refused, 200), replication };
  }
  try {
    const { myId: id = "", nodes: all } = parseClusterNodes(textOf(nodes) ?? "", asked);
    return { kind: "node", id, primaryId: all.get(id)?.primaryId, replication };
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    return { kind: "nameless", said: error.message, replication };
  }
}

/** A replica, as it says in INFO. */
export interface ReplicaState {
  /** The history that it is in; undefined where it doesn't say. */
  readonly replid: string | undefined;
  /** The last byte of its stream; NaN where it doesn't say. */
  readonly offset: number;
}

/** Reads what INFO says of the replication of a replica whose link is up; undefined for any other node. */
export function readFedReplica(replication: string): ReplicaState | undefined {
  const info = parseInfo(replication);
  if (info.get("role") !== "slave" || info.get("master_link_status") !== "up") return undefined;
  const offset = Number.parseInt(info.get("master_repl_offset") ?? "", 10);
  return { replid: info.get("master_replid"), offset };
}
