import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Decryption, Encryption } from "../../../src/archive/format/encryption.ts";
import { logFolder } from "../../../src/archive/format/names.ts";
import { fetchGeneration, fetchGenerations } from "../../../src/archive/reader/fetch-generation.ts";
import { FETCHED_ID, fetchedFiles } from "../../../src/archive/reader/fetched-directory.ts";
import { Random } from "../../../src/demo/random.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { APPEND_DIR, restore, RESTORED } from "../../../src/store/restore/restore.ts";
import { verifyCatalogue, verifyGeneration } from "../../../src/store/restore/verify.ts";
import { rejectionOf, thrownBy } from "../../support/error-of.ts";
import { tempDir } from "../../support/temp.ts";
import {
  type GenerationPlan,
  randomCuts,
  REPLID,
  STARTED_MS,
  streamOf,
  writeArchive,
  type WrittenGeneration,
  writeGeneration,
} from "../../support/written-archive.ts";
import { rdbOf } from "../../store/rdb.ts";
import {
  fetched,
  never,
  openArchive,
  openBucket,
  openFolder,
  quiet,
  SHELVES,
  type Shelf,
} from "./rig.ts";

const SEED = 17;
const RDB = rdbOf(400_000);
const { stream, ends } = streamOf(SEED, 1_000);
const END = 5_000 + stream.length;
const PLAN: GenerationPlan = { rdb: RDB, stream, cuts: randomCuts(SEED, stream.length, 12) };

async function write(shelf: Shelf, plan: Partial<GenerationPlan> = {}): Promise<WrittenGeneration> {
  await writeArchive(shelf.store);
  return await writeGeneration(shelf.store, { ...PLAN, ...plan });
}

/** What a stock server would start from, as of an offset. */
async function restored(root: string, offset: number, target: string) {
  using catalogue = new Catalogue(root);
  const [generation] = catalogue.generations;
  const options = { ...quiet, layout: "multipart" as const };
  const result = await restore(catalogue, { generation: generation!, offset }, target, options);
  const read = (name: string) => fs.readFileSync(`${target}/${APPEND_DIR}/${name}`);
  return { result, base: read(RESTORED.base), log: read(RESTORED.log) };
}

/** What is left where a fetch failed. */
function leftIn(dir: string): string[] {
  return fs.readdirSync(dir);
}

