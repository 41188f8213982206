import { hex64 } from "../../base/hex64.ts";
import { crc64OfBoth } from "../../rdb/crc64.ts";
import { findTurns } from "./clock-turns.ts";
import type { GuardedDatabase } from "./guarded-database.ts";
import { type MarkRow, SPAN_MS } from "./mark-search.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** Every mark is kept for so long: within a day, people want the second before the mistake. */
const ALL_FOR_MS = DAY_MS;

/** One a minute is kept for so long, and one for each `SPAN_MS` beyond. */
const MINUTES_FOR_MS = 7 * DAY_MS;

/** How many marks one transaction looks at: it takes a few milliseconds. */
const ROWS_AT_ONCE = 500;

/** A mark, and whether the clock had been set back before it. */
interface ThinnedRow extends MarkRow {
  readonly isTurn: 0 | 1;
}

/**
 * Thins out old marks of a generation, some rows at a time: of the marks of a minute, or of ten, the last one
 * stays as it is, and its segment takes in those of the others. A mark stays where segments don't join, where the
 * clock was set back, and at the beginning and the end of the generation. Until it is known where it was set back (see
 * `findTurns`), some more marks are looked at for that instead.
 * @param after the row to go on after; 0 to begin.
 * @returns the row to go on after; undefined once the end is reached.
 * @throws ReplicaError of the database.
 */
export function thinMarks(
  sql: GuardedDatabase,
  generation: number,
  after: number,
  nowMs: number,
): number | undefined {
  if (!findTurns(sql)) return after;
  return sql.transaction(() => {
    const { first, last } = sql.get<{ first: number | null; last: number | null }>(
      `SELECT (SELECT id FROM marks WHERE generation = ?1 ORDER BY id LIMIT 1) AS first,
         (SELECT id FROM marks WHERE generation = ?1 ORDER BY id DESC LIMIT 1) AS last`,
      generation,
    )!;
    if (first === null || last === null) return undefined;
    const rows = sql.all<ThinnedRow>(
      `SELECT id, at_ms AS atMs, written_offset AS writtenOffset, durable_offset AS durableOffset, crc_from AS crcFrom,
         crc64, EXISTS (SELECT 1 FROM clock_turns WHERE mark = marks.id) AS isTurn
       FROM marks WHERE generation = ? AND id > ? AND id < ? ORDER BY id LIMIT ?`,
      generation,
      Math.max(after, first),
      last,
      ROWS_AT_ONCE,
    );
    const groups = groupsOf(rows, nowMs);
    // The last group may go on after these rows. It is merged as far as it is known only if it is all there is.
    const isEnd = rows.length < ROWS_AT_ONCE;
    const whole = groups.length > 1 ? groups.slice(0, -1) : isEnd ? [] : groups;
    const merged = whole.flatMap((group) => merge(sql, group));
    // One statement: as many of them as rows would take twice the time.
    sql.run("DELETE FROM marks WHERE id IN (SELECT value FROM json_each(?))", [
      JSON.stringify(merged),
    ]);
    if (isEnd) return undefined;
    const reached = whole.at(-1)!.at(-1)!.id;
    return groups.length > 1 ? reached : reached - 1;
  });
}

/** Runs of marks of which one is to stay. */
function groupsOf(rows: readonly ThinnedRow[], nowMs: number): ThinnedRow[][] {
  const groups: ThinnedRow[][] = [];
  let spanBefore: string | undefined;
  for (const row of rows) {
    const span = row.isTurn === 1 ? undefined : spanOf(row.atMs, nowMs);
    if (span !== undefined && span === spanBefore) groups.at(-1)!.push(row);
    else groups.push([row]);
    spanBefore = span;
  }
  return groups;
}

/** The minute, or the ten, that a time belongs to; undefined where each mark stays. */
function spanOf(atMs: number, nowMs: number): string | undefined {
  // At whole spans, so that the minutes of one span become old together.
  const end = Math.floor(atMs / SPAN_MS) * SPAN_MS + SPAN_MS;
  if (end > nowMs - ALL_FOR_MS) return undefined;
  const widthMs = end > nowMs - MINUTES_FOR_MS ? MINUTE_MS : SPAN_MS;
  return `${widthMs} ${Math.floor(atMs / widthMs)}`;
}

/** Merges all marks of a group into its last one, as far as their segments join; returns the rows to delete. */
function merge(sql: GuardedDatabase, group: readonly ThinnedRow[]): number[] {
  const merged: number[] = [];
  const last = group.at(-1)!;
  /** The last row with a segment; it has grown where it took in those before it. */
  let holder: MarkRow | undefined;
  let grown: MarkRow | undefined;
  for (const row of group) {
    const { crcFrom, crc64 } = row;
    if (crcFrom === null || crc64 === null) {
      if (row !== last) merged.push(row.id);
      continue;
    }
    const joins = holder !== undefined && holder.durableOffset === crcFrom;
    if (joins) merged.push(holder!.id);
    else if (grown !== undefined) record(sql, grown);
    grown = joins ? joined(holder!, row) : undefined;
    holder = grown ?? row;
  }
  if (grown !== undefined) record(sql, grown);
  return merged;
}

/** The second of two rows, with the segments of both. */
function joined(first: MarkRow, second: MarkRow): MarkRow {
  const bytes = second.durableOffset - second.crcFrom!;
  const sum = crc64OfBoth(BigInt(`0x${first.crc64!}`), BigInt(`0x${second.crc64!}`), bytes);
  return { ...second, crcFrom: first.crcFrom, crc64: hex64(sum) };
}

function record(sql: GuardedDatabase, { id, crcFrom, crc64 }: MarkRow): void {
  sql.run("UPDATE marks SET crc_from = ?, crc64 = ? WHERE id = ?", [crcFrom, crc64, id]);
}
