import { describe, expect, test } from "bun:test";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Decryption, Encryption } from "../../../src/archive/format/encryption.ts";
import {
  ARCHIVE_KEY,
  baseFolder,
  BASE_FILE,
  GENERATION_FILE,
  generationKey,
  GENERATIONS,
  logFolder,
  SEALED_FILE,
} from "../../../src/archive/format/names.ts";
import { archivePoint } from "../../../src/archive/reader/archive-point.ts";
import { Random } from "../../../src/demo/random.ts";
import { rejectionOf } from "../../support/error-of.ts";
import {
  type GenerationPlan,
  randomCuts,
  STARTED_MS,
  streamOf,
  writeArchive,
  writeGeneration,
} from "../../support/written-archive.ts";
import { rdbOf } from "../../store/rdb.ts";
import { never, openArchive, openBucket, SHELVES, type Shelf, verified } from "./rig.ts";

const RDB = rdbOf(150_000);
const { stream } = streamOf(1, 1_000);
const END = 5_000 + stream.length;
const PLAN: GenerationPlan = { rdb: RDB, stream, cuts: randomCuts(3, stream.length, 10) };
const ANY = { generation: undefined, atMs: undefined, offset: undefined };
const HOUR_MS = 3_600_000;

async function write(shelf: Shelf, plan: Partial<GenerationPlan> = {}) {
  await writeArchive(shelf.store);
  return await writeGeneration(shelf.store, { ...PLAN, ...plan });
}

