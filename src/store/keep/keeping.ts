import { logger } from "../../base/logger.ts";
import { formatAge, formatBytes } from "../../base/quantity.ts";
import { type Disk, freeBytesAt } from "../disk/disk.ts";
import { Turns } from "../disk/turns.ts";
import type {
  Guard,
  LivedMoment,
  SealedGeneration,
  SnapshotSize,
  WorthChange,
} from "../ledger/keep-tables.ts";
import type { Generation, KeptSnapshot, Ledger } from "../ledger/ledger.ts";
import { isBlankLog } from "./blank-log.ts";
import { LivedClock, type Machine } from "./lived-clock.ts";
import { keepPlan, type SealedOne } from "./plan.ts";
import type { Removal } from "./removal.ts";
import { describeSize, isEmpty, worthChange } from "./worth.ts";

const DAY_MS = 86_400_000;

/** A guarded generation stays at least this long after as much is current again. */
const WELL_FOR_MS = DAY_MS;

/** After so long, less counts as well: somebody who deleted half of the data need not say so. */
const SMALL_FOR_MS = 30 * DAY_MS;

/** How often lived time is kept for the next process. */
const LIVED_EVERY_MS = 60_000;

export interface KeepingOptions {
  /** The data directory. */
  readonly dir: string;
  readonly disk: Disk;
  readonly ledger: Ledger;
  readonly removal: Removal;
  readonly machine: Machine;
  readonly clock: WallClock;
  /** How many keys a generation's snapshot holds, as its file says; undefined where it doesn't. */
  readonly keysInFile: (id: number) => SnapshotSize["firstDatabase"];
  /** The path of a generation's log. */
  readonly logPath: (id: number) => string;
  /** Records an event; a failure is logged, and stops nothing. */
  readonly note: (kind: string, detail: string) => void;
}

interface WallClock {
  now(): number;
}

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

/** That what is current is small: as somebody who looks is to hear it. */
export interface Smallness {
  /** The largest generation beside which it is small. */
  readonly guarded: number;
  /** How much that one held. */
  readonly had: string;
  /** For how long, in lived time. */
  readonly seconds: number;
}

interface SealedLog {
  /** The length of its file. */
  readonly bytes: number;
  /** Whether neither it nor the snapshot before it holds anything. */
  readonly isBlank: boolean;
}

/** Decides what is kept of the sealed generations, and for how long; and removes the others. */
export class Keeping {
  readonly #options: KeepingOptions;
  readonly #lived: LivedClock;
  /**
   * The time of day at the start, in milliseconds since 1970, as far as the last mark and lived time bear it out: the
   * clock may have been set ahead while no process ran.
   */
  readonly borneOutMs: number;
  /** One removal at a time. */
  readonly #turns = new Turns();
  /** By the generation's id: once sealed, a log doesn't change. */
  readonly #logs = new Map<number, SealedLog>();
  #guards: readonly Guard[];
  #livedKeptMs = -Infinity;
  #failure = "";

