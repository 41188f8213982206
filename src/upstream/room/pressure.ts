import { logger } from "../../base/logger.ts";
import { formatBytes } from "../../base/quantity.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import { availableBytes, BLOCK_BYTES } from "./figures.ts";
import type { RoomWatch } from "./watch.ts";

/** How much of what old generations take may be counted on. */
const REACHABLE = 15 / 16;

export interface PressureOptions {
  readonly directory: Pick<DataDirectory, "path" | "keeping">;
  readonly room: RoomWatch;
}

/** Keeps some room free: old generations give way to the log, and to new snapshots. One removal at a time. */
export class Pressure {
  readonly #options: PressureOptions;
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;
  #isLow = false;
  #failure = "";

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
    const figures = room.figures;
    if (figures === undefined || this.#isRunning) return;
    this.#judge(availableBytes(figures), room.reserveBytes(figures));
    const wanted = room.pressureBytes(figures);
    if (figures.freeBytes < wanted && figures.removableBytes > 0)
      return void this.makeRoom(wanted, "the log", false);
    // Without them, what is current could not be followed much longer.
    if (availableBytes(figures) < wanted / 2 && figures.guardedBytes > 0)
      void this.makeRoom(wanted / 2, "the log", true);
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
    const { directory, room } = this.#options;
    this.#isRunning = true;
    try {
      // As much as can be had: less than what is wanted is better than nothing. The log takes some of it meanwhile.
      const reachable = REACHABLE * availableBytes(room.look(), evenGuarded);
      const freeBytes = Math.min(bytes, reachable);
      await directory.keeping.freeRoom({ freeBytes, why, evenGuarded });
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
