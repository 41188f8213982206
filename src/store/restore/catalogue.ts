import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import {
  MAX_HEADER_BYTES,
  parseRdbHeader,
  type RdbHeader,
  replicationAux,
} from "../../rdb/header.ts";
import type { Offset } from "../../base/history.ts";
import { selectCommand } from "../../resp/encode.ts";
import { refuseNewer, versionOf } from "../ledger/database.ts";
import { databaseError } from "../ledger/database-error.ts";
import { parseTrust } from "../ledger/trust.ts";
import { diskError } from "../disk/disk.ts";
import type { ReplicationIdFrom } from "../ledger/ledger.ts";
import { BASE, CURRENT, generationPath, LOG, MANIFEST } from "../generation/layout.ts";
import { CLOCK_SET_BACK_MS } from "../generation/mark-clock.ts";
import { walDamage } from "../ledger/wal.ts";

/** A moment of a generation: at this time, in milliseconds since 1970, its log was written so far. */
export interface Moment {
  readonly atMs: number;
  readonly offset: Offset;
}

/** A part of a log, by offsets, whose CRC64 is known: the bytes behind `fromOffset` up to `toOffset`. */
export interface KnownSegment {
  readonly fromOffset: Offset;
  readonly toOffset: Offset;
  readonly crc64: string;
}

/** Something of the database that is not there any more. */
export interface Loss {
  readonly file: string;
  readonly byte: number | undefined;
  readonly what: string;
  readonly meaning: string;
}

/** A generation that can be restored, as the database tells it, or its files where that is lost. */
export interface KeptGeneration {
  readonly id: number;
  readonly dir: string;
  readonly state: "current" | "sealed";
  readonly sealedReason: string | undefined;
  readonly primaryName: string | undefined;
  readonly baseOffset: Offset;
  /** The database that the log's first command selects. */
  readonly streamDb: number;
  readonly logHeaderBytes: number;
  readonly rdbBytes: number;
  /** In hex; undefined where the database is lost. */
  readonly rdbCrc64: string | undefined;
  readonly rdbChecked: boolean;
  /** The last offset that is promised; without a database, the last that the file may hold. */
  readonly durableOffset: Offset;
  /** When it was as its snapshot, and when its log was last written; unknown without a database. */
  readonly first: Moment | undefined;
  readonly last: Moment | undefined;
  readonly replicationIds: readonly ReplicationIdFrom[];
}

/** So long it is waited for whoever holds the database. */
const BUSY_TIMEOUT_MS = 5_000;
const KEPT = `id, state, sealed_reason AS sealedReason, primary_name AS primaryName, base_offset AS baseOffset, stream_db AS streamDb,
  log_header_bytes AS logHeaderBytes, rdb_bytes AS rdbBytes, rdb_crc64 AS rdbCrc64, rdb_checked AS rdbChecked`;
const MOMENT = "at_ms AS atMs, written_offset AS offset";

type Row = Pick<
  KeptGeneration,
  | "id"
  | "state"
  | "primaryName"
  | "baseOffset"
  | "streamDb"
  | "logHeaderBytes"
  | "rdbBytes"
  | "rdbCrc64"
> & { readonly sealedReason: string | null; readonly rdbChecked: number };

/**
 * What a data directory holds, looked at and never changed: while a replica runs on it, or on a copy.
 */
export class Catalogue implements Disposable {
  readonly path: string;
  /** The oldest first. */
  readonly generations: readonly KeptGeneration[];
  /** What is lost of the database, and what that means for a restore. */
  readonly losses: readonly Loss[];
  /** Whether nothing ran on it, and what ran before had ended with all of its log behind marks. */
  readonly #wasStopped: boolean = false;
  readonly #db: Database | undefined;
  readonly #temporary: string | undefined;

