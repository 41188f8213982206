import { ReplicaError } from "../base/errors.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import type { FollowStatus } from "./api/follow.d.ts";

/**
 * How a replica stands, as a plain value.
 * @param readyLagMs see `--ready-lag`.
 * @param port that it serves.
 */
export function followStatus(
  status: ReplicaStatus,
  readyLagMs: number,
  port: number | undefined,
): FollowStatus {
  const { primary, link, cursors, history, currentGeneration, syncs, lastBreak, archive } = status;
  const { received, written, durable, logBytes } = cursors;
  return {
    startedAtMs: status.startedAtMs,
    dir: status.directoryPath,
    primary: { ...primary },
    state: link.state,
    silentMs: link.silentMs,
    downSeconds: link.downSeconds,
    transfer: link.transfer,
    cursors: { received, written, durable },
    replid: history.replid,
    generation: currentGeneration && {
      id: currentGeneration.id,
      currentAtMs: currentGeneration.currentAtMs,
      baseOffset: currentGeneration.baseOffset,
      rdbBytes: currentGeneration.rdbBytes,
      rdbCrc64: currentGeneration.rdbCrc64,
    },
    logBytes,
    oldestRestorableMs: oldest(status),
    newestRestorableMs: status.newestRestorableMs,
    fullSyncs: syncs.full,
    partialSyncs: syncs.partial,
    bytesPerSecond: { ...status.bytesPerSecond },
    lastBreak: lastBreak && {
      code: lastBreak.code,
      message: lastBreak.message,
      atMs: lastBreak.atMs,
    },
    notReady: status.whyNotReady(readyLagMs),
    archive: archive && {
      url: archive.url,
      archivedOffset: archive.archivedOffset,
      lagBytes: archive.lag?.lagBytes,
      isUp: archive.isUp,
      text: archive.text,
    },
    port,
  };
}

/** It is asked of the database; where that fails, all else is still worth telling. */
function oldest(status: ReplicaStatus): number | undefined {
  try {
    return status.oldestRestorableMs;
  } catch (error) {
    if (error instanceof ReplicaError) return undefined;
    throw error;
  }
}
