import { invariant } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import type { Offset, ReplicationId, ReplicationIdFrom } from "../../base/history.ts";
import type { FirstDatabase } from "../../rdb/first-database.ts";
import type { Disk } from "../disk/disk.ts";
import { RecentTables } from "../recent/recent-tables.ts";
import { ReplicaDatabase } from "./database.ts";
import type { GuardedDatabase } from "./guarded-database.ts";
import { isFetched, KeepTables, type LivedMoment, type WorthChange } from "./keep-tables.ts";
import { firstMarkMs, lastMarkBefore } from "./mark-search.ts";
import { addReplicationId, replicationIds } from "./replication-ids.ts";
import { BASE_OFFSET } from "./sound-row.ts";
import { type UnfinishedGeneration, unfinishedGenerations } from "./keep-tables.ts";
import { thinMarks } from "./thin-marks.ts";
import { parseTrust, type Trust, trustText } from "./trust.ts";

/** A whole generation: its snapshot is verified and durable. */
export interface Generation {
  readonly id: number;
  readonly primaryName: string;
  readonly currentAtMs: number;
  readonly baseOffset: Offset;
  readonly rdbBytes: number;
  /** CRC64 of the snapshot without its last 8 bytes, in hex, even where the primary stated no checksum. */
  readonly rdbCrc64: string;
  /** Length of the SELECT before the stream: file position = offset - baseOffset + this. */
  readonly logHeaderBytes: number;
}

/** A part of the log and its CRC64: the bytes after `fromOffset`, up to a mark. */
export interface Segment {
  readonly fromOffset: Offset;
  readonly crc64: bigint;
}

/** A durability mark: how far a generation's log was written and durable at a time. */
export interface Mark {
  readonly atMs: number;
  readonly writtenOffset: Offset;
  readonly durableOffset: Offset;
  /** Covers the log's bytes from its beginning up to `durableOffset`. */
  readonly segment?: Segment | undefined;
}

/** What the ledger records of a verified snapshot. */
export interface KeptSnapshot {
  readonly replid: ReplicationId | undefined;
  readonly baseOffset: Offset;
  readonly streamDb: number;
  readonly rdbBytes: number;
  readonly rdbCrc64: string;
  readonly rdbChecked: boolean;
  readonly logHeaderBytes: number;
  /** How many keys it holds, as far as it says. */
  readonly firstDatabase?: FirstDatabase | undefined;
}

/** What a generation takes over from the one before it when it replaces it in mid-stream. */
export interface Continuation {
  /** The histories of its stream; the first is the snapshot's own. */
  readonly replicationIds: readonly ReplicationIdFrom[];
  /** When the primary granted the snapshot, in milliseconds since 1970. */
  readonly grantedAtMs: number;
  /** How far its log is written and durable, and the checksum up to there. */
  readonly durableOffset: Offset;
  readonly segment: Segment;
}

/** What is recorded when a generation becomes current. */
export interface Promotion {
  /** Why the one before is sealed. */
  readonly sealReason: string;
  readonly atMs: number;
  readonly trust: Trust;
  readonly continued: Continuation | undefined;
  /** What it means for those before, and the lived time. */
  readonly worth: WorthChange;
  readonly lived: LivedMoment;
}

const GENERATION = `id, primary_name AS primaryName, current_at_ms AS currentAtMs, base_offset AS baseOffset, rdb_bytes AS rdbBytes,
  rdb_crc64 AS rdbCrc64, log_header_bytes AS logHeaderBytes`;

/**
 * Reads and writes `replica.db` for the process that owns the data directory: which generations it holds,
 * and how much of each is durable. Every method throws its failures as ReplicaError DIRECTORY_DAMAGED,
 * DISK_FULL or DISK_FAILED.
 */
