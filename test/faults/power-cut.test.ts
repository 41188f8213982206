import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { Random } from "../../src/demo/random.ts";
import type { ReplicaError } from "../../src/base/errors.ts";
import { GenerationKeeper } from "../../src/upstream/keeper.ts";
import { Resyncs } from "../../src/upstream/resyncs.ts";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { restore } from "../../src/store/restore/restore.ts";
import { restorePoint } from "../../src/store/restore/restore-point.ts";
import { filesIn } from "../integration/bad-input-rig.ts";
import { keep } from "../store/restore/kept.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { generationFiles } from "../support/generation-files.ts";
import { ModelPrimary } from "../support/model-primary.ts";
import type { PowerCut, Survivors } from "../support/power-cut.ts";
import { PowerCutDisk } from "../support/power-cut-disk.ts";
import { tempDir } from "../support/temp.ts";
import { IS_FULL, stride, swept } from "../support/sweep.ts";
import { until } from "../support/wait.ts";
import { Lifetime, RememberingDisk } from "./lifetime-rig.ts";
import {
  bootAgain,
  checkGeneration,
  expectPromised,
  fackOf,
  goOn,
  named,
  OUTCOMES,
  recover,
  SEED,
  WORST,
} from "./power-cut-checks.ts";
import {
  HEADER,
  live,
  type Mode,
  type Moment,
  plainRig,
  type Promised,
  Rig,
  silent,
  stream,
} from "./power-cut-rig.ts";

/** `npm test` takes about one moment, and one sync, in so many. */
const ONE_IN = 20;

/** Cuts the power at `moment` and starts again; with `again`, returns the moments of that start. */
async function cutAt(moment: Moment, survivors: Survivors, seed: number, again: boolean) {
  using dir = tempDir("power-cut");
  const random = new Random(seed);
  const path = dir.file("data");
  const { cut, promised } = moment;
  const second: Moment[] = [];
  await named(`${cut.label}; ${JSON.stringify(survivors)}`, async () => {
    cut.restore(path, survivors, random);
    bootAgain(path);
    let rig: Rig | undefined;
    const watch = (disk: PowerCutDisk, label: string) => {
      const then = rig?.promised ?? promised;
      second.push({ cut: disk.cut(`${cut.label}, then ${label}`), promised: then });
    };
    const recovered = await recover(path, promised, seed, {
      make: plainRig,
      onMoment: again ? watch : undefined,
    });
    ({ rig } = recovered);
    if (again) rig.onAcknowledged = (label) => watch(recovered.disk, label);
    if (again) await goOn(path, recovered, random);
    else await rig.close();
  });
  return second;
}

const MODES: readonly Mode[] = [
  { fsync: "everysec", ack: "written" },
  { fsync: "always", ack: "durable" },
];

test.each(MODES)(
  "loses nothing promised after a cut at any moment, with --fsync $fsync",
  async (mode) => {
    using dir = tempDir("power-cut");
    const { moments, rig } = await live(dir.path, mode, SEED, { make: plainRig });
    expect(rig.failures).toBe(0);
    expect(moments.length).toBeGreaterThan(200);
    for (const [n, moment] of swept([...moments.entries()], ONE_IN, new Random(SEED))) {
      for (const [outcome, survivors] of OUTCOMES.entries()) {
        // The worst outcome at each moment, the others in turn.
        if (outcome > 0 && (outcome + n) % 2 === 0) continue;
        await cutAt(moment, survivors, SEED + 10 * n + outcome, false);
      }
    }
  },
  600_000,
);

test("a generation is whole on the device from the moment that it is current", async () => {
  using dir = tempDir("power-cut");
  const { moments } = await live(dir.path, MODES[0]!, SEED, { make: plainRig });
  const isFirst = ({ promised }: Moment, n: number) =>
    promised.generation !== undefined &&
    promised.generation !== moments[n - 1]?.promised.generation;
  const first = moments.filter(isFirst);
  // Two came over the first link, and were written past the page cache; the third over a second link.
  expect(first.length).toBe(3);
  for (const moment of first) await cutAt(moment, WORST, SEED, false);
});

