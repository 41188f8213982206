import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { FullSyncGrant, State } from "../../session/state.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import { neededBytes, type Room } from "./figures.ts";
import { Pauses } from "./pauses.ts";
import type { RoomWatch } from "./watch.ts";

export interface FullLogOptions {
  readonly directory: Pick<DataDirectory, "current" | "replid" | "note">;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly room: Pick<RoomWatch, "tryLook" | "pressureBytes">;
  /** The end of the log that is followed; undefined where none is. */
  readonly writtenOffset: () => Offset | undefined;
  /** Whether a new snapshot is under way over a second link. */
  readonly isRenewing: () => boolean;
}

/**
 * The way out where the log has filled the disk: a renewal needs a link that holds, and each partial resync ends at
 * the full disk at once. A full resync whose snapshot fits into what is left ends the log, which then may go. The log
 * stays, sealed, until old generations give way to what needs its room.
 */
export class FullLog {
  readonly #options: FullLogOptions;
  readonly #pauses: Pauses;
  /** Whether the last link that was up ended at the full disk. */
  #isFull = false;
  /** What to log once the attempt under way asks for a full resync because of that; undefined where it doesn't. */
  #asking: string | undefined;

  constructor(options: FullLogOptions) {
    this.#options = options;
    this.#pauses = new Pauses(options.clock);
  }

  /** An attempt ended in state `from`. */
  failed(error: ReplicaError, from: State): void {
    if (from.at === "connected") this.#isFull = error.code === "DISK_FULL";
  }

  /** The link is up. @param isFull whether by a full resync. */
  connected(isFull: boolean): void {
    if (isFull) this.#isFull = false;
  }

  /** Starts afresh: another primary is followed. */
  forget(): void {
    this.#isFull = false;
  }

  /**
   * Call before an attempt that could resume: whether it asks for a full resync all the same. Each costs the primary a
   * fork, so once it has asked, and whatever comes of it, the next one waits for a pause that doubles up to an hour.
   * It doesn't where the disk can't be looked at.
   */
  asksForFull(): boolean {
    this.#asking = undefined;
    const { directory, room, isRenewing } = this.#options;
    const { current } = directory;
    if (!this.#isFull || !this.#pauses.isOver || current === undefined || isRenewing())
      return false;
    const look = room.tryLook();
    if (look === undefined || !isCure(look, current.rdbBytes, room.pressureBytes(look)))
      return false;
    this.#asking = `the log of ${formatBytes(look.logBytes)} has filled the disk, and nothing older may go: a full resync is asked for, whose snapshot of about ${formatBytes(current.rdbBytes)} fits, so that the log may go`;
    return true;
  }

  /** The session is in another state. */
  moved(state: State): void {
    if (this.#asking === undefined || state.at !== "receive-psync") return;
    this.#pauses.begin();
    const what = `${this.#asking}; not again within ${this.#pauses.lengthMs / 1000} s`;
    logger.warn(what);
    this.#options.directory.note("room", what);
  }

  /**
   * Refuses the snapshot of a primary that is a `replica` itself where it is older than what is kept: the same stream
   * would come again after it, and fill the disk again.
   * @throws ReplicaError PRIMARY_REFUSED.
   */
  refuseOld(grant: FullSyncGrant): void {
    const { directory, writtenOffset } = this.#options;
    if (this.#asking === undefined || grant.by !== "psync") return;
    if (grant.position.replid !== directory.replid) return;
    const { offset } = grant.position;
    const kept = writtenOffset();
    if (kept === undefined || offset >= kept) return;
    throw new ReplicaError("PRIMARY_REFUSED", {
      message: `the snapshot is of offset ${offset}, and the log that fills the disk goes up to ${kept}: where the primary is a replica of this kind, send it BGSAVE`,
    });
  }
}

/** Whether nothing else gives room, and the snapshot fits and frees more than it takes. */
function isCure(room: Room, rdbBytes: number, pressureBytes: number): boolean {
  const { freeBytes, removableBytes, guardedBytes, logBytes } = room;
  if (removableBytes + guardedBytes > 0 || freeBytes >= pressureBytes) return false;
  const needed = neededBytes({ bytes: rdbBytes, tailBytes: 0, copyBytes: 0 });
  return needed <= freeBytes && needed < logBytes;
}
