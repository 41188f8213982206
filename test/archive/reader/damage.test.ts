import { describe, expect, test } from "bun:test";
import {
  ARCHIVE_KEY,
  BASE_FILE,
  GENERATION_FILE,
  generationKey,
  logFolder,
  parseSegmentName,
  SEALED_FILE,
  segmentName,
} from "../../../src/archive/format/names.ts";
import { describeDamage } from "../../../src/store/restore/damage.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { tempDir } from "../../support/temp.ts";
import {
  type GenerationPlan,
  randomCuts,
  STARTED_MS,
  streamOf,
  writeArchive,
  type WrittenGeneration,
  writeGeneration,
} from "../../support/written-archive.ts";
import { rdbOf } from "../../store/rdb.ts";
import { fetched, openArchive, openFolder, SHELVES, type Shelf, verified } from "./rig.ts";

const { stream } = streamOf(5, 800);
const PLAN: GenerationPlan = {
  rdb: rdbOf(200_000),
  stream,
  cuts: randomCuts(6, stream.length, 8),
  isSealed: true,
};
const BASE = 5_000;
const NOTHING = "nothing of this generation can be restored";

/** Two generations, of which the first one is damaged. */
async function twoGenerations(shelf: Shelf) {
  await writeArchive(shelf.store);
  const one = await writeGeneration(shelf.store, PLAN);
  const other = streamOf(8, 700).stream;
  const two = await writeGeneration(shelf.store, {
    ...PLAN,
    rdb: rdbOf(190_000),
    stream: other,
    cuts: randomCuts(9, other.length, 8),
    startedMs: STARTED_MS + 60_000,
    seed: 2,
    baseOffset: 900_000,
  });
  return { one, two };
}

/** What everything up to an offset means. */
function upTo({ name }: WrittenGeneration, offset: number): string {
  const what = offset === BASE ? "only the snapshot" : `everything up to offset ${offset}`;
  return `of this generation, ${what} can be restored (--generation ${name} --offset ${offset})`;
}

function truncated(bytes: Buffer): Buffer {
  return bytes.subarray(0, Math.floor(bytes.length * 0.6));
}

function changed(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy[Math.floor(copy.length * 0.8)]! ^= 0x55;
  return copy;
}