export class Ledger {
  readonly #database: ReplicaDatabase;
  readonly #sql: GuardedDatabase;
  /** How long to keep what. */
  readonly keeping: KeepTables;
  /** What happened lately. */
  readonly recent: RecentTables;
  /** The mark that was inserted last, and where its segment begins. */
  #lastMark: { generation: number; row: number | bigint; fromOffset: Offset } | undefined;

  /** See `ReplicaDatabase`. */
  constructor(path: string, disk: Disk, isNew: boolean) {
    this.#database = new ReplicaDatabase(path, disk, isNew);
    this.#sql = this.#database.sql;
    this.keeping = new KeepTables(this.#sql);
    this.recent = new RecentTables(this.#sql);
  }

  /** See `ReplicaDatabase.sync`. */
  sync(): Promise<void> {
    return this.#database.sync();
  }

  /** See `ReplicaDatabase.isSynced`. */
  get isSynced(): boolean {
    return this.#database.isSynced;
  }

  /** See `ReplicaDatabase.durably`. */
  durably<T>(act: () => T): Promise<T> {
    return this.#database.durably(act);
  }

  /** See `ReplicaDatabase.checkpointing`. */
  get checkpointing(): Promise<void> | undefined {
    return this.#database.checkpointing;
  }

  close(): void {
    this.#database.close();
  }

  /** What the last process left behind; undefined where nothing was ever kept. */
  trust(): Trust | undefined {
    const row = this.#sql.get<{ boot_id: string }>("SELECT boot_id FROM boot");
    return row && parseTrust(row.boot_id);
  }

  /** Records how much of the log a start after a crash may keep. */
  setTrust(trust: Trust): void {
    this.#sql.run("INSERT OR REPLACE INTO boot VALUES (1, ?)", [trustText(trust)]);
  }

  /**
   * Records that a snapshot begins.
   * @param least the lowest id that is free on disk.
   * @returns the generation's id.
   */
  begin(primaryName: string, atMs: number, least: number): number {
    const { id } = this.#sql.get<{ id: number }>(
      "SELECT max(?, 1 + coalesce(max(id), 0)) AS id FROM generations",
      least,
    )!;
    this.#sql.run(
      "INSERT INTO generations (id, state, primary_name, began_at_ms) VALUES (?, 'receiving', ?, ?)",
      [id, primaryName, atMs],
    );
    return id;
  }

