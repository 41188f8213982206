import { formatRanges, type SlotRange } from "./slot-ranges.ts";

/** How far above its port a node's cluster bus listens, unless it is told otherwise ("Redis cluster specification"). */
export const BUS_OFFSET = 10_000;

/** A primary as `nodes.conf` names it. */
export interface ConfiguredNode extends NodeSlots {
  /** 40 hexadecimal digits. */
  readonly id: string;
  readonly host: string;
  readonly port: number;
  readonly busPort: number;
}

/** The slots of a node. */
export interface NodeSlots {
  readonly slots: readonly SlotRange[];
  /** Its slots whose migration has not ended, and those that it gets; of each the place of the other node. */
  readonly migrating?: readonly MovingSlot[];
  readonly importing?: readonly MovingSlot[];
}

interface MovingSlot {
  readonly slot: number;
  readonly peer: number;
}

/**
 * The `nodes.conf` of one node before its first start: all nodes, each with its slots and an epoch of its own, so that
 * none has to be met. @param self the place among `nodes` of the one whose file it is.
 */
export function nodesConf(nodes: readonly ConfiguredNode[], self: number): string {
  const idOf = (place: number) => nodes[place]?.id ?? "";
  const lines = nodes.map(({ id, host, port, busPort, slots, ...moving }, index) => {
    const flags = index === self ? "myself,master" : "master";
    const words = slots.length === 0 ? [] : [formatRanges(slots)];
    // A node tells its own open slots alone.
    if (index === self) {
      for (const { slot, peer } of moving.migrating ?? []) words.push(`[${slot}->-${idOf(peer)}]`);
      for (const { slot, peer } of moving.importing ?? []) words.push(`[${slot}-<-${idOf(peer)}]`);
    }
    const owned = words.map((word) => ` ${word}`).join("");
    return `${id} ${host}:${port}@${busPort} ${flags} - 0 0 ${index + 1} connected${owned}\n`;
  });
  // The node's own line first, as a server writes it.
  const [own = ""] = lines.splice(self, 1);
  return `${own}${lines.join("")}vars currentEpoch ${nodes.length} lastVoteEpoch 0\n`;
}
