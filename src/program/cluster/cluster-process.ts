import { realClock } from "../../base/clock.ts";
import { logger } from "../../base/logger.ts";
import { counted } from "../../base/quantity.ts";
import { VERSION } from "../../base/version.ts";
import { ClusterFollower } from "../../cluster/follow/cluster-follower.ts";
import type { ShardPlan } from "../../cluster/follow/followed-shard.ts";
import { ClusterStatus } from "../../cluster/status/cluster-status.ts";
import { shardArchiveKey } from "../../cluster/archive/layout-names.ts";
import type { ClusterSource } from "../../config/primary-source.ts";
import type { Settings } from "../../config/settings.ts";
import type { Replica } from "../../replica/replica.ts";
import type { ReplicaStatus } from "../../replica/status.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { openFront } from "./cluster-front.ts";
import { acceptSmallness, reportOf } from "./cluster-report.ts";
import { saveAll } from "./cluster-saves.ts";
import { type AssembledShard, assembleShard } from "./assemble-shard.ts";
import { refuseRelayPorts, relayPortOf, warnOfRelayPort } from "./relay-ports.ts";
import { RenewalSignal } from "../renewal-signal.ts";

/** What the process that follows a cluster is started with. */
export interface ClusterPlan {
  readonly source: ClusterSource;
  readonly settings: Settings;
  /** The environment; the service manager's variables are removed from it. */
  readonly env: Record<string, string | undefined>;
  /** Called with each shard's replica; returns a function that ends the watching. */
  readonly watch: (replica: Replica) => () => void;
}

/**
 * Runs everything that makes up `replica follow redis+cluster://…`, until the signal or a client's SHUTDOWN stops it: the
 * shards with their data directories, the port that answers for all, SIGUSR1, and HTTP, the service manager and the
 * archive where they are used.
 * @throws ReplicaError USAGE for settings that can't be; as the directory, the ports and the follower do.
 */
export async function runClusterProcess(plan: ClusterPlan, signal: AbortSignal): Promise<void> {
  const { source, settings, env } = plan;
  refuseRelayPorts(settings);
  // Without a handler, a SIGUSR1 during the start would end the process.
  using renewal = new RenewalSignal();
  const archiving = await clusterArchiving(plan, signal);
  const stopping = new AbortController();
  const ending = AbortSignal.any([signal, stopping.signal]);
  const statuses = new WeakMap<Replica, ReplicaStatus>();
  const shutdown = () => stopping.abort();
  const front = await openFront(settings, env, shutdown);
  try {
    const { disk, port: frontPort } = front;
    const surroundings = {
      disk,
      clock: realClock,
      settings,
      version: VERSION,
      frontPort,
      shutdown,
    };
    const build = (shard: ShardPlan) => {
      const { number, name } = shard.record;
      warnOfRelayPort(settings, number);
      const parts = assembleShard(shard, {
        ...surroundings,
        relayPort: relayPortOf(settings, number),
        offline: undefined,
        archiving: archiving?.ofShard(name, disk),
      });
      statuses.set(parts.replica, parts.status);
      return { ...parts, run: watched(parts, plan.watch) };
    };
    const follower = new ClusterFollower({ source, settings, disk, clock: realClock, build });
    const status = new ClusterStatus(
      reportOf({ follower, settings, source, layouts: archiving?.layouts, statuses }),
    );
    const bgsave = (by: string) => saveAll(follower.shards, by);
    renewal.begins((by) => void bgsave(by));
    const actions = {
      status,
      hasPassword: source.password !== undefined || settings.password !== undefined,
      username: source.username ?? settings.username,
      bgsave,
      accept: (shard: number | undefined, by: string) => acceptSmallness(follower, shard, by),
    };
    const layouts = archiving?.layouts.run(ending);
    try {
      await front.serve(actions, ending);
      await follower.run(ending);
      logger.info(
        `stopped; what is kept of ${counted(status.shards.length, "shard")} is in ${follower.path}`,
      );
    } finally {
      stopping.abort();
      await layouts;
      follower.close();
    }
  } finally {
    front.end();
  }
}

/** The same, with the transfers of its replica shown while it runs. */
function watched(parts: AssembledShard, watch: ClusterPlan["watch"]): AssembledShard["run"] {
  return async (signal) => {
    const end = watch(parts.replica);
    try {
      await parts.run(signal);
    } finally {
      end();
    }
  };
}

/** What carries each shard, and the layouts, to the archive that the settings name. @throws ReplicaError USAGE. */
async function clusterArchiving({ settings, env }: ClusterPlan, signal: AbortSignal) {
  const { url, identityFile, everyMs, keepForMs } = settings.archive;
  if (url === undefined) return undefined;
  const [
    { prepareArchiving },
    { decryptionOf, openArchiveStore },
    { refuseOverlap },
    { StorePart },
    { LayoutArchiver },
    { refuseArchiveOfOtherKind },
  ] = await Promise.all([
    import("../archiving.ts"),
    import("../../archive/open/open-archive.ts"),
    import("../../archive/open/apart.ts"),
    import("../../archive/store/store-part.ts"),
    import("../../cluster/archive/layout-archiver.ts"),
    import("../archive-kind.ts"),
  ]);
  refuseOverlap(url, settings.dir);
  const decryption = await decryptionOf(identityFile);
  const context = { clock: realClock, decryption };
  // What is wrong with the settings is told at once, and not with the first shard.
  const store = openArchiveStore(url, { settings, env, clock: realClock });
  await refuseArchiveOfOtherKind(store, "cluster", signal);
  return {
    ofShard: (name: string, disk: Disk) =>
      prepareArchiving(new StorePart(store, shardArchiveKey(name)), settings, context)(disk),
    layouts: new LayoutArchiver({ store, dir: settings.dir, clock: realClock, everyMs, keepForMs }),
  };
}