describe.each(SHELVES)("a generation fetched from $name", ({ open }) => {
  test("restores byte for byte to what was written, at random offsets", async () => {
    await using shelf = await open();
    using dir = tempDir("fetched");
    const { log, selectBytes, marks } = await write(shelf);
    const archive = await openArchive(shelf);
    const random = new Random(SEED);
    const offsets = [
      5_000,
      END,
      ...Array.from({ length: 8 }, () => 5_000 + random.below(stream.length)),
    ];
    for (const [n, offset] of offsets.entries()) {
      const root = await fetched(archive, dir, { upTo: offset });
      const { result, base, log: found } = await restored(root, offset, dir.file(`target-${n}`));
      const safe = ends.findLast((end) => 5_000 + end <= offset) ?? 0;
      expect(base.equals(RDB)).toBe(true);
      expect(found.equals(log.subarray(0, selectBytes + safe))).toBe(true);
      expect(result.offset).toBe(5_000 + safe);
      expect(result.atMs).toBe(marks.find((mark) => mark.offset >= 5_000 + safe)!.timeMs);
    }
  });

  test("is a data directory without a fault, with the archive's marks and histories", async () => {
    await using shelf = await open();
    using dir = tempDir("fetched");
    const histories = [{ replid: "c".repeat(40), fromOffset: 5_000 + ends[500]! }];
    const { marks } = await write(shelf, { histories });
    const root = await fetched(await openArchive(shelf), dir);
    using catalogue = new Catalogue(root);
    expect(await verifyCatalogue(catalogue, never)).toEqual([]);
    const [generation, ...more] = catalogue.generations;
    expect(more).toEqual([]);
    expect(generation).toMatchObject({
      primaryName: "127.0.0.1:6379",
      baseOffset: 5_000,
      durableOffset: END,
      first: { atMs: marks[0]!.timeMs, offset: 5_000 },
      last: { atMs: marks.at(-1)!.timeMs, offset: END },
      replicationIds: [{ replid: REPLID, fromOffset: 5_000 }, ...histories],
    });
    const findings = await verifyGeneration(catalogue, generation!, quiet);
    expect(findings).toMatchObject({ damages: [], log: { commands: 1_000, uncheckedBytes: 0 } });
    for (const { timeMs, offset } of marks)
      expect(catalogue.momentBefore(1, timeMs)).toEqual({ atMs: timeMs, offset });
  });

  test("comes with the one before it, whose log leads to its snapshot", async () => {
    await using shelf = await open();
    using dir = tempDir("fetched");
    const before = await write(shelf, { isSealed: true });
    const at = ends[700]!;
    const after = await writeGeneration(shelf.store, {
      rdb: rdbOf(200_000),
      stream: stream.subarray(at),
      cuts: [stream.length - at],
      baseOffset: 5_000 + at,
      startedMs: STARTED_MS + 60_000,
    });
    const archive = await openArchive(shelf);
    const [first, second] = await archive.generations(never);
    const wanted = [
      { generation: first!, upTo: 5_000 + at },
      { generation: second!, upTo: END },
    ];
    const root = dir.file("data");
    await fetchGenerations(archive, wanted, root, quiet);
    using catalogue = new Catalogue(root);
    expect(await verifyCatalogue(catalogue, never)).toEqual([]);
    const [one, two] = catalogue.generations;
    expect(one).toMatchObject({ id: FETCHED_ID, state: "sealed", baseOffset: 5_000 });
    expect(one!.durableOffset).toBeGreaterThanOrEqual(5_000 + at);
    expect(two).toMatchObject({ state: "current", baseOffset: 5_000 + at, durableOffset: END });
    expect(one!.replicationIds).toMatchObject([{ replid: REPLID, fromOffset: 5_000 }]);
    for (const generation of catalogue.generations) {
      expect((await verifyGeneration(catalogue, generation, quiet)).damages).toEqual([]);
    }
    const logs = catalogue.generations.map(({ id }) => fs.readFileSync(fetchedFiles(root, id).log));
    expect(logs[0]!.equals(before.log.subarray(0, logs[0]!.length))).toBe(true);
    expect(logs[1]!.equals(after.log)).toBe(true);
  });

  test("goes no farther than the segment that is asked for", async () => {
    await using shelf = await open();
    using dir = tempDir("fetched");
    const { segments, selectBytes } = await write(shelf);
    const cut = PLAN.cuts[4]!;
    // What isn't needed may be damaged.
    shelf.objects.set(segments[5]!, Buffer.from("damaged"));
    const root = await fetched(await openArchive(shelf), dir, { upTo: 5_000 + cut });
    expect(fs.statSync(fetchedFiles(root, FETCHED_ID).log).size).toBe(selectBytes + cut);
  });

  test("has a log where only the snapshot was archived", async () => {
    await using shelf = await open();
    using dir = tempDir("fetched");
    const { log, selectBytes } = await write(shelf, { cuts: [] });
    const root = await fetched(await openArchive(shelf), dir);
    const { base, log: found } = await restored(root, 5_000, dir.file("target"));
    expect(base.equals(RDB)).toBe(true);
    expect(found.equals(log.subarray(0, selectBytes))).toBe(true);
  });

  test("counts what came after the last mark, later than it", async () => {
    await using shelf = await open();
    using dir = tempDir("fetched");
    const marks = [{ timeMs: 1_796_000_000_000, offset: 5_000 + ends[100]! }];
    await write(shelf, { marks });
    const root = await fetched(await openArchive(shelf), dir);
    using catalogue = new Catalogue(root);
    expect(catalogue.momentBefore(1, marks[0]!.timeMs)!.offset).toBe(marks[0]!.offset);
    expect(catalogue.momentBefore(1, marks[0]!.timeMs + 1)!.offset).toBe(END);
    expect(catalogue.generations[0]!.durableOffset).toBe(END);
  });

  test("comes from the folders of both replicas that wrote of it", async () => {
    await using shelf = await open();
    using dir = tempDir("fetched");
    const { log } = await write(shelf, { cuts: PLAN.cuts.slice(0, 4) });
    await writeGeneration(shelf.store, { ...PLAN, from: PLAN.cuts[3]!, seed: 2 });
    for (const at of [0, 1]) {
      const root = await fetched(await openArchive(shelf), dir, { at });
      expect(fs.readFileSync(fetchedFiles(root, FETCHED_ID).log).equals(log)).toBe(true);
    }
  });
});

