import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Decryption, Encryption } from "../../../src/archive/format/encryption.ts";
import { PIECE_BYTES } from "../../../src/archive/format/objects.ts";
import type { ObjectStore } from "../../../src/archive/store/object-store.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { Random } from "../../support/fill.ts";
import { until } from "../../support/wait.ts";
import { Bench, SEED } from "./bench.ts";
import { LocalHistory } from "./local-history.ts";
import { PauseClock, readArchive } from "./rig.ts";

const PLAIN = { codec: "zstd", encryption: undefined } as const;

let encryption: Encryption;
let decryption: Decryption;
const bench = new Bench();
const { start, open } = bench;
const fresh = (kind: "file" | "s3" = "file") => bench.fresh(kind);
const expectSame = (history: LocalHistory, store: ObjectStore, ids: readonly number[]) =>
  bench.expectSame(history, store, ids, decryption);

beforeAll(async () => {
  const identity = await generateX25519Identity();
  encryption = new Encryption([await identityToRecipient(identity)]);
  decryption = await Decryption.fromFile("keys.txt", identity);
  await bench.setUp();
});
afterEach(() => bench.stopAll());
afterAll(() => bench.tearDown());

describe.each(["file", "s3"] as const)("%s", (kind) => {
  test.each([
    ["zstd", false],
    ["none", false],
    ["zstd", true],
    ["none", true],
  ] as const)(
    "holds exactly what was durable after random growth: %s, encrypted %p",
    async (codec, isEncrypted) => {
      const { url, history } = fresh(kind);
      const random = new Random(SEED);
      const store = open(url);
      const writer = { codec, encryption: isEncrypted ? encryption : undefined };
      const rig = start(history, store, { writer });
      let id = history.begin(5_000 + random.below(50_000), 1_000);
      rig.archiver.changed();
      for (let step = 0; step < 30; step++) {
        if (step % 12 === 11) {
          id = history.begin(5_000, history.of(id).durableOffset);
          rig.archiver.changed();
        }
        rig.grow(id, 1 + random.below(20_000));
        if (random.below(3) === 0) await rig.whole();
      }
      await rig.whole();
      await expectSame(history, store, [1, 2, 3]);
      const [first, , last] = await readArchive(store, decryption);
      expect(first!.sealed).toMatchObject({
        reason: "a newer snapshot",
        endOffset: history.of(1).durableOffset,
      });
      expect(last!.sealed).toBeUndefined();
      expect(first!.segments.flatMap(({ marks }) => marks)).toEqual([...history.marksOf(1)]);
      expect(history.pinned).toBe(0);
    },
  );
});