test("loses nothing promised in a folder that it made itself", async () => {
  using dir = tempDir("power-cut");
  const { moments } = await live(dir.path, MODES[0]!, SEED, {
    below: "made/by/us",
    make: plainRig,
  });
  for (const [n, { cut, promised }] of swept([...moments.entries()], ONE_IN, new Random(SEED))) {
    using after = tempDir("power-cut");
    const root = after.file("root");
    await named(`${cut.label}`, async () => {
      cut.restore(root, WORST, new Random(n));
      const path = join(root, "made/by/us");
      // The next start uses the folder, or makes it.
      fs.mkdirSync(path, { recursive: true });
      bootAgain(path);
      const { rig } = await recover(path, promised, n, { make: plainRig });
      await rig.close();
    });
  }
});

test("loses nothing after a second cut, during or after the start that follows the first", async () => {
  using dir = tempDir("power-cut");
  const { moments } = await live(dir.path, MODES[0]!, SEED + 1, { make: plainRig });
  const random = new Random(SEED);
  let cuts = 0;
  const oneIn = IS_FULL ? 1 : ONE_IN;
  for (let n = random.below(11); n < moments.length; n += 1 + random.below(14 * oneIn)) {
    const first = OUTCOMES[random.below(OUTCOMES.length)]!;
    const second = await cutAt(moments[n]!, first, SEED + n, true);
    for (let m = random.below(4); m < second.length; m += 1 + random.below(8)) {
      await cutAt(second[m]!, OUTCOMES[random.below(OUTCOMES.length)]!, SEED + m, false);
      cuts++;
    }
  }
  expect(cuts).toBeGreaterThan(300 / oneIn);
}, 600_000);

test.each(MODES)(
  "after any failed sync it goes back to the last mark and on from there, with --fsync $fsync",
  async (mode) => {
    const random = new Random(SEED);
    let failures = 0;
    for (let failingSync = 1; ; failingSync += stride(ONE_IN, random)) {
      using dir = tempDir("power-cut");
      const path = dir.file("data");
      fs.mkdirSync(path);
      const { moments, rig, disk } = await named(`sync ${failingSync} fails`, () =>
        live(path, mode, SEED + failingSync, { failingSync, make: plainRig }),
      );
      if (disk.syncs < failingSync) {
        expect(rig.failures).toBe(0);
        break;
      }
      failures += rig.failures;
      const last = moments.at(-1)!;
      await named(`sync ${failingSync} failed, then a start of the same boot`, () =>
        startAgain(path, last.promised),
      );
      for (let n = random.below(25); n < moments.length; n += 1 + random.below(50)) {
        await named(`sync ${failingSync} failed`, () =>
          cutAt(moments[n]!, OUTCOMES[random.below(OUTCOMES.length)]!, SEED + n, false),
        );
      }
    }
    expect(failures).toBeGreaterThan(IS_FULL ? 20 : 0);
  },
  600_000,
);

/** Starts again in the same boot: the log is a prefix of the stream, no shorter than promised. */
async function startAgain(path: string, promised: Promised): Promise<void> {
  const disk = new PowerCutDisk(path, path, SEED);
  const rig = new Rig(path, disk, MODES[0]!, promised);
  const { current } = rig.directory;
  expectPromised(current, promised);
  const snapshot = promised.snapshots.get(current!.id)!;
  const position = await rig.resume();
  expect(position!.offset).toBeGreaterThanOrEqual(fackOf(current!.id, promised));
  checkGeneration(path, current!.id, snapshot, position!.offset);
  const size = fs.statSync(generationFiles(path, current!.id).log).size;
  expect(size).toBe(position!.offset - snapshot.baseOffset + HEADER.length);
  await goOn(path, { rig, disk }, new Random(SEED));
}