  /**
   * @throws ReplicaError USAGE for a folder that is none of a replica, DIRECTORY_TOO_NEW,
   * DIRECTORY_DAMAGED for a database that is no sound one, DISK_FAILED.
   */
  constructor(dir: string) {
    this.path = resolve(dir);
    if (!isFolder(join(this.path, "generations"))) {
      throw new ReplicaError("USAGE", {
        retry: "never",
        message: `${dir} is no data directory of replica: it has no folder named generations`,
      });
    }
    const database = join(this.path, "replica.db");
    if (!fs.existsSync(database) || fs.statSync(database).size === 0) {
      const { generations, unreadable } = fromFiles(this.path);
      this.generations = generations;
      const meaning =
        "what is told here is read from the files, without times and without checksums of the logs: restores go by offset alone";
      this.losses = [
        { file: database, byte: undefined, what: "it is missing or empty", meaning },
        ...unreadable,
      ];
      return;
    }
    try {
      [this.#db, this.#temporary] = openToRead(database);
      refuseNewer(database, versionOf(this.#db));
      // Before the marks: those of a replica that stops just now are all there, then.
      this.#wasStopped = this.#readWasStopped();
      this.generations = this.#db
        .query<Row, []>(
          `SELECT ${KEPT} FROM generations WHERE state IN ('current', 'sealed') ORDER BY id`,
        )
        .all()
        .map((row) => this.#generation(row));
      this.losses = [...lossesOfLog(database), ...this.#unknownFolders(database)];
    } catch (cause) {
      this[Symbol.dispose]();
      throw databaseError(database, cause, "reading");
    }
  }

  /** Folders that are whole, and of which the database does not know that. */
  #unknownFolders(file: string): Loss[] {
    const meaning = "nothing of it can be restored unless the database is moved away";
    const known = this.#db!.query<{ id: number }, []>(
      "SELECT id FROM generations WHERE state <> 'receiving' OR base_offset IS NOT NULL",
    ).all();
    return foldersOf(this.path)
      .filter((id) => known.every((row) => row.id !== id))
      .filter((id) => fs.existsSync(join(this.path, generationPath(id), MANIFEST)))
      .map((id) => ({
        file,
        byte: undefined,
        what: `it has lost that generation ${id} is whole`,
        meaning,
      }));
  }

  #readWasStopped(): boolean {
    const row = this.#db!.query<{ bootId: string }, []>("SELECT boot_id AS bootId FROM boot").get();
    return row !== null && parseTrust(row.bootId).kind === "stopped";
  }

  #generation(row: Row): KeptGeneration {
    const db = this.#db!;
    const marks = (order: string) =>
      db
        .query<Moment & { durableOffset: Offset }, [number]>(
          `SELECT ${MOMENT}, durable_offset AS durableOffset FROM marks WHERE generation = ? ORDER BY id ${order} LIMIT 1`,
        )
        .get(row.id);
    const [first, last] = [marks("ASC"), marks("DESC")];
    return {
      ...row,
      dir: join(this.path, generationPath(row.id)),
      sealedReason: row.sealedReason ?? undefined,
      rdbChecked: row.rdbChecked === 1,
      durableOffset: last?.durableOffset ?? row.baseOffset,
      first: first === null ? undefined : { atMs: first.atMs, offset: first.offset },
      last: last === null ? undefined : { atMs: last.atMs, offset: last.offset },
      replicationIds: db
        .query<ReplicationIdFrom, [number]>(
          "SELECT replid, from_offset AS fromOffset FROM replication_ids WHERE generation = ? ORDER BY rowid",
        )
        .all(row.id),
    };
  }

  /** Whether `before`, read earlier, is current and ends where it did then, and nothing runs on it. */
  isAtRest(before: KeptGeneration): boolean {
    const now = this.generations.find(({ id }) => id === before.id);
    const isSame = now?.state === "current" && now.durableOffset === before.durableOffset;
    return this.#wasStopped && isSame;
  }

  /** The earliest time that a generation has marks of, which is not the first one's where a clock was set back. */
  earliestMs(id: number): number | undefined {
    const sql = "SELECT min(at_ms) AS atMs FROM marks WHERE generation = ?";
    return this.#db?.query<{ atMs: number | null }, [number]>(sql).get(id)?.atMs ?? undefined;
  }

  /** The last moment of a generation that is not after `atMs`; undefined before all of them. */
  momentBefore(id: number, atMs: number): Moment | undefined {
    return this.#moment(
      `SELECT ${MOMENT} FROM marks WHERE generation = ? AND at_ms <= ? ORDER BY id DESC LIMIT 1`,
      id,
      atMs,
    );
  }