describe.each(SHELVES)("an archive at $name", ({ open }) => {
  test("lists its generations with the window that can be restored, exact to the last mark", async () => {
    await using shelf = await open();
    const marks = [
      { timeMs: STARTED_MS + 1_234, offset: 5_000 },
      { timeMs: STARTED_MS + 2_345, offset: 5_900 },
      { timeMs: STARTED_MS + 9_876, offset: END - 7 },
    ];
    const { name } = await write(shelf, { marks });
    const [found, ...more] = await (await openArchive(shelf)).generations(never);
    expect(more).toEqual([]);
    expect(found).toMatchObject({
      name,
      startedMs: STARTED_MS,
      // The snapshot was whole before the first mark.
      first: { atMs: STARTED_MS, offset: 5_000 },
      last: { atMs: STARTED_MS + 9_876, offset: END - 7 },
      sealed: undefined,
    });
    expect(found!.log.chain).toMatchObject({ end: { offset: END }, gap: undefined, forks: [] });
  });

  test("generations that began within one second stand in the order of their streams", async () => {
    for (let seed = 1; seed < 9; seed++) {
      await using shelf = await open();
      await write(shelf, { seed, baseOffset: 9_000 });
      await write(shelf, { seed: 100 + seed, baseOffset: 5_000 });
      await write(shelf, { seed: 200 + seed, baseOffset: 1_000, startedMs: STARTED_MS + 1_000 });
      const found = await (await openArchive(shelf)).generations(never);
      expect(found.map(({ description }) => description.baseOffset)).toEqual([5_000, 9_000, 1_000]);
    }
  });

  test("passes over foreign files in every folder", async () => {
    await using shelf = await open();
    const { name } = await write(shelf, { isSealed: true });
    const folders = [
      "",
      `${GENERATIONS}/`,
      `${generationKey(name)}/`,
      `${baseFolder(name)}/`,
      `${logFolder(name)}/`,
    ];
    for (const folder of folders) {
      shelf.objects.set(`${folder}README`, Buffer.from("not ours"));
      shelf.objects.set(`${folder}other/file`, Buffer.from("not ours"));
      shelf.objects.set(`${folder}000000.rdb.zst.tmp`, Buffer.from("not ours"));
    }
    const archive = await openArchive(shelf);
    expect(archive.heads.map((head) => head.name)).toEqual([name]);
    for (const quick of [true, false])
      expect(await verified(shelf, { quick })).toMatchObject({ damages: [], unfinished: [] });
  });

  test("knows nothing of a folder without base.json", async () => {
    await using shelf = await open();
    const { name } = await write(shelf);
    const other = await writeGeneration(shelf.store, { ...PLAN, startedMs: STARTED_MS + HOUR_MS });
    shelf.objects.delete(generationKey(other.name, BASE_FILE));
    const archive = await openArchive(shelf);
    expect(archive.heads.map((head) => head.name)).toEqual([name]);
    expect(await verified(shelf)).toMatchObject({ damages: [], unfinished: [other.name] });
  });

  test("refuses an archive, or a generation, of a newer format", async () => {
    await using shelf = await open();
    const { name } = await write(shelf);
    for (const key of [ARCHIVE_KEY, generationKey(name, GENERATION_FILE)]) {
      const before = shelf.objects.get(key);
      shelf.objects.set(key, Buffer.from(before.toString().replace('"format": 1', '"format": 2')));
      const error = await rejectionOf(() => openArchive(shelf));
      expect(error.code).toBe("ARCHIVE_TOO_NEW");
      expect(error.message).toContain(`${key} has format 2`);
      shelf.objects.set(key, before);
    }
  });

  test("says that a place without archive.json is none", async () => {
    await using shelf = await open();
    await shelf.store.put("other.txt", Buffer.from("other"), never);
    const error = await rejectionOf(() => openArchive(shelf));
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toBe(`${shelf.store.url} is no archive: it has no archive.json`);
  });

  test("an empty archive holds no snapshot yet", async () => {
    await using shelf = await open();
    await writeArchive(shelf.store);
    const archive = await openArchive(shelf);
    const error = await rejectionOf(() => archivePoint(archive, ANY, never));
    expect(error.message).toBe(`${shelf.store.url} holds no whole snapshot yet`);
  });

  test("joins the segments of two replicas that wrote of one history", async () => {
    await using shelf = await open();
    const cuts = randomCuts(5, stream.length, 9);
    // The first one ended after four segments; the second one had begun with the same snapshot.
    const [first, second] = [cuts.slice(0, 4), cuts];
    await write(shelf, { cuts: first });
    const other = await writeGeneration(shelf.store, {
      ...PLAN,
      cuts: second,
      from: cuts[2]!,
      seed: 2,
    });
    const generations = await (await openArchive(shelf)).generations(never);
    for (const { log } of generations) expect(log.chain.end.offset).toBe(END);
    expect(generations).toHaveLength(2);
    expect(await verified(shelf)).toMatchObject({ damages: [] });
    expect(other.segments).toHaveLength(6);
  });

  test("two replicas that cut their segments elsewhere don't harm each other", async () => {
    await using shelf = await open();
    const short = PLAN.cuts.slice(0, 5);
    const { name } = await write(shelf, { cuts: short });
    await writeGeneration(shelf.store, {
      ...PLAN,
      cuts: randomCuts(99, stream.length, 7),
      seed: 2,
    });
    const found = await verified(shelf);
    expect(found.damages).toEqual([]);
    const own = found.generations.find((one) => one.name === name)!;
    expect(own.restorableOffset).toBe(5_000 + short.at(-1)!);
  });

  test("tells histories that part: each generation keeps to its own", async () => {
    await using shelf = await open();
    const cut = PLAN.cuts[3]!;
    const parted = Buffer.concat([stream.subarray(0, cut), streamOf(77, 1_200).stream]);
    const { name } = await write(shelf);
    const cuts = [...PLAN.cuts.slice(0, 4), PLAN.cuts[4]!, parted.length];
    const other = await writeGeneration(shelf.store, { ...PLAN, stream: parted, cuts, seed: 2 });
    const found = await verified(shelf);
    expect(found.damages).toEqual([]);
    const ends = new Map(found.generations.map((one) => [one.name, one.restorableOffset]));
    expect(ends.get(name)).toBe(END);
    expect(ends.get(other.name)).toBe(5_000 + parted.length);
  });
});