describe("a fetch", () => {
  test("tells how far it is, up to the last byte of both files", async () => {
    await using shelf = await openFolder();
    using dir = tempDir("fetched");
    const { log } = await write(shelf);
    const archive = await openArchive(shelf);
    const [generation] = await archive.generations(never);
    const told = new Map<string, number[]>();
    const totals = new Map<string, number>();
    const onProgress = (file: string, bytes: number, total: number) => {
      told.set(file, [...(told.get(file) ?? []), bytes]);
      totals.set(file, total);
    };
    await fetchGeneration(archive, generation!, END, dir.file("data"), { ...quiet, onProgress });
    expect([...totals.values()]).toEqual([RDB.length, log.length]);
    for (const [file, bytes] of told) {
      expect(bytes).toEqual(bytes.toSorted((a, b) => a - b));
      expect(bytes.at(-1)).toBe(totals.get(file)!);
    }
  });

  test("replaces no folder", async () => {
    await using shelf = await openFolder();
    using dir = tempDir("fetched");
    await write(shelf);
    const archive = await openArchive(shelf);
    const [generation] = await archive.generations(never);
    fs.mkdirSync(dir.file("data"));
    const fetching = () => fetchGeneration(archive, generation!, END, dir.file("data"), quiet);
    expect(await rejectionOf(fetching)).toMatchObject({ code: "USAGE" });
    expect(leftIn(dir.path)).toEqual(["data"]);
  });

  test("refuses more than the disk has room for", async () => {
    await using shelf = await openFolder();
    using dir = tempDir("fetched");
    await write(shelf);
    const archive = await openArchive(shelf);
    const [generation] = await archive.generations(never);
    const disk = { ...realDisk, freeBytes: () => 1_000 };
    const error = await rejectionOf(() =>
      fetchGeneration(archive, generation!, END, dir.file("data"), { ...quiet, disk }),
    );
    expect(error.code).toBe("DISK_FULL");
    expect(error.message).toContain(
      `has ${RDB.length} bytes of snapshot and ${stream.length} of log`,
    );
    expect(leftIn(dir.path)).toEqual([]);
  });

  test("leaves nothing where a write or a sync fails, whichever", async () => {
    await using shelf = await openFolder();
    using dir = tempDir("fetched");
    const written = await write(shelf);
    const archive = await openArchive(shelf);
    const [generation] = await archive.generations(never);
    const full = () => Object.assign(new Error("no space"), { code: "ENOSPC" });
    let calls = 0;
    const failingAt = (at: number) => {
      let left = at;
      const orFail = async <T>(go: () => Promise<T>): Promise<T> => {
        calls++;
        if (left-- === 0) throw full();
        return await go();
      };
      return {
        ...realDisk,
        write: (fd: number, buffers: Uint8Array[], position: number) =>
          orFail(() => realDisk.write(fd, buffers, position)),
        syncData: (fd: number) => orFail(() => realDisk.syncData(fd)),
        syncDir: (path: string) => orFail(() => realDisk.syncDir(path)),
      };
    };
    const fetchTo = (name: string, at: number) =>
      fetchGeneration(archive, generation!, END, dir.file(name), { ...quiet, disk: failingAt(at) });
    await fetchTo("data", Infinity);
    const all = calls;
    expect(all).toBeGreaterThan(20);
    let failed = 0;
    for (let at = 0; at < all; at++) {
      const error: unknown = await fetchTo("other", at).then(
        () => undefined,
        (caught: unknown) => caught,
      );
      if (error === undefined) {
        // A checkpoint of the database may fail: its log has everything.
        const { log } = fetchedFiles(dir.file("other"), FETCHED_ID);
        expect(fs.statSync(log).size).toBe(written.log.length);
        fs.rmSync(dir.file("other"), { recursive: true });
      } else {
        expect(error).toMatchObject({ code: "DISK_FULL" });
        failed++;
      }
      expect(leftIn(dir.path)).toEqual(["data"]);
    }
    expect(failed).toBeGreaterThan(all - 10);
  });

  test("gives up at once where it is stopped, while requests hang, and leaves nothing", async () => {
    await using shelf = await openBucket();
    using dir = tempDir("fetched");
    await write(shelf);
    const archive = await openArchive(shelf);
    const [generation] = await archive.generations(never);
    const server = shelf.server!;
    for (const at of ["request", "answer", "body"] as const) {
      server.hanging = 0;
      server.fail({ operation: "GET", times: 100, effect: { kind: "hang", at } });
      const stop = new AbortController();
      const fetching = fetchGeneration(archive, generation!, END, dir.file("data"), {
        ...quiet,
        signal: stop.signal,
      });
      while (server.hanging === 0) await new Promise((resolve) => setImmediate(resolve));
      stop.abort(new Error("stopped"));
      expect(await thrownBy(fetching)).toThrow("stopped");
      expect(leftIn(dir.path)).toEqual([]);
      server.heal();
    }
  });

  test("gets over 503s, cuts and bytes that were changed on the way", async () => {
    await using shelf = await openBucket();
    using dir = tempDir("fetched");
    const { log } = await write(shelf);
    const archive = await openArchive(shelf);
    const server = shelf.server!;
    const busy = { kind: "error", status: 503, code: "SlowDown" } as const;
    server.fail({ operation: "LIST", times: 3, effect: busy });
    await archive.generations(never);
    server.fail({ operation: "GET", effect: busy });
    server.fail({ operation: "GET", effect: { kind: "cut", at: "body" } });
    server.fail({ operation: "GET", effect: { kind: "cut", at: "answer" } });
    server.fail({ operation: "GET", effect: { kind: "changed" } });
    const root = await fetched(archive, dir);
    expect(fs.readFileSync(fetchedFiles(root, FETCHED_ID).log).equals(log)).toBe(true);
    expect(fs.readFileSync(fetchedFiles(root, FETCHED_ID).base).equals(RDB)).toBe(true);
  });

  test("ends with what the store says where it stays away", async () => {
    await using shelf = await openBucket();
    using dir = tempDir("fetched");
    await write(shelf);
    const archive = await openArchive(shelf);
    await archive.generations(never);
    shelf.server!.fail({
      operation: "GET",
      times: 1_000,
      effect: { kind: "error", status: 503, code: "SlowDown" },
    });
    const error = await rejectionOf(() => fetched(archive, dir));
    expect(error.code).toBe("ARCHIVE_FAILED");
    expect(leftIn(dir.path)).toEqual([]);
  });

  test("says that a generation was removed meanwhile, not that it is damaged", async () => {
    await using shelf = await openFolder();
    using dir = tempDir("fetched");
    const { name, pieces } = await write(shelf);
    const archive = await openArchive(shelf);
    await archive.generations(never);
    shelf.objects.delete(`generations/${name}/base.json`);
    shelf.objects.delete(pieces[1]!);
    const error = await rejectionOf(() => fetched(archive, dir));
    expect(error.code).toBe("ARCHIVE_FAILED");
    expect(error.message).toBe(
      `generation ${name} was removed from ${shelf.store.url} while it was read: take another one`,
    );
  });

  test("takes no segment of another log for the next one", async () => {
    await using shelf = await openFolder();
    using dir = tempDir("fetched");
    const { name } = await write(shelf, { cuts: PLAN.cuts.slice(0, 4) });
    const cut = PLAN.cuts[3]!;
    const foreign = Buffer.from(streamOf(SEED + 1, 1_000).stream);
    const other = await writeGeneration(shelf.store, {
      ...PLAN,
      stream: foreign,
      cuts: [cut, cut + 500],
      replid: "d".repeat(40),
      seed: 2,
    });
    const moved = other.segments[1]!;
    shelf.objects.set(moved.replace(other.name, name), shelf.objects.get(moved));
    const archive = await openArchive(shelf);
    const generation = (await archive.generations(never)).find((one) => one.name === name)!;
    // Its times are read from the last segment, which tells that it isn't one.
    expect(generation.log.chain.end.offset).toBe(5_000 + cut);
    expect(logFolder(name)).toContain(name);
    await fetchGeneration(archive, generation, 5_000 + cut, dir.file("data"), quiet);
  });
});

