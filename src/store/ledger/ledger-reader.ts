import type { Database } from "bun:sqlite";
import * as fs from "node:fs";
import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import { databaseError } from "./database-error.ts";
import { GuardedDatabase } from "./guarded-database.ts";
import { type UnfinishedGeneration, unfinishedGenerations } from "./keep-tables.ts";
import {
  earliestMarkMs,
  type FoundMark,
  lastMarkAt,
  lastMarkBefore,
  markPages,
} from "./mark-search.ts";
import { openToRead } from "./open-database.ts";
import { replicationIds } from "./replication-ids.ts";
import { refuseNewer, versionOf } from "./schema.ts";
import { BASE_OFFSET } from "./sound-row.ts";
import { parseTrust, type Trust } from "./trust.ts";

/** A time, in milliseconds since 1970, and how far a generation's log was written then. */
export interface Moment {
  readonly atMs: number;
  readonly offset: Offset;
}

/** A part of a log whose CRC64 is recorded: the bytes after `fromOffset`, up to `toOffset`. */
export interface KnownSegment {
  readonly fromOffset: Offset;
  readonly toOffset: Offset;
  /** In hex. */
  readonly crc64: string;
}

/** A whole generation, as the ledger records it. */
export interface GenerationRecord {
  readonly id: number;
  readonly state: "current" | "sealed";
  readonly sealedReason: string | null;
  readonly primaryName: string;
  readonly baseOffset: Offset;
  readonly streamDb: number;
  readonly logHeaderBytes: number;
  readonly rdbBytes: number;
  /** In hex. */
  readonly rdbCrc64: string;
  readonly rdbChecked: boolean;
}

/** The first and the last mark of a generation. */
export interface MarkRange {
  readonly first: Moment;
  readonly last: Moment;
  readonly durableOffset: Offset;
}

/** Above this, SQLite's integrity check takes more than half a second. */
const WHOLE_CHECK_BYTES = 32 * 1024 * 1024;

/** How many of a generation's marks are complained of: the first ones tell enough. */
const MAX_COMPLAINTS = 10;

const GENERATION = `id, state, sealed_reason AS sealedReason, primary_name AS primaryName, base_offset AS baseOffset, stream_db AS streamDb,
  log_header_bytes AS logHeaderBytes, rdb_bytes AS rdbBytes, rdb_crc64 AS rdbCrc64, rdb_checked AS rdbChecked`;
const MOMENT = "at_ms AS atMs, written_offset AS offset";

/**
 * Reads `replica.db` without changing a byte of it, while a replica runs on it or on a copy. Every method
 * throws its failures as ReplicaError DIRECTORY_DAMAGED or DISK_FAILED.
 */
export class LedgerReader implements Disposable {
  /** What the last process left behind; read before the marks, which are all there if it had stopped. */
  readonly trust: Trust | undefined;
  readonly #db: Database;
  readonly #sql: GuardedDatabase;
  /** The folder of the copy that is read instead, where the database itself can't be. */
  readonly #copyDir: string | undefined;

