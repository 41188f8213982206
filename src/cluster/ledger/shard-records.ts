import type { GuardedDatabase } from "../../store/ledger/guarded-database.ts";

/** A shard that is followed, or was. */
export interface ShardRecord {
  /** Never used again, also once the shard has ended. */
  readonly number: number;
  /** `NNNN-` and eight random hex digits: tells it from the shards of every other directory. */
  readonly name: string;
  /** As the servers name it; undefined where none has told. */
  readonly shardId: string | undefined;
  readonly startedMs: number;
  /** Undefined while it is followed. */
  readonly endedMs: number | undefined;
  readonly endedWhy: string | undefined;
}

/** A node that was seen in a shard. */
export interface MemberRecord {
  readonly shard: number;
  readonly nodeId: string;
  readonly host: string;
  readonly port: number;
  readonly firstMs: number;
  readonly lastMs: number;
}

interface ShardRow {
  readonly number: number;
  readonly name: string;
  readonly shardName: string | null;
  readonly startedMs: number;
  readonly endedMs: number | null;
  readonly endedWhy: string | null;
}

/** All shards, by their numbers. @throws ReplicaError of the database. */
export function readShards(sql: GuardedDatabase): ShardRecord[] {
  return sql
    .all<ShardRow>(
      `SELECT number, name, shard_id AS shardName, started_ms AS startedMs, ended_ms AS endedMs,
         ended_why AS endedWhy FROM shards ORDER BY number`,
    )
    .map(({ number, name, shardName, startedMs, endedMs, endedWhy }) => ({
      number,
      name,
      shardId: shardName ?? undefined,
      startedMs,
      endedMs: endedMs ?? undefined,
      endedWhy: endedWhy ?? undefined,
    }));
}

/** All nodes ever seen, those of each shard in the order in which they were first seen. @throws ReplicaError. */
export function readMembers(sql: GuardedDatabase): MemberRecord[] {
  return sql
    .all<Omit<MemberRecord, "nodeId"> & { node: string }>(
      `SELECT shard, node_id AS node, host, port, first_ms AS firstMs, last_ms AS lastMs
       FROM members ORDER BY shard, first_ms, node_id`,
    )
    .map(({ node, ...row }) => ({ ...row, nodeId: node }));
}
