import type { Disk } from "../../store/disk/disk.ts";
import { ReplicaDatabase } from "../../store/ledger/database.ts";
import { formatRanges } from "../slots/slot-ranges.ts";
import { CLUSTER_SCHEMA, clusterDatabase } from "./cluster-schema.ts";
import type { Layout, OpenSlot } from "./layouts.ts";
import type { ShardRecord } from "./shard-records.ts";

/** What `cluster.db` tells of a cluster's past. */
export interface WrittenHistory {
  readonly shards: readonly ShardRecord[];
  /** In their order. */
  readonly layouts: readonly Layout[];
  readonly openSlots: readonly OpenSlot[];
}

/**
 * Writes a new `cluster.db` of what is known from elsewhere: to be read, never to go on from.
 * @param dir a folder without one.
 * @throws ReplicaError of the database.
 */
export function writeHistory(dir: string, disk: Disk, history: WrittenHistory): void {
  const database = new ReplicaDatabase(clusterDatabase(dir), disk, true, CLUSTER_SCHEMA);
  const { sql } = database;
  try {
    sql.transaction(() => {
      for (const { number, name, shardId, startedMs, endedMs, endedWhy } of history.shards) {
        sql.run(
          "INSERT INTO shards (number, name, shard_id, started_ms, ended_ms, ended_why) VALUES (?, ?, ?, ?, ?, ?)",
          [number, name, shardId ?? null, startedMs, endedMs ?? null, endedWhy ?? null],
        );
      }
      for (const { atMs, confirmedMs, epoch, slots } of history.layouts) {
        const { lastInsertRowid: seq } = sql.run(
          "INSERT INTO layouts (at_ms, confirmed_ms, epoch) VALUES (?, ?, ?)",
          [atMs, confirmedMs, epoch],
        );
        // A shard that a layout doesn't name owns nothing in it.
        for (const { number } of history.shards) {
          const text = formatRanges(slots.get(number) ?? []);
          sql.run("INSERT INTO layout_slots (shard, layout, slots) VALUES (?, ?, ?)", [
            number,
            seq,
            text,
          ]);
        }
      }
      for (const { slot, source, target, fromMs, untilMs } of history.openSlots) {
        sql.run(
          "INSERT INTO open_slots (slot, source, target, from_ms, until_ms) VALUES (?, ?, ?, ?, ?)",
          [slot, source, target, fromMs, untilMs ?? null],
        );
      }
    });
  } finally {
    database.close();
  }
}