describe("the point that a restore ends at", () => {
  const LATER = STARTED_MS + HOUR_MS;
  const second = streamOf(2, 300).stream;
  const SECOND: GenerationPlan = {
    rdb: RDB,
    stream: second,
    cuts: randomCuts(4, second.length, 5),
    startedMs: LATER,
    baseOffset: END + 1_000,
  };

  async function twoGenerations(shelf: Shelf) {
    const one = await write(shelf, { isSealed: true });
    const two = await writeGeneration(shelf.store, SECOND);
    return { one, two, archive: await openArchive(shelf) };
  }

  test("is the end of the generation that goes farthest by default", async () => {
    await using shelf = await openBucket();
    const { archive, two } = await twoGenerations(shelf);
    const point = await archivePoint(archive, ANY, never);
    expect(point.generation.name).toBe(two.name);
    expect(point.offset).toBe(SECOND.baseOffset! + second.length);
  });

  test("is found by time, at every mark and between marks", async () => {
    await using shelf = await openBucket();
    const { archive, one, two } = await twoGenerations(shelf);
    for (const { name, marks } of [one, two]) {
      for (const { timeMs, offset } of marks) {
        const at = await archivePoint(archive, { ...ANY, atMs: timeMs }, never);
        expect([at.generation.name, at.offset]).toEqual([name, offset]);
        if (timeMs === two.marks.at(-1)!.timeMs) continue;
        const after = await archivePoint(archive, { ...ANY, atMs: timeMs + 999 }, never);
        expect([after.generation.name, after.offset]).toEqual([name, offset]);
      }
    }
  });

  test("between two generations is the end of the earlier one", async () => {
    await using shelf = await openBucket();
    const { archive, one } = await twoGenerations(shelf);
    const point = await archivePoint(archive, { ...ANY, atMs: LATER - 1 }, never);
    expect([point.generation.name, point.offset]).toEqual([one.name, END]);
  });

  test("that a missing segment held is refused, and what is there before it named", async () => {
    await using shelf = await openBucket();
    const { one } = await twoGenerations(shelf);
    const keys = [...shelf.objects!.keys()].filter((key) => key.includes(logFolder(one.name)));
    const lost = keys.toSorted()[3]!;
    shelf.objects!.delete(lost);
    const archive = await openArchive(shelf);
    const [cut] = await archive.generations(never);
    const { end, gap } = cut!.log.chain;
    expect(gap?.to).toBeGreaterThan(end.offset);
    const error = await rejectionOf(() =>
      archivePoint(archive, { ...ANY, atMs: LATER - 1 }, never),
    );
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toContain(
      `generation ${one.name} lacks its log from offset ${end.offset + 1} to ${gap!.to}, so it can be restored up to`,
    );
    const before = { ...ANY, atMs: cut!.last!.atMs };
    expect((await archivePoint(archive, before, never)).generation.name).toBe(one.name);
  });

  test("outside of the window is refused, and the window named", async () => {
    await using shelf = await openBucket();
    const { archive } = await twoGenerations(shelf);
    const window = "it can be restored as of 2026-11-30T05:00:00.000Z to 2026-11-30T06:00:20.000Z";
    for (const atMs of [STARTED_MS - 1, LATER + 20_001]) {
      const error = await rejectionOf(() => archivePoint(archive, { ...ANY, atMs }, never));
      expect(error).toMatchObject({ code: "USAGE" });
      expect(error.message).toBe(
        `${new Date(atMs).toISOString()} is not in the archive: ${window}`,
      );
    }
    const error = await rejectionOf(() =>
      archivePoint(archive, { ...ANY, offset: END + 1 }, never),
    );
    expect(error.message).toContain(
      `offset ${END + 1} is not in the archive: it has the offsets from 5000 to ${END}`,
    );
  });

  test("is found by offset, and in the generation that is named", async () => {
    await using shelf = await openBucket();
    const { archive, one } = await twoGenerations(shelf);
    const byOffset = await archivePoint(archive, { ...ANY, offset: 6_000 }, never);
    expect([byOffset.generation.name, byOffset.offset]).toEqual([one.name, 6_000]);
    const named = await archivePoint(archive, { ...ANY, generation: one.name }, never);
    expect([named.generation.name, named.offset]).toEqual([one.name, END]);
    const error = await rejectionOf(() =>
      archivePoint(archive, { ...ANY, generation: "2031" }, never),
    );
    expect(error.message).toContain("holds no generation 2031: it holds 2026");
  });

  test("takes the generation that covers a time, though a younger one ended before it", async () => {
    await using shelf = await openBucket();
    const { name, marks } = await write(shelf);
    // Another replica began later, and died soon.
    const startedMs = STARTED_MS + 2_000;
    const short = streamOf(9, 20).stream;
    const shortMarks = [{ timeMs: startedMs + 500, offset: 5_000 + short.length }];
    await writeGeneration(shelf.store, {
      ...PLAN,
      seed: 4,
      replid: "b".repeat(40),
      startedMs,
      stream: short,
      cuts: [short.length],
      marks: shortMarks,
    });
    const archive = await openArchive(shelf);
    const { timeMs, offset } = marks[10]!;
    const point = await archivePoint(archive, { ...ANY, atMs: timeMs }, never);
    expect([point.generation.name, point.offset]).toEqual([name, offset]);
  });
});

