import type { Database } from "bun:sqlite";
import { invariant } from "../../base/errors.ts";
import type { Offset, ReplicationId } from "../../base/history.ts";
import { ReplicaDatabase } from "./database.ts";
import type { Disk } from "../disk/disk.ts";
import { parseTrust, type Trust, trustText } from "./trust.ts";

/** A replication id, and the offset from which on the stream is of that history. */
export interface ReplicationIdFrom {
  readonly replid: ReplicationId;
  readonly fromOffset: Offset;
}

/** A generation that is whole: its snapshot is verified and durable. */
export interface Generation {
  readonly id: number;
  readonly primaryName: string;
  readonly currentAtMs: number;
  readonly baseOffset: Offset;
  readonly rdbBytes: number;
  /** The checksum in the snapshot's last 8 bytes, in hex; all zero where the primary made none. */
  readonly rdbCrc64: string;
  /** Length of the SELECT before the stream: file position = offset - baseOffset + this. */
  readonly logHeaderBytes: number;
}

/** A generation that another one has taken the place of. */
export interface SealedGeneration {
  readonly id: number;
  readonly sealedAtMs: number;
}

/** A generation that is not one, or no longer. */
export interface UnfinishedGeneration {
  readonly id: number;
  /** Where it is one that was sealed, and is to be removed. */
  readonly sealedAtMs: number | null;
  /** Once it has its snapshot and its log. */
  readonly baseOffset: Offset | null;
  readonly logHeaderBytes: number | null;
}

/** A part of the log, by offsets, and the CRC64 of its bytes: from behind `fromOffset` up to a mark. */
export interface Segment {
  readonly fromOffset: Offset;
  readonly crc64: bigint;
}

/** How far the log of a generation was written and durable when a mark was made; offsets. */
export interface Mark {
  readonly atMs: number;
  readonly writtenOffset: Offset;
  readonly durableOffset: Offset;
  /** Of the log's bytes from behind its beginning up to `durableOffset`. */
  readonly segment?: Segment | undefined;
}

/** What a snapshot that was kept is known by. */
export interface KeptSnapshot {
  readonly replid: ReplicationId | undefined;
  readonly baseOffset: Offset;
  readonly streamDb: number;
  readonly rdbBytes: number;
  readonly rdbCrc64: string;
  readonly rdbChecked: boolean;
  readonly logHeaderBytes: number;
}

/** What a generation goes on from that took its place while the stream went on. */
export interface Continuation {
  /** The histories of its stream; the first is the snapshot's own. */
  readonly replicationIds: readonly ReplicationIdFrom[];
  /** When the snapshot was as of now, in milliseconds since 1970. */
  readonly grantedAtMs: number;
  /** So far its log is written and durable, and this is its checksum. */
  readonly durableOffset: Offset;
  readonly segment: Segment;
}

/** What else is said of a generation that becomes current. */
export interface Promotion {
  /** Why the one before is sealed. */
  readonly sealReason: string;
  readonly atMs: number;
  /** What it says of its log from now on. */
  readonly trust: Trust;
  readonly continued: Continuation | undefined;
}

const GENERATION = `id, primary_name AS primaryName, current_at_ms AS currentAtMs, base_offset AS baseOffset, rdb_bytes AS rdbBytes,
  rdb_crc64 AS rdbCrc64, log_header_bytes AS logHeaderBytes`;

/** What `replica.db` says: which generations there are, and how much of each was ever promised. */
export class Ledger {
  readonly #database: ReplicaDatabase;
  readonly #db: Database;
  /** The mark that was inserted last, and where its segment begins. */
  #lastMark: { generation: number; row: number | bigint; fromOffset: Offset } | undefined;

  /** See `ReplicaDatabase`. */
  constructor(path: string, disk: Disk, isNew: boolean) {
    this.#database = new ReplicaDatabase(path, disk, isNew);
    this.#db = this.#database.db;
  }

  /** See `ReplicaDatabase.sync`. */
  sync(): Promise<void> {
    return this.#database.sync();
  }

  close(): void {
    this.#database.close();
  }

  /** What the last process left behind; undefined where nothing was ever kept. */
  trust(): Trust | undefined {
    const row = this.#db.query<{ boot_id: string }, []>("SELECT boot_id FROM boot").get();
    return row === null ? undefined : parseTrust(row.boot_id);
  }

