import { logger } from "../../base/logger.ts";
import { formatAge, formatBytes } from "../../base/quantity.ts";
import type { Disk } from "../disk/disk.ts";
import { Turns } from "../disk/turns.ts";
import type { Guard, LivedMoment, SnapshotSize, WorthChange } from "../ledger/keep-tables.ts";
import type { Generation, KeptSnapshot, Ledger } from "../ledger/ledger.ts";
import { isBlankLog } from "./blank-log.ts";
import { LivedClock, type Machine } from "./lived-clock.ts";
import { keepPlan, orderForRoom, type SealedOne } from "./plan.ts";
import type { Removal } from "./removal.ts";
import { type Candidate, type RoomFreed, RoomMaker, type RoomWanted } from "./room-maker.ts";
import { SealedLogs } from "./sealed-logs.ts";
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

/** What an archive holds of the generations. */
export interface Archived {
  /** Whether it has all of a sealed generation. */
  has(id: number): boolean;
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
  readonly #logs: SealedLogs;
  readonly #room: RoomMaker;
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
    this.#logs = new SealedLogs(options);
    this.#room = new RoomMaker({
      ...options,
      counts: this.counts,
      candidates: (evenGuarded) => this.#candidates(evenGuarded),
    });
  }

  /** Whoever archives the generations sets it; undefined: nobody does, and nothing waits for that. */
  archived: Archived | undefined;

  /**
   * Generations removed since the start: because nothing kept them any more, and because room was needed; of the latter,
   * those that the archive still lacked.
   */
  readonly counts = { old: 0, room: 0, unarchived: 0 };

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
   * Removes the sealed generations that nothing keeps (`keepPlan`), except pinned ones, those younger than a pinned one,
   * and those that the archive still lacks. Then retries what could not be removed before.
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
      const gone = await this.#options.removal.remove(due.filter((id) => this.#isArchived(id)));
      this.counts.old += gone.length;
      return gone;
    });
  }

  /**
   * Removes sealed generations, in the order of `orderForRoom`, until as much is free as is wanted. Where that can't be
   * reached, it removes none: history isn't given for nothing. The current generation, pinned ones and those
   * younger than a pinned one stay.
   * @throws ReplicaError DIRECTORY_LOST, DISK_FAILED.
   */
  async freeRoom(wanted: RoomWanted): Promise<RoomFreed> {
    return await this.#turns.run(() => this.#room.free(wanted));
  }

  /** How many bytes `freeRoom` could free. @throws ReplicaError of the ledger. */
  freeableBytes(evenGuarded: boolean): number {
    return this.#candidates(evenGuarded).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Bytes of the logs of all sealed generations. @throws ReplicaError of the ledger. */
  sealedLogBytes(): number {
    return this.#logs.bytes(this.#options.ledger.keeping.sealed());
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
    this.#logs.forgetOthers(sealed);
    return sealed.map((one) => ({ ...one, isBlank: this.#logs.of(one).isBlank }));
  }

  /** What may go for room, in this order, and what each would give. */
  #candidates(evenGuarded: boolean): Candidate[] {
    const sealed = this.#sealed();
    const byId = new Map(sealed.map((one) => [one.id, one]));
    const plan = this.#plan(sealed, 0, undefined);
    return orderForRoom(plan, evenGuarded, (id) => this.#isArchived(id))
      .filter((id) => !this.#options.removal.isPinned(id))
      .map((id) => ({
        id,
        bytes: (byId.get(id)?.rdbBytes ?? 0) + this.#logs.knownBytes(id),
        isGuarded: this.#guards.some((guard) => guard.id === id),
        isArchived: this.#isArchived(id),
      }));
  }

  #isArchived(id: number): boolean {
    return this.archived?.has(id) !== false;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
