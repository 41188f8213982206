import type { Offset } from "../../base/history.ts";
import type { FirstDatabase } from "../../rdb/first-database.ts";
import type { GuardedDatabase } from "./guarded-database.ts";

/** How large a snapshot is: what tells whether it is worth what the one before it was. */
export interface SnapshotSize {
  readonly bytes: number;
  /** Undefined where the snapshot doesn't say. */
  readonly firstDatabase: FirstDatabase | undefined;
}

/** A generation that is about to be replaced. */
export interface Replaced extends SnapshotSize {
  readonly id: number;
  /** Whether its log holds more than a primary's heartbeat. It counts where the snapshot is empty. */
  readonly hasWrites: boolean;
}

/**
 * A generation of worth: what came after it had less than half of its keys or bytes. It outlives `--keep` and
 * `--keep-for`.
 */
export interface Guard extends Replaced {
  /** When it was replaced, in lived time; milliseconds. */
  readonly sinceLivedMs: number;
  /** When as much was current again, in lived time; undefined while it isn't. */
  readonly wellLivedMs: number | undefined;
}

/** What a new generation changes about the worth of those before it. */
export interface WorthChange {
  /** The one before it, from now on guarded; undefined where it isn't. */
  readonly guarded: Replaced | undefined;
  /** The generation that the new one is small beside: the largest. Undefined where it is of worth. */
  readonly smallBeside: Replaced | undefined;
  /** Guarded generations beside which the new one isn't small any more. */
  readonly well: readonly number[];
}

/** Lived time at a moment, as it is kept for the next process. */
export interface LivedMoment {
  readonly livedMs: number;
  readonly bootId: string;
  readonly uptimeMs: number;
}

/** A generation that another one has replaced. */
export interface SealedGeneration {
  readonly id: number;
  /** When it became current and when it was sealed, in lived time; milliseconds. */
  readonly currentLivedMs: number;
  readonly sealedLivedMs: number;
  readonly rdbBytes: number;
  readonly logHeaderBytes: number;
  /** Whether its snapshot holds no key. */
  readonly isEmpty: boolean;
  /** Whether its snapshot had less than half of what an earlier one had. */
  readonly isSmall: boolean;
}

interface SizeRow {
  readonly bytes: number;
  readonly keys: number | null;
  readonly db: number | null;
}

const SIZE = "rdb_bytes AS bytes, rdb_keys AS keys, rdb_keys_db AS db";

function sizeOf({ bytes, keys, db }: SizeRow): SnapshotSize {
  return {
    bytes,
    firstDatabase: keys === null ? undefined : { db: db ?? undefined, keys },
  };
}

/**
 * What `replica.db` knows about how long to keep what: lived time, sizes, and which generations are guarded. Every
 * method throws its failures as ReplicaError DIRECTORY_DAMAGED, DISK_FULL or DISK_FAILED.
 */
export class KeepTables {
  readonly #sql: GuardedDatabase;

  constructor(sql: GuardedDatabase) {
    this.#sql = sql;
  }

