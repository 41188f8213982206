import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { databaseError } from "./database-error.ts";
import { migrate, refuseNewer, versionOf } from "./schema.ts";

/** How long to wait for another process that locks the database. */
export const BUSY_TIMEOUT_MS = 1000;

/** The beginning of each SQLite database. */
const MAGIC = Buffer.from("SQLite format 3\0");
/** What a database that was never checkpointed holds at most: its first page. */
const FIRST_PAGE_BYTES = 4096;

/**
 * Opens or creates `replica.db`, and brings an older format up to date. SQLite syncs nothing for it, nor for
 * anything that is done with it before `closeDurably`.
 * @param isNew whether the directory keeps nothing yet: only then is a missing database created.
 * @throws ReplicaError DIRECTORY_TOO_NEW, DIRECTORY_DAMAGED, DISK_FULL, DISK_FAILED.
 */
export function openDatabase(path: string, isNew: boolean): Database {
  if (fs.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) throw isLink(path);
  if (!isNew && !fs.existsSync(path)) throw missing(path);
  try {
    return open(path, isNew);
  } catch (error) {
    const isDamaged = error instanceof ReplicaError && error.code === "DIRECTORY_DAMAGED";
    if (!isNew || !isDamaged || !isHalfMade(path)) throw error;
    for (const suffix of ["", "-wal", "-shm", "-journal"]) {
      fs.rmSync(path + suffix, { force: true });
    }
    return open(path, isNew);
  }
}

function open(path: string, isNew: boolean): Database {
  let db: Database | undefined;
  try {
    db = new Database(path, { create: true, strict: true });
    // Someone may look into the database with a tool of their own: a short lock isn't a failure.
    db.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    // Before the first change: a database of another version stays as it is.
    const version = versionOf(db);
    refuseNewer(path, version);
    if (version < 0 || (version === 0 && !isNew)) throw missing(path);
    db.run("PRAGMA synchronous = OFF");
    db.run("PRAGMA wal_autocheckpoint = 0");
    db.run("PRAGMA journal_mode = WAL");
    // Only a read opens the WAL of a database that was in another mode.
    versionOf(db);
    db.run("PRAGMA foreign_keys = ON");
    migrate(db, version);
    return db;
  } catch (cause) {
    if (db !== undefined) closeDurably(db);
    throw databaseError(path, cause);
  }
}

/** Closes a database, and makes durable what is committed: by SQLite's own syncs, on the event loop. */
export function closeDurably(db: Database): void {
  try {
    // The last one to close it moves the WAL into the database, and removes the WAL.
    db.run("PRAGMA synchronous = FULL");
  } catch {
    // It isn't a database.
  }
  db.close();
}

/** Whether this may be what a power cut has left of a database that was just created: nothing of it had been synced. */
function isHalfMade(path: string): boolean {
  const about = fs.statSync(path, { throwIfNoEntry: false });
  if (about?.isFile() !== true || about.size > FIRST_PAGE_BYTES) return false;
  // Anything else at this path is somebody's.
  const begin = fs.readFileSync(path).subarray(0, MAGIC.length);
  return begin.every((byte, at) => byte === 0 || byte === MAGIC[at]);
}

/** SQLite would follow it, and create what it leads to. Beside a database it follows none. */
function isLink(path: string): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is a link, which may lead out of the data directory: put the file itself there, or start with a new --dir`,
  });
}

function missing(path: string): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is missing or empty, though generations are kept beside it: restore it from a copy, or start with a new --dir`,
  });
}
