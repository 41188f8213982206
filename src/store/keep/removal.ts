import { dirname } from "node:path";
import { logger } from "../../base/logger.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { Reserve } from "./reserve.ts";

/** How many marks are deleted in one transaction: a day has 86,400 of them. */
const MARKS_AT_ONCE = 5_000;

export interface RemovalOptions {
  /** The data directory. */
  readonly dir: string;
  readonly disk: Disk;
  readonly ledger: Ledger;
  /** The folder of a generation. All of them are in one. */
  readonly generationDir: (id: number) => string;
  /** @throws ReplicaError DIRECTORY_LOST once the data directory was moved or removed. */
  readonly refuseLost: () => void;
}

/**
 * Removes generations: first the folder, never under a reader; then, once that is durable, the marks and the row. All
 * that is written before the folder goes is that it is condemned, and for that a reserve is held: a full disk gets room
 * by it.
 */
export class Removal {
  readonly #options: RemovalOptions;
  readonly #reserve: Reserve;
  /** The folders are removed; the rows stay until that is durable. */
  #removed: number[] = [];
  /** Folders that are to be removed, and may still be there. */
  readonly #leftOver = new Set<number>();
  /** How many readers each pinned generation has. */
  readonly #pins = new Map<number, number>();

  constructor(options: RemovalOptions) {
    this.#options = options;
    this.#reserve = new Reserve(options.disk, options.dir);
  }

  /** The folder that holds the generations' own. */
  get #parent(): string {
    return dirname(this.#options.generationDir(0));
  }

  /** Keeps a generation, and those after it. Returns a release function; call it exactly once. */
  pin(id: number): () => void {
    this.#pins.set(id, (this.#pins.get(id) ?? 0) + 1);
    return () => {
      const left = this.#pins.get(id)! - 1;
      if (left > 0) this.#pins.set(id, left);
      else this.#pins.delete(id);
    };
  }

  /** Removes a generation that never became whole. A failure is logged, and `remove` retries it. */
  discard(id: number): void {
    const { disk, refuseLost } = this.#options;
    const folder = this.#options.generationDir(id);
    try {
      refuseLost();
    } catch (lost) {
      logger.warn(lost instanceof Error ? lost.message : String(lost));
      return;
    }
    try {
      disk.remove(folder);
      this.#removed.push(id);
    } catch (cause) {
      this.#leftOver.add(id);
      logger.warn(diskError("removing", folder, cause).message);
    }
  }

  /** Lets `remove` go on with a generation that an earlier process condemned: that may not be durable yet. */
  resume(id: number): void {
    this.#leftOver.add(id);
  }

  /** Whether a generation, or an older one, is pinned. */
  isPinned(id: number): boolean {
    return id >= Math.min(...this.#pins.keys());
  }

  /**
   * Removes sealed generations, except pinned ones and those younger than a pinned one. Then retries what could not
   * be removed before: last, so that it never keeps the others.
   * @returns the ids that are gone, without those of the retry.
   * @throws ReplicaError DIRECTORY_LOST; DISK_FULL, DISK_FAILED where none of `ids` is gone: else that is logged. A
   * generation that is half removed goes with the next call.
   */
  async remove(ids: readonly number[]): Promise<number[]> {
    this.#options.refuseLost();
    const gone: number[] = [];
    const failures: unknown[] = [];
    const attempt = async (act: () => Promise<void>): Promise<void> => {
      await act().catch((cause: unknown) => void failures.push(cause));
    };
    const before = [...this.#leftOver];
    await attempt(() => this.#removeAll(ids, gone));
    for (const id of before) await attempt(() => this.#removeFolder(id));
    if (this.#removed.length > 0) await attempt(() => this.sync());
    await this.#reserve.fill();
    if (failures.length === 0) return gone;
    const error = diskError("removing old generations from", this.#parent, failures[0]);
    // Whoever asked has to hear what is gone.
    if (gone.length === 0) throw error;
    logger.warn(error.message);
    return gone;
  }

  async #removeAll(ids: readonly number[], gone: number[]): Promise<void> {
    for (const id of ids) {
      const isCondemned = await this.#reserve.spend(async () => {
        // Checked each time: a reader may have come while the one before was removed.
        if (this.isPinned(id)) return false;
        this.#options.ledger.condemn(id);
        return true;
      });
      if (!isCondemned) continue;
      await this.#removeFolder(id);
      gone.push(id);
    }
  }

  async #removeFolder(id: number): Promise<void> {
    const { disk, ledger } = this.#options;
    this.#leftOver.add(id);
    // Before the first file goes: a power cut must not leave half a generation that counts.
    await this.#reserve.spend(() => ledger.sync());
    await disk.removeLarge(this.#options.generationDir(id));
    this.#leftOver.delete(id);
    this.#removed.push(id);
  }

  /** Whether rows wait until the removal of their folders is durable. */
  get isUnsynced(): boolean {
    return this.#removed.length > 0;
  }

  /** Syncs the parent folder, then deletes marks and rows: a folder without a row would never be removed. */
  async sync(): Promise<void> {
    const { disk, ledger } = this.#options;
    const removed = this.#removed;
    this.#removed = [];
    try {
      await disk.syncDir(this.#parent);
      for (const id of removed) {
        do {
          await Bun.sleep(0);
          await ledger.checkpointing;
        } while (ledger.forgetMarks(id, MARKS_AT_ONCE));
        ledger.forget(id);
      }
    } catch (cause) {
      this.#removed.push(...removed);
      throw cause;
    }
  }
}
