import type { Offset, ReplicationId, ReplicationIdFrom } from "../../base/history.ts";
import type { GuardedDatabase } from "./guarded-database.ts";

/**
 * How many histories of a stream are kept: a failover adds one, and a primary names as many as it likes. What came
 * before the oldest is in no history then, so that whoever stands there gets a full resync.
 */
export const MAX_HISTORIES = 1_000;

/**
 * Records that a generation's stream is in history `replid` from `fromOffset` on; of more than `MAX_HISTORIES`, forgets
 * the oldest. @throws ReplicaError of the database.
 */
export function addReplicationId(
  sql: GuardedDatabase,
  generation: number,
  replid: ReplicationId,
  fromOffset: Offset,
): void {
  sql.transaction(() => {
    sql.run("INSERT INTO replication_ids VALUES (?, ?, ?)", [generation, fromOffset, replid]);
    sql.run(
      `DELETE FROM replication_ids WHERE generation = ?1 AND rowid <= (SELECT rowid FROM replication_ids
       WHERE generation = ?1 ORDER BY rowid DESC LIMIT 1 OFFSET ?2)`,
      [generation, MAX_HISTORIES],
    );
  });
}

/** The histories that a generation's stream has been in, the last one last. @throws ReplicaError of the database. */
export function replicationIds(sql: GuardedDatabase, generation: number): ReplicationIdFrom[] {
  return sql.all<ReplicationIdFrom>(
    "SELECT replid, from_offset AS fromOffset FROM replication_ids WHERE generation = ? ORDER BY rowid",
    generation,
  );
}
