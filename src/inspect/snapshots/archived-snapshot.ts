import type { Archive, ArchivedGeneration } from "../../archive/reader/archive.ts";
import { parseFormat } from "../../rdb/made-by.ts";
import { describeDamage } from "../../store/restore/damage.ts";
import type { Snapshot } from "./snapshot.ts";

/** A generation of an archive as it is listed. */
export function archivedSnapshot(generation: ArchivedGeneration): Snapshot {
  const { name, first, last, description, base, sealed, log } = generation;
  const { replid, baseOffset, rdbFormat } = description;
  const toOffset = log.chain.end.offset;
  return {
    id: name,
    state: stateOf(generation),
    sealedReason: sealed?.reason,
    primary: description.primary,
    primaryVersion: description.primaryVersion,
    rdbFormat,
    rdbVersion: parseFormat(rdbFormat ?? "")?.version,
    fromMs: first?.atMs,
    toMs: last?.atMs,
    fromOffset: baseOffset,
    toOffset,
    rdbBytes: base.rdbBytes,
    rdbCrc64: base.rdbCrc64,
    logBytes: toOffset - baseOffset,
    replicationIds: [{ replid, fromOffset: baseOffset }],
    encrypted: description.recipients.length > 0,
  };
}

/** Whether more may come; a log that lacks a part is told of. */
function stateOf({ sealed, log }: ArchivedGeneration): Snapshot["state"] {
  if (log.chain.gap !== undefined) return "incomplete";
  if (sealed === undefined) return "open";
  return sealed.endOffset > log.chain.end.offset ? "incomplete" : "sealed";
}

/** What listing an archive finds damaged, one line each. @param generations all that it holds. */
export function archiveWarnings(
  archive: Archive,
  generations: readonly ArchivedGeneration[],
): string[] {
  const damages = [
    ...archive.damages,
    ...archive.found.flatMap((one) => (one.kind === "unfinished" ? [] : one.damages)),
    ...generations.flatMap(({ log }) => log.damages),
  ];
  return damages.map(describeDamage);
}
