import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { Random } from "../../../src/demo/random.ts";
import { findTurns } from "../../../src/store/ledger/clock-turns.ts";
import { GuardedDatabase } from "../../../src/store/ledger/guarded-database.ts";
import { LedgerReader } from "../../../src/store/ledger/ledger-reader.ts";
import {
  earliestMarkMs,
  lastMarkAt,
  lastMarkBefore,
  markPages,
  SPAN_MS,
} from "../../../src/store/ledger/mark-search.ts";
import { migrate } from "../../../src/store/ledger/schema.ts";
import { tempDir } from "../../support/temp.ts";

const SEED = 20260106;
const BEGAN_MS = 1_700_000_000_000;
const MARKS = 300_000;

/** Counts the rows that come out. */
class CountingDatabase extends GuardedDatabase {
  rows = 0;

  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as in GuardedDatabase
  override get<Row>(...args: Parameters<GuardedDatabase["get"]>): Row | undefined {
    this.rows++;
    return super.get<Row>(...args);
  }

  override all<Row>(...args: Parameters<GuardedDatabase["all"]>): Row[] {
    const rows = super.all<Row>(...args);
    this.rows += rows.length;
    return rows;
  }
}

/** A database with generation 1, whose mark n has the given time and was written up to offset 2n. */
function withMarks(db: Database, times: string, count: number): CountingDatabase {
  migrate(db, 0);
  db.run(
    "INSERT INTO generations (id, state, primary_name, began_at_ms, base_offset) VALUES (1, 'current', 'p', 0, 0)",
  );
  db.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
     INSERT INTO marks SELECT i, 1, ${times}, 2 * i, 2 * i, NULL, NULL FROM n`,
  );
  return new CountingDatabase(db, "it", "reading");
}

describe("of some hundred thousand marks, a second apart", () => {
  const sql = withMarks(new Database(":memory:"), `${BEGAN_MS} + i * 1000`, MARKS);

  test.each([
    ["a time", (n: number) => lastMarkAt(sql, 1, BEGAN_MS + n * 1000 + 500)?.id, (n: number) => n],
    ["an offset", (n: number) => lastMarkBefore(sql, 1, 2 * n)?.id, (n: number) => n - 1],
  ])("finds the mark of %s within some thirty rows", (_, find, wanted) => {
    const random = new Random(SEED);
    for (const n of [
      2,
      MARKS - 1,
      MARKS,
      ...Array.from({ length: 50 }, () => 2 + random.below(MARKS - 2)),
    ]) {
      sql.rows = 0;
      expect(find(n)).toBe(wanted(n));
      expect(sql.rows).toBeLessThan(30);
    }
    expect(lastMarkAt(sql, 1, BEGAN_MS)).toBeUndefined();
    expect(lastMarkBefore(sql, 1, 2)).toBeUndefined();
    expect(lastMarkAt(sql, 2, BEGAN_MS)).toBeUndefined();
  });

  test("finds the earliest time within a handful of rows", () => {
    sql.rows = 0;
    expect(earliestMarkMs(sql, 1)).toBe(BEGAN_MS + 1000);
    expect(sql.rows).toBeLessThan(8);
  });

  test("reads them in pages, each of whole spans", () => {
    let next = 1;
    let before: number | undefined;
    for (const page of markPages(sql, 1)) {
      expect(page.length).toBeLessThanOrEqual(4_000);
      const first = Math.floor(page[0]!.atMs / SPAN_MS);
      expect(before).not.toBe(first);
      before = Math.floor(page.at(-1)!.atMs / SPAN_MS);
      for (const { id } of page) if (id !== next++) expect(id).toBe(next - 1);
    }
    expect(next).toBe(MARKS + 1);
  });
});

test("a span that is longer than a page comes whole", () => {
  using db = new Database(":memory:");
  const sql = withMarks(
    db,
    `${BEGAN_MS} + min(i, 100) * 1000000 + max(i - 9000, 0) * 1000`,
    20_000,
  );
  const pages = [...markPages(sql, 1)];
  expect(pages.flat().map(({ id }) => id)).toEqual(Array.from({ length: 20_000 }, (_, n) => n + 1));
  expect(pages.some((page) => page[0]!.id <= 100 && page.at(-1)!.id >= 9_000)).toBe(true);
});

test("finds what the scan of all marks finds, wherever the clock was set back", () => {
  const random = new Random(SEED);
  for (let round = 0; round < 30; round++) {
    using db = new Database(":memory:");
    const sql = withMarks(db, String(BEGAN_MS), 1);
    let atMs = 1_000;
    for (let n = 0; n < 200; n++) {
      atMs += random.below(3);
      if (random.below(40) === 0) atMs = random.below(1_000);
      db.run("INSERT INTO marks VALUES (NULL, 1, ?, ?, 0, NULL, NULL)", [atMs, 2 + n]);
      // A row that is updated in place, as those within half a second are.
      if (random.below(60) === 0) atMs = random.below(1_000);
      db.run("UPDATE marks SET at_ms = ? WHERE id = (SELECT max(id) FROM marks)", [atMs]);
      if (random.below(4) === 0)
        db.run("DELETE FROM marks WHERE id = ? AND id NOT IN (SELECT mark FROM clock_turns)", [n]);
    }
    for (let at = -1; at < atMs + 10; at += 1 + random.below(7)) {
      const scanned = "SELECT id FROM marks WHERE at_ms <= ? ORDER BY id DESC LIMIT 1";
      const { id } = db.query<{ id: number }, [number]>(scanned).get(at) ?? {};
      expect([at, lastMarkAt(sql, 1, at)?.id]).toEqual([at, id]);
    }
    const least = db.query<{ ms: number }, []>("SELECT min(at_ms) AS ms FROM marks").get()!;
    expect(earliestMarkMs(sql, 1)).toBe(least.ms);
  }
});

test("a format without clock_turns is searched just the same", () => {
  using db = new Database(":memory:");
  const sql = withMarks(db, `${BEGAN_MS} + ((i - 1) % 100) * 1000`, 1_000);
  const found = [0, 50, 99].map((n) => lastMarkAt(sql, 1, BEGAN_MS + n * 1000)?.id);
  for (const change of [
    "TRIGGER clock_turns_INSERT",
    "TRIGGER clock_turns_UPDATE",
    "TABLE clock_turns",
  ])
    db.run(`DROP ${change}`);
  expect([0, 50, 99].map((n) => lastMarkAt(sql, 1, BEGAN_MS + n * 1000)?.id)).toEqual(found);
  expect(found).toEqual([901, 951, 1_000]);
});

test("marks from before clock_turns are looked at bit by bit, and searched just the same meanwhile", () => {
  using db = new Database(":memory:");
  const count = 9_000;
  const sql = withMarks(db, `${BEGAN_MS} + ((i - 1) % 1000) * 1000`, count);
  const turns = () => db.query("SELECT * FROM clock_turns ORDER BY mark").all();
  const search = () => [0, 500, 999].map((n) => lastMarkAt(sql, 1, BEGAN_MS + n * 1000)?.id);
  const [known, found] = [turns(), search()];
  expect(known).toHaveLength(8);
  db.run("DELETE FROM clock_turns");
  db.run("INSERT INTO unscanned_marks VALUES (1, 0, ?)", [count]);
  let steps = 0;
  for (; !findTurns(sql); steps++) expect(search()).toEqual(found);
  expect(steps).toBeGreaterThan(3);
  expect([turns(), search()]).toEqual([known, found]);
  sql.rows = 0;
  expect(findTurns(sql)).toBe(true);
  expect(sql.rows).toBe(1);
});

test("complaints about marks come page by page, each of them once", () => {
  using dir = tempDir();
  const path = dir.file("replica.db");
  using db = new Database(path);
  db.run("PRAGMA journal_mode = WAL");
  withMarks(db, `${BEGAN_MS} + i * 1000`, 20_000);
  // The last row of a page, as well as others.
  db.run("UPDATE marks SET written_offset = 1 WHERE id IN (5, 3899, 3900, 4000, 4001, 19999)");
  db.run(
    "UPDATE generations SET stream_db = 0, rdb_bytes = 0, rdb_crc64 = '', rdb_checked = 0, log_header_bytes = 0",
  );
  using reader = new LedgerReader(path);
  const pages = [...reader.markComplaints(3_600_000)];
  expect(pages.length).toBeGreaterThan(4);
  expect(pages.flat().map((text) => /^mark (\d+)/.exec(text)?.[1])).toEqual([
    "5",
    "3899",
    "3900",
    "4000",
    "4001",
    "19999",
  ]);
  // Between two pages nothing is held: a checkpoint starts the WAL over.
  const some = reader.markComplaints(3_600_000);
  some.next();
  expect(db.query("PRAGMA wal_checkpoint(TRUNCATE)").get()).toMatchObject({ busy: 0 });
  some.next();
  expect(db.query("PRAGMA wal_checkpoint(TRUNCATE)").get()).toMatchObject({ busy: 0 });
});