  /** Records what a start after a crash may keep of the log. */
  setTrust(trust: Trust): void {
    this.#db.run("INSERT OR REPLACE INTO boot VALUES (1, ?)", [trustText(trust)]);
  }

  /** Notes that a snapshot begins; `least` is the lowest id that is free on disk. */
  begin(primaryName: string, atMs: number, least: number): number {
    const row = this.#db
      .query<{ id: number }, [number]>(
        "SELECT max(?, 1 + coalesce(max(id), 0)) AS id FROM generations",
      )
      .get(least)!;
    this.#db.run(
      "INSERT INTO generations (id, state, primary_name, began_at_ms) VALUES (?, 'receiving', ?, ?)",
      [row.id, primaryName, atMs],
    );
    return row.id;
  }

  /**
   * Makes a generation the current one, known good in this boot, and seals the one before, in one
   * step; durable when this returns, undone where it throws.
   */
  promote(
    id: number,
    kept: KeptSnapshot,
    { sealReason, atMs, trust, continued }: Promotion,
  ): Generation {
    const before = this.current()?.id;
    const promotion = this.#db.transaction(() => {
      this.#db.run(
        "UPDATE generations SET state = 'sealed', sealed_reason = ?, sealed_at_ms = ? WHERE state = 'current'",
        [sealReason, atMs],
      );
      const { changes } = this.#db.run(
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
      if (continued !== undefined && before !== undefined) {
        this.#continue(id, before, kept.baseOffset, continued, atMs);
      } else {
        if (kept.replid !== undefined) this.addReplicationId(id, kept.replid, kept.baseOffset);
        const { baseOffset } = kept;
        this.#insertMark(id, { atMs, writtenOffset: baseOffset, durableOffset: baseOffset });
      }
      this.setTrust(trust);
      return this.current()!;
    });
    return this.#database.durably(promotion);
  }

  /** Takes over from the generation before what its stream was, and what was when, behind `baseOffset`. */
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
    const later = this.#db
      .query<Mark, [number, number, number]>(
        `SELECT at_ms AS atMs, written_offset AS writtenOffset, max(durable_offset, ?) AS durableOffset
         FROM marks WHERE generation = ? AND written_offset > ? ORDER BY id`,
      )
      .all(baseOffset, before, baseOffset);
    const baseAtMs = Math.min(grantedAtMs, later[0]?.atMs ?? atMs);
    this.#insertMark(id, {
      atMs: baseAtMs,
      writtenOffset: baseOffset,
      durableOffset: baseOffset,
    });
    for (const mark of later) this.#insertMark(id, mark);
    this.#insertMark(id, { atMs, writtenOffset: durableOffset, durableOffset, segment });
  }

  /** Forgets a generation that never became whole. */
  forget(id: number): void {
    this.#db.run("DELETE FROM generations WHERE id = ? AND state = 'receiving'", [id]);
  }

  /** A generation has its snapshot, and a log that begins so: what comes next is that it becomes current. */
  lay(id: number, baseOffset: Offset, logHeaderBytes: number): void {
    this.#db.run(
      "UPDATE generations SET base_offset = ?, log_header_bytes = ? WHERE id = ? AND state = 'receiving'",
      [baseOffset, logHeaderBytes, id],
    );
  }

  /** Those that never became whole, or are to be removed. */
  unfinished(): UnfinishedGeneration[] {
    return this.#db
      .query<UnfinishedGeneration, []>(
        `SELECT id, sealed_at_ms AS sealedAtMs, base_offset AS baseOffset, log_header_bytes AS logHeaderBytes
         FROM generations WHERE state = 'receiving'`,
      )
      .all();
  }

  ids(): number[] {
    const rows = this.#db.query<{ id: number }, []>("SELECT id FROM generations").all();
    return rows.map(({ id }) => id);
  }

  /** Those that were current once, the newest first. */
  sealed(): SealedGeneration[] {
    return this.#db
      .query<SealedGeneration, []>(
        `SELECT id, sealed_at_ms AS sealedAtMs FROM generations WHERE state = 'sealed' ORDER BY id DESC`,
      )
      .all();
  }

  /** Forgets up to `most` marks of a generation, so that no call takes long; whether there were as many. */
  forgetMarks(id: number, most: number): boolean {
    const { changes } = this.#db.run(
      "DELETE FROM marks WHERE id IN (SELECT id FROM marks WHERE generation = ? LIMIT ?)",
      [id, most],
    );
    return changes === most;
  }

  /** A generation is to be removed: from now on it counts as one that never became whole. */
  condemn(id: number): void {
    this.#db.run("UPDATE generations SET state = 'receiving' WHERE id = ? AND state = 'sealed'", [
      id,
    ]);
  }

  countByState(): [state: string, count: number][] {
    return this.#db
      .query<{ state: string; count: number }, []>(
        "SELECT state, count(*) AS count FROM generations GROUP BY state",
      )
      .all()
      .map(({ state, count }) => [state, count]);
  }

  current(): Generation | undefined {
    return (
      this.#db
        .query<Generation, []>(`SELECT ${GENERATION} FROM generations WHERE state = 'current'`)
        .get() ?? undefined
    );
  }

  /** Those that are whole, the current one first, then the sealed ones from the newest on. */
  whole(): Generation[] {
    return this.#db
      .query<Generation, []>(
        `SELECT ${GENERATION} FROM generations WHERE state IN ('current', 'sealed') ORDER BY id DESC`,
      )
      .all();
  }

  /** The histories that a generation's stream has been in; the last one is it now. */
  replicationIds(id: number): ReplicationIdFrom[] {
    return this.#db
      .query<ReplicationIdFrom, [number]>(
        `SELECT replid, from_offset AS fromOffset FROM replication_ids
         WHERE generation = ? ORDER BY rowid`,
      )
      .all(id);
  }

  /** Whom to follow where `given` is named at start, as CONFIG REWRITE left it; null: nobody. */
  chosenPrimary(given: string): string | null | undefined {
    const row = this.#db
      .query<{ followed: string | null }, [string]>(
        "SELECT followed FROM chosen_primary WHERE given = ?",
      )
      .get(given);
    return row === null ? undefined : row.followed;
  }

  /** Durable when this returns. */
  choosePrimary(given: string, followed: string | null): void {
    this.#database.durably(() =>
      this.#db.run("INSERT OR REPLACE INTO chosen_primary VALUES (1, ?, ?)", [given, followed]),
    );
  }

  /** From `fromOffset` on the stream is of history `replid`. */
  addReplicationId(id: number, replid: ReplicationId, fromOffset: Offset): void {
    this.#db.run("INSERT INTO replication_ids VALUES (?, ?, ?)", [id, fromOffset, replid]);
  }

  /**
   * Commits a mark; it counts after the next `sync`. Only after the data sync that it speaks of. One
   * whose segment begins where the last one's did takes its place.
   */
  mark(id: number, mark: Mark): void {
    const last = this.#lastMark;
    const { segment } = mark;
    if (
      segment !== undefined &&
      last?.generation === id &&
      last.fromOffset === segment.fromOffset
    ) {
      this.#db.run(
        "UPDATE marks SET at_ms = ?, written_offset = ?, durable_offset = ?, crc64 = ? WHERE id = ?",
        [mark.atMs, mark.writtenOffset, mark.durableOffset, hexOf(segment.crc64), last.row],
      );
      return;
    }
    const row = this.#insertMark(id, mark);
    this.#lastMark =
      segment === undefined ? undefined : { generation: id, row, fromOffset: segment.fromOffset };
  }

  #insertMark(id: number, mark: Mark): number | bigint {
    const { lastInsertRowid } = this.#db.run(
      `INSERT INTO marks (generation, at_ms, written_offset, durable_offset, crc_from, crc64)
       VALUES (?, ?, ?, ?, ?, ?)`,
      [
        id,
        mark.atMs,
        mark.writtenOffset,
        mark.durableOffset,
        mark.segment?.fromOffset ?? null,
        mark.segment === undefined ? null : hexOf(mark.segment.crc64),
      ],
    );
    return lastInsertRowid;
  }

  lastMark(id: number): Mark | undefined {
    return (
      this.#db
        .query<Mark, [number]>(
          `SELECT at_ms AS atMs, written_offset AS writtenOffset, durable_offset AS durableOffset
           FROM marks WHERE generation = ? ORDER BY id DESC LIMIT 1`,
        )
        .get(id) ?? undefined
    );
  }

  /** Notes what happened, for `status` and for people who look later. */
  event(kind: string, detail: string, atMs: number): void {
    this.#db.run("INSERT INTO events VALUES (?, ?, ?)", [atMs, kind, detail]);
    this.#db.run("DELETE FROM events WHERE rowid <= (SELECT max(rowid) - 10000 FROM events)");
  }
}

function hexOf(crc64: bigint): string {
  return crc64.toString(16).padStart(16, "0");
}