  /** @throws ReplicaError DIRECTORY_TOO_NEW, DIRECTORY_DAMAGED for no sound database; DISK_FAILED. */
  constructor(path: string) {
    try {
      [this.#db, this.#copyDir] = openToRead(path);
    } catch (cause) {
      throw databaseError(path, cause, "reading");
    }
    this.#sql = new GuardedDatabase(this.#db, path, "reading");
    try {
      refuseNewer(
        path,
        this.#sql.guard(() => versionOf(this.#db)),
      );
      const row = this.#sql.get<{ boot_id: string }>("SELECT boot_id FROM boot");
      this.trust = row && parseTrust(row.boot_id);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The generations that can be restored, oldest first. */
  generations(): GenerationRecord[] {
    return this.#sql
      .all<Omit<GenerationRecord, "rdbChecked"> & { rdbChecked: number }>(
        `SELECT ${GENERATION} FROM generations WHERE state IN ('current', 'sealed') ORDER BY id`,
      )
      .map((row) => ({ ...row, rdbChecked: row.rdbChecked === 1 }));
  }

  /** See `Ledger.ids`. */
  ids(): number[] {
    return this.#sql.all<{ id: number }>("SELECT id FROM generations").map(({ id }) => id);
  }

  /** See `Ledger.unfinished`. */
  unfinished(): UnfinishedGeneration[] {
    return unfinishedGenerations(this.#sql);
  }

  /** The histories that a generation's stream has been in, the last one last. */
  replicationIds(id: number): ReplicationIdFrom[] {
    return replicationIds(this.#sql, id);
  }

  /** The first and the last mark of a generation; undefined where it has none. */
  markRange(id: number): MarkRange | undefined {
    const mark = (order: "ASC" | "DESC") =>
      this.#sql.get<Moment & { durableOffset: Offset }>(
        `SELECT ${MOMENT}, durable_offset AS durableOffset, ${BASE_OFFSET} FROM marks WHERE generation = ? ORDER BY id ${order} LIMIT 1`,
        id,
      );
    const [first, last] = [mark("ASC"), mark("DESC")];
    if (first === undefined || last === undefined) return undefined;
    return {
      first: { atMs: first.atMs, offset: first.offset },
      last: { atMs: last.atMs, offset: last.offset },
      durableOffset: last.durableOffset,
    };
  }

  /** The earliest time of a generation's marks: not the first one's where the clock was set back. */
  earliestMs(id: number): number | undefined {
    return this.#sql.transaction(() => earliestMarkMs(this.#sql, id));
  }

  /** The last moment of a generation that is not after `atMs`; undefined before all of them. */
  momentBefore(id: number, atMs: number): Moment | undefined {
    return this.#sql.transaction(() => momentAt(lastMarkAt(this.#sql, id, atMs)));
  }

  /** The first moment at which a generation's log held `offset`; undefined where no mark covers it. */
  momentOf(id: number, offset: Offset): Moment | undefined {
    return this.#sql.transaction(() =>
      this.#sql.get<Moment>(
        `SELECT ${MOMENT} FROM marks WHERE generation = ? AND id > ? ORDER BY id LIMIT 1`,
        id,
        lastMarkBefore(this.#sql, id, offset)?.id ?? 0,
      ),
    );
  }

  /** Some moments of a generation, in the order of its log, from the first on at which it held `offset`. */
  momentsFrom(id: number, offset: Offset): readonly Moment[] {
    return this.#sql.transaction(() => {
      const after = lastMarkBefore(this.#sql, id, offset)?.id ?? 0;
      const [page = []] = markPages(this.#sql, id, after).take(1);
      return page.map(({ atMs, writtenOffset }) => ({ atMs, offset: writtenOffset }));
    });
  }

  /** The parts of a generation's log that have a checksum, in the order of the log. */
  *segments(id: number): Generator<KnownSegment> {
    for (const page of markPages(this.#sql, id)) {
      for (const { crcFrom, durableOffset, crc64 } of page) {
        if (crcFrom === null || crc64 === null) continue;
        yield { fromOffset: crcFrom, toOffset: durableOffset, crc64 };
      }
    }
  }

  /**
   * What SQLite's own integrity check finds wrong; empty where the database is sound. It can't be stopped, so
   * of a large one it checks all but the marks: \`markComplaints\` reads each of those.
   */
  integrityComplaints(): string[] {
    const { bytes } = this.#sql.get<{ bytes: number }>(
      "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size",
    )!;
    const tables =
      bytes <= WHOLE_CHECK_BYTES
        ? [undefined]
        : this.#sql
            .all<{ name: string }>(
              "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'marks'",
            )
            .map(({ name }) => name);
    return tables
      .flatMap((name) =>
        this.#sql.all<{ integrity_check: string }>(
          `PRAGMA integrity_check${name === undefined ? "" : `(${name})`}`,
        ),
      )
      .map((row) => row.integrity_check)
      .filter((text) => text !== "ok");
  }

  /**
   * Marks that can't be: offsets rise from the snapshot to the end of the log, and times rise with them.
   * @param setBackMs a time that goes back by this much or more tells that the clock was set back.
   * @returns page by page, so that the caller can stop in between; the first ten complaints of a generation.
   */
  *markComplaints(setBackMs: number): Generator<string[]> {
    for (const { id: generation, baseOffset } of this.generations()) {
      let before = { atMs: -Infinity, durableOffset: baseOffset };
      let left = MAX_COMPLAINTS;
      for (const page of markPages(this.#sql, generation)) {
        const wrong: string[] = [];
        for (const mark of page) {
          const { id, atMs, writtenOffset, durableOffset } = mark;
          const isBack = atMs < before.atMs && atMs > before.atMs - setBackMs;
          const isWrong = isBack || durableOffset < before.durableOffset;
          if (left > 0 && (isWrong || writtenOffset < durableOffset)) {
            wrong.push(
              `mark ${id} of generation ${generation} does not follow from the one before it`,
            );
            left--;
          }
          before = mark;
        }
        yield wrong;
      }
    }
  }

  [Symbol.dispose](): void {
    this.#db.close();
    if (this.#copyDir !== undefined) fs.rmSync(this.#copyDir, { recursive: true, force: true });
  }
}

function momentAt(mark: FoundMark | undefined): Moment | undefined {
  return mark && { atMs: mark.atMs, offset: mark.writtenOffset };
}