describe("an encrypted generation", () => {
  test("comes with the right identity alone, and leaves nothing without", async () => {
    await using shelf = await openBucket();
    using dir = tempDir("fetched");
    const [own, other] = [await generateX25519Identity(), await generateX25519Identity()];
    const encryption = new Encryption([await identityToRecipient(own)]);
    const { log, pieces } = await write(shelf, { encryption });
    const place = `${shelf.store.url}/${pieces[0]!}`;
    const right = await Decryption.fromFile("own.txt", own);
    const root = await fetched(await openArchive(shelf, right), dir);
    expect(fs.readFileSync(fetchedFiles(root, FETCHED_ID).log).equals(log)).toBe(true);
    const without = await openArchive(shelf);
    const missing = await rejectionOf(() => fetched(without, dir));
    expect(missing).toMatchObject({ code: "USAGE" });
    expect(missing.message).toContain(`${place} is encrypted: name the file of the age identity`);
    const wrong = await openArchive(shelf, await Decryption.fromFile("other.txt", other));
    const [generation] = without.heads;
    const error = await rejectionOf(async () =>
      fetchGeneration(
        wrong,
        { ...(await without.generation(generation!, never)) },
        END,
        dir.file("wrong"),
        quiet,
      ),
    );
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toContain(`${place} is encrypted to another identity`);
    expect(leftIn(dir.path)).toEqual([root.slice(dir.path.length + 1)]);
  });
});
