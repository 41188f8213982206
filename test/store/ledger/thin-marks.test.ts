import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { hex64 } from "../../../src/base/hex64.ts";
import { Random } from "../../../src/demo/random.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { GuardedDatabase } from "../../../src/store/ledger/guarded-database.ts";
import { lastMarkAt, markPages, type MarkRow } from "../../../src/store/ledger/mark-search.ts";
import { migrate } from "../../../src/store/ledger/schema.ts";
import { thinMarks } from "../../../src/store/ledger/thin-marks.ts";

const SEED = 20260107;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 86_400 * SECOND;
const NOW = 1_700_000_000_000;

const random = new Random(SEED);
const LOG = Uint8Array.from({ length: 400_000 }, () => random.below(256));

type NewMark = Omit<MarkRow, "id">;

class Marks {
  readonly db = new Database(":memory:");
  readonly sql: GuardedDatabase;

  constructor(marks: Iterable<NewMark>) {
    this.db.run("PRAGMA foreign_keys = ON");
    migrate(this.db, 0);
    this.db.run(
      "INSERT INTO generations (id, state, primary_name, began_at_ms, base_offset) VALUES (1, 'sealed', 'p', 0, 0)",
    );
    const insert = this.db.prepare("INSERT INTO marks VALUES (NULL, 1, ?, ?, ?, ?, ?)");
    this.db.transaction(() => {
      for (const { atMs, writtenOffset, durableOffset, crcFrom, crc64: sum } of marks)
        insert.run(atMs, writtenOffset, durableOffset, crcFrom, sum);
    })();
    this.sql = new GuardedDatabase(this.db, "it", "writing");
  }

  get all(): MarkRow[] {
    return [...markPages(this.sql, 1)].flat();
  }

  /** Thins to the end; `between` is called between two transactions. */
  thin(nowMs = NOW, between: () => unknown = () => undefined): void {
    for (let after: number | undefined = 0; after !== undefined;) {
      after = thinMarks(this.sql, 1, after, nowMs);
      between();
    }
  }
}

function sumOf(from: number, to: number): string {
  return hex64(crc64(LOG.subarray(from, to)));
}

function mark(atMs: number, from: number | null, to: number, written = to): NewMark {
  const sum = from === null ? null : sumOf(from, to);
  return { atMs, writtenOffset: written, durableOffset: to, crcFrom: from, crc64: sum };
}

/** A mark a second, each with a segment of some bytes. */
function* everySecond(fromMs: number, untilMs: number): Generator<NewMark> {
  yield mark(fromMs, null, 0);
  let offset = 0;
  for (let atMs = fromMs + SECOND; atMs <= untilMs; atMs += SECOND) {
    yield mark(atMs, offset, ++offset);
  }
}

function bytesWithSums(marks: readonly MarkRow[]): number[] {
  return marks.flatMap(({ crcFrom, durableOffset }) =>
    crcFrom === null ? [] : Array.from({ length: durableOffset - crcFrom }, (_, n) => crcFrom + n),
  );
}

function expectSums(marks: readonly MarkRow[]): void {
  for (const { crcFrom, durableOffset, crc64: sum } of marks)
    if (crcFrom !== null) expect(sum).toBe(sumOf(crcFrom, durableOffset));
}

test("keeps each mark of the last day, one a minute before it, one in ten minutes before the last week", () => {
  const marks = new Marks([
    ...everySecond(NOW - 8 * DAY, NOW - 8 * DAY + 90 * MINUTE),
    mark(NOW - 3 * DAY, 5_400, 5_401),
    ...Array.from({ length: 3_600 }, (_, n) =>
      mark(NOW - 3 * DAY + (n + 1) * SECOND, 5_401 + n, 5_402 + n),
    ),
    mark(NOW - 3600 * SECOND, 9_001, 9_002),
    ...Array.from({ length: 3_600 }, (_, n) =>
      mark(NOW - (3600 - n - 1) * SECOND, 9_002 + n, 9_003 + n),
    ),
  ]);
  const before = marks.all;
  marks.thin();
  const after = marks.all;
  const within = (from: number, to: number) =>
    after.filter(({ atMs }) => atMs >= NOW + from && atMs < NOW + to).length;
  expect(within(-8 * DAY, -4 * DAY)).toBeLessThanOrEqual(12);
  expect(within(-3 * DAY, -DAY)).toBeLessThanOrEqual(62);
  expect(within(-3 * DAY, -DAY)).toBeGreaterThanOrEqual(60);
  expect(within(-DAY, DAY)).toBe(3_601);
  expect([after[0], after.at(-1)]).toEqual([before[0], before.at(-1)]);
  expectSums(after);
  expect(bytesWithSums(after)).toEqual(bytesWithSums(before));
  // Once more changes nothing.
  marks.thin();
  expect(marks.all).toEqual(after);
});

