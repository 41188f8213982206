import type { ReplicaStatus } from "../replica/status.ts";
import { type Field, oneLine } from "./info-field.ts";

/** The archive's part of INFO: its URL, empty where nothing is archived. A figure that nobody knows is left out. */
export function archiveFields({ archive }: ReplicaStatus): Field[] {
  if (archive === undefined) return [["archive_url", ""]];
  const { lag, lastFailure, failingSinceMs, failures } = archive;
  return [
    ["archive_url", oneLine(archive.url)],
    ["archive_state", oneLine(archive.text)],
    ["archive_up", archive.isUp ? 1 : 0],
    ...known("archive_generation", archive.generation),
    ...known("archive_offset", archive.archivedOffset),
    ...known("archive_lag_bytes", lag?.lagBytes),
    ...known("archive_lag_snapshot_bytes", lag?.lagBaseBytes),
    ...known("archive_lag_seconds", lag && (lag.lagMs / 1000).toFixed(1)),
    ...known("archive_last_success_time", seconds(archive.lastSuccessMs)),
    ...known("archive_failing_since_time", seconds(failingSinceMs)),
    ["archive_failures", [...failures.values()].reduce((sum, count) => sum + count, 0)],
    ["archive_failures_by_code", [...failures].map((entry) => entry.join("=")).join(",")],
    // The last one since the start stays, as last_error does.
    ["archive_last_error", oneLine(lastFailure?.error.message)],
    ["archive_last_error_code", lastFailure?.error.code ?? ""],
    ...known("archive_last_error_time", seconds(lastFailure?.atMs)),
    ["archive_generations_given_up", archive.stopped.size],
    ...Object.entries(archive.sent).flatMap(([kind, { objects, bytes }]): Field[] => [
      [`archive_${kind}_objects`, objects],
      [`archive_${kind}_bytes`, bytes],
    ]),
  ];
}

function known(name: string, value: string | number | undefined): Field[] {
  return value === undefined ? [] : [[name, value]];
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.floor(ms / 1000);
}
