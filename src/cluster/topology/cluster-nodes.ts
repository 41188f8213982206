import { limits } from "../../config/limits.ts";
import { parseRanges, SLOTS, type SlotRange } from "../slots/slot-ranges.ts";
import {
  announced,
  type Asked,
  type ClusterNode,
  IS_ID,
  malformed,
  type OpenMark,
} from "./topology.ts";

/** What CLUSTER NODES says. */
export interface NodesReply {
  readonly myId: string | undefined;
  readonly nodes: ReadonlyMap<string, ClusterNode>;
}

const WHAT = "CLUSTER NODES";

/**
 * Parses the reply to CLUSTER NODES: `id ip:port@cport[,hostname…] flags primary ping pong epoch link slots…`, a line a
 * node ("Redis commands, CLUSTER NODES"). A node that isn't known yet (handshake) is left out.
 * @throws ReplicaError PROTOCOL for anything else.
 */
export function parseClusterNodes(text: string, asked: Asked): NodesReply {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length > limits.clusterNodes) throw malformed(WHAT, `${lines.length} nodes`);
  const nodes = new Map<string, ClusterNode>();
  let myId: string | undefined;
  for (const line of lines) {
    const words = line.trim().split(" ");
    const flags = (words[2] ?? "").split(",");
    if (flags.includes("handshake")) continue;
    const isMyself = flags.includes("myself");
    const node = readNode(line, words, flags, isMyself ? asked.host : "");
    if (isMyself) myId = node.id;
    nodes.set(node.id, node);
  }
  if (myId === undefined) throw malformed(WHAT, text);
  return { myId, nodes };
}

/** @param ownHost stands for an address that the node leaves open. */
function readNode(
  line: string,
  words: readonly string[],
  flags: readonly string[],
  ownHost: string,
): ClusterNode {
  const [id = "", where = "", , primary = "", , , epoch = "", link, ...slots] = words;
  const match = /^(.*):(\d{1,5})(?:@\d+)?(?:,.*)?$/.exec(where);
  if (!IS_ID.test(id) || match === null || link === undefined || !/^\d{1,15}$/.test(epoch)) {
    throw malformed(WHAT, line);
  }
  const [, host = "", port = ""] = match;
  const isReplica = flags.includes("slave");
  if (!isReplica && !flags.includes("master") && !flags.includes("noaddr")) {
    throw malformed(WHAT, line);
  }
  const { ranges, open } = readSlots(line, slots);
  return {
    id,
    address: flags.includes("noaddr") ? undefined : announced(host === "" ? ownHost : host, port),
    role: isReplica ? "replica" : "primary",
    primaryId: isReplica && IS_ID.test(primary) ? primary : undefined,
    health: healthOf(flags),
    isLoading: false,
    slots: ranges,
    configEpoch: Number(epoch),
    open,
  };
}

function healthOf(flags: readonly string[]): ClusterNode["health"] {
  if (flags.includes("fail") || flags.includes("noaddr")) return "failed";
  return flags.includes("fail?") ? "suspected" : "ok";
}

/** Ranges, and the slots that are open: `[449->-<target>]`, `[449-<-<source>]`. */
function readSlots(
  line: string,
  words: readonly string[],
): { readonly ranges: readonly SlotRange[]; readonly open: readonly OpenMark[] } {
  const open: OpenMark[] = [];
  const owned: string[] = [];
  for (const word of words) {
    if (!word.startsWith("[")) {
      owned.push(word);
      continue;
    }
    const mark = /^\[(\d{1,5})-([<>])-([0-9a-f]{40})\]$/.exec(word);
    if (mark === null || Number(mark[1]) >= SLOTS) throw malformed(WHAT, line);
    const [, slot, way, nodeId = ""] = mark;
    open.push({ slot: Number(slot), way: way === ">" ? "to" : "from", nodeId });
  }
  const ranges = parseRanges(owned.join(" "));
  if (ranges === undefined) throw malformed(WHAT, line);
  return { ranges, open };
}
