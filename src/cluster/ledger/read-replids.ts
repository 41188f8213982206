import { existsSync } from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { LedgerReader } from "../../store/ledger/ledger-reader.ts";

/**
 * The histories that the current stream of a shard has been in, the last one last; none where that can't be read.
 * @param path its `replica.db`.
 */
export function readReplids(path: string): readonly string[] {
  if (!existsSync(path)) return [];
  try {
    using reader = new LedgerReader(path);
    const newest = reader.generations().findLast(({ state }) => state === "current");
    return newest === undefined ? [] : reader.replicationIds(newest.id).map(({ replid }) => replid);
  } catch (error) {
    if (error instanceof ReplicaError) return [];
    throw error;
  }
}
