import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { FileStore } from "../../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import { Archiver } from "../../../src/archive/writer/archiver.ts";
import { DirectorySource } from "../../../src/archive/writer/directory-source.ts";
import { realClock } from "../../../src/base/clock.ts";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { LedgerReader } from "../../../src/store/ledger/ledger-reader.ts";
import { FakeMachine } from "../../support/fake-machine.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { Random } from "../../support/fill.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { BASE_OFFSET, callbacks, keep } from "../../store/restore/kept.ts";
import { Bench, SEED } from "./bench.ts";
import { PauseClock, readArchive } from "./rig.ts";

const bench = new Bench();
beforeAll(() => bench.setUp());
afterEach(() => bench.stopAll());
afterAll(() => bench.tearDown());

/** An archive of ten seconds, and a generation with 10 bytes there. */
async function begun() {
  const { url, history } = bench.fresh();
  const clock = new PauseClock(SEED);
  clock.isHeld = true;
  const store = bench.open(url);
  const rig = bench.start(history, store, { clock });
  const id = history.begin(1_000, 0);
  rig.archiver.changed();
  rig.grow(id, 10);
  const archived = () => rig.archiver.archivedOffset(id);
  const reaches = (offset: number) =>
    until(() => archived() === offset && rig.isIdle, { what: `offset ${offset} in the archive` });
  await reaches(10);
  history.isSettled = false;
  history.wishes.length = 0;
  const settle = () => rig.archiver.moved(history.settleAll(id));
  return { history, clock, store, rig, id, archived, reaches, settle };
}

describe("a mark that may be replaced", () => {
  test("waits, however long it is due, and goes as soon as it is settled", async () => {
    const { history, clock, rig, id, archived, reaches, settle } = await begun();
    rig.grow(id, 10);
    const looks = history.pins;
    clock.skip(60_000);
    await Bun.sleep(5);
    // Nothing to do, so nothing is done.
    expect([archived(), history.pins, rig.isIdle]).toEqual([10, looks, true]);
    expect(rig.archiver.status().lagBytes).toBe(10);
    settle();
    await reaches(20);
    expect(rig.archiver.status().lagBytes).toBe(0);
    expect(history.wishes).toEqual([]);
  });

  test("stays behind when what comes before it is due", async () => {
    const { history, clock, store, rig, id, archived, reaches, settle } = await begun();
    rig.grow(id, 10);
    settle();
    rig.grow(id, 10);
    await until(() => rig.isIdle, { what: "a wait" });
    expect(archived()).toBe(10);
    clock.skip(10_000);
    await reaches(20);
    settle();
    await until(() => rig.isIdle, { what: "a wait" });
    expect(archived()).toBe(20);
    clock.skip(10_000);
    await reaches(30);
    const [read] = await readArchive(store);
    expect(read!.segments.flatMap(({ marks }) => marks)).toEqual([...history.marksOf(id)]);
  });

  test("stays behind when 8 MiB go at once", async () => {
    const { history, rig, id, reaches } = await begun();
    const MIB = 1024 * 1024;
    history.isSettled = true;
    history.grow(id, 8 * MIB);
    history.isSettled = false;
    rig.grow(id, 100);
    await reaches(10 + 8 * MIB);
  });

  test("is settled for whoever waits for it, once for each object", async () => {
    const { history, rig, id, archived, reaches, settle } = await begun();
    rig.grow(id, 10);
    rig.archiver.want(20);
    await until(() => history.wishes.length > 0, { what: "a wish" });
    await Bun.sleep(5);
    expect([archived(), new Set(history.wishes)]).toEqual([10, new Set([20])]);
    settle();
    await reaches(20);
    // At once.
    history.onWish = settle;
    history.wishes.length = 0;
    rig.grow(id, 10);
    rig.archiver.want(25);
    rig.archiver.want(30);
    await reaches(30);
    // Before it is durable.
    rig.archiver.want(40);
    await until(() => history.wishes.includes(40), { what: "a wish" });
    rig.grow(id, 10);
    settle();
    await reaches(40);
    expect(new Set(history.wishes)).toEqual(new Set([30, 40]));
  });

  test("is settled by the end of its generation", async () => {
    const { history, rig, id } = await begun();
    rig.grow(id, 10);
    history.seal(id);
    rig.archiver.changed();
    await until(() => rig.archiver.has(id), { what: "all of it" });
  });
});

/** Appends, syncs and pauses of a log, with an archiver beside it that asks for what it likes. */
async function lives(seed: number, fsync: "always" | "everysec" | "no"): Promise<void> {
  using dir = tempDir();
  const random = new Random(seed);
  const disk = new FaultyDisk();
  let nowMs = 1_700_000_000_000;
  const clock = { now: () => nowMs };
  const directory = new DataDirectory(dir.file("data"), disk, clock, new FakeMachine());
  using ledger = new LedgerReader(join(directory.path, "replica.db"));
  const source = new DirectorySource(directory, ledger, clock);
  const store = new FileStore(dir.file("archive"), realFolderDisk, realClock);
  const archiver = new Archiver({
    store,
    archive: store.url,
    source,
    disk,
    clock: new PauseClock(seed),
    writer: { codec: "none", encryption: undefined },
    everyMs: 1,
    program: "replica 0.1.0",
  });
  directory.holdings.carrier = archiver;
  const stop = new AbortController();
  const running = archiver.run(stop.signal);
  await (await keep(directory, disk)).close();
  const log = (await directory.openLog({ ...callbacks(), fsync }))!;
  for (let step = 0; step < 150; step++) {
    nowMs += random.below(200);
    log.append(Buffer.from(random.text(1 + random.below(50))));
    if (random.below(5) === 0) log.tick();
    if (random.below(10) === 0) directory.holdings.wantArchived(log.writtenOffset);
    if (random.below(3) === 0) await log.sync();
    if (random.below(4) === 0) await Bun.sleep(random.below(4));
  }
  await log.sync();
  const isWhole = () => archiver.archivedOffset(1) === log.durableOffset;
  await until(
    () => {
      nowMs += 1_000;
      log.tick();
      return isWhole();
    },
    { what: "all of it in the archive" },
  );
  expect(archiver.lag().lagBytes).toBe(0);
  const marks = source.marks(1, BASE_OFFSET, Infinity, 10_000);
  stop.abort(new Error("the test is over"));
  await running;
  const [read] = await readArchive(store);
  expect(read!.segments.length).toBeGreaterThan(5);
  expect(read!.segments.flatMap((segment) => segment.marks)).toEqual([...marks]);
  await log.close();
  directory.close();
}

test.each([
  [1, "always"],
  [2, "always"],
  [3, "everysec"],
  [4, "no"],
] as const)(
  "the archive has exactly the data directory's moments, whatever the archiver comes between (seed %d, %s)",
  async (seed, fsync) => await lives(SEED + seed, fsync),
);
