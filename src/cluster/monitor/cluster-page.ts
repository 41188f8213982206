import { formatAge, formatBytes } from "../../base/quantity.ts";
import {
  type ClusterStatus,
  type ShardStatus,
  whyShardNotReady,
} from "../status/cluster-status.ts";
import { formatRanges, SLOTS } from "../slots/slot-ranges.ts";
import type { Page } from "../../monitor/page.ts";
import { clusterHeadline } from "./cluster-headline.ts";

/** A row for each shard. */
export function clusterPage(status: ClusterStatus, readyLagMs: number): Page {
  const { topology, newestRestorableMs, staleSeconds } = status;
  const notReady = status.whyNotReady(readyLagMs);
  const restorable =
    newestRestorableMs === undefined || staleSeconds === undefined
      ? "nothing yet"
      : `${new Date(newestRestorableMs).toISOString()}, ${formatAge(staleSeconds)} ago`;
  return {
    headline: clusterHeadline(status, readyLagMs),
    notReady,
    rows: [
      ["cluster", status.name],
      ["state", topology.state ?? "not known yet"],
      ["ready", notReady === undefined ? "yes" : `no: ${notReady}`],
      ["slots", `${status.coveredSlots} of ${SLOTS}`],
      ["nodes", String(topology.knownNodes)],
      ["topology", topologyText(topology)],
      ["all restorable up to", restorable],
    ],
    tables: [
      {
        head: [
          "shard",
          "state",
          "slots",
          "primary",
          "durable offset",
          "snapshot",
          "log",
          "not ready",
        ],
        rows: status.shown.map((shard) => rowOf(shard, readyLagMs)),
      },
    ],
  };
}

function topologyText({ ageSeconds, trouble }: ClusterStatus["topology"]): string {
  const age = ageSeconds === undefined ? "not known yet" : `told ${formatAge(ageSeconds)} ago`;
  return trouble === undefined ? age : `${age}; ${trouble}`;
}

function rowOf(shard: ShardStatus, readyLagMs: number): string[] {
  const { label, state, slots, replica } = shard;
  const why = whyShardNotReady(shard, readyLagMs) ?? "";
  const owned = formatRanges(slots);
  if (replica === undefined) return [label, state, owned, "", "", "", "", why];
  const { link, primary, cursors, currentGeneration } = replica;
  return [
    label,
    state === "following" ? link.state : state,
    owned,
    primary.name,
    String(cursors.durable),
    formatBytes(currentGeneration?.rdbBytes ?? 0),
    formatBytes(cursors.logBytes),
    why,
  ];
}
