import * as fs from "node:fs";
import { join } from "node:path";
import type { Archive } from "../../archive/reader/archive.ts";
import { refuseInArchive } from "../../archive/reader/refuse-inside.ts";
import { openArchive, openSource } from "../../archive/open/open-archive.ts";
import type { Clock } from "../../base/clock.ts";
import { logger } from "../../base/logger.ts";
import { ClusterArchive } from "../../cluster/archive/cluster-archive.ts";
import { fetchCluster } from "../../cluster/archive/fetch-cluster.ts";
import { shardArchiveUrl } from "../../cluster/archive/layout-names.ts";
import type { Settings } from "../../config/settings.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import { fetchFolder, findWholeTarget } from "../../store/restore/restore-target.ts";

/** What reading the archive of a cluster takes. */
export interface ClusterArchiveContext {
  readonly settings: Pick<Settings, "archive">;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Opens the archive of a cluster; undefined for any other. @throws ReplicaError as `openSource` and `ClusterArchive.open`. */
export async function openClusterArchive(
  url: string,
  context: ClusterArchiveContext,
): Promise<ClusterArchive | undefined> {
  return await ClusterArchive.open(await openSource(url, context), context.signal);
}

/** Opens the archive of one shard. Warns of what is damaged. @throws ReplicaError as `openArchive`. */
export async function openShardArchive(
  url: string,
  shard: string,
  context: ClusterArchiveContext,
): Promise<Archive> {
  const archive = await openArchive(shardArchiveUrl(url, shard), context);
  for (const damage of archive.damages) logger.warn(describeDamage(damage));
  return archive;
}

/**
 * Fetches what the restore of a moment needs to beside its target, as a cluster's directory, does something with it, and
 * removes it again.
 * @param atMs undefined: the newest moment as of which all shards can be restored.
 * @param use gets the directory and the moment.
 * @throws ReplicaError as `fetchCluster`; USAGE for a target that can't be; what `use` throws.
 */
export async function withFetchedCluster<T>(
  url: string,
  archive: ClusterArchive,
  { atMs, target }: { readonly atMs: number | undefined; readonly target: string },
  context: ClusterArchiveContext & {
    readonly disk: Disk;
    readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
  },
  use: (dir: string, atMs: number) => Promise<T>,
): Promise<T> {
  const { disk, signal, onProgress } = context;
  // A wrong target is refused before anything is fetched.
  const place = findWholeTarget(target, undefined);
  refuseInArchive(archive.source.url, place);
  const holder = fetchFolder(place);
  try {
    fs.mkdirSync(holder, { mode: 0o700 });
    const dir = join(holder, "cluster");
    const openShard = async (shard: string) => await openShardArchive(url, shard, context);
    const options = { disk, signal, onProgress, openShard };
    const fetched = await fetchCluster(archive, atMs, dir, options);
    return await use(dir, fetched.atMs);
  } finally {
    await disk.removeLarge(holder);
  }
}
