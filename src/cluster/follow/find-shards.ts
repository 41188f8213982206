import type { Address } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { type KnownShard, matchShards, unclearShards } from "../topology/identify.ts";
import type { ShardView, Topology } from "../topology/topology.ts";
import { askHistories, type KeptHistory } from "./ask-histories.ts";

/** The shards of a view. */
export interface FoundShards {
  /** By their numbers; those of others have negative ones. */
  readonly found: ReadonlyMap<ShardView, number>;
  /** Whether one that wasn't found may be one that is known: nobody could ask it. */
  readonly isDoubtful: (view: ShardView) => boolean;
}

interface FindOptions {
  readonly known: readonly KnownShard[];
  readonly kept: () => readonly KeptHistory[];
  /** What `INFO replication` says of the node at an address. */
  readonly ask: (address: Address) => Promise<string>;
  readonly clock: Pick<Clock, "sleep">;
}

/** Finds the shards of a view. Histories are asked for only where one is missing, or in doubt. */
export async function findShards(
  { shards }: Topology,
  { known, kept, ask, clock }: FindOptions,
): Promise<FoundShards> {
  const unclear = unclearShards(known, shards);
  if (unclear.length === 0) return { found: matchShards(known, shards), isDoubtful: () => false };
  const histories = await askHistories(unclear, kept(), ask, clock);
  return {
    found: matchShards(known, shards, histories),
    isDoubtful: (view) => unclear.includes(view) && !histories.has(view),
  };
}
