import { Database, type SQLQueryBindings, type Statement } from "bun:sqlite";
import { ReplicaError } from "../../base/errors.ts";
import { printableName } from "../../base/printable.ts";
import { ContentDigester, isSameContent } from "../../rdb/content/content-digest.ts";
import type { ChosenEntry } from "../chosen/chosen-keys.ts";
import type { Difference, DifferenceCounts, KeyState } from "./difference.ts";

/** What SQLite keeps of the file in memory, in KiB. */
const CACHE_KIB = 64 * 1024;

interface Row {
  readonly db: number;
  readonly key: Uint8Array;
  readonly kind: KeyState["kind"];
  readonly elements: number | null;
  readonly bytes: number;
  readonly expires: number | null;
  readonly digest: Uint8Array;
  readonly other: number;
}

const COLUMNS = "db, key, kind, elements, bytes, expires, digest, other";

/**
 * Compares keys as of two moments in a file, which sorts them: memory stays the same however many there are. It takes all keys
 * of the first moment, then those of the second one; of keys that are the same it keeps only their number.
 */
export class KeyTable implements Disposable {
  readonly #path: string;
  readonly #db: Database;
  readonly #digester = new ContentDigester();
  readonly #insert: Readonly<Record<"before" | "after", Statement>>;
  readonly #find: Statement<Row, SQLQueryBindings[]>;
  readonly #remove: Statement;
  #firsts = 0;
  #counts = { came: 0, changed: 0, expiryOnly: 0, unchanged: 0, byBytes: 0 };

  /**
   * @param path a new file, in a folder of this process.
   * @throws ReplicaError DISK_FULL, DISK_FAILED, as all that follow.
   */
  constructor(path: string) {
    this.#path = path;
    this.#db = this.#guard(() => new Database(path, { create: true, strict: true }));
    try {
      this.#guard(() => this.#prepare());
    } catch (cause) {
      this.#db.close();
      throw cause;
    }
    const insert = (table: string) =>
      this.#db.prepare(`INSERT INTO ${table} (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#insert = { before: insert("before"), after: insert("after") };
    this.#find = this.#db.prepare(`SELECT ${COLUMNS} FROM before WHERE db = ? AND key = ?`);
    this.#remove = this.#db.prepare("DELETE FROM before WHERE db = ? AND key = ?");
  }

  #prepare(): void {
    // If this process dies, nobody needs the file any more.
    for (const pragma of ["journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"])
      this.#db.run(`PRAGMA ${pragma}`);
    this.#db.run(`PRAGMA cache_size = -${CACHE_KIB}`);
    for (const table of ["before", "after"]) {
      this.#db.run(
        `CREATE TABLE ${table} (db INTEGER, key BLOB, kind TEXT, elements INTEGER, bytes INTEGER,
           expires INTEGER, digest BLOB, other INTEGER, PRIMARY KEY (db, key)) WITHOUT ROWID`,
      );
    }
    this.#db.run("BEGIN");
  }

  get counts(): DifferenceCounts {
    const { unchanged, changed } = this.#counts;
    return { ...this.#counts, went: this.#firsts - unchanged - changed };
  }

  /** Takes a key of the first moment. @throws ReplicaError BAD_PAYLOAD for a value that can't be compared. */
  takeBefore(entry: ChosenEntry): void {
    const { digest } = this.#digestOf(entry);
    this.#firsts++;
    this.#store("before", entry, digest, 0);
  }

  /** Takes a key of the second moment, once all of the first one are there. @throws ReplicaError BAD_PAYLOAD. */
  takeAfter(entry: ChosenEntry): void {
    const { digest, isOfBytes } = this.#digestOf(entry);
    const { db, key, kind, expiresAtMs } = entry;
    const first = this.#guard(() => this.#find.get(db, key));
    if (first === null) {
      this.#counts.came++;
      this.#store("after", entry, digest, 0);
      return;
    }
    const isSame = first.kind === kind && isSameContent(first.digest, digest);
    if (isSame && (first.expires ?? undefined) === expiresAtMs) {
      this.#counts.unchanged++;
      this.#guard(() => this.#remove.run(db, key));
      return;
    }
    this.#counts.changed++;
    if (isSame) this.#counts.expiryOnly++;
    else if (isOfBytes) this.#counts.byBytes++;
    this.#store("after", entry, digest, isSame ? 0 : 1);
  }

  /** The keys that aren't the same, by database and name. */
  *differences(): Generator<Difference> {
    const [before, after] = ["before", "after"].map((table) =>
      this.#guard(() =>
        this.#db.query<Row, []>(`SELECT ${COLUMNS} FROM ${table} ORDER BY db, key`).iterate(),
      ),
    );
    const next = (rows: IterableIterator<Row> | undefined) =>
      this.#guard(() => rows?.next().value as Row | undefined);
    let [first, second] = [next(before), next(after)];
    while (first !== undefined || second !== undefined) {
      const order = inOrder(first, second);
      const { db, key } = (order <= 0 ? first : second)!;
      yield {
        db,
        key,
        before: order <= 0 ? stateOf(first!) : undefined,
        after: order >= 0 ? stateOf(second!) : undefined,
        isOtherValue: order === 0 && second!.other === 1,
      };
      if (order <= 0) first = next(before);
      if (order >= 0) second = next(after);
    }
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  #digestOf({ db, key, opcode, value, magic }: ChosenEntry) {
    try {
      return this.#digester.digest({ magic }, opcode, value);
    } catch (cause) {
      if (!(cause instanceof ReplicaError)) throw cause;
      const { code, retry, message } = cause;
      const where = `key ${printableName(key.subarray(0, 100))} of db${db}`;
      throw new ReplicaError(code, { retry, message: `${where}: ${message}`, cause });
    }
  }

  #store(
    table: "before" | "after",
    { db, key, kind, elements, value, expiresAtMs }: ChosenEntry,
    digest: Uint8Array,
    other: number,
  ): void {
    const about = [kind, elements ?? null, value.length, expiresAtMs ?? null] as const;
    this.#guard(() => this.#insert[table].run(db, key, ...about, digest, other));
  }

  #guard<T>(act: () => T): T {
    try {
      return act();
    } catch (cause) {
      const isFull = cause instanceof Error && "code" in cause && cause.code === "SQLITE_FULL";
      const why = isFull
        ? "the disk is full: make room, or set TMPDIR to a folder with more"
        : String(cause);
      throw new ReplicaError(isFull ? "DISK_FULL" : "DISK_FAILED", {
        retry: "never",
        message: `sorting keys in ${this.#path}: ${why}`,
        cause,
      });
    }
  }
}

function inOrder(first: Row | undefined, second: Row | undefined): number {
  if (first === undefined) return 1;
  if (second === undefined) return -1;
  return first.db - second.db || Buffer.compare(first.key, second.key);
}

function stateOf({ kind, elements, bytes, expires }: Row): KeyState {
  return { kind, elements: elements ?? undefined, bytes, expiresAtMs: expires ?? undefined };
}
