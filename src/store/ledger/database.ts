import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import { OpenFile } from "../disk/open-file.ts";
import { Turns } from "../disk/turns.ts";
import { databaseError } from "./database-error.ts";
import { GuardedDatabase } from "./guarded-database.ts";
import { migrate, refuseNewer, versionOf } from "./schema.ts";

/** WAL size, in pages, at which SQLite checkpoints. */
const CHECKPOINT_PAGES = 1000;

/** To what length the WAL shrinks after a checkpoint, should a reader have held it open and made it grow. */
const WAL_LIMIT_BYTES = 8 * 1024 * 1024;

/**
 * `replica.db`, open for writing, and how a commit becomes durable.
 *
 * A commit survives a kill at once. It survives a power cut after `sync`, which fsyncs the WAL on the
 * thread pool; SQLite would do so on the event loop. Commits form one log: a sync covers all of them up
 * to then, and a power cut leaves a prefix of them.
 */
export class ReplicaDatabase {
  readonly #path: string;
  readonly #disk: Disk;
  readonly #db: Database;
  /** The SQL of it; errors come out as ReplicaError. */
  readonly sql: GuardedDatabase;
  readonly #fsyncs = new Turns();
  /** The WAL, open for our own syncs; undefined before the first one, and after one that failed. */
  #wal: OpenFile | undefined;
  /** A sync of the WAL failed: its pages may be missing on disk, whatever later syncs say. */
  #distrusted = false;
  #isClosed = false;

  /**
   * Opens or creates the database, and brings an older format up to date.
   * @param isNew whether the directory keeps nothing yet: only then is a missing database created.
   * @throws ReplicaError DIRECTORY_TOO_NEW, DIRECTORY_DAMAGED, DISK_FULL, DISK_FAILED.
   */
  constructor(path: string, disk: Disk, isNew: boolean) {
    this.#path = path;
    this.#disk = disk;
    let db: Database | undefined;
    try {
      if (!isNew && !fs.existsSync(path)) throw missing(path);
      db = new Database(path, { create: true, strict: true });
      // Someone may look into the database with a tool of their own: a short lock isn't a failure.
      db.run("PRAGMA busy_timeout = 1000");
      // Before the first change: a database of another version stays as it is.
      const version = versionOf(db);
      refuseNewer(path, version);
      if (version < 0 || (version === 0 && !isNew)) throw missing(path);
      db.run("PRAGMA journal_mode = WAL");
      db.run("PRAGMA synchronous = NORMAL");
      db.run(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
      db.run(`PRAGMA journal_size_limit = ${WAL_LIMIT_BYTES}`);
      db.run("PRAGMA foreign_keys = ON");
      migrate(db, version);
    } catch (cause) {
      db?.close();
      throw databaseError(path, cause);
    }
    this.#db = db;
    this.sql = new GuardedDatabase(db, path, "writing");
  }

  /**
   * Makes durable what is committed.
   * @throws ReplicaError DISK_FULL, DISK_FAILED; then no commit since the last successful sync counts.
   */
  async sync(): Promise<void> {
    await this.#fsyncs.run(() => this.#fsyncOnce());
  }

  async #fsyncOnce(): Promise<void> {
    const path = `${this.#path}-wal`;
    try {
      if (this.#isClosed) throw new Error("it is closed");
      this.#rewriteDistrusted();
      const isFirst = this.#wal === undefined;
      this.#wal ??= OpenFile.openExisting(this.#disk, path);
      await this.#wal.sync();
      if (isFirst) await this.#disk.syncDir(dirname(this.#path));
    } catch (cause) {
      this.#distrusted = true;
      this.#wal?.closeQuietly();
      this.#wal = undefined;
      throw diskError("syncing", path, cause);
    }
  }

  /**
   * After a failed sync: moves every commit into the database file and starts the WAL over.
   * @throws ReplicaError DISK_FAILED, also while another process reads the database.
   */
  #rewriteDistrusted(): void {
    if (!this.#distrusted) return;
    this.sql.run("PRAGMA synchronous = FULL");
    try {
      const { busy } = this.sql.get<{ busy: number }>("PRAGMA wal_checkpoint(TRUNCATE)")!;
      if (busy !== 0) {
        throw new ReplicaError("DISK_FAILED", {
          message: `syncing ${this.#path}: another process reads the database, which keeps it from being synced after a failed fsync: stop the process that has it open`,
        });
      }
      this.#distrusted = false;
    } finally {
      this.sql.run("PRAGMA synchronous = NORMAL");
    }
  }

  /** Runs `act`, durable when this returns: by SQLite's own syncs, on the event loop. */
  durably<T>(act: () => T): T {
    this.#rewriteDistrusted();
    this.sql.run("PRAGMA synchronous = FULL");
    try {
      const done = this.sql.guard(act);
      this.#checkpoint();
      return done;
    } finally {
      this.sql.run("PRAGMA synchronous = NORMAL");
    }
  }

  /**
   * Moves the WAL into the database file, because SQLite drops everything past a damaged byte of the WAL
   * without a word. The commit is durable without this, so a failure undoes nothing.
   */
  #checkpoint(): void {
    try {
      this.sql.get("PRAGMA wal_checkpoint(PASSIVE)");
    } catch (error) {
      logger.warn(error instanceof Error ? error.message : String(error));
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#wal?.closeQuietly();
    this.#db.close();
  }
}

function missing(path: string): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is missing or empty, though generations are kept beside it: restore it from a copy, or start with a new --dir`,
  });
}
