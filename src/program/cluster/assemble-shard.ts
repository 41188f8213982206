import type { Clock } from "../../base/clock.ts";
import { usageError } from "../../base/errors.ts";
import type { ShardParts, ShardPlan } from "../../cluster/follow/followed-shard.ts";
import type { Settings } from "../../config/settings.ts";
import { forReplica } from "../../port/command-table.ts";
import { Replica } from "../../replica/replica.ts";
import { ReplicaStatus } from "../../replica/status.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { DataDirectory } from "../../store/generation/data-directory.ts";
import type { Archiving } from "../archiving.ts";
import { type OfflineStart, runParts } from "../assemble.ts";
import { relayWhenFree } from "./relay-ports.ts";

/** What the shards of a cluster share, and what one of them has of its own. */
export interface ShardSurroundings {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly settings: Settings;
  readonly version: string;
  /** Its relay's port; undefined: it has none. */
  readonly relayPort: number | undefined;
  /** The port that answers for all shards, which is announced where there is no other. */
  readonly frontPort: number;
  readonly offline: OfflineStart | undefined;
  readonly archiving: ((directory: DataDirectory) => Archiving) | undefined;
  /** SHUTDOWN on its port ends the program, as on the port that answers for all. */
  shutdown(): void;
}

/** A shard's replica with what is reported of it, not running yet. */
export interface AssembledShard extends ShardParts {
  readonly status: ReplicaStatus;
}

/**
 * Opens a shard's data directory, and its port where it has one, and connects them to a replica.
 * @throws ReplicaError as the directory does, and LISTEN_FAILED; then nothing stays open.
 */
export function assembleShard(
  { dir, source }: ShardPlan,
  { disk, clock, settings, version, ...more }: ShardSurroundings,
): AssembledShard {
  const directory = new DataDirectory(dir, disk, clock);
  let archive: Archiving | undefined;
  try {
    archive = more.archiving?.(directory);
  } catch (error) {
    directory.close();
    throw error;
  }
  const { relayPort } = more;
  const own = { ...settings, dir };
  const replica = new Replica(source, directory, disk, clock, own, relayPort ?? more.frontPort);
  if (more.offline !== undefined) replica.beginOffline(more.offline.until);
  const status = new ReplicaStatus(replica, clock, own, archive?.archiver);
  const serving = forReplica({
    status,
    replica,
    rewrite: async () => {
      throw usageError("whom a shard follows is what the cluster says: nothing is stored");
    },
    shutdown: more.shutdown,
  });
  const port =
    relayPort === undefined
      ? undefined
      : relayWhenFree({ ...settings, port: relayPort }, version, serving, clock);
  return {
    replica,
    status,
    run: async (signal) => await runParts({ replica, status, archive, port }, signal),
    close: () => {
      archive?.close();
      directory.close();
    },
  };
}