describe("a search by time", () => {
  const random = new Random(31);
  const offsets = randomCuts(32, stream.length, 40);

  /** Marks at rising offsets, with pauses that leave whole segments without any. */
  function marksFrom(stepMs: () => number) {
    let timeMs = STARTED_MS;
    return offsets
      .filter((offset) => offset < stream.length / 3 || offset > stream.length / 2)
      .map((offset) => ({ timeMs: (timeMs += stepMs()), offset: 5_000 + offset }));
  }

  test("finds what a search through all marks would find", async () => {
    await using shelf = await openBucket();
    const marks = marksFrom(() => random.below(3) * 500);
    await write(shelf, { marks, cuts: randomCuts(33, stream.length, 30) });
    const [found] = await (await openArchive(shelf)).generations(never);
    for (let atMs = STARTED_MS; atMs <= marks.at(-1)!.timeMs + 250; atMs += 250) {
      const wanted = marks.findLast(({ timeMs }) => timeMs <= atMs);
      const moment = wanted && { atMs: wanted.timeMs, offset: wanted.offset };
      expect(await found!.log.momentBefore(atMs, never)).toEqual(moment);
    }
  });

  test("finds no moment that is later, though the clock was set back", async () => {
    await using shelf = await openBucket();
    let n = 0;
    const marks = marksFrom(() => (++n === 15 ? -2 * HOUR_MS : 60_000));
    await write(shelf, { marks, cuts: randomCuts(33, stream.length, 30) });
    const [found] = await (await openArchive(shelf)).generations(never);
    for (const { timeMs } of marks) {
      const moment = await found!.log.momentBefore(timeMs, never);
      if (moment === undefined) continue;
      expect(marks).toContainEqual({ timeMs: moment.atMs, offset: moment.offset });
      expect(moment.atMs).toBeLessThanOrEqual(timeMs);
    }
  });
});

