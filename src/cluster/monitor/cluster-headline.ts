import { counted, formatAge } from "../../base/quantity.ts";
import type { Headline } from "../../monitor/browser/document.ts";
import { headlineOf } from "../../monitor/document/headline.ts";
import {
  type ClusterStatus,
  type ShardStatus,
  whyShardNotReady,
} from "../status/cluster-status.ts";

/** The state of a cluster's replica in words. */
export function clusterHeadline(status: ClusterStatus, readyLagMs: number): Headline {
  const { live, name, staleSeconds } = status;
  if (live.length === 0) {
    const text = `No node of ${name} has told the cluster's topology yet.`;
    return { tone: "busy", state: "looking for the shards", text };
  }
  const ready = live.filter((shard) => whyShardNotReady(shard, readyLagMs) === undefined).length;
  const age = staleSeconds === undefined ? undefined : formatAge(staleSeconds);
  const restorable =
    age === undefined
      ? "not all of it can be restored yet"
      : `all of it can be restored as of ${age} ago`;
  const text = `Following ${counted(live.length, "shard")} of ${name}; ${restorable}.`;
  if (ready === live.length && status.whyNotReady(readyLagMs) === undefined) {
    return { tone: "good", state: `following all ${counted(live.length, "shard")}`, text };
  }
  const tones = live.map((shard) => shardHeadline(shard, readyLagMs).tone);
  const tone = tones.includes("bad") || !tones.includes("busy") ? "bad" : "busy";
  return { tone, state: `${ready} of ${counted(live.length, "shard")} ready`, text };
}

/** The state of one shard in words. */
export function shardHeadline(shard: ShardStatus, readyLagMs: number): Headline {
  const { replica, state, why } = shard;
  if (replica !== undefined) return headlineOf(replica, whyShardNotReady(shard, readyLagMs));
  if (state === "ended") return { tone: "idle", state: "ended", text: why ?? "Its node left it." };
  if (state === "failed") return { tone: "bad", state: "failed", text: why ?? "It can't go on." };
  return { tone: "busy", state: "waiting", text: "It has not begun yet." };
}
