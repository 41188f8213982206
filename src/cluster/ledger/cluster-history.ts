import type { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { databaseError } from "../../store/ledger/database-error.ts";
import { GuardedDatabase } from "../../store/ledger/guarded-database.ts";
import { openToRead } from "../../store/ledger/open-database.ts";
import { refuseNewer, versionOf } from "../../store/ledger/schema.ts";
import { CLUSTER_SCHEMA, clusterDatabase } from "./cluster-schema.ts";
import {
  LAYOUT,
  type Layout,
  type LayoutRow,
  type OpenSlot,
  readLayout,
  readLayoutsAfter,
} from "./layouts.ts";
import { type MemberRecord, readMembers, readShards, type ShardRecord } from "./shard-records.ts";

/**
 * Reads `cluster.db` without changing a byte of it, while a replica runs on it or on a copy. Every method throws its
 * failures as ReplicaError DIRECTORY_DAMAGED or DISK_FAILED.
 */
export class ClusterHistory implements Disposable {
  /** By their numbers; those that have ended too. */
  readonly shards: readonly ShardRecord[];
  readonly #path: string;
  readonly #db: Database;
  readonly #sql: GuardedDatabase;
  readonly #copyDir: string | undefined;

  /**
   * @param dir the cluster's directory.
   * @throws ReplicaError DIRECTORY_TOO_NEW; DIRECTORY_DAMAGED for no sound database, or none; DISK_FAILED.
   */
  constructor(dir: string) {
    this.#path = clusterDatabase(dir);
    if (!fs.existsSync(this.#path)) throw missing(this.#path);
    try {
      [this.#db, this.#copyDir] = openToRead(this.#path);
    } catch (cause) {
      throw databaseError(this.#path, cause, "reading");
    }
    this.#sql = new GuardedDatabase(this.#db, this.#path, "reading");
    try {
      const version = this.#sql.guard(() => versionOf(this.#db));
      refuseNewer(this.#path, version, CLUSTER_SCHEMA);
      if (version === 0) throw missing(this.#path);
      this.shards = readShards(this.#sql);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Every node that was ever seen in a shard. */
  members(): readonly MemberRecord[] {
    return readMembers(this.#sql);
  }

  /** When a look last found the newest layout, in milliseconds since 1970: a clock that was set back may be behind it. */
  lastSeenMs(): number {
    const newest = this.#rowAt(Number.MAX_SAFE_INTEGER);
    return newest === undefined ? 0 : Math.max(newest.atMs, newest.confirmedMs);
  }

  /** The last layout that was seen at or before a time; undefined before the first. */
  layoutAt(atMs: number): Layout | undefined {
    return this.#sql.transaction(() => {
      const row = this.#rowAt(atMs);
      return row && readLayout(this.#sql, this.#path, row);
    });
  }

  /** The first layout that was found after the one in force at a time; undefined where none was yet. */
  layoutAfter(atMs: number): Layout | undefined {
    return this.#sql.transaction(() => {
      const row = this.#sql.get<LayoutRow>(
        `SELECT ${LAYOUT} FROM layouts WHERE seq > ? ORDER BY seq LIMIT 1`,
        this.#rowAt(atMs)?.seq ?? 0,
      );
      return row && readLayout(this.#sql, this.#path, row);
    });
  }

  /** The layouts in force between two times, in their order: the one at `fromMs`, and what came up to `toMs`. */
  layouts(fromMs: number, toMs: number): readonly Layout[] {
    return this.#sql.transaction(() => {
      const row = this.#rowAt(fromMs);
      const before = row ?? { seq: 0, atMs: 0, confirmedMs: 0, epoch: 0 };
      const first = readLayout(this.#sql, this.#path, before);
      const later = readLayoutsAfter(this.#sql, this.#path, before, first, toMs);
      return row === undefined ? later : [first, ...later];
    });
  }

  /** The slots that were seen open at some time between two, in the order in which they were opened. */
  openSlots(fromMs: number, toMs: number): readonly OpenSlot[] {
    return this.#sql
      .all<Omit<OpenSlot, "untilMs"> & { untilMs: number | null }>(
        `SELECT slot, source, target, from_ms AS fromMs, until_ms AS untilMs FROM open_slots
         WHERE from_ms <= ? AND (until_ms IS NULL OR until_ms >= ?) ORDER BY from_ms, id`,
        toMs,
        fromMs,
      )
      .map((row) => ({ ...row, untilMs: row.untilMs ?? undefined }));
  }

  [Symbol.dispose](): void {
    this.#db.close();
    if (this.#copyDir !== undefined) fs.rmSync(this.#copyDir, { recursive: true, force: true });
  }

  /** Where the clock was set back, the layout that was seen last. */
  #rowAt(atMs: number): LayoutRow | undefined {
    return this.#sql.get<LayoutRow>(
      `SELECT ${LAYOUT} FROM layouts WHERE at_ms <= ? ORDER BY seq DESC LIMIT 1`,
      atMs,
    );
  }
}

function missing(path: string): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is missing or empty: name the directory that follows the cluster, or restore the file from a copy`,
  });
}
