import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { type Disk, diskError } from "../store/disk/disk.ts";
import { lostIds } from "../store/generation/consistency.ts";
import { CURRENT, DATABASE, GENERATIONS, generationIds } from "../store/generation/layout.ts";
import { type DirectoryLock, lockDirectory } from "../store/generation/lock.ts";
import { Ledger } from "../store/ledger/ledger.ts";

/** In a data directory that is being filled: what is fetched, and nothing else. */
const FILLING = ".filling";
/** In that: a data directory, there as a whole or not at all. */
const FETCHED = "data";

/** Whether a filling was ended amid its work, so that `Filling.begin` has something to finish or to remove. */
export function wasFilling(dir: string): boolean {
  return fs.existsSync(join(dir, FILLING));
}

/** Whether what was fetched is whole, and some of it is yet to be moved to its place, or may be: nothing else opens that. */
export function isHalfMoved(dir: string): boolean {
  return fs.existsSync(join(dir, FILLING, FETCHED));
}

/** Whether a data directory is seen at once to keep something. Where it isn't, `Filling.keeps` looks closely. */
export function keepsCurrent(dir: string): boolean {
  return fs.existsSync(join(dir, CURRENT));
}

/**
 * Fills a data directory with another one that is fetched into it first. What is fetched moves to its place only once it
 * is whole and durable: a kill before that leaves a folder that the next filling removes, a kill after it one whose
 * moves that one finishes. Holds the directory's lock until it is disposed of.
 */
export class Filling implements Disposable {
  readonly path: string;
  readonly #disk: Disk;
  readonly #lock: DirectoryLock;

  private constructor(path: string, disk: Disk, lock: DirectoryLock) {
    this.path = path;
    this.#disk = disk;
    this.#lock = lock;
  }

  /**
   * Locks the directory, which is made where it isn't there, and ends what an earlier filling has left.
   * @throws ReplicaError DIRECTORY_IN_USE, DISK_FULL, DISK_FAILED.
   */
  static async begin(dir: string, disk: Disk): Promise<Filling> {
    const path = resolve(dir);
    try {
      disk.makeDir(path);
    } catch (cause) {
      throw diskError("making the data directory", path, cause);
    }
    const filling = new Filling(path, disk, lockDirectory(path));
    try {
      if (wasFilling(path)) await filling.#end();
    } catch (cause) {
      filling[Symbol.dispose]();
      throw diskError("ending the filling of", path, cause);
    }
    return filling;
  }

  /**
   * Whether the directory keeps anything that a filling would replace: a generation, one whose record is lost, or the
   * choice of a primary. What can't be read is kept, too.
   * @param primary the primary that is to be followed, as it is named.
   */
  keeps(primary: string): boolean {
    const database = join(this.path, DATABASE);
    const ids = fs.existsSync(join(this.path, GENERATIONS)) ? generationIds(this.path) : [];
    if (!fs.existsSync(database)) return ids.length > 0;
    let ledger: Ledger | undefined;
    try {
      ledger = new Ledger(database, this.#disk, false);
      if (ledger.whole().length > 0 || ledger.chosenPrimary(primary) !== undefined) return true;
      return ids.length > 0 && lostIds(this.path, ledger, undefined).length > 0;
    } catch {
      // Whoever opens it next says what is wrong with it.
      return true;
    } finally {
      ledger?.close();
    }
  }

  /**
   * Lets `fetch` make a folder, and then makes its contents those of the data directory.
   * @param fetch makes the folder of that path, whole and durable, or fails.
   * @throws what `fetch` throws, and then nothing has changed; ReplicaError DISK_FULL, DISK_FAILED: see `isHalfMoved`.
   */
  async fill(fetch: (dir: string) => Promise<void>): Promise<void> {
    const root = join(this.path, FILLING);
    try {
      // Nobody else may look into it until it is known who may.
      fs.mkdirSync(root, { mode: 0o700 });
      await fetch(join(root, FETCHED));
      await this.#end();
    } catch (cause) {
      if (!fs.existsSync(join(root, FETCHED))) await this.#disk.removeLarge(root);
      throw diskError("filling", this.path, cause);
    }
  }

  /** Moves what was fetched to its place, if it is whole, and removes the rest. Each step may have been done before. */
  async #end(): Promise<void> {
    const root = join(this.path, FILLING);
    const fetched = join(root, FETCHED);
    if (fs.existsSync(fetched)) {
      // What stands there is what an unfinished snapshot has left, and the database that knows of it.
      this.#move(fetched, GENERATIONS, [GENERATIONS]);
      this.#move(fetched, DATABASE, [`${DATABASE}-wal`, `${DATABASE}-shm`]);
      this.#move(fetched, `${DATABASE}-wal`, []);
      await this.#disk.syncDir(this.path);
    }
    await this.#disk.removeLarge(root);
    await this.#disk.syncDir(this.path);
  }

  /** Moves one thing, after others were removed; nothing is done where it was moved before. */
  #move(fetched: string, name: string, replaced: readonly string[]): void {
    if (!fs.existsSync(join(fetched, name))) return;
    for (const other of replaced) this.#disk.remove(join(this.path, other));
    this.#disk.rename(join(fetched, name), join(this.path, name));
  }

  [Symbol.dispose](): void {
    this.#lock.release();
  }
}
