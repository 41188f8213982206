import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { databaseError } from "./database-error.ts";
import { closeQuietly, type Disk } from "../disk/disk.ts";

/** The version of `replica.db`; a newer one is refused, not guessed at. */
const SCHEMA_VERSION = 3;

/** So large grows the write-ahead log, in pages, until SQLite moves it into the database. */
const CHECKPOINT_PAGES = 1000;

const SCHEMA = `
  CREATE TABLE generations (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('receiving', 'current', 'sealed')),
    sealed_reason TEXT,
    primary_name TEXT NOT NULL,
    began_at_ms INTEGER NOT NULL,
    current_at_ms INTEGER,
    sealed_at_ms INTEGER,
    base_offset INTEGER,
    stream_db INTEGER,
    rdb_bytes INTEGER,
    rdb_crc64 TEXT,
    rdb_checked INTEGER,
    log_header_bytes INTEGER
  ) STRICT;
  CREATE TABLE replication_ids (
    generation INTEGER NOT NULL REFERENCES generations ON DELETE CASCADE,
    from_offset INTEGER NOT NULL,
    replid TEXT NOT NULL
  ) STRICT;
  CREATE TABLE marks (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL REFERENCES generations ON DELETE CASCADE,
    at_ms INTEGER NOT NULL,
    written_offset INTEGER NOT NULL,
    durable_offset INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX marks_of ON marks (generation, id);
  CREATE TABLE events (at_ms INTEGER NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
  CREATE TABLE boot (one INTEGER PRIMARY KEY CHECK (one = 1), boot_id TEXT NOT NULL) STRICT;
`;

/** What each version added to the one before it. */
const MIGRATIONS: Readonly<Record<number, string>> = {
  1: SCHEMA,
  2: `CREATE TABLE chosen_primary (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    given TEXT NOT NULL,
    followed TEXT
  ) STRICT;`,
  // Checksums of the log: of its bytes behind crc_from, up to durable_offset.
  3: `ALTER TABLE marks ADD COLUMN crc_from INTEGER; ALTER TABLE marks ADD COLUMN crc64 TEXT;`,
};

/**
 * `replica.db`, open, and how what is committed becomes durable.
 *
 * What is committed survives a kill. A power cut it survives after `sync`, which waits for the disk on
 * the thread pool: SQLite itself would do so on the event loop. Commits are one log, so a sync covers
 * all of them up to then, and a cut leaves the first so many.
 */
export class ReplicaDatabase {
  readonly #path: string;
  readonly #disk: Disk;
  readonly db: Database;
  /** SQLite's write-ahead log, open for our own syncs. */
  #walFd: number | undefined;
  #syncing: Promise<void> | undefined;
  /** A sync of it failed: its pages may be gone from the disk, whatever later syncs say. */
  #distrusted = false;

  /**
   * Opens or makes the database.
   * @param isNew whether nothing is kept in the folder yet: only then a database is made.
   * @throws ReplicaError DIRECTORY_TOO_NEW, DIRECTORY_DAMAGED, DISK_FULL, DISK_FAILED.
   */
  constructor(path: string, disk: Disk, isNew: boolean) {
    this.#path = path;
    this.#disk = disk;
    let db: Database | undefined;
    try {
      if (!isNew && !fs.existsSync(path)) throw missing(path);
      db = new Database(path, { create: true, strict: true });
      this.db = db;
      // Somebody may look into the database with a tool of their own; a moment's lock is no failure.
      this.db.run("PRAGMA busy_timeout = 1000");
      // Before anything is changed: what is of another version is left as it is.
      const version = versionOf(db);
      refuseNewer(path, version);
      if (version < 0 || (version === 0 && !isNew)) throw missing(path);
      this.db.run("PRAGMA journal_mode = WAL");
      this.db.run("PRAGMA synchronous = NORMAL");
      this.db.run(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
      this.db.run("PRAGMA foreign_keys = ON");
      if (version < SCHEMA_VERSION) this.#migrate(version);
    } catch (cause) {
      db?.close();
      throw databaseError(path, cause);
    }
  }

  #migrate(from: number): void {
    this.db.transaction(() => {
      for (let version = from + 1; version <= SCHEMA_VERSION; version++) {
        this.db.run(MIGRATIONS[version]!);
      }
      this.db.run(`PRAGMA user_version = ${SCHEMA_VERSION}`);
    })();
  }

