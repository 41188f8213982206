import type { Archive } from "../../archive/reader/archive.ts";
import { archivePoint } from "../../archive/reader/archive-point.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import type { ClusterArchive } from "../../cluster/archive/cluster-archive.ts";
import { SHARDS } from "../../cluster/archive/layout-names.ts";
import type { ShardRecord } from "../../cluster/ledger/shard-records.ts";
import type { ClusterDirectory } from "../../cluster/restore/cluster-directory.ts";
import { shardName } from "../../cluster/restore/shard-window.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { restorePoint } from "../../store/restore/restore-point.ts";
import { archivedSource } from "./archived-source.ts";
import { generationSource, type SnapshotSource } from "./snapshot-source.ts";

/** The moment whose shards are meant: that one, else now. */
export interface ClusterMoment {
  readonly atMs: number | undefined;
  readonly nowMs: number;
}

/**
 * The snapshot of each shard of a cluster's directory.
 * @throws ReplicaError USAGE for a moment that a shard doesn't cover; of the databases.
 */
export function clusterSources(
  directory: ClusterDirectory,
  { atMs, nowMs }: ClusterMoment,
): SnapshotSource[] {
  const sources: SnapshotSource[] = [];
  for (const { number } of livingShards(directory.records, atMs ?? nowMs)) {
    const shard = shardName(number);
    const catalogue = directory.shards.get(number);
    for (const loss of catalogue?.losses ?? [])
      logger.warn(`shard ${shard}: ${describeDamage(loss)}`);
    if (catalogue === undefined || catalogue.generations.length === 0) {
      logger.warn(`shard ${shard} keeps no snapshot yet: its keys are missing`);
      continue;
    }
    const wanted = { generation: undefined, offset: undefined, atMs };
    const point = ofShard(shard, () => restorePoint(catalogue, wanted, nowMs));
    sources.push({ ...generationSource(catalogue, point), shard });
  }
  if (sources.length === 0) throw usageError(`${directory.path} keeps no snapshot yet`);
  return sources;
}

/**
 * The snapshot of each shard of a cluster's archive; of several directories that wrote there, of the one that did so last.
 * @param openShard opens the archive of a shard, by its name.
 * @throws ReplicaError USAGE for a moment that a shard doesn't cover; ARCHIVE_DAMAGED; of the store.
 */
export async function archivedClusterSources(
  archive: ClusterArchive,
  { atMs, nowMs }: ClusterMoment,
  openShard: (shard: string) => Promise<Archive>,
  signal: AbortSignal,
): Promise<SnapshotSource[]> {
  const { url } = archive.source;
  const { folders } = await archive.source.list(SHARDS, signal);
  const [newest] = archive.directories;
  if (newest === undefined) {
    throw usageError(
      `${url} has no layout, so that nothing tells which shards make up the cluster: name one, ${url}/${SHARDS}/${folders[0] ?? "NAME"}`,
    );
  }
  const moment = atMs ?? nowMs;
  const { shards } = await archive.history(newest, moment, moment, signal);
  const sources: SnapshotSource[] = [];
  for (const { name } of livingShards(shards, moment)) {
    if (!folders.includes(name)) {
      logger.warn(`shard ${name} has nothing in ${url} yet: its keys are missing`);
      continue;
    }
    const one = await openShard(name);
    const wanted = { generation: undefined, offset: undefined, atMs };
    const point = await archivePoint(one, wanted, signal).catch((error: unknown) => {
      throw withShard(name, error);
    });
    sources.push({ ...archivedSource(one, point), shard: name });
  }
  if (sources.length === 0) throw usageError(`${url} holds no whole snapshot yet`);
  return sources;
}

/** Those that were followed then: what an ended one has kept is in others now, or is no part of the cluster. */
function livingShards(shards: readonly ShardRecord[], atMs: number): ShardRecord[] {
  return shards.filter(
    ({ startedMs, endedMs }) => startedMs <= atMs && (endedMs === undefined || endedMs > atMs),
  );
}

function ofShard<T>(shard: string, find: () => T): T {
  try {
    return find();
  } catch (error) {
    throw withShard(shard, error);
  }
}

function withShard(shard: string, error: unknown): unknown {
  if (!(error instanceof ReplicaError)) return error;
  const { code, retry, message } = error;
  return new ReplicaError(code, { retry, message: `shard ${shard}: ${message}`, cause: error });
}
