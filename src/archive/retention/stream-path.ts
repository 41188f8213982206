import { ArchivedLog, listSegments, segmentCost } from "../reader/archived-log.ts";
import { beginningOf } from "../reader/archive.ts";
import { type ArchiveSource, isArchiveDamage } from "../reader/archive-source.ts";
import type { GenerationHead } from "../reader/generation-head.ts";
import { inOrder, READ_AHEAD } from "../reader/in-order.ts";
import { logFolder } from "../format/names.ts";
import type { StreamPath } from "./removal-plan.ts";

/**
 * Reads in which histories a generation's log has been, from the headers of all of its segments.
 * @returns undefined where it can't be known for certain: something of the log is damaged or missing, or it is encrypted
 * and there is no identity.
 * @throws ReplicaError of the store; the signal's reason.
 */
export async function readStreamPath(
  source: ArchiveSource,
  head: GenerationHead,
  signal: AbortSignal,
): Promise<StreamPath | undefined> {
  const { name, description, sealed } = head;
  const listed = await listSegments(source, name, signal);
  if (listed.some((segment) => !source.canRead(segment.name))) return undefined;
  const { chain, damages } = await ArchivedLog.join(source, beginningOf(head), listed, signal);
  const { end, gap, forks, segments } = chain;
  const isWhole = gap === undefined && forks.length === 0 && damages.length === 0;
  if (!isWhole || end.offset < (sealed?.endOffset ?? 0)) return undefined;
  const steps = [{ replid: description.replid, fromOffset: description.baseOffset }];
  const read = async (segment: { readonly name: string }, stop: AbortSignal) =>
    await source.segmentHeader(logFolder(name), segment.name, stop);
  let crc = 0n;
  try {
    for await (const header of inOrder(segments, READ_AHEAD, segmentCost, read, signal)) {
      if (header.crcFrom !== crc) return undefined;
      crc = header.crcTo;
      for (const { replid, fromOffset } of header.histories) steps.push({ replid, fromOffset });
    }
  } catch (error) {
    if (!isArchiveDamage(error)) throw error;
    return undefined;
  }
  return { steps, endOffset: end.offset };
}
