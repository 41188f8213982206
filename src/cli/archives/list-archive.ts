import type { Archive } from "../../archive/reader/archive.ts";
import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import { printable } from "../../base/printable.ts";
import { archivedSnapshot, archiveWarnings } from "../../inspect/snapshots/archived-snapshot.ts";
import { type Snapshot, snapshotToJson } from "../../inspect/snapshots/snapshot.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import { table } from "../terminal/table.ts";

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
  const head = [
    "id",
    "state",
    "from",
    "until",
    "from offset",
    "to offset",
    "snapshot",
    "log",
    "sealed because",
  ];
  const origins = table(["id", "primary", "server", "rdb"], snapshots.map(originOf));
  return `${table(head, snapshots.map(rowOf))}\n${origins}`;
}

function originOf({ id, primary = "", primaryVersion, rdbFormat }: Snapshot) {
  return [id, printable(primary), printable(primaryVersion ?? "unknown"), rdbFormat ?? "unknown"];
}

function rowOf(snapshot: Snapshot) {
  return [
    snapshot.id,
    snapshot.state,
    timeOf(snapshot.fromMs),
    timeOf(snapshot.toMs),
    snapshot.fromOffset,
    snapshot.toOffset,
    formatBytes(snapshot.rdbBytes),
    formatBytes(snapshot.logBytes),
    printable(snapshot.sealedReason ?? ""),
  ];
}

function timeOf(ms: number | undefined): string {
  return ms === undefined ? "unknown" : shownTime(ms);
}
