import type { GuardedDatabase } from "./guarded-database.ts";

/** How many marks one transaction looks at: it takes a few milliseconds. */
const ROWS_AT_ONCE = 2_000;

/** What holds for a row `this` of `marks` whose time is before that of the mark before it. */
const GOES_BACK = `at_ms < (SELECT at_ms FROM marks WHERE generation = this.generation AND id < this.id
  ORDER BY id DESC LIMIT 1)`;

/** Rows of `marks`. */
interface Rows {
  readonly after: number;
  readonly upTo: number;
}

/**
 * The marks of a generation before which the clock was set back, in the order of its log. Where `clock_turns` doesn't
 * know them all, because the directory is from before format 4, the marks themselves are looked at.
 * @throws ReplicaError of the database.
 */
export function clockTurns(sql: GuardedDatabase, generation: number): number[] {
  const has = (table: string) =>
    sql.get("SELECT 1 FROM sqlite_schema WHERE name = ?", table) !== undefined;
  const isKept = has("clock_turns");
  const kept = isKept
    ? sql.all<{ mark: number }>("SELECT mark FROM clock_turns WHERE generation = ?", generation)
    : [];
  const rows = isKept
    ? has("unscanned_marks")
      ? unscanned(sql)
      : undefined
    : { after: 0, upTo: Number.MAX_SAFE_INTEGER };
  const found = rows
    ? sql.all<{ mark: number }>(
        `SELECT id AS mark FROM marks AS this WHERE generation = ? AND id > ? AND id <= ? AND ${GOES_BACK}`,
        generation,
        rows.after,
        rows.upTo,
      )
    : [];
  const marks = new Set([...kept, ...found].map(({ mark }) => mark));
  return [...marks].toSorted((a, b) => a - b);
}

/** Those that were there before format 4 and were not looked at since; undefined where there are none. */
function unscanned(sql: GuardedDatabase): Rows | undefined {
  return sql.get<Rows>("SELECT after_mark AS after, up_to_mark AS upTo FROM unscanned_marks");
}

/**
 * Fills `clock_turns` with the turns among some of the marks from before format 4.
 * @returns whether it knows all turns now.
 * @throws ReplicaError of the database.
 */
export function findTurns(sql: GuardedDatabase): boolean {
  return sql.transaction(() => {
    const rows = unscanned(sql);
    if (rows === undefined) return true;
    const { last } = sql.get<{ last: number | null }>(
      "SELECT max(id) AS last FROM (SELECT id FROM marks WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)",
      rows.after,
      rows.upTo,
      ROWS_AT_ONCE,
    )!;
    if (last === null) {
      sql.run("DELETE FROM unscanned_marks");
      return true;
    }
    sql.run(
      `INSERT OR IGNORE INTO clock_turns SELECT id, generation FROM marks AS this
       WHERE id > ? AND id <= ? AND ${GOES_BACK}`,
      [rows.after, last],
    );
    sql.run("UPDATE unscanned_marks SET after_mark = ?", [last]);
    return false;
  });
}