/** Marks of any kind: without checksums, gaps between segments, a clock that is set back, a growing rate. */
function anyMarks(seed: number): NewMark[] {
  const dice = new Random(seed);
  const marks = [mark(NOW - 9 * DAY, null, 0)];
  let atMs = NOW - 9 * DAY;
  let offset = 0;
  for (let n = 0; n < 4_000; n++) {
    atMs += dice.below(20) === 0 ? dice.below(300) * MINUTE : dice.below(20 * SECOND);
    if (dice.below(400) === 0) atMs -= dice.below(3) * DAY;
    const kind = dice.below(20);
    const to = Math.min(LOG.length, offset + dice.below(60));
    if (kind === 0) marks.push(mark(atMs, null, offset, to));
    else if (kind === 1) marks.push(mark(atMs, null, to));
    else if (kind === 2) marks.push(mark(atMs, Math.floor((offset + to) / 2), to));
    else marks.push(mark(atMs, offset, to));
    if (kind !== 0) offset = to;
  }
  return marks;
}

test("whatever the marks are: no byte loses its checksum, what stays is as it was, and a restore by time ends at a mark that was there", () => {
  for (let round = 0; round < 12; round++) {
    const marks = new Marks(anyMarks(SEED + round));
    const before = marks.all;
    const byId = new Map(before.map((one) => [one.id, one]));
    const turns = marks.db.query("SELECT * FROM clock_turns").all();
    for (const nowMs of [NOW - 4 * DAY, NOW, NOW + 30 * DAY]) {
      marks.thin(nowMs);
      const after = marks.all;
      expect(after.length).toBeLessThan(before.length);
      for (const { id, atMs, writtenOffset, durableOffset } of after)
        expect(byId.get(id)).toMatchObject({ atMs, writtenOffset, durableOffset });
      expect(bytesWithSums(after)).toEqual(bytesWithSums(before));
      expectSums(after);
      expect([after[0], after.at(-1)!.id]).toEqual([before[0], before.at(-1)!.id]);
      expect(marks.db.query("SELECT * FROM clock_turns").all()).toEqual(turns);
      for (let n = 0; n < 50; n++) {
        const at = NOW - 10 * DAY + random.below(40 * 86_400) * SECOND;
        expect(lastMarkAt(marks.sql, 1, at)?.id).toBe(after.findLast(({ atMs }) => atMs <= at)?.id);
      }
    }
  }
});

test("a reader that takes page after page meanwhile sees each byte in one segment", () => {
  // A page holds as many rows as eight transactions look at: the reader is ahead, behind, or passed.
  for (const [readAhead, every] of [
    [1, Infinity],
    [2, Infinity],
    [1, 12],
    [0, 1],
  ] as const) {
    const marks = new Marks(everySecond(NOW - 9 * DAY, NOW - 9 * DAY + 20_000 * SECOND));
    const pages = markPages(marks.sql, 1);
    const read: MarkRow[] = [];
    const next = () => read.push(...(pages.next().value ?? []));
    for (let n = 0; n < readAhead; n++) next();
    let transactions = 0;
    marks.thin(NOW, () => ++transactions % every === 0 && next());
    read.push(...[...pages].flat());
    expect(bytesWithSums(read)).toEqual(Array.from({ length: 20_000 }, (_, n) => n));
    expectSums(read);
  }
});

test("a transaction looks at five hundred rows, and a span of more than that is merged in parts", () => {
  const marks = new Marks([
    mark(NOW - 9 * DAY, null, 0),
    ...Array.from({ length: 5_000 }, (_, n) => mark(NOW - 9 * DAY, n, n + 1)),
    mark(NOW, 5_000, 5_001),
  ]);
  const { length: before } = marks.all;
  expect(thinMarks(marks.sql, 1, 0, NOW)).toBeDefined();
  expect(before - marks.all.length).toBe(499);
  marks.thin();
  expect(bytesWithSums(marks.all)).toEqual(Array.from({ length: 5_001 }, (_, n) => n));
  expect(marks.all.length).toBeLessThan(510);
  expectSums(marks.all);
});

test("nothing is merged until it is known where the clock was set back", () => {
  const old = NOW - 3 * DAY;
  const marks = new Marks([
    ...Array.from({ length: 30 }, (_, n) => mark(old + n * SECOND, n, n + 1)),
    ...Array.from({ length: 30 }, (_, n) => mark(old + n * SECOND, 30 + n, 31 + n)),
    mark(old + 2 * MINUTE, 60, 61),
    mark(old + 3 * MINUTE, 61, 62),
  ]);
  marks.db.run("DELETE FROM clock_turns");
  marks.db.run("INSERT INTO unscanned_marks VALUES (1, 0, 62)");
  const before = marks.all;
  expect(thinMarks(marks.sql, 1, 0, NOW)).toBe(0);
  expect(marks.all).toEqual(before);
  marks.thin();
  // The first and the last of all, the last of each run, and the turn.
  expect(marks.all.map(({ id }) => id)).toEqual([1, 30, 31, 60, 61, 62]);
});
