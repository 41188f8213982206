import type { Offset } from "../../base/history.ts";
import { clockTurns } from "./clock-turns.ts";
import type { GuardedDatabase } from "./guarded-database.ts";

/** How many rows one query reads at least: a read ends soon, and SQLite's WAL is free in between. */
const PAGE_ROWS = 4_000;

/**
 * Marks of the same ten minutes come in one page. Old marks are merged within such a span only, so a reader
 * that takes page after page sees each byte in one segment, whatever is merged meanwhile.
 */
export const SPAN_MS = 600_000;

export interface FoundMark {
  readonly id: number;
  readonly atMs: number;
  readonly writtenOffset: Offset;
}

export interface MarkRow extends FoundMark {
  readonly durableOffset: Offset;
  readonly crcFrom: Offset | null;
  readonly crc64: string | null;
}

const FOUND = "id, at_ms AS atMs, written_offset AS writtenOffset";
const ROW = `${FOUND}, durable_offset AS durableOffset`;
const WITH_SUMS = `${ROW}, crc_from AS crcFrom, crc64`;
/** Format 2 and older have no checksums. */
const WITHOUT_SUMS = `${ROW}, NULL AS crcFrom, NULL AS crc64`;

/**
 * The marks of a generation after row `after`, in pages. Each page is one short read.
 * @throws ReplicaError of the database.
 */
export function* markPages(
  sql: GuardedDatabase,
  generation: number,
  after = 0,
): Generator<readonly MarkRow[]> {
  const hasSums = sql.get("SELECT 1 FROM pragma_table_info('marks') WHERE name = 'crc64'");
  const columns = hasSums === undefined ? WITHOUT_SUMS : WITH_SUMS;
  let last = after;
  for (let rows = PAGE_ROWS; ;) {
    const page = sql.all<MarkRow>(
      `SELECT ${columns} FROM marks WHERE generation = ? AND id > ? ORDER BY id LIMIT ?`,
      generation,
      last,
      rows,
    );
    const isLast = page.length < rows;
    const whole = isLast ? page.length : wholeSpans(page);
    if (whole === 0 && !isLast) {
      // A clock that was set back a little stands still, for up to an hour.
      rows *= 2;
      continue;
    }
    rows = PAGE_ROWS;
    if (whole > 0) yield page.slice(0, whole);
    if (isLast) return;
    last = page[whole - 1]!.id;
  }
}

/** How many rows come before the last span of a page, which may go on after it. */
function wholeSpans(page: readonly MarkRow[]): number {
  const span = (row: MarkRow) => Math.floor(row.atMs / SPAN_MS);
  let whole = page.length - 1;
  while (whole > 0 && span(page[whole - 1]!) === span(page.at(-1)!)) whole--;
  return whole;
}

/** The rows of a generation in which the times of its marks rise, the first and the last of each. */
interface Run {
  readonly from: number;
  readonly to: number;
}

/**
 * The runs of a generation's marks, oldest first: more than one where the clock was set back.
 */
function runsOf(sql: GuardedDatabase, generation: number): Run[] {
  const end = (order: "ASC" | "DESC") =>
    sql.get<{ id: number }>(
      `SELECT id FROM marks WHERE generation = ? ORDER BY id ${order} LIMIT 1`,
      generation,
    )?.id;
  const [first, last] = [end("ASC"), end("DESC")];
  if (first === undefined || last === undefined) return [];
  const turns = clockTurns(sql, generation).filter((mark) => mark > first && mark <= last);
  const begins = [first, ...turns];
  return begins.map((from, n) => ({ from, to: (begins[n + 1] ?? last + 1) - 1 }));
}

/**
 * The last mark of a run for which a column is at most a value: some thirty reads of a row for a billion of them.
 * The column must not fall within the run.
 */
function lastAtMost(
  sql: GuardedDatabase,
  generation: number,
  column: "at_ms" | "written_offset",
  value: number,
  { from, to }: Run,
): FoundMark | undefined {
  let [low, high] = [from - 1, to];
  let found: FoundMark | undefined;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const row = sql.get<FoundMark & { value: number }>(
      `SELECT ${FOUND}, ${column} AS value FROM marks
       WHERE generation = ? AND id <= ? AND id > ? ORDER BY id DESC LIMIT 1`,
      generation,
      middle,
      low,
    );
    if (row === undefined) low = middle;
    else if (row.value <= value) [low, found] = [middle, row];
    else high = row.id - 1;
  }
  return found;
}

/** The last mark of a generation that is not after `atMs`; undefined before all of them. */
export function lastMarkAt(
  sql: GuardedDatabase,
  generation: number,
  atMs: number,
): FoundMark | undefined {
  for (const run of runsOf(sql, generation).toReversed()) {
    const found = lastAtMost(sql, generation, "at_ms", atMs, run);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The last mark at which a generation's log did not hold `offset` yet; undefined where the first one did. */
export function lastMarkBefore(
  sql: GuardedDatabase,
  generation: number,
  offset: Offset,
): FoundMark | undefined {
  const all = { from: 1, to: lastId(sql, generation) };
  return lastAtMost(sql, generation, "written_offset", offset - 1, all);
}

function lastId(sql: GuardedDatabase, generation: number): number {
  return (
    sql.get<{ id: number }>(
      "SELECT id FROM marks WHERE generation = ? ORDER BY id DESC LIMIT 1",
      generation,
    )?.id ?? 0
  );
}

/** The earliest time of a generation's marks; undefined where it has none. */
export function earliestMarkMs(sql: GuardedDatabase, generation: number): number | undefined {
  const times = runsOf(sql, generation).flatMap(
    ({ from }) =>
      sql.get<{ atMs: number }>("SELECT at_ms AS atMs FROM marks WHERE id = ?", from)?.atMs ?? [],
  );
  return times.length === 0 ? undefined : Math.min(...times);
}

/**
 * The earliest time of the whole generations' marks, in milliseconds since 1970; undefined where there is none.
 * It looks at the first mark and the last one of each: that one is earlier where the clock was set back.
 */
export function firstMarkMs(sql: GuardedDatabase): number | undefined {
  const end = (order: "ASC" | "DESC") =>
    `(SELECT at_ms FROM marks WHERE generation = g.id ORDER BY id ${order} LIMIT 1)`;
  const row = sql.get<{ atMs: number | null }>(
    `SELECT min(min(${end("ASC")}, ${end("DESC")})) AS atMs FROM generations g
     WHERE state IN ('current', 'sealed')`,
  );
  return row?.atMs ?? undefined;
}
