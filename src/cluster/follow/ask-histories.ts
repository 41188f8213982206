import type { Address } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import type { FoundHistory, Histories } from "../topology/identify.ts";
import type { ShardView } from "../topology/topology.ts";

/** For how long answers are waited for: meanwhile no look is acted on. */
const ANSWER_MS = 2_000;

/** A shard whose directory can be compared with what a node says. */
export interface KeptHistory {
  readonly number: number;
  /** Every history that its stream has been in, the present one last. */
  readonly replids: readonly string[];
}

/**
 * Asks primaries which history their data has, some at a time, and finds the shards that keep it.
 * @param ask what `INFO replication` says of the node at an address.
 * @returns the answers; who didn't answer has none.
 */
export async function askHistories(
  views: readonly ShardView[],
  kept: readonly KeptHistory[],
  ask: (address: Address) => Promise<string>,
  clock: Pick<Clock, "sleep">,
): Promise<Histories> {
  const found = new Map<ShardView, FoundHistory>();
  const over = new AbortController();
  const waiting = views.values();
  const askSome = async () => {
    for (const view of waiting) {
      if (over.signal.aborted) return;
      const { address, health } = view.primary;
      if (address === undefined || health === "failed") continue;
      const said = await infoOf(address, ask);
      if (said === undefined) continue;
      const [current, previous] = ["master_replid", "master_replid2"].map((field) =>
        keeperOf(new RegExp(`^${field}:([0-9a-f]{40})`, "m").exec(said)?.[1], kept),
      );
      found.set(view, { current, previous });
    }
  };
  const all = Promise.all(Array.from({ length: limits.clusterLookNodes }, askSome));
  try {
    await Promise.race([all, clock.sleep(ANSWER_MS, over.signal)]);
  } finally {
    over.abort();
  }
  // Later ones belong to no look.
  return new Map(found);
}

async function infoOf(
  address: Address,
  ask: (address: Address) => Promise<string>,
): Promise<string | undefined> {
  try {
    const said = await ask(address);
    return /^master_replid:[0-9a-f]{40}/m.test(said) ? said : undefined;
  } catch (error) {
    if (error instanceof ReplicaError) return undefined;
    throw error;
  }
}

/** Whoever is in a history now, else the only one that ever was: of two that were, nobody knows which one it is. */
function keeperOf(replid: string | undefined, kept: readonly KeptHistory[]): number | undefined {
  if (replid === undefined) return undefined;
  const now = kept.filter(({ replids }) => replids.at(-1) === replid);
  const those = now.length > 0 ? now : kept.filter(({ replids }) => replids.includes(replid));
  return those.length === 1 ? those[0]!.number : undefined;
}
