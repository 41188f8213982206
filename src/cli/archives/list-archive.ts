import type { Archive } from "../../archive/reader/archive.ts";
import { logger } from "../../base/logger.ts";
import { archivedSnapshot, archiveWarnings } from "../../inspect/snapshots/archived-snapshot.ts";
import { snapshotToJson } from "../../inspect/snapshots/snapshot.ts";
import { snapshotTables } from "./snapshot-tables.ts";

/**
 * What an archive holds, as text or as JSON, with a line end. Warns of what is damaged.
 * @throws ReplicaError of the store; USAGE where the identity doesn't fit; the signal's reason.
 */
export async function listing(
  archive: Archive,
  isJson: boolean,
  signal: AbortSignal,
): Promise<string> {
  const generations = await archive.generations(signal);
  const warnings = archiveWarnings(archive, generations);
  for (const warning of warnings) logger.warn(warning);
  const { url } = archive.source;
  const snapshots = generations.map(archivedSnapshot);
  if (isJson)
    return `${JSON.stringify({ archive: url, warnings, generations: snapshots.map(snapshotToJson) })}\n`;
  if (snapshots.length === 0) return `${url} holds no whole snapshot yet\n`;
  return snapshotTables(snapshots.map((snapshot) => ({ snapshot })));
}
