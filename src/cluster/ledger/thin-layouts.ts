import type { GuardedDatabase } from "../../store/ledger/guarded-database.ts";
import { LAYOUT, type LayoutRow } from "./layouts.ts";

/** Layouts that are younger stay as they are. */
const KEEP_ALL_MS = 24 * 60 * 60_000;

/** Nor is anything looked at that is older: it was, unless nothing ran for a week. */
const LOOKED_AT_MS = 8 * KEEP_ALL_MS;

/** How many layouts one call takes out: it takes a few milliseconds. */
const ROWS_AT_ONCE = 1_000;

/**
 * Leaves one layout a second, the last, of those older than a day: until then the one before holds.
 * @returns whether there may be more to take out.
 * @throws ReplicaError of the database.
 */
export function thinLayouts(sql: GuardedDatabase, nowMs: number): boolean {
  return sql.transaction(() => {
    const rows = sql.all<LayoutRow>(
      `SELECT ${LAYOUT} FROM layouts AS this WHERE at_ms >= ? AND at_ms < ?
         AND at_ms / 1000 = (SELECT next.at_ms / 1000 FROM layouts AS next WHERE next.seq > this.seq ORDER BY seq LIMIT 1)
       ORDER BY seq LIMIT ?`,
      nowMs - LOOKED_AT_MS,
      nowMs - KEEP_ALL_MS,
      ROWS_AT_ONCE,
    );
    for (const { seq } of rows) {
      const { next } = sql.get<{ next: number }>(
        "SELECT min(seq) AS next FROM layouts WHERE seq > ?",
        seq,
      )!;
      // What the next one says of a shard counts; of the others, what this one said.
      sql.run("UPDATE OR IGNORE layout_slots SET layout = ? WHERE layout = ?", [next, seq]);
      sql.run("DELETE FROM layout_slots WHERE layout = ?", [seq]);
      sql.run("DELETE FROM layouts WHERE seq = ?", [seq]);
    }
    return rows.length === ROWS_AT_ONCE;
  });
}

/**
 * Removes what no restore needs: layouts before the one that held at a time, and slots that were closed before it; of
 * closed slots the oldest, too, where there are too many.
 * @param neededFromMs the earliest moment that some shard can be restored to, and some time before.
 * @param openSlots how many closed slots are kept at the most.
 * @throws ReplicaError of the database.
 */
export function forgetLayouts(sql: GuardedDatabase, neededFromMs: number, openSlots: number): void {
  sql.transaction(() => {
    sql.run("DELETE FROM open_slots WHERE until_ms < ?", [neededFromMs]);
    sql.run(
      "DELETE FROM open_slots WHERE until_ms IS NOT NULL AND id <= (SELECT max(id) - ? FROM open_slots)",
      [openSlots],
    );
    const { seq } = sql.get<{ seq: number | null }>(
      "SELECT max(seq) AS seq FROM layouts WHERE at_ms <= ?",
      neededFromMs,
    )!;
    if (seq === null) return;
    // Each shard's last row says what it owned from then on.
    sql.run(
      `DELETE FROM layout_slots WHERE layout < ?1 AND layout <
         (SELECT max(layout) FROM layout_slots AS last WHERE last.shard = layout_slots.shard AND last.layout <= ?1)`,
      [seq],
    );
    sql.run("UPDATE layout_slots SET layout = ?1 WHERE layout < ?1", [seq]);
    sql.run("DELETE FROM layouts WHERE seq < ?", [seq]);
  });
}
