import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { ClusterHistory } from "../../cluster/ledger/cluster-history.ts";
import { shardDirectory } from "../../cluster/ledger/cluster-schema.ts";
import { shardName } from "../../cluster/restore/shard-window.ts";
import { GENERATIONS } from "../../store/generation/layout.ts";
import { shownTime } from "../../store/restore/restore-point.ts";

/** A shard of a cluster's directory that keeps something, or may. */
export interface KeptShard {
  readonly number: number;
  /** `0001`. */
  readonly name: string;
  /** Its data directory. */
  readonly path: string;
  /** When it ended and why, for people; undefined while it is followed. */
  readonly ended: string | undefined;
}

/** What a cluster's directory lists beside its shards. */
export interface ClusterContent {
  readonly path: string;
  readonly shards: readonly KeptShard[];
  /** The first and the last moment whose layout is known, in milliseconds since 1970. */
  readonly layouts: { readonly fromMs: number; readonly toMs: number } | undefined;
}

/** The first layout is seen this soon after the first shard. */
const FIRST_LOOK_MS = 60_000;

/** Reads what a cluster's directory holds. @throws ReplicaError of `ClusterHistory`. */
export function clusterContent(dir: string): ClusterContent {
  const path = resolve(dir);
  using history = new ClusterHistory(path);
  const shards = history.shards
    .map(({ number, endedMs, endedWhy }) => ({
      number,
      name: shardName(number),
      path: shardDirectory(path, number),
      ended: endedMs === undefined ? undefined : `${shownTime(endedMs)}: ${endedWhy ?? ""}`,
    }))
    .filter((shard) => existsSync(join(shard.path, GENERATIONS)));
  const last = history.layoutAt(Number.MAX_SAFE_INTEGER);
  const startedMs = Math.min(...history.shards.map((shard) => shard.startedMs));
  const first = last && (history.layouts(0, startedMs + FIRST_LOOK_MS)[0] ?? last);
  return {
    path,
    shards,
    layouts: first && { fromMs: first.atMs, toMs: last.confirmedMs },
  };
}

/** Says which layouts are known, as a line. */
export function describeLayouts({ layouts }: ClusterContent): string {
  return layouts === undefined
    ? "no layout of the cluster is known yet\n"
    : `layouts of the cluster from ${shownTime(layouts.fromMs)} to ${shownTime(layouts.toMs)}\n`;
}

/** The same for programs. */
export function layoutsToJson({ layouts }: ClusterContent) {
  return layouts === undefined
    ? null
    : { from_time: shownTime(layouts.fromMs), to_time: shownTime(layouts.toMs) };
}
