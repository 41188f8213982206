import type { Archive, ArchivedGeneration } from "../../archive/reader/archive.ts";
import type { ArchivePoint } from "../../archive/reader/archive-point.ts";
import type { WantedGeneration } from "../../archive/reader/fetch-generation.ts";
import { contains, intervalOf, type ReplicationId } from "../../base/history.ts";

/**
 * The generations of a shard that hold its stream around a point, oldest first: the point's own, those before it as far
 * as they lead up to its snapshot and are wanted, and the one that goes on where it ends.
 * @param within from when to when the stream is wanted, in milliseconds since 1970.
 * @throws ReplicaError of the store; the signal's reason.
 */
export async function lineageAround(
  archive: Archive,
  { generation, offset }: ArchivePoint,
  within: { readonly sinceMs: number; readonly untilMs: number },
  signal: AbortSignal,
): Promise<WantedGeneration[]> {
  const all = await archive.generations(signal);
  const at = all.findIndex(({ name }) => name === generation.name);
  const lineage: WantedGeneration[] = [{ generation, upTo: offset }];
  for (let first = at; first > 0 && beginMs(all[first]!) > within.sinceMs; first--) {
    if (!(await joins(all[first - 1]!, all[first]!, signal))) break;
    lineage.unshift({ generation: all[first - 1]!, upTo: all[first]!.description.baseOffset });
  }
  const next = all[at + 1];
  const endMs = generation.last?.atMs ?? Infinity;
  const isWanted = next !== undefined && endMs < within.untilMs;
  if (isWanted && (await joins(generation, next, signal))) {
    const { baseOffset } = next.description;
    const last = await next.log.momentBefore(within.untilMs, signal);
    lineage.splice(-1, 1, { generation, upTo: generation.log.chain.end.offset });
    lineage.push({ generation: next, upTo: Math.max(baseOffset, last?.offset ?? 0) });
  }
  return lineage;
}

/** When what is archived of a generation begins; Infinity where that can't be read. */
export function beginMs({ first }: ArchivedGeneration): number {
  return first?.atMs ?? Infinity;
}

/**
 * Whether a generation's log leads up to the snapshot of the next one: in the history that it was in there. After a failover
 * an old primary may have gone on beside the new one, at the same offsets.
 */
async function joins(
  one: ArchivedGeneration,
  next: ArchivedGeneration,
  signal: AbortSignal,
): Promise<boolean> {
  const begin = one.description;
  const { replid, baseOffset } = next.description;
  if (baseOffset < begin.baseOffset || baseOffset > one.log.chain.end.offset) return false;
  const first = { replid: begin.replid, fromOffset: begin.baseOffset };
  // All of what is read here is fetched too, where they join.
  const later = await one.log.historiesUpTo(baseOffset, signal);
  const histories = [first, ...later].map((history) => ({
    replid: history.replid as ReplicationId,
    fromOffset: history.fromOffset,
  }));
  const interval = intervalOf(histories, replid);
  return interval !== undefined && contains(interval, baseOffset);
}