describe("the log", () => {
  test("goes in segments of up to 16 MiB where it has piled up", async () => {
    const { url, history } = fresh();
    const store = open(url);
    const id = history.begin(1_000, 0);
    history.grow(id, 37 * 1024 * 1024);
    const rig = start(history, store);
    await rig.whole();
    const [read] = await readArchive(store);
    const MIB = 1024 * 1024;
    expect(read!.segments.map(({ from, to }) => (to - from) / MIB)).toEqual([16, 16, 5]);
    await expectSame(history, store, [id]);
  });

  test("that has piled up waits no longer, whatever a segment leaves over", async () => {
    const { url, history } = fresh();
    const clock = new PauseClock(SEED);
    clock.isHeld = true;
    const id = history.begin(1_000, 0);
    history.grow(id, 17 * 1024 * 1024);
    const rig = start(history, open(url), { clock });
    await rig.whole();
    expect(rig.archiver.status().archivedOffset).toBe(17 * 1024 * 1024);
  });

  test("waits for the time that was set, or for 8 MiB", async () => {
    const { url, history } = fresh();
    const clock = new PauseClock(SEED);
    clock.isHeld = true;
    const rig = start(history, open(url), { clock });
    const id = history.begin(1_000, 0);
    rig.archiver.changed();
    const archived = () => rig.archiver.status().archivedOffset;
    const reaches = (offset: number) =>
      until(() => archived() === offset && rig.isIdle, { what: `offset ${offset} in the archive` });
    await reaches(0);
    rig.grow(id, 10);
    await reaches(10);
    rig.grow(id, 10);
    await until(() => clock.pauses.at(-1) === 10_000, { what: "a wait for ten seconds" });
    clock.skip(9_999);
    expect(archived()).toBe(10);
    clock.skip(1);
    await reaches(20);
    rig.grow(id, 8 * 1024 * 1024);
    await reaches(20 + 8 * 1024 * 1024);
  });

  test("that somebody waits for is sent as soon as that is durable", async () => {
    const { url, history } = fresh();
    const clock = new PauseClock(SEED);
    clock.isHeld = true;
    const rig = start(history, open(url), { clock });
    const id = history.begin(1_000, 0);
    rig.archiver.changed();
    const archived = () => rig.archiver.archivedOffset(id);
    const reaches = (offset: number) =>
      until(() => archived() === offset && rig.isIdle, { what: `offset ${offset} in the archive` });
    await reaches(0);
    rig.grow(id, 10);
    await reaches(10);
    // Durable already when it is asked for; and durable afterwards.
    rig.grow(id, 10);
    await until(() => rig.isIdle && clock.pauses.at(-1) === 10_000, { what: "a wait" });
    rig.archiver.want(20);
    await reaches(20);
    rig.archiver.want(40);
    rig.grow(id, 10);
    await until(() => rig.isIdle, { what: "a wait" });
    expect(archived()).toBe(20);
    rig.grow(id, 10);
    await reaches(40);
    // Nobody waits for what comes then.
    rig.grow(id, 10);
    await until(() => rig.isIdle, { what: "a wait" });
    expect(archived()).toBe(40);
  });

  test("says which histories begin inside", async () => {
    const { url, history } = fresh();
    const store = open(url);
    const rig = start(history, store);
    const id = history.begin(1_000, 500);
    rig.archiver.changed();
    rig.grow(id, 100);
    await rig.whole();
    history.continueAs(id, "b".repeat(40));
    rig.grow(id, 100);
    await rig.whole();
    const [read] = await readArchive(store);
    expect(read!.document.replid).toBe("1".padStart(40, "a"));
    expect(read!.segments.map(({ histories }) => histories)).toEqual([
      [],
      [{ replid: "b".repeat(40), fromOffset: 600 }],
    ]);
  });

  test("is cut where a segment would have too many marks", async () => {
    const { url, history } = fresh();
    const store = open(url);
    const id = history.begin(1_000, 0);
    history.growWithMarks(id, 150_000);
    const rig = start(history, store);
    await rig.whole();
    const [read] = await readArchive(store);
    expect(read!.segments.length).toBe(2);
    expect(read!.segments.flatMap(({ marks }) => marks)).toEqual([...history.marksOf(id)]);
    await expectSame(history, store, [id]);
  });
});

describe("a base that comes in", () => {
  const MIB = 1024 * 1024;
  const pieces = (url: string) => {
    const folder = fileURLToPath(url);
    const all = readdirSync(`${folder}/generations`).flatMap((name) => {
      const dir = `${folder}/generations/${name}/base`;
      return existsSync(dir) ? readdirSync(dir) : [];
    });
    return all.toSorted();
  };

  test("is sent piece by piece as it becomes durable, while the log before it goes on", async () => {
    const { url, history } = fresh();
    const store = open(url);
    const rig = start(history, store);
    const first = history.begin(1_000, 0);
    rig.archiver.changed();
    await rig.whole();
    history.arrive(40 * MIB, 500);
    rig.archiver.changed();
    history.came(16 * MIB - 1);
    rig.grow(first, 100);
    await until(() => rig.archiver.archivedOffset(first) === 100, { what: "the log" });
    expect(pieces(url)).toEqual(["000000.rdb.zst"]);
    history.came(35 * MIB);
    await until(() => pieces(url).length === 3, { what: "two pieces of it" });
    rig.grow(first, 400);
    await until(() => rig.archiver.archivedOffset(first) === 500, { what: "the log" });
    // Nobody takes it for a snapshot yet.
    expect((await readArchive(store)).filter(({ baseDocument }) => baseDocument)).toHaveLength(1);
    const second = history.becomes();
    rig.archiver.changed();
    rig.grow(second, 10);
    await rig.whole();
    await expectSame(history, store, [first, second]);
    expect(rig.archiver.status().sent.piece.objects).toBe(4);
  });

  test("and is given up leaves a folder that no reader sees, and holds up nothing", async () => {
    const { url, history } = fresh();
    const store = open(url);
    const rig = start(history, store);
    history.arrive(40 * MIB, 500);
    rig.archiver.changed();
    history.came(20 * MIB);
    await until(() => pieces(url).length === 1, { what: "a piece of it" });
    history.giveUp();
    rig.archiver.changed();
    const id = history.begin(1_000, 700);
    rig.archiver.changed();
    rig.grow(id, 10);
    await rig.whole();
    const read = await readArchive(store);
    expect(read.map(({ baseDocument }) => baseDocument?.rdbBytes)).toEqual([undefined, 1_000]);
    expect(rig.archiver.status().failures.size).toBe(0);
  });
});

