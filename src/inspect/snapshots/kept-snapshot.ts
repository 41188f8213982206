import { statSync } from "node:fs";
import { formatOf, serverOf } from "../../rdb/made-by.ts";
import { filesOf } from "../../store/generation/layout.ts";
import type { KeptGeneration } from "../../store/restore/kept-generation.ts";
import { soundHeaderOf } from "../../store/restore/rdb-header.ts";
import type { Snapshot } from "./snapshot.ts";

/** A generation of a data directory as it is listed. Reads the head of its RDB. */
export function keptSnapshot(generation: KeptGeneration): Snapshot {
  const header = soundHeaderOf(filesOf(generation).base);
  return {
    id: generation.id,
    state: generation.state,
    sealedReason: generation.sealedReason,
    primary: generation.primaryName,
    primaryVersion: header && serverOf(header),
    rdbFormat: header && formatOf(header),
    rdbVersion: header?.version,
    fromMs: generation.first?.atMs,
    toMs: generation.last?.atMs,
    fromOffset: generation.baseOffset,
    toOffset: generation.durableOffset,
    rdbBytes: generation.rdbBytes,
    rdbCrc64: generation.rdbCrc64,
    logBytes: logBytes(generation),
    replicationIds: generation.replicationIds,
    encrypted: undefined,
  };
}

/** The length of the log file, which may extend past the durable offset; 0 if it is missing. */
function logBytes(generation: KeptGeneration): number {
  return statSync(filesOf(generation).log, { throwIfNoEntry: false })?.size ?? 0;
}