  /**
   * Makes durable what is committed.
   * @throws Error of the disk, or of SQLite; nothing that was committed since the last sync that
   * succeeded is to be relied on then.
   */
  async sync(): Promise<void> {
    // One at a time: of two at once the kernel tells one of a failure.
    while (this.#syncing !== undefined) await this.#syncing.catch(() => undefined);
    this.#syncing = this.#syncOnce();
    try {
      await this.#syncing;
    } finally {
      this.#syncing = undefined;
    }
  }

  async #syncOnce(): Promise<void> {
    this.#writeAnew();
    try {
      const isFirst = this.#walFd === undefined;
      this.#walFd ??= this.#disk.openExisting(`${this.#path}-wal`);
      await this.#disk.syncData(this.#walFd);
      if (isFirst) await this.#disk.syncDir(dirname(this.#path));
    } catch (error) {
      this.#distrusted = true;
      throw error;
    }
  }

  /**
   * After a failed sync: everything goes into the database itself, and the log begins anew.
   * @throws SQLiteError; Error where somebody reads the database just now.
   */
  #writeAnew(): void {
    if (!this.#distrusted) return;
    this.db.run("PRAGMA synchronous = FULL");
    try {
      const { busy } = this.db
        .query<{ busy: number }, []>("PRAGMA wal_checkpoint(TRUNCATE)")
        .get()!;
      if (busy !== 0)
        throw new Error("somebody reads the database, and keeps it from being synced");
      this.#distrusted = false;
    } finally {
      this.db.run("PRAGMA synchronous = NORMAL");
    }
  }

  /** For what must be decided before this returns: SQLite's own syncs, though on the event loop. */
  durably<T>(act: () => T): T {
    this.#writeAnew();
    this.db.run("PRAGMA synchronous = FULL");
    try {
      const done = act();
      this.#checkpoint();
      return done;
    } finally {
      this.db.run("PRAGMA synchronous = NORMAL");
    }
  }

  /**
   * Into the database itself: of its log SQLite drops all behind a damaged byte, without a word. What was
   * committed is durable without, so a failure undoes nothing.
   */
  #checkpoint(): void {
    try {
      this.db.query("PRAGMA wal_checkpoint(PASSIVE)").get();
    } catch (error) {
      logger.warn(databaseError(this.#path, error).message);
    }
  }

  close(): void {
    const fd = this.#walFd;
    this.#walFd = undefined;
    // Not under another thread that is just syncing it.
    const after = this.#syncing?.catch(() => undefined);
    if (fd !== undefined && after === undefined) closeQuietly(this.#disk, fd);
    else if (fd !== undefined) void after?.then(() => closeQuietly(this.#disk, fd));
    this.db.close();
  }
}

/** The format that a database is written in. */
export function versionOf(db: Database): number {
  return db.query<{ user_version: number }, []>("PRAGMA user_version").get()!.user_version;
}

/** @throws ReplicaError DIRECTORY_TOO_NEW for a format that this program doesn't know. */
export function refuseNewer(path: string, version: number): void {
  if (version <= SCHEMA_VERSION) return;
  throw new ReplicaError("DIRECTORY_TOO_NEW", {
    retry: "never",
    message: `${path} was written by a newer replica (format ${version}, this one knows ${SCHEMA_VERSION}): run that one`,
  });
}

function missing(path: string): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is missing or empty, though generations are kept beside it: restore it from a copy, or start with a new --dir`,
  });
}
