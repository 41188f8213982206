import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { Random } from "../../src/demo/random.ts";
import type { Survivors } from "../support/power-cut.ts";
import { tempDir } from "../support/temp.ts";
import { stride, swept } from "../support/sweep.ts";
import {
  archivedEnds,
  type ArchivedEnds,
  ArchivedRig,
  SlowSyncDisk,
  tellInodes,
} from "./archived-rig.ts";
import { bootAgain, goOn, named, OUTCOMES, query, recover, SEED } from "./power-cut-checks.ts";
import { live, type MakeRig, type Mode, type Moment } from "./power-cut-rig.ts";

/** `npm test` takes about one moment in so many. */
const ONE_IN = 80;
/** What goes on after a cut takes longer: so many times fewer moments. */
const FEWER = 4;

const MODE: Mode = { fsync: "everysec", ack: "archived" };

const makeIn =
  (root: string): MakeRig<ArchivedRig> =>
  (path, disk, mode, before) =>
    new ArchivedRig(root, path, disk, { ...mode, ack: "archived" }, before);

/** Up to where a data directory has each of its generations after a start. */
function localEnds(path: string): Map<number, number> {
  const rows = query<{ id: number; end: number }>(
    path,
    `SELECT g.id, max(m.durable_offset) AS end FROM generations g JOIN marks m ON m.generation = g.id
     WHERE g.state <> 'receiving' GROUP BY g.id`,
  );
  return new Map(rows.map(({ id, end }) => [id, end]));
}

/** Expects that the archive has nothing that the data directory has lost. */
function expectNoneLost(archived: ArchivedEnds, local: ReadonlyMap<number, number>): void {
  const oldest = Math.min(...local.keys());
  for (const [id, { end }] of archived) {
    // Older ones were removed, since the archive has all of them.
    if (id < oldest) continue;
    expect([id, local.get(id) ?? "lost"]).toEqual([id, expect.any(Number)]);
    expect(end, `archived of generation ${id}`).toBeLessThanOrEqual(local.get(id)!);
  }
}

/** Cuts the power, and starts again; `goesOn` until the archive has all of it. */
async function cutAt(
  { cut, promised }: Moment,
  survivors: Survivors,
  seed: number,
  goesOn: boolean,
) {
  using dir = tempDir("archive-power-cut");
  const root = dir.file("disk");
  const path = dir.file("disk", "data");
  const random = new Random(seed);
  await named(`${cut.label}; ${JSON.stringify(survivors)}`, async () => {
    cut.restore(root, survivors, random);
    fs.mkdirSync(path, { recursive: true });
    tellInodes(path);
    bootAgain(path);
    const archived = await archivedEnds(root, promised);
    const farthest = Math.max(0, ...[...archived.values()].map(({ end }) => end));
    expect(farthest).toBeGreaterThanOrEqual(promised.acked);
    const recovered = await recover(path, promised, seed, { root, make: makeIn(root) });
    const { rig } = recovered;
    expectNoneLost(archived, localEnds(path));
    if (!goesOn) return await rig.close();
    await goOn(path, recovered, random);
    const after = await archivedEnds(root, rig.promised);
    const local = localEnds(path);
    for (const [id, end] of local) expect([id, after.get(id)?.end]).toEqual([id, end]);
    expectNoneLost(after, local);
  });
}

/** Lives a whole life on a disk that holds data directory and archive; in the end the archive has all of it. */
async function lived(root: string, seed: number, failingSync?: number) {
  const path = join(root, "data");
  fs.mkdirSync(path);
  const parts = { below: "data", make: makeIn(root), Disk: SlowSyncDisk };
  const life = await live(root, MODE, seed, { ...parts, failingSync });
  const local = localEnds(path);
  const archived = await archivedEnds(root, life.moments.at(-1)!.promised);
  const current = Math.max(...local.keys());
  for (const [id, end] of local) {
    const durable = id === current ? life.rig.durableAtEnd : end;
    expect([id, archived.get(id)?.end]).toEqual([id, durable]);
  }
  expectNoneLost(archived, local);
  return life;
}

test("after a cut at any moment the archive has a beginning of the history, and nothing that the directory lost", async () => {
  using dir = tempDir("archive-power-cut");
  const { moments, rig } = await lived(dir.path, SEED);
  expect(rig.failures).toBe(0);
  expect(moments.length).toBeGreaterThan(500);
  const acks = new Set(moments.map(({ promised }) => promised.acked));
  expect(acks.size).toBeGreaterThan(5);
  const taken = swept([...moments.entries()], ONE_IN, new Random(SEED));
  for (const [nth, [n, moment]] of taken.entries()) {
    for (const [outcome, survivors] of OUTCOMES.entries()) {
      // The worst outcome at each moment, the others in turn.
      if (outcome > 0 && (outcome + n) % 2 === 0) continue;
      const goesOn = (nth + outcome) % FEWER === 0;
      await cutAt(moment, survivors, SEED + 10 * n + outcome, goesOn);
    }
  }
}, 1_800_000);

test("after any failed sync, of the data directory or of the archive, both go on, and a cut takes nothing that is archived", async () => {
  const random = new Random(SEED);
  for (let failingSync = 1; ; failingSync += stride(ONE_IN, random)) {
    using dir = tempDir("archive-power-cut");
    const life = await named(`sync ${failingSync} fails`, () =>
      lived(dir.path, SEED + failingSync, failingSync),
    );
    if (life.disk.syncs < failingSync) break;
    for (let n = random.below(300); n < life.moments.length; n += 1 + random.below(600)) {
      const survivors = OUTCOMES[random.below(OUTCOMES.length)]!;
      await named(`sync ${failingSync} failed`, () =>
        cutAt(life.moments[n]!, survivors, SEED + n, random.below(FEWER) === 0),
      );
    }
  }
}, 1_800_000);