  /** The first moment at which a generation's log held `offset`; undefined where no mark tells. */
  momentOf(id: number, offset: Offset): Moment | undefined {
    return this.#moment(
      `SELECT ${MOMENT} FROM marks WHERE generation = ? AND written_offset >= ? ORDER BY id LIMIT 1`,
      id,
      offset,
    );
  }

  #moment(sql: string, id: number, value: number): Moment | undefined {
    return this.#db?.query<Moment, [number, number]>(sql).get(id, value) ?? undefined;
  }

  /** All moments of a generation, the first one first. */
  *moments(id: number): Generator<Moment> {
    if (this.#db === undefined) return;
    const sql = `SELECT ${MOMENT} FROM marks WHERE generation = ? ORDER BY id`;
    yield* this.#db.query<Moment, [number]>(sql).iterate(id);
  }

  /** The parts of a generation's log that have a checksum, from its beginning on. */
  *segments(id: number): Generator<KnownSegment> {
    if (this.#db === undefined || !this.#hasChecksums) return;
    yield* this.#db
      .query<KnownSegment, [number]>(
        `SELECT crc_from AS fromOffset, durable_offset AS toOffset, crc64 FROM marks
         WHERE generation = ? AND crc64 IS NOT NULL ORDER BY id`,
      )
      .iterate(id);
  }

  /** A folder that an older version wrote has none. */
  get #hasChecksums(): boolean {
    return (
      this.#db!.query("SELECT 1 FROM pragma_table_info('marks') WHERE name = 'crc64'").get() !==
      null
    );
  }

  /**
   * What SQLite itself finds wrong with the database; empty where it is sound.
   */
  complaints(): string[] {
    if (this.#db === undefined) return [];
    const rows = this.#db.query<{ integrity_check: string }, []>("PRAGMA integrity_check").all();
    return rows.map((row) => row.integrity_check).filter((text) => text !== "ok");
  }

  /** Marks that say what can't be: they rise, and lie between the snapshot and the end of the log. */
  markComplaints(): string[] {
    if (this.#db === undefined) return [];
    const wrong = this.#db.query<{ generation: number; id: number }, []>(
      `SELECT id, generation FROM (
         SELECT m.*, g.base_offset, lag(at_ms) OVER before AS at_before,
           lag(written_offset) OVER before AS written_before,
           lag(durable_offset) OVER before AS durable_before
         FROM marks m JOIN generations g ON g.id = m.generation WHERE g.state <> 'receiving'
         WINDOW before AS (PARTITION BY m.generation ORDER BY m.id))
       WHERE durable_offset < base_offset OR written_offset < durable_offset
         OR (at_ms < at_before AND at_ms > at_before - ${CLOCK_SET_BACK_MS}) OR durable_offset < durable_before LIMIT 10`,
    );
    return wrong
      .all()
      .map(
        ({ generation, id }) =>
          `mark ${id} of generation ${generation} does not follow from the one before`,
      );
  }

  [Symbol.dispose](): void {
    this.#db?.close();
    if (this.#temporary !== undefined) fs.rmSync(this.#temporary, { recursive: true, force: true });
  }
}

/** Whether a data directory no longer keeps a generation: a replica that runs may have removed it. */
export function isGone(path: string, id: number): boolean {
  using now = new Catalogue(path);
  return now.generations.every((generation) => generation.id !== id);
}

function isFolder(path: string): boolean {
  try {
    return fs.statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/**
 * Opens a database without changing a byte of it. To read one with a write-ahead log SQLite needs a file
 * beside it; where it may not make that, it reads a copy, which goes with the catalogue.
 */
function openToRead(path: string): [Database, string | undefined] {
  const isInUse = fs.existsSync(`${path}-shm`);
  if (isInUse) {
    try {
      const db = new Database(path, { readonly: true });
      // A replica that starts after a kill holds it for a moment.
      db.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
      db.query("SELECT count(*) FROM sqlite_schema").get();
      return [db, undefined];
    } catch (error) {
      if (!/CANTOPEN|READONLY/.test(codeOf(error))) throw error;
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

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

function lossesOfLog(database: string): Loss[] {
  const byte = walDamage(database);
  if (byte === undefined) return [];
  const meaning =
    "SQLite drops all that was written behind it: the last marks, so that less may be restored than was durable";
  return [{ file: `${database}-wal`, byte, what: "its checksum does not hold there", meaning }];
}

function foldersOf(path: string): number[] {
  return fs
    .readdirSync(join(path, "generations"))
    .filter((name) => /^\d{10}$/.test(name))
    .map(Number)
    .toSorted((a, b) => a - b);
}

/** Without a database: what the snapshots' own aux fields and the lengths of the files tell. */
function fromFiles(path: string): { generations: KeptGeneration[]; unreadable: Loss[] } {
  const ids = foldersOf(path).filter((id) =>
    [BASE, LOG].every((name) => fs.existsSync(join(path, generationPath(id), name))),
  );
  const current = currentId(path) ?? ids.at(-1);
  const generations: KeptGeneration[] = [];
  const unreadable: Loss[] = [];
  for (const id of ids) {
    try {
      generations.push(generationFromFiles(path, id, id === current));
    } catch (error) {
      if (!(error instanceof ReplicaError && error.code === "BAD_PAYLOAD")) throw error;
      const file = join(path, generationPath(id), BASE);
      const meaning = "nothing of this generation can be restored";
      unreadable.push({ file, byte: undefined, what: error.message, meaning });
    }
  }
  return { generations, unreadable };
}

function currentId(path: string): number | undefined {
  try {
    return Number(/(\d{10})\/?$/.exec(fs.readlinkSync(join(path, CURRENT)))?.[1]);
  } catch {
    return undefined;
  }
}

function generationFromFiles(path: string, id: number, isCurrent: boolean): KeptGeneration {
  const dir = join(path, generationPath(id));
  const aux = replicationAux(headerOf(join(dir, BASE)));
  const logHeaderBytes = selectCommand(aux.streamDb).length;
  const baseOffset = aux.position?.offset ?? 0;
  const logBytes = fs.statSync(join(dir, LOG)).size;
  return {
    id,
    dir,
    state: isCurrent ? "current" : "sealed",
    sealedReason: undefined,
    primaryName: undefined,
    baseOffset,
    streamDb: aux.streamDb,
    logHeaderBytes,
    rdbBytes: fs.statSync(join(dir, BASE)).size,
    rdbCrc64: undefined,
    rdbChecked: false,
    durableOffset: baseOffset + Math.max(0, logBytes - logHeaderBytes),
    first: undefined,
    last: undefined,
    replicationIds:
      aux.position === undefined
        ? []
        : [{ replid: aux.position.replid, fromOffset: aux.position.offset }],
  };
}

/** The beginning of an RDB file. @throws ReplicaError BAD_PAYLOAD, DISK_FAILED. */
export function headerOf(path: string): RdbHeader {
  let head: Buffer;
  try {
    const fd = fs.openSync(path, "r");
    try {
      head = Buffer.alloc(MAX_HEADER_BYTES + 1);
      head = head.subarray(0, fs.readSync(fd, head, 0, head.length, 0));
    } finally {
      fs.closeSync(fd);
    }
  } catch (cause) {
    throw diskError("reading", path, cause);
  }
  const header = parseRdbHeader(head);
  if (header !== undefined) return header;
  throw new ReplicaError("BAD_PAYLOAD", {
    retry: "never",
    message: `${path} ends inside its header`,
  });
}