describe("a generation", () => {
  test("that comes while the archiver looks around is not missed", async () => {
    const { url } = fresh();
    const race: { act?: (() => void) | undefined } = {};
    class Racing extends LocalHistory {
      override generations() {
        const found = super.generations();
        const { act } = race;
        race.act = undefined;
        act?.();
        return found;
      }
    }
    const history = new Racing(bench.file("racing"), SEED);
    const rig = start(history, open(url));
    race.act = () => {
      history.begin(1_000, 30);
      rig.archiver.changed();
    };
    await until(() => race.act === undefined, { what: "the archiver to look around" });
    await until(() => rig.archiver.status().archivedOffset === 30, { what: "the generation" });
  });

  test("without a byte in its log is archived and sealed", async () => {
    const { url, history } = fresh();
    const store = open(url);
    const rig = start(history, store);
    history.begin(1_000, 70);
    history.begin(1_000, 80);
    rig.archiver.changed();
    await rig.whole();
    await expectSame(history, store, [1, 2]);
    const [first] = await readArchive(store);
    expect(first!.sealed).toMatchObject({ endOffset: 70, endCrc64: "0".repeat(16) });
  });

  test("that was removed before it was archived is passed over", async () => {
    const { url, history } = fresh();
    const store = open(url);
    history.begin(1_000, 0);
    const second = history.begin(1_000, 10);
    history.remove(1);
    const rig = start(history, store);
    await rig.whole();
    await expectSame(history, store, [second]);
  });

  test("whose base is damaged never counts, and holds up no other", async () => {
    const { url, history } = fresh();
    const store = open(url);
    history.begin(1_000, 0);
    history.damageBase(1);
    const second = history.begin(1_000, 10);
    const rig = start(history, store);
    await rig.whole();
    const { stopped, failures } = rig.archiver.status();
    expect([...stopped].map(([id, { code }]) => [id, code])).toEqual([[1, "DIRECTORY_DAMAGED"]]);
    expect(failures.get("DIRECTORY_DAMAGED")).toBe(1);
    const [first, other] = await readArchive(store);
    expect(first!.baseDocument).toBeUndefined();
    expect(other!.base.equals(history.content(second).base)).toBe(true);
  });
});

test("nothing is taken for sealed, or for there, that a power cut may take back", async () => {
  const { url, history } = fresh();
  const store = open(url);
  const rig = start(history, store);
  history.begin(1_000, 10);
  rig.archiver.changed();
  rig.grow(1, 100);
  await rig.whole();
  const names = () => readdirSync(fileURLToPath(url), { recursive: true }).toSorted();
  const before = names();
  const syncs: PromiseWithResolvers<void>[] = [];
  history.isCertain = false;
  history.onAscertain = () => {
    syncs.push(Promise.withResolvers<void>());
    return syncs.at(-1)!.promise;
  };
  history.begin(1_000, 110);
  rig.archiver.changed();
  await until(() => syncs.length === 1, { what: "a sync" });
  syncs[0]!.reject(new ReplicaError("DISK_FAILED", { message: "syncing replica.db-wal: EIO" }));
  await until(() => syncs.length === 2, { what: "another sync" });
  expect(names()).toEqual(before);
  const { lagBaseBytes, failures } = rig.archiver.status();
  expect([lagBaseBytes, failures.get("DISK_FAILED")]).toEqual([1_000, 1]);
  syncs[1]!.resolve();
  await rig.whole();
  await expectSame(history, store, [1, 2]);
  const read = await readArchive(store);
  expect(read.map(({ sealed }) => sealed?.endOffset)).toEqual([110, undefined]);
});

test("an encrypted archive shows nothing of what it holds", async () => {
  const { url, history } = fresh();
  const writer = { codec: "none", encryption } as const;
  const rig = start(history, open(url), { writer });
  history.begin(100_000, 0);
  rig.archiver.changed();
  rig.grow(1, 50_000);
  await rig.whole();
  const { base, log } = history.content(1);
  const root = fileURLToPath(url);
  const files = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name)));
  expect(files.length).toBeGreaterThanOrEqual(5);
  for (const known of [base.subarray(0, 16), log.subarray(0, 16), log.subarray(-16)])
    for (const file of files) expect(file.includes(known)).toBe(false);
});

test("a base of several pieces comes back whole", async () => {
  const { url, history } = fresh();
  const store = open(url);
  const id = history.begin(2 * PIECE_BYTES + 12_345, 99);
  const rig = start(history, store, { writer: PLAIN });
  await rig.whole();
  await expectSame(history, store, [id]);
  const [read] = await readArchive(store);
  expect(read!.baseDocument!.pieces.map(({ rdbBytes }) => rdbBytes)).toEqual([
    PIECE_BYTES,
    PIECE_BYTES,
    12_345,
  ]);
});
