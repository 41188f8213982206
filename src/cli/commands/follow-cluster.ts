import { usageError } from "../../base/errors.ts";
import { isClusterDirectory, shardDirectory } from "../../cluster/ledger/cluster-schema.ts";
import type { ClusterSource, Source } from "../../config/primary-source.ts";
import type { Replica } from "../../replica/replica.ts";
import { realDisk } from "../../store/disk/disk.ts";
import type { Wanted } from "../../store/restore/restore-point.ts";
import type { CommandContext } from "./command.ts";
import { momentOf, pointOf } from "./moment-options.ts";
import { snapshotOf, watchTransfer } from "./watch-transfer.ts";

/**
 * What a command line means that is about a cluster: to follow every shard of it, or with --offline to serve what a
 * cluster's directory or archive keeps. What only that needs is loaded only then.
 * @param archive the URL of the archive that --offline serves.
 * @returns what does it; undefined where one primary is meant.
 * @throws ReplicaError USAGE; as reading the archive does.
 */
export async function clusterOf(
  context: CommandContext,
  source: Source,
  archive: string | undefined,
): Promise<(() => Promise<void>) | undefined> {
  const { settings, options } = context;
  if (!options.has("offline")) {
    return source.kind === "cluster" ? async () => await follow(context, source) : undefined;
  }
  if (archive !== undefined) return await serveArchived(context, archive);
  if (isClusterDirectory(settings.dir)) return async () => await serveKept(context);
  if (source.kind !== "cluster") return undefined;
  throw usageError(`${settings.dir} keeps no cluster: --offline serves what is kept there`);
}

async function follow(context: CommandContext, source: ClusterSource): Promise<void> {
  const { settings, env, signal, stderr } = context;
  const { runClusterProcess } = await import("../../program/cluster/cluster-process.ts");
  // Several at a time have no room on one line: their progress is logged.
  const watch = (replica: Replica) => watchTransfer(() => snapshotOf(replica), stderr, false);
  await runClusterProcess({ source, settings, env, watch }, signal);
}

async function serveKept(context: CommandContext): Promise<void> {
  const { settings, env, signal } = context;
  const { serveClusterOffline } = await import("../../program/cluster/cluster-offline.ts");
  const firstShard = shardDirectory(settings.dir, 1);
  const offline = whole(await momentOf(context, firstShard), `--dir ${firstShard}`);
  await serveClusterOffline({ settings, offline, env }, signal);
}

/** Undefined where the archive is that of one primary. */
async function serveArchived(
  context: CommandContext,
  url: string,
): Promise<(() => Promise<void>) | undefined> {
  const { settings, env, signal, stderr } = context;
  const { openClusterArchive, withFetchedCluster } = await import("../clusters/fetched-cluster.ts");
  const archive = await openClusterArchive(url, context);
  if (archive === undefined) return undefined;
  const given = { generation: undefined, ...(await pointOf(context, async () => "")) };
  const { atMs } = whole(given, "the archive of one shard");
  return async () => {
    const [{ serveClusterOffline }, { fileProgress }] = await Promise.all([
      import("../../program/cluster/cluster-offline.ts"),
      import("./file-progress.ts"),
    ]);
    const progress = fileProgress(stderr, settings.progress);
    const fetching = { ...context, disk: realDisk, onProgress: progress.look };
    const place = { atMs, target: settings.dir };
    try {
      await withFetchedCluster(url, archive, place, fetching, async (dir) => {
        progress.end();
        const plan = { settings: { ...settings, dir }, offline: { atMs }, env };
        await serveClusterOffline(plan, signal);
      });
    } finally {
      progress.end();
    }
  };
}

/** A moment of all shards. @throws ReplicaError USAGE for a point of one shard's stream. */
function whole({ generation, offset, atMs }: Wanted, orElse: string): Pick<Wanted, "atMs"> {
  if (offset === undefined && generation === undefined) return { atMs };
  throw usageError(`--offset and --generation are of one shard: give --at, or ${orElse}`);
}
