import type { Upkeep } from "../upstream/upkeep.ts";

/** The room on the disk, as of the last look. */
export interface RoomStatus {
  /** Whether less than `--min-free` was free, with nothing left that may go. */
  readonly isLow: boolean;
  /**
   * Seconds until the disk is full at the present rate of writing; Infinity where nothing is written, and where new
   * snapshots keep the log short enough.
   */
  readonly leftSeconds: number;
  /** What old generations take that give way where room is short; bytes. */
  readonly removableBytes: number;
  /** How large the full resync is that is not asked for, since it wouldn't fit; bytes, 0 where there is no such. */
  readonly refusedResyncBytes: number;
}

/** What is known of the room. */
export function roomStatus({ room, pressure, admission }: Upkeep): RoomStatus {
  return {
    isLow: pressure.isLow,
    leftSeconds: room.leftSeconds,
    removableBytes: room.figures?.removableBytes ?? 0,
    refusedResyncBytes: admission.refusedBytes ?? 0,
  };
}
