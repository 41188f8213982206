import { KeptPast } from "./kept-past.ts";
import type { Sql } from "./sql.ts";

/** How a replica did over some seconds. Rates are whole bytes a second. */
export interface Sample {
  /** When it ended, in milliseconds since 1970. */
  readonly atMs: number;
  readonly received: number;
  readonly written: number;
  readonly durable: number;
  /** Null where nothing is archived. */
  readonly archived: number | null;
  /** How old the newest moment was that could be restored, in milliseconds; null where nothing was kept. */
  readonly lagMs: number | null;
  /** The same in the archive: how long it had lacked its oldest byte; null where nothing is archived, or nobody knows. */
  readonly archiveLagMs: number | null;
  /** 1 while data could come over the link, else 0. */
  readonly isUp: number;
}

/** Something that happened, for people. */
export interface RecentEvent {
  readonly atMs: number;
  readonly kind: string;
  readonly detail: string;
}

/** How many events are kept. */
const KEPT_EVENTS = 10_000;

const SAMPLE = `at_ms AS atMs, received, written, durable, archived, lag_ms AS lagMs, archive_lag_ms AS archiveLagMs,
  is_up AS isUp`;

/**
 * What people want to know of the last hours: events, and one sample a minute. None of it is needed to follow or to
 * restore, so no row is synced for its own sake: it becomes durable with the next mark.
 */
export class RecentTables {
  /** The generations that these hours belong to. */
  readonly past: KeptPast;
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    this.past = new KeptPast(sql);
  }

  /** Records an event. @throws ReplicaError of the database. */
  event(kind: string, detail: string, atMs: number): void {
    this.#sql.run("INSERT INTO events VALUES (?, ?, ?)", [atMs, kind, detail]);
    this.#sql.run(
      `DELETE FROM events WHERE rowid <= (SELECT max(rowid) - ${KEPT_EVENTS} FROM events)`,
      [],
    );
  }

  /** The last events, the newest first. @throws ReplicaError of the database. */
  events(most: number): RecentEvent[] {
    return this.#sql.all<RecentEvent>(
      "SELECT at_ms AS atMs, kind, substr(detail, 1, 1000) AS detail FROM events ORDER BY rowid DESC LIMIT ?",
      most,
    );
  }

  /**
   * Adds samples, in one transaction, and removes those that are not of the last `keptMs`.
   * @throws ReplicaError of the database.
   */
  addSamples(samples: readonly Sample[], nowMs: number, keptMs: number): void {
    this.#sql.transaction(() => {
      for (const { atMs, received, written, durable, archived, ...rest } of samples) {
        const { lagMs, archiveLagMs, isUp } = rest;
        this.#sql.run("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [
          atMs,
          received,
          written,
          durable,
          archived,
          lagMs,
          archiveLagMs,
          isUp,
        ]);
      }
      // A clock that was wrong once has left rows of the future.
      this.#sql.run("DELETE FROM samples WHERE at_ms NOT BETWEEN ? AND ?", [nowMs - keptMs, nowMs]);
    });
  }

  /** The newest samples, oldest first. @throws ReplicaError of the database. */
  samples(most: number): Sample[] {
    return this.#sql
      .all<Sample>(`SELECT ${SAMPLE} FROM samples ORDER BY at_ms DESC LIMIT ?`, most)
      .toReversed();
  }
}