  /** Makes a generation the current one and seals the one before, in one transaction: within `durably`. */
  promote(
    id: number,
    kept: KeptSnapshot,
    { sealReason, atMs, trust, continued, worth, lived }: Promotion,
  ): Generation {
    const before = this.current()?.id;
    this.#database.checkpointSoon();
    return this.#sql.transaction(() => {
      this.#sql.run(
        "UPDATE generations SET state = 'sealed', sealed_reason = ?, sealed_at_ms = ? WHERE state = 'current'",
        [sealReason, atMs],
      );
      const { changes } = this.#sql.run(
        `UPDATE generations SET state = 'current', current_at_ms = ?, base_offset = ?, stream_db = ?,
           rdb_bytes = ?, rdb_crc64 = ?, rdb_checked = ?, log_header_bytes = ? WHERE id = ?`,
        [
          atMs,
          kept.baseOffset,
          kept.streamDb,
          kept.rdbBytes,
          kept.rdbCrc64,
          kept.rdbChecked ? 1 : 0,
          kept.logHeaderBytes,
          id,
        ],
      );
      invariant(changes === 1, `generation ${id} was given up before it became current`);
      const { rdbBytes: bytes, firstDatabase } = kept;
      this.keeping.promoted(id, { bytes, firstDatabase }, worth, lived);
      if (continued !== undefined && before !== undefined) {
        this.#continue(id, before, kept.baseOffset, continued, atMs);
      } else {
        if (kept.replid !== undefined) this.addReplicationId(id, kept.replid, kept.baseOffset);
        const { baseOffset } = kept;
        // That of `layEnd` is not in order.
        this.#sql.run("DELETE FROM marks WHERE generation = ?", [id]);
        this.#insertMark(id, { atMs, writtenOffset: baseOffset, durableOffset: baseOffset });
      }
      this.setTrust(trust);
      return this.current()!;
    });
  }

  /** Takes over the histories of the generation before, and its marks after `baseOffset`. */
  #continue(
    id: number,
    before: number,
    baseOffset: Offset,
    { replicationIds, grantedAtMs, durableOffset, segment }: Continuation,
    atMs: number,
  ): void {
    for (const { replid, fromOffset } of replicationIds) {
      this.addReplicationId(id, replid, fromOffset);
    }
    const later = this.#sql.all<Mark>(
      `SELECT at_ms AS atMs, written_offset AS writtenOffset, max(durable_offset, ?) AS durableOffset
       FROM marks WHERE generation = ? AND id > ? AND written_offset > ? ORDER BY id`,
      baseOffset,
      before,
      lastMarkBefore(this.#sql, before, baseOffset + 1)?.id ?? 0,
      baseOffset,
    );
    const baseAtMs = Math.min(grantedAtMs, later[0]?.atMs ?? atMs);
    this.#insertMark(id, {
      atMs: baseAtMs,
      writtenOffset: baseOffset,
      durableOffset: baseOffset,
    });
    for (const mark of later) this.#insertMark(id, mark);
    this.#insertMark(id, { atMs, writtenOffset: durableOffset, durableOffset, segment });
  }

  /** Records which primary the current generation's stream comes from now. */
  followedFrom(primaryName: string): void {
    this.#sql.run("UPDATE generations SET primary_name = ? WHERE state = 'current'", [primaryName]);
  }

  /** Deletes the row of a generation that never became whole, or that was condemned. */
  forget(id: number): void {
    this.#sql.run("DELETE FROM generations WHERE id = ? AND state = 'receiving'", [id]);
  }

  /** Records where the log of a generation begins, once it has its snapshot: the last step before promotion. */
  lay(id: number, baseOffset: Offset, logHeaderBytes: number): void {
    this.#sql.run(
      "UPDATE generations SET base_offset = ?, log_header_bytes = ? WHERE id = ? AND state = 'receiving'",
      [baseOffset, logHeaderBytes, id],
    );
  }

  /** Records how far the stream beside a snapshot is written to the log of a generation that is about to become current. */
  layEnd(id: number, writtenOffset: Offset, atMs: number): void {
    this.#insertMark(id, { atMs, writtenOffset, durableOffset: writtenOffset });
  }

  /** The generations that never became whole, or that are being removed. */
  unfinished(): UnfinishedGeneration[] {
    return unfinishedGenerations(this.#sql);
  }

  /** The ids of all generations, in any state. */
  ids(): number[] {
    return this.#sql.all<{ id: number }>("SELECT id FROM generations").map(({ id }) => id);
  }

  /** Deletes up to `most` marks of a generation, so that no call takes long; whether it deleted as many. */
  forgetMarks(id: number, most: number): boolean {
    const { changes } = this.#sql.run(
      "DELETE FROM marks WHERE id IN (SELECT id FROM marks WHERE generation = ? LIMIT ?)",
      [id, most],
    );
    return changes === most;
  }

  /** Records that a sealed generation is being removed: from now on it counts as unfinished. */
  condemn(id: number): void {
    this.#sql.run("UPDATE generations SET state = 'receiving' WHERE id = ? AND state = 'sealed'", [
      id,
    ]);
  }

  /** How many generations each state has. */
  countByState(): [state: string, count: number][] {
    return this.#sql
      .all<{ state: string; count: number }>(
        "SELECT state, count(*) AS count FROM generations GROUP BY state",
      )
      .map(({ state, count }) => [state, count]);
  }

  /** Size of the snapshots of all whole generations. */
  snapshotBytes(): number {
    return this.#sql.get<{ bytes: number }>(
      "SELECT coalesce(sum(rdb_bytes), 0) AS bytes FROM generations WHERE state IN ('current', 'sealed')",
    )!.bytes;
  }

  current(): Generation | undefined {
    return this.#sql.get<Generation>(
      `SELECT ${GENERATION} FROM generations WHERE state = 'current'`,
    );
  }

  /** The whole generations: the current one, then the sealed ones, newest first. */
  whole(): Generation[] {
    return this.#sql.all<Generation>(
      `SELECT ${GENERATION} FROM generations WHERE state IN ('current', 'sealed') ORDER BY id DESC`,
    );
  }

  /** The histories that a generation's stream has been in, the present one last. */
  replicationIds(id: number): ReplicationIdFrom[] {
    return replicationIds(this.#sql, id);
  }

  /** The primary that CONFIG REWRITE chose in place of `given`; null: none. Undefined: nothing was chosen. */
  chosenPrimary(given: string): string | null | undefined {
    return this.#sql.get<{ followed: string | null }>(
      "SELECT followed FROM chosen_primary WHERE given = ?",
      given,
    )?.followed;
  }

  /** Records the primary to follow in place of `given`; durable once this resolves. */
  async choosePrimary(given: string, followed: string | null): Promise<void> {
    await this.durably(() => {
      this.#database.checkpointSoon();
      this.#sql.run("INSERT OR REPLACE INTO chosen_primary VALUES (1, ?, ?)", [given, followed]);
    });
  }

  /** See `addReplicationId`. */
  addReplicationId(id: number, replid: ReplicationId, fromOffset: Offset): void {
    addReplicationId(this.#sql, id, replid, fromOffset);
  }

  /**
   * Commits a mark, within `durably`: it counts once that has synced. Call it only after the data sync that the mark
   * records. A mark whose segment begins where the last one's did replaces that one.
   */
  mark(id: number, mark: Mark): void {
    const last = this.#lastMark;
    const { segment } = mark;
    if (
      segment !== undefined &&
      last?.generation === id &&
      last.fromOffset === segment.fromOffset
    ) {
      this.#sql.run(
        "UPDATE marks SET at_ms = ?, written_offset = ?, durable_offset = ?, crc64 = ? WHERE id = ?",
        [mark.atMs, mark.writtenOffset, mark.durableOffset, hex64(segment.crc64), last.row],
      );
      return;
    }
    const row = this.#insertMark(id, mark);
    this.#lastMark =
      segment === undefined ? undefined : { generation: id, row, fromOffset: segment.fromOffset };
  }

  #insertMark(id: number, mark: Mark): number | bigint {
    const { lastInsertRowid } = this.#sql.run(
      `INSERT INTO marks (generation, at_ms, written_offset, durable_offset, crc_from, crc64)
       VALUES (?, ?, ?, ?, ?, ?)`,
      [
        id,
        mark.atMs,
        mark.writtenOffset,
        mark.durableOffset,
        mark.segment?.fromOffset ?? null,
        mark.segment === undefined ? null : hex64(mark.segment.crc64),
      ],
    );
    return lastInsertRowid;
  }

  /** Thins out old marks of a generation, some at a time. See `thinMarks`. */
  thinMarks(id: number, after: number, nowMs: number): number | undefined {
    return thinMarks(this.#sql, id, after, nowMs);
  }

  lastMark(id: number): Mark | undefined {
    return this.#sql.get<Mark>(
      `SELECT at_ms AS atMs, written_offset AS writtenOffset, durable_offset AS durableOffset, ${BASE_OFFSET}
       FROM marks WHERE generation = ? ORDER BY id DESC LIMIT 1`,
      id,
    );
  }

  /** See `firstMarkMs`. */
  firstMarkMs(): number | undefined {
    return firstMarkMs(this.#sql);
  }

  /** See `isFetched`. */
  isFetched(): boolean {
    return isFetched(this.#sql);
  }
}
