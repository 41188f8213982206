import type { Disk } from "../../store/disk/disk.ts";
import { ReplicaDatabase } from "../../store/ledger/database.ts";
import type { GuardedDatabase } from "../../store/ledger/guarded-database.ts";
import { formatRanges, type SlotRange } from "../slots/slot-ranges.ts";
import { CLUSTER_SCHEMA, clusterDatabase } from "./cluster-schema.ts";
import { LAYOUT, type LayoutRow } from "./layouts.ts";
import { OtherShards } from "./other-shards.ts";
import { type MemberRecord, readMembers, readShards, type ShardRecord } from "./shard-records.ts";
import { forgetLayouts, thinLayouts } from "./thin-layouts.ts";

/** What one look at the cluster found. */
export interface SeenLayout {
  readonly atMs: number;
  readonly epoch: number;
  /** By the shards' numbers. */
  readonly slots: ReadonlyMap<number, readonly SlotRange[]>;
}

/** A slot that is being migrated, by the shards' numbers. */
export interface SeenOpenSlot {
  readonly slot: number;
  readonly source: number;
  readonly target: number;
}

/** A node of a shard, and where it is. */
export type SeenMember = Pick<MemberRecord, "nodeId" | "host" | "port">;

/** How often the database is told that a layout still holds: each write is synced. */
const CONFIRM_MS = 5_000;

/** How many events are kept, for people who look later. */
const EVENTS = 10_000;

/**
 * Reads and writes `cluster.db` for the process that owns the cluster's directory. What is written survives a kill at
 * once, and a power cut after `sync`. Every method throws its failures as ReplicaError DIRECTORY_DAMAGED, DISK_FULL or
 * DISK_FAILED.
 */
export class ClusterLedger {
  /** The shards that other processes follow. */
  readonly others: OtherShards;
  readonly #database: ReplicaDatabase;
  readonly #sql: GuardedDatabase;
  /** The slots of each shard in the newest layout, as text; undefined before they were read. */
  #newest: Map<number, string> | undefined;
  #isClosed = false;

