import type { Database } from "bun:sqlite";
import { ReplicaError } from "../../base/errors.ts";

/** The tables of a database, as each format version of it has them. */
export interface Schema {
  /** The newest format, kept in SQLite's user_version. */
  readonly version: number;
  /** The SQL that brings a database to each version from the one before it. */
  readonly migrations: Readonly<Record<number, string>>;
  /** What is kept beside the database, as a message names it. */
  readonly describes: string;
}

const FIRST_VERSION = `
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

/** A trigger, so that no way to write a mark forgets it. */
function turnsAfter(change: "INSERT" | "UPDATE OF at_ms"): string {
  return `CREATE TRIGGER clock_turns_${change.slice(0, 6)} AFTER ${change} ON marks
    WHEN NEW.at_ms < (SELECT at_ms FROM marks WHERE generation = NEW.generation AND id < NEW.id ORDER BY id DESC LIMIT 1)
    BEGIN INSERT OR IGNORE INTO clock_turns VALUES (NEW.id, NEW.generation); END;`;
}

/** Marks that were there before `clock_turns`: those after one row, up to another. See `findTurns`. */
const UNSCANNED_MARKS = `CREATE TABLE IF NOT EXISTS unscanned_marks (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    after_mark INTEGER NOT NULL,
    up_to_mark INTEGER NOT NULL
  ) STRICT;`;

const MIGRATIONS: Readonly<Record<number, string>> = {
  1: FIRST_VERSION,
  2: `CREATE TABLE chosen_primary (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    given TEXT NOT NULL,
    followed TEXT
  ) STRICT;`,
  // crc64 covers the log's bytes from crc_from up to durable_offset.
  3: `ALTER TABLE marks ADD COLUMN crc_from INTEGER; ALTER TABLE marks ADD COLUMN crc64 TEXT;`,
  // Where times go back, so that a search by time need not read every mark.
  4: `CREATE TABLE clock_turns (
    mark INTEGER PRIMARY KEY REFERENCES marks ON DELETE CASCADE,
    generation INTEGER NOT NULL
  ) STRICT;
  ${turnsAfter("INSERT")}
  ${turnsAfter("UPDATE OF at_ms")}
  ${UNSCANNED_MARKS}
  INSERT INTO unscanned_marks SELECT 1, 0, id FROM marks ORDER BY id DESC LIMIT 1;`,
  // Ages count in lived time: it begins where the wall clock stood.
  5: `ALTER TABLE generations ADD COLUMN rdb_keys INTEGER;
  ALTER TABLE generations ADD COLUMN rdb_keys_db INTEGER;
  ALTER TABLE generations ADD COLUMN small_beside INTEGER;
  ALTER TABLE generations ADD COLUMN current_lived_ms INTEGER;
  ALTER TABLE generations ADD COLUMN sealed_lived_ms INTEGER;
  UPDATE generations SET current_lived_ms = current_at_ms, sealed_lived_ms = sealed_at_ms;
  CREATE TABLE guards (
    generation INTEGER PRIMARY KEY,
    rdb_bytes INTEGER NOT NULL,
    rdb_keys INTEGER,
    rdb_keys_db INTEGER,
    has_writes INTEGER NOT NULL,
    since_lived_ms INTEGER NOT NULL,
    well_lived_ms INTEGER
  ) STRICT;
  CREATE TABLE lived (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    lived_ms INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    uptime_ms INTEGER NOT NULL
  ) STRICT;`,
  // Where an earlier version of this program filled clock_turns at once.
  6: UNSCANNED_MARKS,
  // For the status page: how the last day went, a row a minute.
  7: `CREATE TABLE samples (
    at_ms INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    written INTEGER NOT NULL,
    durable INTEGER NOT NULL,
    archived INTEGER,
    lag_ms INTEGER,
    archive_lag_ms INTEGER,
    is_up INTEGER NOT NULL
  ) STRICT;`,
};

/** `replica.db`. */
export const REPLICA_SCHEMA: Schema = {
  version: 7,
  migrations: MIGRATIONS,
  describes: "generations",
};

/** The format version of a database; 0 for one without tables. */
export function versionOf(db: Database): number {
  return db.query<{ user_version: number }, []>("PRAGMA user_version").get()!.user_version;
}

/** @throws ReplicaError DIRECTORY_TOO_NEW for a format that this program does not know. */
export function refuseNewer(path: string, version: number, schema = REPLICA_SCHEMA): void {
  if (version <= schema.version) return;
  throw new ReplicaError("DIRECTORY_TOO_NEW", {
    retry: "never",
    message: `${path} was written by a newer replica (format ${version}, this one knows ${schema.version}): use that version`,
  });
}

/** Brings a database from format `version` to the newest, in one transaction. @throws SQLiteError. */
export function migrate(db: Database, version: number, schema = REPLICA_SCHEMA): void {
  if (version >= schema.version) return;
  db.transaction(() => {
    for (let next = version + 1; next <= schema.version; next++) db.run(schema.migrations[next]!);
    db.run(`PRAGMA user_version = ${schema.version}`);
  })();
}
