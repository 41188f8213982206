import { Database } from "bun:sqlite";
import type { LogPosition } from "bun-replica";

/** The tables of a mirror, and how far it is: both in one database, so that one commit moves both. */
export class Tables implements Disposable {
  readonly #db: Database;

  constructor(path: string) {
    this.#db = new Database(path, { create: true, strict: true });
    // Somebody may be reading the tables. A power cut may take back the last commits: their offsets go with them.
    this.#db.run(
      "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
    );
    this.#db.run(`CREATE TABLE IF NOT EXISTS strings (key BLOB PRIMARY KEY, value BLOB);
      CREATE TABLE IF NOT EXISTS hashes (key BLOB, field BLOB, value BLOB, PRIMARY KEY (key, field));
      CREATE TABLE IF NOT EXISTS position (only INTEGER PRIMARY KEY CHECK (only = 0), "offset" INTEGER, replid TEXT);`);
  }

  get position(): LogPosition | null {
    return this.#db.query<LogPosition, []>(`SELECT "offset", replid FROM position`).get();
  }

  set position({ offset, replid }: LogPosition) {
    this.#run("INSERT OR REPLACE INTO position VALUES (0, ?, ?)", offset, replid ?? null);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#value("SELECT value FROM strings WHERE key = ?", key);
  }

  set(key: Uint8Array, value: Uint8Array): void {
    this.#run("INSERT OR REPLACE INTO strings VALUES (?, ?)", key, value);
  }

  getField(key: Uint8Array, field: Uint8Array): Uint8Array | undefined {
    return this.#value("SELECT value FROM hashes WHERE key = ? AND field = ?", key, field);
  }

  setField(key: Uint8Array, field: Uint8Array, value: Uint8Array): void {
    this.#run("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", key, field, value);
  }

  removeField(key: Uint8Array, field: Uint8Array): void {
    this.#run("DELETE FROM hashes WHERE key = ? AND field = ?", key, field);
  }

  remove(key: Uint8Array): void {
    this.#run("DELETE FROM strings WHERE key = ?", key);
    this.#run("DELETE FROM hashes WHERE key = ?", key);
  }

  removeAll(): void {
    this.#db.run("DELETE FROM strings; DELETE FROM hashes;");
  }

  begin(): void {
    if (!this.#db.inTransaction) this.#db.run("BEGIN IMMEDIATE");
  }

  commit(): void {
    this.#db.run("COMMIT");
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  #run(sql: string, ...values: (Uint8Array | number | string | null)[]): void {
    this.#db.query(sql).run(...values);
  }

  #value(sql: string, ...keys: Uint8Array[]): Uint8Array | undefined {
    return this.#db.query<{ value: Uint8Array }, Uint8Array[]>(sql).get(...keys)?.value;
  }
}
