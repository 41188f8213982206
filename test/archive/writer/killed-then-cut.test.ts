import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { FileStore } from "../../../src/archive/store/file-store.ts";
import { realFolderDisk } from "../../../src/archive/store/folder-disk.ts";
import { realClock } from "../../../src/base/clock.ts";
import { Random } from "../../../src/demo/random.ts";
import { PowerCutDisk } from "../../support/power-cut-disk.ts";
import { Bench, SEED } from "./bench.ts";
import type { LocalHistory } from "./local-history.ts";
import { readArchive } from "./rig.ts";

const bench = new Bench();
let count = 0;

beforeAll(() => bench.setUp());
afterEach(() => bench.stopAll());
afterAll(() => bench.tearDown());

/** A disk amid whose calls a process dies: an object has its name, which isn't durable yet. */
class DyingDisk extends PowerCutDisk {
  dyingLink: number | undefined;
  #links = 0;
  readonly #died = Promise.withResolvers<void>();
  isDead = false;

  get died(): Promise<void> {
    return this.#died.promise;
  }

  override async hardLink(from: string, to: string): Promise<void> {
    await super.hardLink(from, to);
    if (++this.#links !== this.dyingLink) return;
    this.isDead = true;
    this.#died.resolve();
    await new Promise(() => undefined);
  }
}

function freshRoot(): string {
  const root = bench.file(`disk-${++count}`);
  mkdirSync(root);
  return root;
}

/** One process that archives to a folder of a disk. */
function startIn(root: string, disk: DyingDisk | typeof realFolderDisk, history: LocalHistory) {
  const store = new FileStore(join(root, "archive"), disk, realClock);
  // After the cut, the folder has another name.
  const archive = "file:///archive";
  const more = { archive, writer: { codec: "none", encryption: undefined } } as const;
  return { store, rig: bench.start(history, store, more) };
}

/** Kills a process at the link that is counted so, lets the next one archive the rest, and cuts the power. */
async function killedThenCut(dyingLink: number): Promise<boolean> {
  const { history } = bench.fresh();
  const root = freshRoot();
  const disk = new DyingDisk(root, root, SEED);
  disk.dyingLink = dyingLink;
  history.begin(3_000, 1_000);
  history.grow(1, 5_000);
  history.begin(3_000, 6_000);
  history.grow(2, 100);
  const first = startIn(root, disk, history);
  await Promise.race([first.rig.whole(() => disk.isDead), disk.died]);
  await first.rig.stop();
  const second = startIn(root, disk, history);
  await second.rig.whole();
  await second.rig.stop();
  const after = freshRoot();
  disk.cut("the end").restore(join(after, "x"), { bytes: "none", names: "none" }, new Random(SEED));
  const store = new FileStore(join(after, "x", "archive"), realFolderDisk, realClock);
  await bench.expectSame(history, store, [1, 2]);
  const read = await readArchive(store);
  expect(read.map(({ sealed }) => sealed !== undefined)).toEqual([true, false]);
  return disk.isDead;
}

test("what a process stored that was killed before it was durable there, survives a cut once the next one counts on it", async () => {
  for (let link = 1; await killedThenCut(link); link++);
}, 150_000);