  /** Undefined where no process has kept it yet. */
  lived(): LivedMoment | undefined {
    return this.#sql.get<LivedMoment>(
      "SELECT lived_ms AS livedMs, boot_id AS bootId, uptime_ms AS uptimeMs FROM lived",
    );
  }

  setLived({ livedMs, bootId, uptimeMs }: LivedMoment): void {
    this.#sql.run("INSERT OR REPLACE INTO lived VALUES (1, ?, ?, ?)", [livedMs, bootId, uptimeMs]);
  }

  /** The size of a whole generation's snapshot. */
  sizeOf(id: number): SnapshotSize {
    return sizeOf(this.#sql.get<SizeRow>(`SELECT ${SIZE} FROM generations WHERE id = ?`, id)!);
  }

  /** The sealed generations, newest first. */
  sealed(): SealedGeneration[] {
    return this.#sql
      .all<Omit<SealedGeneration, "isEmpty" | "isSmall"> & { isEmpty: 0 | 1; isSmall: 0 | 1 }>(
        `SELECT id, current_lived_ms AS currentLivedMs, sealed_lived_ms AS sealedLivedMs, rdb_bytes AS rdbBytes,
           log_header_bytes AS logHeaderBytes, coalesce(rdb_keys = 0, 0) AS isEmpty,
           small_beside IS NOT NULL AS isSmall
         FROM generations WHERE state = 'sealed' ORDER BY id DESC`,
      )
      .map((row) => ({ ...row, isEmpty: row.isEmpty === 1, isSmall: row.isSmall === 1 }));
  }

  /** The guarded generations, oldest first; their folders may be gone for want of room. */
  guards(): Guard[] {
    return this.#sql
      .all<SizeRow & { id: number; hasWrites: 0 | 1; since: number; well: number | null }>(
        `SELECT generation AS id, ${SIZE}, has_writes AS hasWrites, since_lived_ms AS since, well_lived_ms AS well
         FROM guards ORDER BY generation`,
      )
      .map(({ id, hasWrites, since, well, ...size }) => ({
        ...sizeOf(size),
        id,
        hasWrites: hasWrites === 1,
        sinceLivedMs: since,
        wellLivedMs: well ?? undefined,
      }));
  }

  /** Records what a new generation is, within the transaction that makes it current. */
  promoted(id: number, size: SnapshotSize, change: WorthChange, moment: LivedMoment): void {
    const { guarded, smallBeside, well } = change;
    const { livedMs } = moment;
    this.#sql.run(
      "UPDATE generations SET sealed_lived_ms = ? WHERE state = 'sealed' AND sealed_lived_ms IS NULL",
      [livedMs],
    );
    this.#sql.run(
      `UPDATE generations SET current_lived_ms = ?, rdb_keys = ?, rdb_keys_db = ?, small_beside = ? WHERE id = ?`,
      [
        livedMs,
        size.firstDatabase?.keys ?? null,
        size.firstDatabase?.db ?? null,
        smallBeside?.id ?? null,
        id,
      ],
    );
    this.setLived(moment);
    for (const one of well) this.endGuard(one, livedMs);
    if (guarded === undefined) return;
    const { bytes, firstDatabase, hasWrites } = guarded;
    this.#sql.run("INSERT OR REPLACE INTO guards VALUES (?, ?, ?, ?, ?, ?, NULL)", [
      guarded.id,
      bytes,
      firstDatabase?.keys ?? null,
      firstDatabase?.db ?? null,
      hasWrites ? 1 : 0,
      livedMs,
    ]);
  }

  /** What is current counts as well, however small. It counts after the next `sync`. */
  accept(livedMs: number): void {
    this.#sql.transaction(() => {
      this.#sql.run("UPDATE guards SET well_lived_ms = ? WHERE well_lived_ms IS NULL", [livedMs]);
      this.#sql.run("UPDATE generations SET small_beside = NULL WHERE state = 'current'");
    });
  }

  /** As much as this generation had is current again, or it was missed for long enough. */
  endGuard(id: number, livedMs: number): void {
    this.#sql.run("UPDATE guards SET well_lived_ms = ? WHERE generation = ?", [livedMs, id]);
  }

  /** Nothing guards this generation any more. */
  dropGuard(id: number): void {
    this.#sql.run("DELETE FROM guards WHERE generation = ?", [id]);
  }
}

/** A generation that never became whole, or that is being removed. */
export interface UnfinishedGeneration {
  readonly id: number;
  /** Set for a sealed generation that is being removed. */
  readonly sealedAtMs: number | null;
  /** Set once its snapshot and its log exist. */
  readonly baseOffset: Offset | null;
  readonly logHeaderBytes: number | null;
  /**
   * How far its log was written before it was to become current; set where the stream came beside the snapshot. Its only
   * mark says so: one that was current has others.
   */
  readonly writtenOffset: Offset | null;
}

/** The generations that never became whole, or that are being removed. @throws ReplicaError of the database. */
export function unfinishedGenerations(sql: GuardedDatabase): UnfinishedGeneration[] {
  return sql.all<UnfinishedGeneration>(
    `SELECT id, sealed_at_ms AS sealedAtMs, base_offset AS baseOffset, log_header_bytes AS logHeaderBytes,
       (SELECT CASE count(*) WHEN 1 THEN max(written_offset) END FROM marks
        WHERE generation = generations.id) AS writtenOffset
     FROM generations WHERE state = 'receiving'`,
  );
}

/** The event of a generation that was fetched from an archive; its detail is the generation's id. */
export const FETCHED = "fetched";

/** Whether what is current was fetched from an archive, and no primary has continued it. @throws ReplicaError of the database. */
export function isFetched(sql: GuardedDatabase): boolean {
  const found = sql.get<{ count: number }>(
    `SELECT count(*) AS count FROM events JOIN generations ON detail = CAST(id AS TEXT)
     WHERE kind = ? AND state = 'current' AND NOT EXISTS (SELECT 1 FROM events WHERE kind = 'partial-resync')`,
    FETCHED,
  );
  return (found?.count ?? 0) > 0;
}
