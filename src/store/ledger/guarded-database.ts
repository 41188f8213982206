import type { Database, SQLQueryBindings } from "bun:sqlite";
import { databaseError } from "./database-error.ts";
import { soundRow } from "./sound-row.ts";

/**
 * Runs SQL on `replica.db`. Every error comes out as the ReplicaError that people read (DIRECTORY_DAMAGED,
 * DISK_FULL, DISK_FAILED), and every row is checked (`soundRow`): here, and nowhere above.
 */
export class GuardedDatabase {
  readonly #db: Database;
  readonly #path: string;
  readonly #doing: "reading" | "writing";
  readonly #beforeChange: () => void;

  /**
   * @param path how messages name the database.
   * @param beforeChange called before anything is changed.
   */
  constructor(
    db: Database,
    path: string,
    doing: "reading" | "writing",
    beforeChange: () => void = () => undefined,
  ) {
    this.#db = db;
    this.#path = path;
    this.#doing = doing;
    this.#beforeChange = beforeChange;
  }

  /** The first row, or undefined where there is none. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as with bun:sqlite, the caller names the row's type
  get<Row>(sql: string, ...bindings: SQLQueryBindings[]): Row | undefined {
    return this.guard(() => {
      const row = this.#db.query<Row, SQLQueryBindings[]>(sql).get(...bindings);
      return row === null ? undefined : soundRow(this.#path, row);
    });
  }

  all<Row>(sql: string, ...bindings: SQLQueryBindings[]): Row[] {
    return this.guard(() =>
      this.#db
        .query<Row, SQLQueryBindings[]>(sql)
        .all(...bindings)
        .map((row) => soundRow(this.#path, row)),
    );
  }

  /** Runs a statement; how many rows it changed, and the id of the row that it inserted last. */
  run(
    sql: string,
    bindings: SQLQueryBindings[] = [],
  ): { readonly changes: number; readonly lastInsertRowid: number | bigint } {
    return this.guard(() => {
      this.#beforeChange();
      return this.#db.run(sql, bindings);
    });
  }

  /** Runs `act` as one transaction: what throws undoes all of it. */
  transaction<T>(act: () => T): T {
    return this.guard(() => {
      this.#beforeChange();
      return this.#db.transaction(act)();
    });
  }

  /** Runs `act`, whose errors are about this database. */
  guard<T>(act: () => T): T {
    try {
      return act();
    } catch (cause) {
      throw databaseError(this.#path, cause, this.#doing);
    }
  }
}
