import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import { type Disk, freeBytesAt } from "../disk/disk.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Removal } from "./removal.ts";

/** Room that is asked for. */
export interface RoomWanted {
  /** How many bytes the file system is to have free. */
  readonly freeBytes: number;
  /** What needs it, for log and event, to complete "to make room for …": `a full resync of 3.0 GiB`. */
  readonly why: string;
  /** Whether even the guarded generations may go, last of all. */
  readonly evenGuarded: boolean;
}

/** What `freeRoom` reached. */
export interface RoomFreed {
  /** The ids of the generations that are gone, in that order. */
  readonly removed: readonly number[];
  /** What they took. Some file systems show some seconds later that it is free. */
  readonly removedBytes: number;
  readonly freeBytes: number;
  /** Whether as much is free as was wanted, with what was removed. */
  readonly isEnough: boolean;
}

/** A generation that may go for room. */
export interface Candidate {
  readonly id: number;
  /** What that gives. */
  readonly bytes: number;
  readonly isGuarded: boolean;
  /** Whether there is nothing of it that an archive still lacks. */
  readonly isArchived: boolean;
}

export interface RoomMakerOptions {
  /** The data directory. */
  readonly dir: string;
  readonly disk: Disk;
  readonly ledger: Ledger;
  readonly removal: Removal;
  /** Counted up with each generation that goes. */
  readonly counts: { room: number; unarchived: number };
  /** What may go, in this order. */
  readonly candidates: (evenGuarded: boolean) => readonly Candidate[];
  /** Records an event; a failure is logged, and stops nothing. */
  readonly note: (kind: string, detail: string) => void;
}

/** Removes sealed generations where room is needed, and tells which. */
export class RoomMaker {
  readonly #options: RoomMakerOptions;

  constructor(options: RoomMakerOptions) {
    this.#options = options;
  }

  /** See `Keeping.freeRoom`. @throws ReplicaError DIRECTORY_LOST, DISK_FAILED. */
  async free(wanted: RoomWanted): Promise<RoomFreed> {
    const { removal } = this.#options;
    const removed: Candidate[] = [];
    let removedBytes = 0;
    // What counts no more goes first; where it can't be removed, `retain` tells it.
    if (this.#freeBytes() < wanted.freeBytes) await removal.remove([]).catch(() => undefined);
    let freeBytes = this.#freeBytes();
    const candidates =
      freeBytes < wanted.freeBytes ? this.#options.candidates(wanted.evenGuarded) : [];
    const most = candidates.reduce((sum, { bytes }) => sum + bytes, freeBytes);
    // Where the file system shows later what is free, the sum tells when it is enough.
    const firstBytes = freeBytes;
    const counted = () => Math.max(freeBytes, firstBytes + removedBytes);
    try {
      for (const one of most >= wanted.freeBytes ? candidates : []) {
        if (counted() >= wanted.freeBytes) break;
        // Its rows go with it.
        const held = one.isArchived ? "" : this.#heldBy(one.id);
        const gone = await removal.remove([one.id]);
        if (gone.length === 0) continue;
        removed.push(one);
        removedBytes += one.bytes;
        freeBytes = this.#freeBytes();
        if (!one.isArchived) this.#tellLost(one.id, held, wanted.why);
      }
    } finally {
      if (removed.length > 0) this.#tellFreed(removed, freeBytes, wanted.why);
    }
    const isEnough = counted() >= wanted.freeBytes;
    return { removed: removed.map(({ id }) => id), removedBytes, freeBytes, isEnough };
  }

  #tellFreed(removed: readonly Candidate[], freeBytes: number, why: string): void {
    const { note, counts } = this.#options;
    counts.room += removed.length;
    const guarded = removed.filter(({ isGuarded }) => isGuarded).map(({ id }) => id);
    const worth =
      guarded.length === 0
        ? ""
        : `; of these, ${guarded.join(", ")} held more than what came after`;
    const ids = removed.map(({ id }) => id);
    const what = `removed ${generations(ids)} ahead of time to make room for ${why}: ${formatBytes(freeBytes)} is free now${worth}`;
    logger.warn(what);
    note("retention", what);
  }

  /** At once: what comes after it may fail. */
  #tellLost(id: number, held: string, why: string): void {
    const { note, counts } = this.#options;
    counts.unarchived++;
    const what = `removed generation ${id} to make room for ${why} before the archive had it all: what the archive lacks of its history is lost${held}`;
    logger.warn(what);
    note("archive", what);
  }

  /** From when to when a generation can be restored, as the end of a sentence. */
  #heldBy(id: number): string {
    const { ledger } = this.#options;
    try {
      const found = ledger.whole().find((one) => one.id === id);
      const last = ledger.lastMark(id);
      if (found === undefined || last === undefined) return "";
      const [from, to] = [timeOf(found.currentAtMs), timeOf(last.atMs)];
      return ` (it was current from ${from} to ${to}, offsets ${found.baseOffset} to ${last.durableOffset})`;
    } catch {
      // The database tells its failures elsewhere.
      return "";
    }
  }

  #freeBytes(): number {
    return freeBytesAt(this.#options.disk, this.#options.dir);
  }
}

/** Ids for people: `generation 3`, `generations 3, 4`. */
function generations(ids: readonly number[]): string {
  return `${ids.length === 1 ? "generation" : "generations"} ${ids.join(", ")}`;
}

function timeOf(atMs: number): string {
  return new Date(atMs).toISOString();
}
