import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { encodeDocument, REMOVED_DOCUMENT } from "../../../src/archive/format/documents.ts";
import { generationKey, REMOVED_FILE } from "../../../src/archive/format/names.ts";
import type { ObjectStore } from "../../../src/archive/store/object-store.ts";
import { Bench, SEED } from "./bench.ts";
import type { LocalHistory } from "./local-history.ts";
import { PauseClock, readArchive } from "./rig.ts";

const HOUR_MS = 3_600_000;
const never = new AbortController().signal;
const bench = new Bench();

beforeAll(() => bench.setUp());
afterEach(() => bench.stopAll());
afterAll(() => bench.tearDown());

async function archived(history: LocalHistory, store: ObjectStore, writer = PLAIN): Promise<void> {
  const rig = bench.start(history, store, { writer });
  await rig.whole();
  await rig.stop();
}

const PLAIN: { codec: "zstd" | "none"; encryption: undefined } = {
  codec: "zstd",
  encryption: undefined,
};

async function lineages(store: ObjectStore) {
  const read = await readArchive(store);
  return read.map(({ name, document: { lineage } }) => ({ name, lineage }));
}

const markRemoved = async (store: ObjectStore, name: string) =>
  await store.put(
    generationKey(name, REMOVED_FILE),
    encodeDocument("removed", REMOVED_DOCUMENT),
    never,
  );

describe("the generations of a data directory", () => {
  test("are of one lineage in their order, process or not, anew or not", async () => {
    const { url, history } = bench.fresh();
    const store = bench.open(url);
    history.begin(1_000, 10);
    history.grow(1, 100);
    await archived(history, store);
    history.begin(1_000, 110);
    history.begin(1_000, 200);
    history.grow(3, 50);
    await archived(history, store);
    history.begin(1_000, 250);
    history.remove(1);
    await archived(history, store);
    // Anew: the third and the fourth aren't complete.
    await archived(history, store, { codec: "none", encryption: undefined });
    const found = await lineages(store);
    const first = found[0]!.name;
    const numbers = found.map(({ lineage }) => lineage?.generation);
    expect(numbers).toEqual([1, 2, 3, 4, 4]);
    for (const { lineage } of found) expect(lineage?.name).toBe(first);
  });

  test("are of another one in a copy of it", async () => {
    const { url, history } = bench.fresh();
    const store = bench.open(url);
    history.begin(1_000, 10);
    await archived(history, store);
    const copy = history.copyTo(bench.file("copied-lineage"));
    copy.begin(1_000, 20);
    await archived(copy, store);
    const names = (await lineages(store)).map(({ lineage }) => lineage!.name);
    expect(new Set(names).size).toBe(2);
  });
});

test("a generation that goes on though the archive has all of it is archived anew", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  history.begin(1_000, 10);
  history.grow(1, 100);
  history.seal(1);
  await archived(history, store);
  const [before] = await readArchive(store);
  expect(before!.sealed?.endOffset).toBe(110);
  history.unseal(1);
  history.grow(1, 100);
  await archived(history, store);
  const read = await readArchive(store);
  const anew = read.find(({ name }) => name !== before!.name)!;
  expect(anew.log.equals(history.content(1).log)).toBe(true);
  expect(anew.document.lineage).toEqual(before!.document.lineage!);
  expect(read.find(({ name }) => name === before!.name)).toEqual(before!);
});

describe("a generation that is being removed from the archive", () => {
  test("goes to a folder of its own at the next start", async () => {
    const { url, history } = bench.fresh();
    const store = bench.open(url);
    history.begin(1_000, 10);
    history.grow(1, 100);
    await archived(history, store);
    const [before] = await readArchive(store);
    await markRemoved(store, before!.name);
    history.grow(1, 100);
    await archived(history, store);
    const read = await readArchive(store);
    const anew = read.find(({ name }) => name !== before!.name)!;
    expect(anew.log.equals(history.content(1).log)).toBe(true);
    expect(anew.document.lineage).toEqual(before!.document.lineage!);
    expect(read.find(({ name }) => name === before!.name)!.segments).toEqual(before!.segments);
  });

  test.each([
    [5, 1],
    [7, 2],
  ])(
    "is looked at anew after %d hours of silence: then there are %d folders",
    async (hours, folders) => {
      const { url, history } = bench.fresh();
      const store = bench.open(url);
      const clock = new PauseClock(SEED);
      const rig = bench.start(history, store, { clock });
      history.begin(1_000, 10);
      rig.archiver.changed();
      await rig.whole();
      const [before] = await readArchive(store);
      await markRemoved(store, before!.name);
      clock.skip(hours * HOUR_MS);
      rig.grow(1, 100);
      await rig.whole();
      const read = await readArchive(store);
      expect(read).toHaveLength(folders);
      const { log } = history.content(1);
      expect(read.some((one) => one.log.equals(log))).toBe(true);
      expect(rig.archiver.status().archivedOffset).toBe(110);
    },
  );
});
