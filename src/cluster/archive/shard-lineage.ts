import type { Archive, ArchivedGeneration } from "../../archive/reader/archive.ts";
import type { ArchivePoint } from "../../archive/reader/archive-point.ts";
import type { WantedGeneration } from "../../archive/reader/fetch-generation.ts";

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
    if (!joins(all[first - 1]!, all[first]!)) break;
    lineage.unshift({ generation: all[first - 1]!, upTo: all[first]!.description.baseOffset });
  }
  const next = all[at + 1];
  const endMs = generation.last?.atMs ?? Infinity;
  if (next !== undefined && endMs < within.untilMs && joins(generation, next)) {
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

/** Whether a generation's log leads up to the snapshot of the next one. Of another history, their offsets are far apart. */
function joins(one: ArchivedGeneration, next: ArchivedGeneration): boolean {
  const { baseOffset } = next.description;
  return one.description.baseOffset <= baseOffset && baseOffset <= one.log.chain.end.offset;
}
