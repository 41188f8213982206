import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { statSync } from "node:fs";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { Thinning } from "../../../src/store/generation/thinning.ts";
import { Ledger } from "../../../src/store/ledger/ledger.ts";
import { FakeMachine } from "../../support/fake-machine.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { keep } from "../restore/kept.ts";

const SECOND = 1_000;
const DAY = 86_400 * SECOND;
const NOW = 1_700_000_000_000;
const MARKS = 20_000;

/** Keeps two generations whose marks, a second apart, end at `endMs`; the first is sealed. */
async function twoGenerations(path: string, endMs: number, machine: FakeMachine): Promise<void> {
  const disk = new FaultyDisk();
  const clock = { now: () => endMs - MARKS * SECOND };
  const directory = new DataDirectory(path, disk, clock, machine);
  for (let n = 0; n < 2; n++) {
    const log = await keep(directory, disk);
    await log.close();
  }
  directory.close();
  using db = new Database(`${path}/replica.db`);
  db.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${MARKS})
     INSERT INTO marks SELECT NULL, generations.id, ${endMs} - (${MARKS} - i) * 1000, 1000, 1000, NULL, NULL
     FROM generations, n ORDER BY generations.id, i`,
  );
}

function countsOf(path: string): number[] {
  using db = new Database(`${path}/replica.db`, { readonly: true });
  return db
    .query<{ count: number }, []>(
      "SELECT count(*) AS count FROM marks GROUP BY generation ORDER BY generation",
    )
    .all()
    .map(({ count }) => count);
}

test("the marks of all generations thin out, some thousand a second, and go on so after a restart", async () => {
  using dir = tempDir();
  const machine = new FakeMachine();
  await twoGenerations(dir.path, NOW - 3 * DAY, machine);
  machine.pass(3 * DAY);
  const open = () => new DataDirectory(dir.path, new FaultyDisk(), { now: () => NOW }, machine);
  let seconds = 0;
  const before = open();
  for (; seconds < 4; seconds++) before.thinning.tick(seconds * SECOND);
  before.close();
  const [sealed, current] = countsOf(dir.path);
  expect(sealed).toBeLessThan(MARKS - 14_500);
  expect(sealed).toBeGreaterThan(MARKS - 16_500);
  expect(current).toBe(MARKS + 1);
  const directory = open();
  for (; seconds < 30; seconds++) directory.thinning.tick(seconds * SECOND);
  const thinned = countsOf(dir.path);
  for (const count of thinned) {
    expect(count).toBeGreaterThan(MARKS / 60);
    // The last minute of a generation is not known to be over.
    expect(count).toBeLessThan(MARKS / 60 + 70);
  }
  // Then it rests: nothing is looked at.
  directory.close();
  directory.thinning.tick(21 * SECOND);
});

test("marks wait while the database's log is moved and cut: a change would keep it from being cut", async () => {
  using dir = tempDir();
  await twoGenerations(dir.path, NOW - 30 * DAY, new FakeMachine());
  const ledger = new Ledger(dir.file("replica.db"), new FaultyDisk(), false);
  const thinning = new Thinning(ledger, { now: () => NOW }, NOW);
  const bytes = () => statSync(dir.file("replica.db-wal")).size;
  while (bytes() <= 4 * 1024 * 1024) ledger.recent.event("kind", "x".repeat(200_000), 0);
  await ledger.sync();
  thinning.tick(0);
  await ledger.checkpointing;
  expect([bytes(), countsOf(dir.path)]).toEqual([0, [MARKS + 1, MARKS + 1]]);
  thinning.tick(SECOND);
  expect(countsOf(dir.path)[0]).toBeLessThan(MARKS);
  ledger.close();
});

test("a clock that jumps ahead while it runs makes no mark old", async () => {
  using dir = tempDir();
  await twoGenerations(dir.path, NOW, new FakeMachine());
  let now = NOW;
  const directory = new DataDirectory(dir.path, new FaultyDisk(), { now: () => now });
  directory.thinning.tick(0);
  now += 30 * DAY;
  for (let seconds = 1; seconds < 3_000; seconds += 100) directory.thinning.tick(seconds * SECOND);
  expect(countsOf(dir.path)).toEqual([MARKS + 1, MARKS + 1]);
  // Both clocks agree: time has passed. A round may be under way, and rests when it is over.
  for (let seconds = 0; seconds < 3_000; seconds += 60)
    directory.thinning.tick(2 * DAY + seconds * SECOND);
  expect(Math.max(...countsOf(dir.path))).toBeLessThan(MARKS / 60 + 70);
  directory.close();
});

test("a clock that is ahead when a process starts makes no mark old, until a week has passed", async () => {
  using dir = tempDir();
  const machine = new FakeMachine();
  await twoGenerations(dir.path, NOW - 3 * DAY, machine);
  // It was off: nobody but the clock says for how long.
  machine.reboot();
  const directory = new DataDirectory(dir.path, new FaultyDisk(), { now: () => NOW }, machine);
  for (let seconds = 0; seconds < 3_000; seconds += 100) directory.thinning.tick(seconds * SECOND);
  expect(countsOf(dir.path)).toEqual([MARKS + 1, MARKS + 1]);
  directory.keeping.tick();
  directory.close();
  machine.pass(2 * DAY);
  const later = new DataDirectory(
    dir.path,
    new FaultyDisk(),
    { now: () => NOW + 9 * DAY },
    machine,
  );
  for (let seconds = 0; seconds < 3_000; seconds += 100) later.thinning.tick(seconds * SECOND);
  expect(Math.max(...countsOf(dir.path))).toBeLessThan(MARKS / 60 + 70);
  later.close();
});

test("a database that can't be written stops nothing", async () => {
  using dir = tempDir();
  const machine = new FakeMachine();
  await twoGenerations(dir.path, NOW - 3 * DAY, machine);
  machine.pass(3 * DAY);
  const directory = new DataDirectory(dir.path, new FaultyDisk(), { now: () => NOW }, machine);
  {
    using other = new Database(`${dir.path}/replica.db`);
    other.run("CREATE TRIGGER no BEFORE DELETE ON marks BEGIN SELECT RAISE(ABORT, 'no'); END");
    directory.thinning.tick(0);
    directory.thinning.tick(SECOND);
    expect(countsOf(dir.path)).toEqual([MARKS + 1, MARKS + 1]);
    other.run("DROP TRIGGER no");
  }
  for (let seconds = 2; seconds < 30; seconds++) directory.thinning.tick(seconds * SECOND);
  expect(Math.max(...countsOf(dir.path))).toBeLessThan(MARKS / 60 + 70);
  directory.close();
});
