import type { Clock } from "../../base/clock.ts";
import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import { availableBytes, BLOCK_BYTES, reachableBytes, type Room } from "./figures.ts";
import type { RoomWatch } from "./watch.ts";

/** Some file systems (btrfs, ZFS) show within this time only that what was removed is free. */
const SHOWN_WITHIN_MS = 30_000;

export interface PressureOptions {
  readonly directory: Pick<DataDirectory, "path" | "keeping">;
  readonly room: RoomWatch;
  readonly clock: Clock;
}

/** Keeps some room free: old generations give way to the log, and to new snapshots. One removal at a time. */
export class Pressure {
  readonly #options: PressureOptions;
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;
  #isLow = false;
  #failure = "";
  /** After a removal that isn't shown yet: how much was free with what it gave, at that length of the log. */
  #given: { readonly untilMs: number; readonly freeBytes: number; readonly logBytes: number } = {
    untilMs: -Infinity,
    freeBytes: 0,
    logBytes: 0,
  };

  constructor(options: PressureOptions) {
    this.#options = options;
  }

  /** Whether less than `--min-free` was free at the last look, with nothing left that may go. */
  get isLow(): boolean {
    return this.#isLow;
  }

  /** Once a second. */
  tick(): void {
    const { room } = this.#options;
    if (room.figures === undefined || this.#isRunning) return;
    const figures = this.#counted(room.figures);
    this.#judge(availableBytes(figures), room.reserveBytes(figures));
    const wanted = room.pressureBytes(figures);
    if (figures.freeBytes < wanted && figures.removableBytes > 0)
      return void this.makeRoom(wanted, "the log", false);
    // Without them, what is current could not be followed much longer.
    if (availableBytes(figures) < wanted / 2 && figures.guardedBytes > 0)
      void this.makeRoom(wanted / 2, "the log", true);
  }

  /** The room, with what was removed but isn't shown as free yet; the log may have taken some of it since. */
  #counted(room: Room): Room {
    const { untilMs, freeBytes, logBytes } = this.#given;
    if (this.#options.clock.monotonicMs() >= untilMs) return room;
    const left = freeBytes - Math.max(0, room.logBytes - logBytes);
    return { ...room, freeBytes: Math.max(room.freeBytes, left) };
  }

  /**
   * Removes old generations until `bytes` are free, or none may go. A failure is logged: whoever needs the room
   * then finds that it isn't there.
   * @param why what needs it, to complete "to make room for …".
   * @param evenGuarded whether even those may go beside which what came after is small, last of all.
   */
  makeRoom(bytes: number, why: string, evenGuarded: boolean): Promise<void> {
    this.#running = this.#running.then(() => this.#remove(bytes, why, evenGuarded));
    return this.#running;
  }

  async #remove(bytes: number, why: string, evenGuarded: boolean): Promise<void> {
    const { directory, room, clock } = this.#options;
    this.#isRunning = true;
    try {
      const shown = room.look();
      const before = this.#counted(shown);
      // As much as can be had: less than what is wanted is better than nothing. The log takes some of it meanwhile.
      const reachable = reachableBytes(before, evenGuarded);
      const unshownBytes = before.freeBytes - shown.freeBytes;
      const freeBytes = Math.min(bytes, reachable) - unshownBytes;
      const freed = await directory.keeping.freeRoom({ freeBytes, why, evenGuarded });
      const { removedBytes } = freed;
      const shownBytes = freed.freeBytes - shown.freeBytes;
      if (removedBytes > 0 && shownBytes < removedBytes / 2) {
        const untilMs = clock.monotonicMs() + SHOWN_WITHIN_MS;
        this.#given = { ...before, freeBytes: before.freeBytes + removedBytes, untilMs };
      }
      room.forget();
      this.#failure = "";
    } catch (error) {
      // The next look tries again; following goes on meanwhile.
      const message = error instanceof Error ? error.message : String(error);
      if (message !== this.#failure) logger.warn(message);
      this.#failure = message;
    } finally {
      this.#isRunning = false;
    }
  }

  #judge(available: number, wanted: number): void {
    // A share of a room that is all taken would be nothing.
    const isLow = available < Math.max(wanted, BLOCK_BYTES);
    if (isLow === this.#isLow) return;
    this.#isLow = isLow;
    const where = `${formatBytes(available)} is free on the disk of ${this.#options.directory.path}`;
    if (!isLow) return logger.info(`${where} again`);
    logger.warn(
      `${where}, less than --min-free ${formatBytes(wanted)}, and nothing old is left that may go: no new snapshot is taken that takes more than it frees; make room, or use a larger disk`,
    );
  }

  /** Resolves once nothing is being removed. */
  async stop(): Promise<void> {
    await this.#running;
  }
}