  /** @throws ReplicaError of the ledger. */
  constructor(options: KeepingOptions) {
    this.#options = options;
    const { ledger, machine, clock } = options;
    // Where lived time was never kept, it begins at the newest time that the database bears out.
    const current = ledger.current();
    const lastMs = (current && ledger.lastMark(current.id)?.atMs) ?? clock.now();
    this.#lived = new LivedClock(machine, ledger.keeping.lived(), lastMs);
    this.borneOutMs = Math.min(clock.now(), lastMs + this.#lived.betweenMs);
    this.#guards = ledger.keeping.guards();
  }

  /** Generations removed since the start: because nothing kept them any more, and because room was needed. */
  readonly counts = { old: 0, room: 0 };

  /** Set while what is current has less than half of what an earlier generation had, and nobody said that it is well. */
  get smallness(): Smallness | undefined {
    const open = this.#guards.filter(({ wellLivedMs }) => wellLivedMs === undefined);
    const largest = open.toSorted((a, b) => b.bytes - a.bytes)[0];
    if (largest === undefined) return undefined;
    const sinceMs = Math.min(...open.map(({ sinceLivedMs }) => sinceLivedMs));
    return {
      guarded: largest.id,
      had: describeSize(largest, formatBytes(largest.bytes)),
      seconds: Math.max(0, (this.#lived.now() - sinceMs) / 1000),
    };
  }

  /** Lived time, to be kept with a promotion. */
  get lived(): LivedMoment {
    return this.#lived.moment;
  }

  /** What a new generation means for those before it; nothing is changed yet. @throws ReplicaError of the ledger. */
  assess({ rdbBytes, firstDatabase }: KeptSnapshot, before: Generation | undefined): WorthChange {
    const { logPath } = this.#options;
    const size = before && this.#sizeOf(before.id);
    const replaced = before &&
      size && {
        ...size,
        id: before.id,
        hasWrites: !isEmpty(size) || !isBlankLog(logPath(before.id), before.logHeaderBytes),
      };
    return worthChange({ bytes: rdbBytes, firstDatabase }, replaced, this.#guards);
  }

  /** Versions before format 5 recorded no keys: then the snapshot itself is looked at. */
  #sizeOf(id: number): SnapshotSize {
    const { ledger, keysInFile } = this.#options;
    const size = ledger.keeping.sizeOf(id);
    return { ...size, firstDatabase: size.firstDatabase ?? keysInFile(id) };
  }

  /** A generation became current, and `change` is committed: says so, before anything is removed. */
  promoted(id: number, { rdbBytes, firstDatabase }: KeptSnapshot, change: WorthChange): void {
    const { ledger, note } = this.#options;
    const { guarded, smallBeside, well } = change;
    const known = this.#guards;
    try {
      this.#guards = ledger.keeping.guards();
    } catch (error) {
      logger.warn(messageOf(error));
    }
    const has = describeSize({ bytes: rdbBytes, firstDatabase }, formatBytes(rdbBytes));
    if (smallBeside !== undefined) {
      const had = describeSize(smallBeside, formatBytes(smallBeside.bytes));
      const what = `generation ${id} begins with ${has}, less than half of generation ${smallBeside.id}: ${had}${smallBeside.hasWrites && isEmpty(smallBeside) ? " and a log of writes" : ""}`;
      if (guarded === undefined) {
        logger.info(`${what}; that one ${this.#isKept(smallBeside.id) ? "stays" : "is gone"}`);
      } else {
        logger.warn(
          `${what}; generation ${guarded.id} stays until as much has been back for a day; if less is right, send REPLICA ACCEPT`,
        );
      }
      note("shrunken", what);
    }
    for (const one of known.filter((guard) => well.includes(guard.id))) {
      const what = `generation ${id} begins with ${has}: as much as generation ${one.id} had is back`;
      logger.info(what);
      note("shrunken", what);
    }
  }

  /** Somebody says that what is current is as it should be, however small. @throws ReplicaError of the ledger. */
  accept(by?: string): boolean {
    const { ledger, note } = this.#options;
    const open = this.#guards.filter(({ wellLivedMs }) => wellLivedMs === undefined);
    if (open.length === 0) return false;
    ledger.keeping.accept(this.#lived.now());
    this.#guards = ledger.keeping.guards();
    const what = `what is current counts as well, though it is less than generation ${open.map(({ id }) => id).join(", ")} had`;
    logger.info(`REPLICA ACCEPT: ${what}`, { client: by });
    note("shrunken", what);
    return true;
  }

  /** Once a second: the first time, and then once a minute, keeps lived time for the next process. */
  tick(): void {
    const nowMs = this.#lived.now();
    if (nowMs - this.#livedKeptMs < LIVED_EVERY_MS) return;
    if (this.#livedKeptMs === -Infinity) this.#remind();
    this.#livedKeptMs = nowMs;
    try {
      this.#options.ledger.keeping.setLived(this.#lived.moment);
      this.#failure = "";
    } catch (error) {
      const message = messageOf(error);
      if (message !== this.#failure) logger.warn(message);
      this.#failure = message;
    }
  }

  /** What an earlier process warned of still holds. */
  #remind(): void {
    const { smallness } = this;
    if (smallness === undefined) return;
    const { guarded, had, seconds } = smallness;
    const where = this.#isKept(guarded) ? "which stays" : "which went for want of room";
    logger.warn(
      `for ${formatAge(seconds)} now, what is current has less than half of generation ${guarded} (${had}), ${where}; if less is right, send REPLICA ACCEPT`,
    );
  }

  /** Whether a guarded generation is still there: where room was needed, it may be gone. */
  #isKept(id: number): boolean {
    try {
      return this.#options.ledger.keeping.sealed().some((one) => one.id === id);
    } catch {
      // The database tells its failures elsewhere.
      return true;
    }
  }

  /**
   * Removes the sealed generations that nothing keeps (`keepPlan`), except pinned ones and those younger than a
   * pinned one. Then retries what could not be removed before.
   * None goes where nothing is current.
   * @param keepForMs in lived time.
   * @returns the ids that are gone, without those of the retry.
   * @throws ReplicaError DIRECTORY_LOST, DISK_FAILED; a generation that is half removed goes with the next call.
   */
  async retain(keep: number, keepForMs: number | undefined): Promise<number[]> {
    return await this.#turns.run(async () => {
      this.#passGuards(keepForMs);
      const isKept = this.#options.ledger.current() === undefined;
      const { due } = this.#plan(this.#sealed(), isKept ? Infinity : keep, keepForMs);
      const gone = await this.#options.removal.remove(due);
      this.counts.old += gone.length;
      return gone;
    });
  }

  /**
   * Removes sealed generations, in the order of `keepPlan`, until as much is free as is wanted. Where that can't be
   * reached, it removes none: history isn't given for nothing. The current generation, pinned ones and those
   * younger than a pinned one stay.
   * @throws ReplicaError DIRECTORY_LOST, DISK_FAILED.
   */
  async freeRoom(wanted: RoomWanted): Promise<RoomFreed> {
    return await this.#turns.run(async () => {
      const removed: number[] = [];
      let removedBytes = 0;
      // What counts no more goes first; where it can't be removed, `retain` tells it.
      if (this.#freeBytes() < wanted.freeBytes)
        await this.#options.removal.remove([]).catch(() => undefined);
      let freeBytes = this.#freeBytes();
      const candidates = freeBytes < wanted.freeBytes ? this.#candidates(wanted.evenGuarded) : [];
      const most = candidates.reduce((sum, { bytes }) => sum + bytes, freeBytes);
      // Where the file system shows later what is free, the sum tells when it is enough.
      const firstBytes = freeBytes;
      const counted = () => Math.max(freeBytes, firstBytes + removedBytes);
      try {
        for (const { id, bytes } of most >= wanted.freeBytes ? candidates : []) {
          if (counted() >= wanted.freeBytes) break;
          const gone = await this.#options.removal.remove([id]);
          if (gone.length === 0) continue;
          removed.push(id);
          removedBytes += bytes;
          freeBytes = this.#freeBytes();
        }
      } finally {
        if (removed.length > 0) this.#tellFreed(removed, freeBytes, wanted.why);
      }
      return { removed, removedBytes, freeBytes, isEnough: counted() >= wanted.freeBytes };
    });
  }

  /** How many bytes `freeRoom` could free. @throws ReplicaError of the ledger. */
  freeableBytes(evenGuarded: boolean): number {
    return this.#candidates(evenGuarded).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Bytes of the logs of all sealed generations. @throws ReplicaError of the ledger. */
  sealedLogBytes(): number {
    const { disk, ledger, logPath } = this.#options;
    return ledger.keeping.sealed().reduce((sum, { id }) => {
      try {
        return sum + disk.sizeOf(logPath(id));
      } catch {
        return sum;
      }
    }, 0);
  }

  #tellFreed(removed: readonly number[], freeBytes: number, why: string): void {
    const { note } = this.#options;
    this.counts.room += removed.length;
    const guarded = removed.filter((id) => this.#guards.some((guard) => guard.id === id));
    const worth =
      guarded.length === 0
        ? ""
        : `; of these, ${guarded.join(", ")} held more than what came after`;
    const what = `removed ${generations(removed)} ahead of time to make room for ${why}: ${formatBytes(freeBytes)} is free now${worth}`;
    logger.warn(what);
    note("retention", what);
  }

  /** Ends what guards generations for long enough. @throws ReplicaError of the ledger. */
  #passGuards(keepForMs = 0): void {
    const { ledger, note } = this.#options;
    const nowMs = this.#lived.now();
    const before = this.#guards;
    for (const { id, sinceLivedMs, wellLivedMs } of before) {
      if (wellLivedMs === undefined) {
        if (nowMs - sinceLivedMs < SMALL_FOR_MS) continue;
        ledger.keeping.endGuard(id, nowMs);
        const what = `less than generation ${id} had has been current for 30 days: it counts as well from now on`;
        logger.info(what);
        note("shrunken", what);
      } else if (nowMs - wellLivedMs >= Math.max(keepForMs, WELL_FOR_MS)) {
        ledger.keeping.dropGuard(id);
      } else continue;
      this.#guards = ledger.keeping.guards();
    }
  }

  #plan(sealed: readonly SealedOne[], keep: number, keepForMs: number | undefined) {
    const nowMs = this.#lived.now();
    const guards = new Map(
      this.#guards.map((one) => [one.id, { isWell: one.wellLivedMs !== undefined }]),
    );
    return keepPlan(sealed, { keep, keepForMs, nowMs, guards });
  }

  /** Newest first. */
  #sealed(): SealedOne[] {
    const sealed = this.#options.ledger.keeping.sealed();
    const ids = new Set(sealed.map(({ id }) => id));
    for (const id of this.#logs.keys()) if (!ids.has(id)) this.#logs.delete(id);
    return sealed.map((one) => ({ ...one, isBlank: this.#logOf(one).isBlank }));
  }

  /** Looked at once. */
  #logOf({ id, isEmpty: holdsNoKey, logHeaderBytes }: SealedGeneration): SealedLog {
    const known = this.#logs.get(id);
    if (known !== undefined) return known;
    const { disk, logPath } = this.#options;
    const path = logPath(id);
    let bytes: number;
    try {
      bytes = disk.sizeOf(path);
    } catch {
      // What can't be looked at now gives no room.
      return { bytes: 0, isBlank: false };
    }
    const log = { bytes, isBlank: holdsNoKey && isBlankLog(path, logHeaderBytes) };
    this.#logs.set(id, log);
    return log;
  }

  /** What may go for room, in this order, and what each would give. */
  #candidates(evenGuarded: boolean): { readonly id: number; readonly bytes: number }[] {
    const sealed = this.#sealed();
    const bytes = new Map(
      sealed.map(({ id, rdbBytes }) => [id, rdbBytes + (this.#logs.get(id)?.bytes ?? 0)]),
    );
    const { spare, last } = this.#plan(sealed, 0, undefined);
    return [...spare, ...(evenGuarded ? last : [])]
      .filter((id) => !this.#options.removal.isPinned(id))
      .map((id) => ({ id, bytes: bytes.get(id) ?? 0 }));
  }

  #freeBytes(): number {
    return freeBytesAt(this.#options.disk, this.#options.dir);
  }
}

/** Ids for people: `generation 3`, `generations 3, 4`. */
function generations(ids: readonly number[]): string {
  return `${ids.length === 1 ? "generation" : "generations"} ${ids.join(", ")}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
