import type { GuardedDatabase } from "../../store/ledger/guarded-database.ts";
import type { MemberRecord, ShardRecord } from "./shard-records.ts";

/**
 * The shards of the cluster that other processes follow, as `cluster.db` has them: so that one of them is known again,
 * whatever becomes of the order of the shards. Their numbers mean nothing outside this table.
 */
export class OtherShards {
  readonly #sql: GuardedDatabase;

  constructor(sql: GuardedDatabase) {
    this.#sql = sql;
  }

  shards(): ShardRecord[] {
    const nothing = { name: "", endedMs: undefined, endedWhy: undefined };
    return this.#sql
      .all<{ number: number; sharedId: string | null; startedMs: number }>(
        "SELECT number, shard_id AS sharedId, started_ms AS startedMs FROM other_shards ORDER BY number",
      )
      .map(({ number, sharedId, startedMs }) => ({
        ...nothing,
        number,
        startedMs,
        shardId: sharedId ?? undefined,
      }));
  }

  members(): MemberRecord[] {
    return this.#sql.all<MemberRecord>(
      `SELECT other AS shard, node_id AS nodeId, host, port, first_ms AS firstMs, last_ms AS lastMs
       FROM other_members ORDER BY other, first_ms, node_id`,
    );
  }

  addShard(shardId: string | undefined, atMs: number): ShardRecord {
    const { lastInsertRowid: number } = this.#sql.run(
      "INSERT INTO other_shards (shard_id, started_ms) VALUES (?, ?)",
      [shardId ?? null, atMs],
    );
    const nothing = { name: "", endedMs: undefined, endedWhy: undefined };
    return { ...nothing, number: Number(number), shardId, startedMs: atMs };
  }

  nameShard(number: number, shardId: string): void {
    this.#sql.run("UPDATE other_shards SET shard_id = ? WHERE number = ?", [shardId, number]);
  }

  endShard(number: number): void {
    this.#sql.transaction(() => {
      this.#sql.run("DELETE FROM other_members WHERE other = ?", [number]);
      this.#sql.run("DELETE FROM other_shards WHERE number = ?", [number]);
    });
  }

  sawMembers(
    shard: number,
    atMs: number,
    nodes: readonly Pick<MemberRecord, "nodeId" | "host" | "port">[],
  ): void {
    this.#sql.transaction(() => {
      for (const { nodeId, host, port } of nodes) {
        // It is in one shard at a time.
        this.#sql.run("DELETE FROM other_members WHERE node_id = ?", [nodeId]);
        this.#sql.run("INSERT INTO other_members VALUES (?, ?, ?, ?, ?, ?)", [
          shard,
          nodeId,
          host,
          port,
          atMs,
          atMs,
        ]);
      }
    });
  }

  forgetMembers(nodeIds: readonly string[]): void {
    this.#sql.transaction(() => {
      for (const id of nodeIds) this.#sql.run("DELETE FROM other_members WHERE node_id = ?", [id]);
    });
  }

  /** The place of a shard among all; undefined where a crash came before it was recorded. */
  placeOf(number: number): number | undefined {
    const sql = "SELECT place FROM other_shards WHERE number = ?";
    return this.#sql.get<{ place: number | null }>(sql, number)?.place ?? undefined;
  }

  putAt(number: number, place: number): void {
    this.#sql.run("UPDATE other_shards SET place = ? WHERE number = ?", [place, number]);
  }

  /** The places that shards were given, ours and others', by the nodes that led them then. */
  places(): Map<string, number> {
    const rows = this.#sql.all<{ nodeId: string; place: number }>(
      "SELECT node_id AS nodeId, place FROM places",
    );
    return new Map(rows.map(({ nodeId, place }) => [nodeId, place]));
  }

  /** Gives places to several at once: a failure between them must not give one another's place. */
  givePlaces(places: ReadonlyMap<string, number>): void {
    this.#sql.transaction(() => {
      for (const [nodeId, place] of places) {
        this.#sql.run("INSERT INTO places VALUES (?, ?)", [nodeId, place]);
      }
    });
  }
}