describe("what is asked of a store", () => {
  test("is one LIST of the generations, and one of each log that is read", async () => {
    await using shelf = await openBucket();
    await write(shelf, { isSealed: true });
    const server = shelf.server!;
    server.seen.length = 0;
    const archive = await openArchive(shelf);
    expect(server.count("LIST")).toBe(1);
    await archive.generations(never);
    await archive.generations(never);
    expect(server.count("LIST")).toBe(2);
    expect(server.count("PUT") + server.count("DELETE")).toBe(0);
  });

  test("is a second LIST where a segment is missing that the store had not listed yet", async () => {
    await using shelf = await openBucket();
    const { segments } = await write(shelf);
    const server = shelf.server!;
    const late = `archive/${segments[4]!}`;
    const archive = await openArchive(shelf);
    // It is listed the second time.
    let left = 1;
    server.unlisted.has = (key) => key === late && left-- > 0;
    const lists = server.count("LIST");
    const [found] = await archive.generations(never);
    expect(server.count("LIST") - lists).toBe(2);
    expect(found!.log.chain.end.offset).toBe(END);
  });

  test("a tail that isn't listed yet only ends the window sooner", async () => {
    await using shelf = await openBucket();
    const { segments } = await write(shelf);
    shelf.server!.unlisted.add(`archive/${segments.at(-1)!}`);
    const [found] = await (await openArchive(shelf)).generations(never);
    expect(found!.log.chain).toMatchObject({
      gap: undefined,
      end: { offset: 5_000 + PLAN.cuts.at(-2)! },
    });
    expect(found!.last!.offset).toBeLessThanOrEqual(5_000 + PLAN.cuts.at(-2)!);
  });

  test("is tried again through 503s, cuts and changed bytes", async () => {
    await using shelf = await openBucket();
    await write(shelf);
    const server = shelf.server!;
    const busy = { kind: "error", status: 503, code: "SlowDown" } as const;
    server.fail({ operation: "LIST", times: 3, effect: busy });
    server.fail({ operation: "GET", times: 2, effect: { kind: "cut", at: "body" } });
    server.fail({ operation: "GET", effect: { kind: "changed" } });
    const [found] = await (await openArchive(shelf)).generations(never);
    expect(found!.log.chain.end.offset).toBe(END);
  });
});

describe("an encrypted archive", () => {
  const setUp = async () => {
    const [own, other] = [await generateX25519Identity(), await generateX25519Identity()];
    return {
      encryption: new Encryption([await identityToRecipient(own)]),
      right: await Decryption.fromFile("own.txt", own),
      wrong: await Decryption.fromFile("other.txt", other),
    };
  };

  test("lists its offsets without an identity, and its times with the right one", async () => {
    await using shelf = await openBucket();
    const { encryption, right } = await setUp();
    const { marks } = await write(shelf, { encryption, isSealed: true });
    const [blind] = await (await openArchive(shelf)).generations(never);
    expect(blind).toMatchObject({ first: undefined, last: undefined });
    expect(blind!.log.chain.end.offset).toBe(END);
    const [read] = await (await openArchive(shelf, right)).generations(never);
    expect(read!.last!.atMs).toBe(marks.at(-1)!.timeMs);
    const archive = await openArchive(shelf);
    const error = await rejectionOf(() =>
      archivePoint(archive, { ...ANY, atMs: STARTED_MS }, never),
    );
    expect(error.message).toContain("its times can't be read without the age identity");
  });

  test("says in one line that the identity is missing, or another one's", async () => {
    await using shelf = await openBucket();
    const { encryption, right, wrong } = await setUp();
    const { pieces, segments } = await write(shelf, { encryption });
    const missing = await rejectionOf(() => verified(shelf));
    expect(missing.code).toBe("USAGE");
    expect(missing.message).toBe(
      `${shelf.store.url}/${segments[0]!} is encrypted: name the file of the age identity that reads it (--archive-identity)`,
    );
    const other = await rejectionOf(() => verified(shelf, { decryption: wrong }));
    expect(other.code).toBe("USAGE");
    expect(other.message).toBe(
      `${shelf.store.url}/${segments[0]!} is encrypted to another identity: name the file of one that fits`,
    );
    expect(await verified(shelf, { decryption: right })).toMatchObject({ damages: [] });
    expect(await verified(shelf, { quick: true })).toMatchObject({ damages: [] });
    expect(pieces.every((key) => key.endsWith(".age"))).toBe(true);
  });

  test("is checked for its end without an identity", async () => {
    await using shelf = await openBucket();
    const { encryption } = await setUp();
    const { name, segments } = await write(shelf, { encryption, isSealed: true });
    shelf.objects.delete(segments.at(-1)!);
    const { damages } = await verified(shelf, { quick: true });
    expect(damages.map(({ what }) => what)).toEqual([
      expect.stringContaining(`though the generation was sealed at ${END}`),
    ]);
    expect(shelf.objects.keys()).toContain(generationKey(name, SEALED_FILE));
  });
});
