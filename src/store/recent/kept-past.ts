import type { Sql } from "./sql.ts";

/** A whole generation, as a timeline shows it. */
export interface PastGeneration {
  readonly id: number;
  readonly state: "current" | "sealed";
  readonly sealedReason: string | null;
  readonly baseOffset: number;
  readonly durableOffset: number;
  readonly rdbBytes: number;
  /** Its first and its last mark, in milliseconds since 1970. */
  readonly fromMs: number;
  readonly toMs: number;
}

/** A time of which nothing is kept, in milliseconds since 1970: what was so before it is what was known until its end. */
export interface Gap {
  readonly fromMs: number;
  readonly toMs: number;
}

/** How many marks one look for gaps reads: some milliseconds. */
const ROWS_AT_ONCE = 20_000;

/** A primary sends a ping every 10 s, and marks follow. Of a day ago, one mark a minute is left. */
const GAP_MS = 150_000;
/** Of a week ago, one in ten minutes is left. */
const OLD_GAP_MS = 1_260_000;
const OLD_AFTER_MS = 7 * 86_400_000 - 1_800_000;

/** How many gaps are remembered. */
const MAX_GAPS = 200;

/** Reads which generations there were, and when nothing came. Times without marks are found once, and remembered. */
export class KeptPast {
  readonly #sql: Sql;
  /** The last mark of each generation that was looked at. */
  readonly #seen = new Map<number, number>();
  readonly #gaps = new Map<number, Gap[]>();

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** The newest whole generations, oldest first. @throws ReplicaError of the database. */
  generations(most: number): PastGeneration[] {
    const mark = (order: "ASC" | "DESC", column: string) =>
      `(SELECT ${column} FROM marks WHERE generation = g.id ORDER BY id ${order} LIMIT 1)`;
    const all = this.#sql.all<PastGeneration>(
      `SELECT id, state, sealed_reason AS sealedReason, base_offset AS baseOffset, rdb_bytes AS rdbBytes,
         coalesce(${mark("DESC", "durable_offset")}, base_offset) AS durableOffset,
         coalesce(${mark("ASC", "at_ms")}, current_at_ms) AS fromMs,
         coalesce(${mark("DESC", "at_ms")}, current_at_ms) AS toMs
       FROM generations g WHERE state IN ('current', 'sealed') ORDER BY id DESC LIMIT ?`,
      most,
    );
    return all.toReversed();
  }

  /**
   * The gaps in and between these generations, oldest first. Looks at some marks more with each call: what is long ago
   * may be found only later.
   * @throws ReplicaError of the database.
   */
  gaps(generations: readonly PastGeneration[], nowMs: number): Gap[] {
    for (const id of this.#seen.keys()) {
      if (generations.some((one) => one.id === id)) continue;
      this.#seen.delete(id);
      this.#gaps.delete(id);
    }
    let left = ROWS_AT_ONCE;
    for (const { id } of generations.toReversed()) left -= this.#look(id, nowMs, left);
    const between = generations.flatMap(({ toMs }, at): Gap[] => {
      const next = generations[at + 1];
      return next !== undefined && next.fromMs - toMs > GAP_MS
        ? [{ fromMs: toMs, toMs: next.fromMs }]
        : [];
    });
    return [...this.#gaps.values(), between]
      .flat()
      .toSorted((a, b) => a.fromMs - b.fromMs)
      .slice(-MAX_GAPS);
  }

  /** Looks at up to `most` marks that were not seen yet; returns how many. */
  #look(generation: number, nowMs: number, most: number): number {
    if (most <= 0) return 0;
    const from = this.#seen.get(generation) ?? 0;
    const rows =
      "SELECT id, at_ms FROM marks WHERE generation = ?1 AND id >= ?2 ORDER BY id LIMIT ?3";
    const [last] = this.#sql.all<{ id: number | null; rows: number }>(
      `SELECT max(id) AS id, count(*) AS rows FROM (${rows})`,
      generation,
      from,
      most,
    );
    if (typeof last?.id !== "number") return 0;
    const found = this.#sql.all<Gap>(
      `SELECT fromMs, toMs FROM (SELECT lag(at_ms) OVER (ORDER BY id) AS fromMs, at_ms AS toMs FROM (${rows}))
       WHERE toMs - fromMs > CASE WHEN toMs < ?4 THEN ${OLD_GAP_MS} ELSE ${GAP_MS} END ORDER BY fromMs DESC LIMIT ${MAX_GAPS}`,
      generation,
      from,
      most,
      nowMs - OLD_AFTER_MS,
    );
    const known = this.#gaps.get(generation) ?? [];
    this.#gaps.set(generation, [...known, ...found].slice(-MAX_GAPS));
    this.#seen.set(generation, last.id);
    return last.rows;
  }
}
