import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import { diskError } from "../disk/disk.ts";
import { databaseError } from "./database-error.ts";
import { migrate, refuseNewer, type Schema, versionOf } from "./schema.ts";

/** How long to wait for another process that locks the database. */
export const BUSY_TIMEOUT_MS = 1000;

/** The same for one that only reads. */
const READER_BUSY_TIMEOUT_MS = 5_000;

/** The beginning of each SQLite database. */
const MAGIC = Buffer.from("SQLite format 3\0");
/** What a database that was never checkpointed holds at most: its first page. */
const FIRST_PAGE_BYTES = 4096;

/**
 * Opens or creates a database such as `replica.db`, and brings an older format up to date. SQLite syncs nothing for it, nor for
 * anything that is done with it before `closeDurably`.
 * @param isNew whether the directory keeps nothing yet: only then is a missing database created.
 * @throws ReplicaError DIRECTORY_TOO_NEW, DIRECTORY_DAMAGED, DISK_FULL, DISK_FAILED.
 */
export function openDatabase(path: string, isNew: boolean, schema: Schema): Database {
  if (fs.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) throw isLink(path);
  if (!isNew && !fs.existsSync(path)) throw missing(path, schema);
  try {
    return open(path, isNew, schema);
  } catch (error) {
    const isDamaged = error instanceof ReplicaError && error.code === "DIRECTORY_DAMAGED";
    if (!isNew || !isDamaged || !isHalfMade(path)) throw error;
    for (const suffix of ["", "-wal", "-shm", "-journal"]) {
      fs.rmSync(path + suffix, { force: true });
    }
    return open(path, isNew, schema);
  }
}

function open(path: string, isNew: boolean, schema: Schema): Database {
  let db: Database | undefined;
  try {
    db = new Database(path, { create: true, strict: true });
    // Someone may look into the database with a tool of their own: a short lock isn't a failure.
    db.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    // Before the first change: a database of another version stays as it is.
    const version = versionOf(db);
    refuseNewer(path, version, schema);
    if (version < 0 || (version === 0 && !isNew)) throw missing(path, schema);
    db.run("PRAGMA synchronous = OFF");
    db.run("PRAGMA wal_autocheckpoint = 0");
    db.run("PRAGMA journal_mode = WAL");
    // Only a read opens the WAL of a database that was in another mode.
    versionOf(db);
    db.run("PRAGMA foreign_keys = ON");
    migrate(db, version, schema);
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

function missing(path: string, { describes }: Schema): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is missing or empty, though ${describes} are kept beside it: restore it from a copy, or start with a new --dir`,
  });
}

/**
 * Opens a database without changing a byte of it. SQLite needs a file beside it to read a WAL; where it may
 * not create one, it reads a copy, whose folder is returned too: the caller removes it.
 */
export function openToRead(path: string): [db: Database, copyDir: string | undefined] {
  const isInUse = fs.existsSync(`${path}-shm`);
  if (isInUse) {
    let db: Database | undefined;
    try {
      db = new Database(path, { readonly: true });
      // A replica that starts after a kill locks it for a moment.
      db.run(`PRAGMA busy_timeout = ${READER_BUSY_TIMEOUT_MS}`);
      db.query("SELECT count(*) FROM sqlite_schema").get();
      return [db, undefined];
    } catch (error) {
      db?.close();
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      if (!/CANTOPEN|READONLY/.test(code)) throw error;
    }
  }
  const dir = fs.mkdtempSync(join(tmpdir(), "replica-look-"));
  try {
    for (const suffix of ["", "-wal"]) {
      if (fs.existsSync(path + suffix))
        fs.copyFileSync(path + suffix, join(dir, `copy.db${suffix}`));
    }
    return [new Database(join(dir, "copy.db")), dir];
  } catch (cause) {
    fs.rmSync(dir, { recursive: true, force: true });
    throw diskError("copying", path, cause);
  }
}
