import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import type { ShardStatus } from "../../cluster/follow/cluster-follower.ts";
import { logWithin } from "../../cluster/follow/log-within.ts";

/**
 * Asks for a new snapshot of every shard that isn't taking one. Each waits for its turn: --cluster-snapshots.
 * @param by what asks for it, for the log: `BGSAVE`.
 * @returns of how many.
 */
export function saveAll(shards: readonly ShardStatus[], by: string): number {
  return shards.filter((shard) => logWithin({ shard: shard.record.number }, () => save(shard, by)))
    .length;
}

function save({ replica }: ShardStatus, by: string): boolean {
  if (replica === undefined || replica.renewal.runningSeconds !== undefined) return false;
  try {
    replica.renewal.begin(by);
    return true;
  } catch (refused) {
    if (!(refused instanceof ReplicaError)) throw refused;
    logger.warn(`${by}: no new snapshot of ${replica.primary.name}: ${refused.message}`);
    return false;
  }
}