describe.each(SHELVES)("damage in an archive at $name is found and named", ({ open }) => {
  test("a piece of the snapshot: deleted, truncated, changed", async () => {
    await using shelf = await open();
    const { one } = await twoGenerations(shelf);
    for (const key of one.pieces) {
      const before = shelf.objects.get(key);
      const cases = [
        { how: () => shelf.objects.delete(key), what: /^it is missing$/, quick: true },
        { how: () => shelf.objects.set(key, truncated(before)), what: /SHA-256/, quick: true },
        { how: () => shelf.objects.set(key, changed(before)), what: /SHA-256/, quick: false },
        {
          how: () => shelf.objects.set(key, Buffer.concat([before, before])),
          what: /more than the/,
          quick: true,
        },
      ];
      for (const { how, what, quick } of cases) {
        how();
        const found = await verified(shelf);
        const [damage, ...more] = found.damages;
        expect(more).toEqual([]);
        expect(damage).toMatchObject({ file: `${shelf.store.url}/${key}`, meaning: NOTHING });
        expect(damage!.what).toMatch(what);
        expect(found.generations.map((g) => g.restorableOffset === undefined)).toEqual([
          true,
          false,
        ]);
        const { damages } = await verified(shelf, { quick });
        expect(damages.map(({ file }) => file)).toEqual([`${shelf.store.url}/${key}`]);
        shelf.objects.set(key, before);
      }
    }
    expect((await verified(shelf)).damages).toEqual([]);
  });

  test("a segment of the log: deleted, truncated, changed, emptied", async () => {
    await using shelf = await open();
    const { one } = await twoGenerations(shelf);
    for (const [n, key] of one.segments.entries()) {
      const before = shelf.objects.get(key);
      const last = BASE + (PLAN.cuts[n - 1] ?? 0);
      const meaning = upTo(one, last);
      const folder = `${shelf.store.url}/${logFolder(one.name)}/`;
      const file = `${shelf.store.url}/${key}`;
      const cases = [
        { how: () => shelf.objects.delete(key), file: folder, what: new RegExp(`offset ${last}`) },
        { how: () => shelf.objects.set(key, truncated(before)), file, what: /^it [a-z]/ },
        { how: () => shelf.objects.set(key, changed(before)), file, what: /^it [a-z]/ },
        { how: () => shelf.objects.set(key, Buffer.alloc(0)), file, what: /^it is empty/ },
      ];
      for (const { how, what, file: named } of cases) {
        how();
        const { damages, generations } = await verified(shelf);
        expect(damages).toHaveLength(1);
        expect(damages[0]).toMatchObject({ file: named, meaning });
        expect(damages[0]!.what).toMatch(what);
        expect(generations[0]!.restorableOffset).toBe(last);
        shelf.objects.set(key, before);
      }
    }
    expect((await verified(shelf)).damages).toEqual([]);
  });

  test("segments that were swapped, and one that was renamed", async () => {
    await using shelf = await open();
    const { one, two } = await twoGenerations(shelf);
    const meaning = upTo(one, BASE + PLAN.cuts[1]!);
    const pairs = [
      [one.segments[2]!, one.segments[4]!],
      [one.segments[2]!, two.segments[2]!],
    ] as const;
    for (const [a, b] of pairs) {
      const [ofA, ofB] = [shelf.objects.get(a), shelf.objects.get(b)];
      shelf.objects.set(a, ofB);
      shelf.objects.set(b, ofA);
      const { damages } = await verified(shelf);
      const files = damages.map(({ file }) => file);
      expect(files.toSorted()).toEqual([a, b].map((key) => `${shelf.store.url}/${key}`).toSorted());
      expect(damages[0]).toMatchObject({ meaning });
      for (const { what } of damages) expect(what).toContain("another segment than its name says");
      shelf.objects.set(a, ofA);
      shelf.objects.set(b, ofB);
    }
    const key = one.segments[2]!;
    const named = parseSegmentName(key.split("/").at(-1)!)!;
    const renamed = `${logFolder(one.name)}/${segmentName({ ...named, crc: named.crc ^ 1n }, false)}`;
    shelf.objects.set(renamed, shelf.objects.get(key));
    shelf.objects.delete(key);
    const { damages } = await verified(shelf);
    expect(damages[0]).toMatchObject({ file: `${shelf.store.url}/${renamed}`, meaning });
    expect(damages[0]!.what).toContain("it was renamed");
  });

  test("a segment that was moved to another generation", async () => {
    await using shelf = await open();
    const { one, two } = await twoGenerations(shelf);
    const key = one.segments[3]!;
    shelf.objects.set(key.replace(one.name, two.name), shelf.objects.get(key));
    shelf.objects.delete(key);
    const { damages } = await verified(shelf);
    expect(damages.map(({ file }) => file)).toContain(`${shelf.store.url}/${logFolder(one.name)}/`);
  });

  test("pieces that were swapped, within a generation and between two", async () => {
    await using shelf = await open();
    const { one, two } = await twoGenerations(shelf);
    for (const [a, b] of [
      [one.pieces[0]!, one.pieces[3]!],
      [one.pieces[1]!, two.pieces[1]!],
    ] as const) {
      const [ofA, ofB] = [shelf.objects.get(a), shelf.objects.get(b)];
      // The made-up snapshot repeats itself, so that two pieces may be the same.
      if (ofA.equals(ofB)) continue;
      shelf.objects.set(a, ofB);
      shelf.objects.set(b, ofA);
      const files = (await verified(shelf)).damages.map(({ file }) => file);
      expect(files.toSorted()).toEqual([a, b].map((key) => `${shelf.store.url}/${key}`).toSorted());
      shelf.objects.set(a, ofA);
      shelf.objects.set(b, ofB);
    }
  });

  test("the documents: deleted, truncated, changed, swapped", async () => {
    await using shelf = await open();
    const { one, two } = await twoGenerations(shelf);
    const of = (file: string, { name } = one) => generationKey(name, file);
    const docs = [
      { key: ARCHIVE_KEY, isNeeded: false },
      { key: of(GENERATION_FILE), isNeeded: true },
      { key: of(BASE_FILE), isNeeded: true },
      { key: of(SEALED_FILE), isNeeded: false },
    ];
    const damageAt = async (key: string, isNeeded: boolean) => {
      for (const quick of [true, false]) {
        const { damages, generations } = await verified(shelf, { quick });
        expect(damages.map(({ file }) => file)).toContain(`${shelf.store.url}/${key}`);
        expect(generations[0]!.restorableOffset === undefined).toBe(isNeeded);
      }
    };
    for (const { key, isNeeded } of docs) {
      const before = shelf.objects.get(key);
      shelf.objects.set(key, truncated(before));
      await damageAt(key, isNeeded);
      shelf.objects.set(
        key,
        Buffer.from(before.toString().replace(/"(kind|replid|pieces|endCrc64)"/, '"other"')),
      );
      await damageAt(key, isNeeded);
      if (key === ARCHIVE_KEY || key === of(GENERATION_FILE)) {
        shelf.objects.delete(key);
        await damageAt(key, isNeeded);
      }
      shelf.objects.set(key, before);
    }
    for (const file of [GENERATION_FILE, SEALED_FILE]) {
      const [a, b] = [of(file), of(file, two)];
      const [ofA, ofB] = [shelf.objects.get(a), shelf.objects.get(b)];
      shelf.objects.set(a, ofB);
      shelf.objects.set(b, ofA);
      const places = (await verified(shelf)).damages.map((damage) => damage.file);
      // A log that should go on farther is told of at its folder.
      expect(places).toContain(
        file === SEALED_FILE
          ? `${shelf.store.url}/${logFolder(one.name)}/`
          : `${shelf.store.url}/${a}`,
      );
      expect(places.some((place) => place.includes(two.name))).toBe(true);
      shelf.objects.set(a, ofA);
      shelf.objects.set(b, ofB);
    }
    expect((await verified(shelf)).damages).toEqual([]);
  });

  test("base.json of another generation: its pieces aren't these", async () => {
    await using shelf = await open();
    const { one, two } = await twoGenerations(shelf);
    shelf.objects.set(
      generationKey(one.name, BASE_FILE),
      shelf.objects.get(generationKey(two.name, BASE_FILE)),
    );
    const { damages, generations } = await verified(shelf);
    expect(damages.length).toBeGreaterThan(0);
    expect(generations.map((g) => g.restorableOffset === undefined)).toEqual([true, false]);
  });
});

