import { ReplicaError } from "../../base/errors.ts";
import { formatBytes } from "../../base/quantity.ts";
import {
  availableBytes,
  BLOCK_BYTES,
  neededBytes,
  type NextSnapshot,
  type Room,
} from "./figures.ts";

/** Smaller files take a whole one. */
function blocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES);
}

/**
 * Refuses a new snapshot over a second link long before the disk is full: the stream needs the room that is left. One
 * that frees more than it takes, because it ends the log that is followed, is the cure, and only has to fit.
 * @param keptFreeBytes what is kept free: `--min-free`.
 * @throws ReplicaError DISK_FULL.
 */
export function refuseSnapshotWithoutRoom(
  room: Room,
  next: NextSnapshot,
  keptFreeBytes: number,
): void {
  const available = availableBytes(room);
  if (available - next.bytes >= keptFreeBytes) return;
  if (available < next.bytes) throw doesNotFit(`about ${formatBytes(next.bytes)}`, available);
  if (blocks(next.bytes) >= blocks(room.logBytes)) {
    throw new ReplicaError("DISK_FULL", {
      message: `a new snapshot would leave less than --min-free (${formatBytes(keptFreeBytes)}): free some disk space`,
    });
  }
  if (available >= neededBytes(next)) return;
  throw doesNotFit(`about ${formatBytes(next.bytes)}`, available);
}

/** The error of a new snapshot that is larger than the room. @param size as it stands behind "of". */
export function doesNotFit(size: string, availableBytes: number): ReplicaError {
  return new ReplicaError("DISK_FULL", {
    message: `a new snapshot of ${size} doesn't fit on the disk, which has room for ${formatBytes(availableBytes)}: free some disk space, or use a larger disk`,
  });
}