  /**
   * @param dir the cluster's directory.
   * @param isNew whether it keeps nothing yet: only then is a missing database created.
   */
  constructor(dir: string, disk: Disk, isNew: boolean) {
    this.#database = new ReplicaDatabase(clusterDatabase(dir), disk, isNew, CLUSTER_SCHEMA);
    this.#sql = this.#database.sql;
    this.others = new OtherShards(this.#sql);
  }

  /** See `ReplicaDatabase.sync`. */
  sync(): Promise<void> {
    return this.#database.sync();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#database.close();
  }

  /** All shards, by their numbers; those that have ended too. */
  shards(): ShardRecord[] {
    return readShards(this.#sql);
  }

  /** Every node that was ever seen in a shard. */
  members(): MemberRecord[] {
    return readMembers(this.#sql);
  }

  /**
   * Records a new shard.
   * @param least the lowest number whose folder is free.
   * @param random eight hex digits, which tell it from the shards of other directories.
   */
  addShard(
    shardId: string | undefined,
    atMs: number,
    least = 1,
    random = Buffer.from(crypto.getRandomValues(new Uint8Array(4))).toString("hex"),
  ): ShardRecord {
    return this.#sql.transaction(() => {
      const { number } = this.#sql.get<{ number: number }>(
        "SELECT max(?, 1 + coalesce(max(number), 0)) AS number FROM shards",
        least,
      )!;
      const name = `${String(number).padStart(4, "0")}-${random}`;
      this.#sql.run("INSERT INTO shards (number, name, shard_id, started_ms) VALUES (?, ?, ?, ?)", [
        number,
        name,
        shardId ?? null,
        atMs,
      ]);
      return {
        number,
        name,
        shardId,
        startedMs: atMs,
        endedMs: undefined,
        endedWhy: undefined,
      };
    });
  }

  /** Records the id that the servers have for a shard: they may tell it only after an upgrade. */
  nameShard(number: number, shardId: string): void {
    this.#sql.run("UPDATE shards SET shard_id = ? WHERE number = ?", [shardId, number]);
  }

  /** Records that a shard is no more. Its row and its directory stay. */
  endShard(number: number, atMs: number, why: string): void {
    this.#sql.run(
      "UPDATE shards SET ended_ms = ?, ended_why = ? WHERE number = ? AND ended_ms IS NULL",
      [atMs, why, number],
    );
  }

  /** Records where a shard's nodes were seen. */
  sawMembers(shard: number, atMs: number, nodes: readonly SeenMember[]): void {
    this.#sql.transaction(() => this.#putMembers(shard, atMs, nodes));
  }

  #putMembers(shard: number, atMs: number, nodes: readonly SeenMember[]): void {
    for (const { nodeId, host, port } of nodes) {
      this.#sql.run(
        `INSERT INTO members VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
           SET host = excluded.host, port = excluded.port, last_ms = excluded.last_ms`,
        [shard, nodeId, host, port, atMs, atMs],
      );
    }
  }

  /**
   * Records the nodes of all shards in one view. Whoever isn't among them was seen before, though the clock was set back since:
   * by these times it is known who left, and to which shard a node has moved.
   */
  sawAllMembers(atMs: number, shards: ReadonlyMap<number, readonly SeenMember[]>): void {
    this.#sql.transaction(() => {
      this.#sql.run("UPDATE members SET last_ms = ?1 - 1 WHERE last_ms >= ?1", [atMs]);
      for (const [shard, nodes] of shards) this.#putMembers(shard, atMs, nodes);
    });
  }

  /** Forgets nodes that weren't seen for long. */
  forgetMembers(nodeIds: readonly string[]): void {
    this.#sql.transaction(() => {
      for (const id of nodeIds) this.#sql.run("DELETE FROM members WHERE node_id = ?", [id]);
    });
  }

  /** The highest epoch that any view had; 0 before the first. */
  highestEpoch(): number {
    return this.#sql.get<{ epoch: number }>("SELECT epoch FROM highest_epoch")?.epoch ?? 0;
  }

  /**
   * Records what a look at the cluster found. A layout like the one before makes no new row.
   * @returns whether something was written that ought to be synced.
   */
  sawLayout({ atMs, epoch, slots }: SeenLayout): boolean {
    return this.#sql.transaction(() => {
      const newest = (this.#newest ??= this.#newestSlots());
      const texts = new Map([...slots].map(([shard, ranges]) => [shard, formatRanges(ranges)]));
      const shards = new Set([...newest.keys(), ...texts.keys()]);
      const changed = [...shards].filter(
        (shard) => (newest.get(shard) ?? "") !== (texts.get(shard) ?? ""),
      );
      const last = this.#lastLayout();
      const isHigher = this.#sawEpoch(epoch);
      if (last !== undefined && changed.length === 0) {
        return this.#confirm(last, atMs) || isHigher;
      }
      // Only once all of it is written: what throws undoes the rows, and this isn't a row.
      this.#newest = undefined;
      const { lastInsertRowid: seq } = this.#sql.run(
        "INSERT INTO layouts (at_ms, confirmed_ms, epoch) VALUES (?, ?, ?)",
        [atMs, atMs, epoch],
      );
      for (const shard of changed) {
        this.#sql.run("INSERT INTO layout_slots (shard, layout, slots) VALUES (?, ?, ?)", [
          shard,
          seq,
          texts.get(shard) ?? "",
        ]);
      }
      return true;
    });
  }

  /**
   * Records which slots a look found open: those that it didn't find are closed.
   * @param isKnown whether the look could tell of a shard's open slots; what another one had open stays so.
   * @returns whether something was written that ought to be synced.
   */
  sawOpenSlots(
    atMs: number,
    open: readonly SeenOpenSlot[],
    isKnown: (source: number) => boolean = () => true,
  ): boolean {
    return this.#sql.transaction(() => {
      const key = ({ slot, source, target }: SeenOpenSlot) => `${slot} ${source} ${target}`;
      const before = this.#sql.all<SeenOpenSlot & { id: number }>(
        "SELECT id, slot, source, target FROM open_slots WHERE until_ms IS NULL",
      );
      const now = new Set(open.map(key));
      const was = new Set(before.map(key));
      const closed = before.filter((one) => !now.has(key(one)) && isKnown(one.source));
      const opened = open.filter((one) => !was.has(key(one)));
      for (const { id } of closed) {
        this.#sql.run("UPDATE open_slots SET until_ms = ? WHERE id = ?", [atMs, id]);
      }
      for (const { slot, source, target } of opened) {
        this.#sql.run(
          "INSERT INTO open_slots (slot, source, target, from_ms) VALUES (?, ?, ?, ?)",
          [slot, source, target, atMs],
        );
      }
      return closed.length > 0 || opened.length > 0;
    });
  }

  /** When a look last found the newest layout, in milliseconds since 1970; 0 before the first. */
  lastSeenMs(): number {
    const last = this.#lastLayout();
    return last === undefined ? 0 : Math.max(last.atMs, last.confirmedMs);
  }

  /** Thins out old layouts, some at a time; whether there may be more. See `thinLayouts`. */
  thin(nowMs: number): boolean {
    return thinLayouts(this.#sql, nowMs);
  }

  /** Removes layouts and open slots that no restore needs. See `forgetLayouts`. */
  forgetBefore(neededFromMs: number, openSlots: number): void {
    forgetLayouts(this.#sql, neededFromMs, openSlots);
  }

  /** Records an event, for people who look later: nothing reads it back. */
  event(kind: string, detail: string, atMs: number): void {
    this.#sql.run("INSERT INTO events VALUES (?, ?, ?)", [atMs, kind, detail]);
    this.#sql.run("DELETE FROM events WHERE rowid <= (SELECT max(rowid) - ? FROM events)", [
      EVENTS,
    ]);
  }

  #lastLayout(): LayoutRow | undefined {
    return this.#sql.get<LayoutRow>(`SELECT ${LAYOUT} FROM layouts ORDER BY seq DESC LIMIT 1`);
  }

  #confirm({ seq, confirmedMs }: LayoutRow, atMs: number): boolean {
    // Also where the clock was set back.
    if (Math.abs(atMs - confirmedMs) < CONFIRM_MS) return false;
    this.#sql.run("UPDATE layouts SET confirmed_ms = ? WHERE seq = ?", [atMs, seq]);
    return true;
  }

  #sawEpoch(epoch: number): boolean {
    if (epoch <= this.highestEpoch()) return false;
    this.#sql.run("INSERT OR REPLACE INTO highest_epoch VALUES (1, ?)", [epoch]);
    return true;
  }

  #newestSlots(): Map<number, string> {
    const rows = this.#sql.all<{ shard: number; slots: string }>(
      `SELECT number AS shard, slots FROM shards JOIN layout_slots ON shard = number AND layout =
         (SELECT max(layout) FROM layout_slots WHERE shard = number)`,
    );
    return new Map(rows.map(({ shard, slots }) => [shard, slots]));
  }
}