describe("damage", () => {
  test("of a segment that another replica has too loses nothing", async () => {
    await using shelf = await openFolder();
    await writeArchive(shelf.store);
    const one = await writeGeneration(shelf.store, PLAN);
    await writeGeneration(shelf.store, { ...PLAN, seed: 2 });
    shelf.objects.set(one.segments[3]!, Buffer.from("damaged"));
    const { damages, generations } = await verified(shelf);
    expect(damages).toHaveLength(1);
    expect(describeDamage(damages[0]!)).toMatch(/nothing is lost: another segment has these bytes/);
    const end = BASE + stream.length;
    expect(generations.map((g) => g.restorableOffset)).toEqual([end, end]);
  });

  test("is one line, and the restore up to what it names succeeds", async () => {
    await using shelf = await openFolder();
    using dir = tempDir("fetched");
    await writeArchive(shelf.store);
    const one = await writeGeneration(shelf.store, PLAN);
    for (const [n, key] of one.segments.entries()) {
      if (n === 0) continue;
      const before = shelf.objects.get(key);
      shelf.objects.set(key, changed(before));
      const error = await rejectionOf(async () => fetched(await openArchive(shelf), dir));
      expect(error.code).toBe("ARCHIVE_DAMAGED");
      expect(error.message).not.toContain("\n");
      expect(error.message.startsWith(`${shelf.store.url}/${key}: it `)).toBe(true);
      const last = BASE + PLAN.cuts[n - 1]!;
      expect(error.message.endsWith(upTo(one, last))).toBe(true);
      await fetched(await openArchive(shelf), dir, { upTo: last });
      shelf.objects.set(key, before);
    }
    const piece = one.pieces[1]!;
    shelf.objects.delete(piece);
    const error = await rejectionOf(async () => fetched(await openArchive(shelf), dir));
    expect(error.message).toBe(`${shelf.store.url}/${piece}: it is missing; ${NOTHING}`);
  });

  test("of the description of a segment, which a listing reads, ends the log before it", async () => {
    await using shelf = await openFolder();
    await writeArchive(shelf.store);
    const one = await writeGeneration(shelf.store, { ...PLAN, isSealed: false });
    const key = one.segments.at(-1)!;
    const bytes = Buffer.from(shelf.objects.get(key));
    bytes[12] = 0;
    shelf.objects.set(key, bytes);
    const [found] = await (await openArchive(shelf)).generations(new AbortController().signal);
    expect(found!.log.chain.end.offset).toBe(BASE + PLAN.cuts.at(-2)!);
    expect(found!.log.damages.map(({ file }) => file)).toEqual([`${shelf.store.url}/${key}`]);
  });
});
