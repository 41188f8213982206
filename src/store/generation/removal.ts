import { logger } from "../../base/logger.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import type { Ledger } from "../ledger/ledger.ts";

/** A day has 86,400 of them. */
const MARKS_AT_ONCE = 5_000;

export interface RemovalOptions {
  readonly disk: Disk;
  readonly generations: Ledger;
  /** The folder in which those of the generations lie. */
  readonly parent: string;
  readonly folderOf: (id: number) => string;
  /** The wall clock; milliseconds since 1970. */
  readonly now: () => number;
}

/** Removes the folders of generations, never under a reader, and their rows once it is durable that they are gone. */
export class Removal {
  readonly #options: RemovalOptions;
  /** Those whose folders are removed, and whose rows stay until that is durable. */
  #removed: number[] = [];
  /** Those whose folders are to be removed, and may still be there. */
  readonly #leftOver = new Set<number>();
  /** How many readers each generation has that must not go under them. */
  readonly #pins = new Map<number, number>();

  constructor(options: RemovalOptions) {
    this.#options = options;
  }

  /** Keeps a generation, and those after it; gives what ends that, to be called once. */
  pin(id: number): () => void {
    this.#pins.set(id, (this.#pins.get(id) ?? 0) + 1);
    return () => {
      const left = this.#pins.get(id)! - 1;
      if (left > 0) this.#pins.set(id, left);
      else this.#pins.delete(id);
    };
  }

  /** Removes one that never became whole. Where that fails, it is said, and `retain` tries again. */
  discard(id: number): void {
    const { disk, folderOf } = this.#options;
    try {
      disk.remove(folderOf(id));
      this.#removed.push(id);
    } catch (cause) {
      this.#leftOver.add(id);
      logger.warn(diskError("removing", folderOf(id), cause).message);
    }
  }

  /**
   * Removes sealed generations beyond the newest `keep`, but for those that were sealed within the last
   * `keepForMs`, and for those that are pinned or younger than such a one; then what could not be removed
   * before, last: it must not keep the others.
   * @returns the ids that are gone, but for those.
   * @throws what the disk and the database throw; what is half removed then goes with the next call.
   */
  async retain(keep: number, keepForMs: number | undefined): Promise<number[]> {
    const gone: number[] = [];
    for (const id of this.#old(keep, keepForMs)) {
      // Looked at each time: a reader may have come while the one before was removed.
      if (id >= Math.min(...this.#pins.keys())) continue;
      this.#options.generations.condemn(id);
      await this.#removeFolder(id);
      gone.push(id);
    }
    await this.removeLeftOver();
    return gone;
  }

  /** Tries again what could not be removed; then the rows of all that is gone go. */
  async removeLeftOver(): Promise<void> {
    for (const id of this.#leftOver) await this.#removeFolder(id);
    if (this.#removed.length > 0) await this.sync();
  }

  /** The sealed generations that nobody wants to keep. */
  #old(keep: number, keepForMs = 0): number[] {
    const { generations, now } = this.#options;
    const nowMs = now();
    // None was sealed later than the one after it, nor after now: so said a clock that was set back since.
    let latestMs = nowMs;
    return generations
      .sealed()
      .map(({ id, sealedAtMs }) => ({
        id,
        sealedAtMs: (latestMs = Math.min(latestMs, sealedAtMs)),
      }))
      .slice(keep)
      .filter(({ sealedAtMs }) => nowMs - sealedAtMs >= keepForMs)
      .map(({ id }) => id);
  }

  async #removeFolder(id: number): Promise<void> {
    const { disk, generations, folderOf } = this.#options;
    this.#leftOver.add(id);
    // Before the first file of it goes: a power cut must not leave half of one that counts.
    await generations.sync();
    while (generations.forgetMarks(id, MARKS_AT_ONCE)) await Bun.sleep(0);
    await disk.removeLarge(folderOf(id));
    this.#leftOver.delete(id);
    this.#removed.push(id);
  }

  /** Whether rows wait until it is durable that their folders are gone. */
  get isUnsynced(): boolean {
    return this.#removed.length > 0;
  }

  /** Makes the names of the folders durable. Without a row nobody would clear a folder: it goes after that. */
  async sync(): Promise<void> {
    const { disk, generations, parent } = this.#options;
    const removed = this.#removed;
    this.#removed = [];
    try {
      await disk.syncDir(parent);
      for (const id of removed) generations.forget(id);
    } catch (cause) {
      this.#removed.push(...removed);
      throw cause;
    }
  }
}
