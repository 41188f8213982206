import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import type { Disk } from "../disk/disk.ts";

const RESERVE = "replica.reserve";
const RESERVE_BYTES = 512 * 1024;
/** What one attempt gets: the log that is followed may take the room before SQLite does. */
const PIECE_BYTES = 64 * 1024;
/** The file is made where this much is free: the last bytes of a disk are the log's. */
const ROOM_BYTES = 4 * RESERVE_BYTES;

/**
 * A file in the data directory that takes some room, so that there is some for the database on a disk that is full:
 * what gives room has to be written there first.
 */
export class Reserve {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #path: string;

  /** @param dir the data directory. */
  constructor(disk: Disk, dir: string) {
    this.#disk = disk;
    this.#dir = dir;
    this.#path = join(dir, RESERVE);
  }

  /**
   * Runs `act`; where the disk is full, again and again, each time with a piece of the reserve given up for it.
   * @throws what `act` throws, once nothing is left to give.
   */
  async spend<T>(act: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await act();
      } catch (error) {
        this.#giveOrThrow(error);
      }
    }
  }

  /** The same for what doesn't wait. */
  spendAtOnce<T>(act: () => T): T {
    for (;;) {
      try {
        return act();
      } catch (error) {
        this.#giveOrThrow(error);
      }
    }
  }

  #giveOrThrow(error: unknown): void {
    const isFull = error instanceof ReplicaError && error.code === "DISK_FULL";
    if (!isFull || !this.#give()) throw error;
  }

  #give(): boolean {
    try {
      const bytes = this.#bytes;
      if (bytes === 0) return false;
      try {
        fs.truncateSync(this.#path, Math.max(0, bytes - PIECE_BYTES));
      } catch {
        // It may have been made read-only: then all of it goes.
        fs.rmSync(this.#path);
      }
      return true;
    } catch {
      return false;
    }
  }

  /** Of a file of our own: a link leads to somebody else's. */
  get #bytes(): number {
    const found = fs.lstatSync(this.#path, { throwIfNoEntry: false });
    return found?.isFile() === true ? found.size : 0;
  }

  /** Makes the reserve anew where a part of it is missing and there is room. It is no more than a help: nothing fails. */
  async fill(): Promise<void> {
    try {
      if (this.#bytes >= RESERVE_BYTES || this.#disk.freeBytes(this.#dir) < ROOM_BYTES) return;
      // Never through a link.
      fs.rmSync(this.#path, { force: true });
      // A file system that compresses would give no room to zeros.
      const bytes = crypto.getRandomValues(new Uint8Array(RESERVE_BYTES));
      await fs.promises.writeFile(this.#path, bytes, { mode: 0o644, flag: "wx" });
    } catch {
      // The next call tries again.
    }
  }
}