test("a log that fails during a resume is cut back only after its last sync", async () => {
  using dir = tempDir("power-cut");
  const disk = new FaultyDisk();
  {
    const before = new DataDirectory(dir.path, disk, { now: () => 1_700_000_000_000 });
    await (await keep(before, disk)).close();
    before.close();
  }
  const clock = {
    now: () => 1_700_000_000_000,
    monotonicMs: () => 0,
    sleep: () => Promise.resolve(),
    random: () => 0,
  };
  const directory = new DataDirectory(dir.path, disk, clock);
  const failures: ReplicaError[] = [];
  const options = {
    io: "auto",
    rdbSyncBytes: 400,
    maxQueuedBytes: 1024 * 1024,
    maxLogQueuedBytes: 1024 * 1024,
  } as const;
  const keeper = new GenerationKeeper(
    directory,
    disk,
    clock,
    { ...options, ...MODES[0]!, admit: async () => (bytes) => bytes },
    {
      acknowledge: () => undefined,
      hasRoom: () => undefined,
      failed: (error) => failures.push(error),
    },
    { moved: () => undefined, endAll: () => undefined },
    new Resyncs(clock, directory, silent, { rdbFor: undefined }),
  );
  const { offset } = (await keeper.resume())!;
  keeper.stream(stream(offset, offset + 100));
  await keeper.log!.flushed();
  const sync = disk.hold("syncData");
  keeper.tick();
  const write = disk.hold("write");
  keeper.stream(stream(offset + 100, offset + 150));
  keeper.stream(stream(offset + 150, offset + 200));
  // The link breaks while a sync and a write are under way; the write after them fails.
  const resuming = keeper.resume();
  disk.fail({ operation: "write", code: "ENOSPC" });
  write.release();
  await until(() => failures.length > 0, { what: "the failure of the write" });
  await Bun.sleep(5);
  disk.heal();
  sync.release();
  const position = (await resuming)!;
  // Bytes written before the failed write were made durable: they must not be cut off.
  expect(position.offset).toBe(offset + 150);
  await keeper.close();
  directory.close();
  const again = new DataDirectory(dir.path, disk, clock);
  again.close();
});

test.each(["multipart", "single"] as const)(
  "after a cut during a restore (%s) the target is whole or absent; after the restore it is whole",
  async (layout) => {
    using dir = tempDir("power-cut");
    const data = dir.file("data");
    {
      await using primary = new ModelPrimary();
      await new Lifetime(dir, primary, new RememberingDisk(), { fsync: "always" }).first();
    }
    // The temporary folder is made around this disk. An existing one counts as left by a dead process.
    fs.mkdirSync(dir.file(`.target.restoring-${process.pid}`));
    const disk = new PowerCutDisk(dir.path, data, SEED);
    const cuts: { cut: PowerCut; isDone: boolean }[] = [];
    disk.onMoment((label) => cuts.push({ cut: disk.cut(label), isDone: false }));
    const target = dir.file("target");
    using catalogue = new Catalogue(data);
    const everything = { generation: undefined, atMs: undefined, offset: undefined };
    await restore(catalogue, restorePoint(catalogue, everything), target, {
      disk,
      layout,
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    cuts.push({ cut: disk.cut("after all"), isDone: true });
    const wanted = filesIn(target);
    let missing = 0;
    for (const [n, { cut, isDone }] of swept([...cuts.entries()], ONE_IN, new Random(SEED))) {
      for (const [outcome, survivors] of OUTCOMES.entries()) {
        using after = tempDir("power-cut");
        await named(`${cut.label}; ${JSON.stringify(survivors)}`, async () => {
          cut.restore(after.file("root"), survivors, new Random(SEED + 10 * n + outcome));
          const found = after.file("root", "target");
          if (isDone || fs.existsSync(found)) expect(filesIn(found)).toEqual(wanted);
          else missing++;
        });
      }
    }
    expect(missing).toBeGreaterThan(IS_FULL ? 50 : 0);
  },
);
