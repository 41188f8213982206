import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { type Disk, diskError } from "../../store/disk/disk.ts";
import { DATABASE } from "../../store/generation/layout.ts";
import { type DirectoryLock, lockDirectory } from "../../store/generation/lock.ts";
import { ClusterLedger } from "../ledger/cluster-ledger.ts";
import { shardDirectory } from "../ledger/cluster-schema.ts";

/** A cluster's directory, owned by this process: its lock and its database. */
export class ClusterDirectory {
  readonly path: string;
  readonly ledger: ClusterLedger;
  readonly #lock: DirectoryLock;

  /**
   * Opens or creates it.
   * @throws ReplicaError USAGE where it keeps one primary's data; DIRECTORY_IN_USE, DIRECTORY_TOO_NEW,
   * DIRECTORY_DAMAGED, DISK_FULL, DISK_FAILED.
   */
  constructor(dir: string, disk: Disk) {
    this.path = resolve(dir);
    if (fs.existsSync(join(this.path, DATABASE))) {
      throw usageError(
        `${this.path} keeps the data of one primary (${DATABASE}): follow that one with redis://host:port, or give the cluster a --dir of its own`,
      );
    }
    try {
      disk.makeDir(join(this.path, "shards"));
    } catch (cause) {
      throw diskError("making the data directory", this.path, cause);
    }
    this.#lock = lockDirectory(this.path);
    try {
      this.ledger = new ClusterLedger(this.path, disk, this.#folders.length === 0);
    } catch (error) {
      this.#lock.release();
      throw error;
    }
  }

  /** The lowest number that no shard's folder has or had. */
  get leastNumber(): number {
    return 1 + Math.max(0, ...this.#folders);
  }

  /** The data directory of a shard. */
  shard(number: number): string {
    return shardDirectory(this.path, number);
  }

  /** Whether a shard's data directory was made, so that its row is durable. */
  hasShard(number: number): boolean {
    return this.#folders.includes(number);
  }

  /** Records an event, for people who look later; a failure is logged, and stops nothing. */
  note(kind: string, what: string, atMs: number): void {
    try {
      this.ledger.event(kind, what, atMs);
    } catch (error) {
      logger.warn(error instanceof Error ? error.message : String(error));
    }
  }

  /** @throws ReplicaError DIRECTORY_LOST once it was moved or removed. */
  refuseLost(): void {
    this.#lock.refuseLost();
  }

  /** Closes the database and releases the lock. Call it last. */
  close(): void {
    this.ledger.close();
    this.#lock.release();
  }

  /** The numbers of the shards' folders. */
  get #folders(): number[] {
    const names = fs.readdirSync(join(this.path, "shards"));
    return names.filter((name) => /^\d{4,9}$/.test(name)).map(Number);
  }
}
