import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { Decryption, Encryption } from "../../../src/archive/format/encryption.ts";
import { PIECE_BYTES, type ObjectWriter } from "../../../src/archive/format/objects.ts";
import type { ObjectStore } from "../../../src/archive/store/object-store.ts";
import { Random } from "../../support/fill.ts";
import { amount, stride } from "../../support/sweep.ts";
import { until } from "../../support/wait.ts";
import { Bench, SEED } from "./bench.ts";
import { type Death, DyingStore } from "./dying-store.ts";
import type { LocalHistory } from "./local-history.ts";
import { readArchive } from "./rig.ts";

/** Histories with many kills. */
const RUNS = amount("ARCHIVE_KILL_RUNS", { sample: 1, full: 2 });

let writer: ObjectWriter;
let decryption: Decryption;
const bench = new Bench();

beforeAll(async () => {
  const identity = await generateX25519Identity();
  // The same bytes are encrypted to other ones each time, so nothing that is sent twice stays unseen.
  writer = { codec: "zstd", encryption: new Encryption([await identityToRecipient(identity)]) };
  decryption = await Decryption.fromFile("keys.txt", identity);
  await bench.setUp();
});
afterEach(() => bench.stopAll());
afterAll(() => bench.tearDown());

/** Archives until the process dies, or everything is there. Returns whether it died. */
async function live(
  history: LocalHistory,
  inner: ObjectStore,
  stored: string[],
  death: Death | undefined,
): Promise<boolean> {
  const store = new DyingStore(inner, stored, death);
  const rig = bench.start(history, store, { writer });
  await Promise.race([rig.whole(() => store.isDead), store.died]);
  await rig.stop();
  return store.isDead;
}

describe.each(["file", "s3"] as const)("%s", (kind) => {
  test.each([true, false])(
    "goes on after a kill at each object, stored %p: no gap, and nothing twice",
    async (isStored) => {
      const random = new Random(SEED);
      for (let put = 1; ; put += stride(6, random)) {
        const { url, history } = bench.fresh(kind);
        const store = bench.open(url);
        const stored: string[] = [];
        // Two pieces where it dies amid them.
        const isAmid = kind === "file" && put >= 3 && put <= 5;
        history.begin(isAmid ? PIECE_BYTES + 500 : 3_000, 1_000);
        history.grow(1, 5_000);
        const second = history.begin(3_000, 6_000);
        history.grow(second, 100);
        const hasDied = await live(history, store, stored, { put, isStored });
        history.grow(second, 900);
        await live(history, store, stored, undefined);
        await bench.expectSame(history, store, [1, 2], decryption);
        expect(stored.length).toBe(new Set(stored).size);
        if (!hasDied) break;
      }
    },
  );

  test("goes on after many kills, while the data directory grows and is renewed", async () => {
    const random = new Random(SEED);
    for (let run = 0; run < RUNS; run++) {
      const { url, history } = bench.fresh(kind);
      const store = bench.open(url);
      const stored: string[] = [];
      let id = history.begin(2_000, 500);
      for (let step = 0; step < 12; step++) {
        if (random.below(4) === 0) id = history.begin(2_000, history.of(id).durableOffset);
        history.grow(id, 1 + random.below(40_000));
        const death = { put: 1 + random.below(5), isStored: random.below(2) === 0 };
        await live(history, store, stored, death);
      }
      await live(history, store, stored, undefined);
      const ids = history.generations().map((generation) => generation.id);
      await bench.expectSame(history, store, ids, decryption);
      expect(stored.length).toBe(new Set(stored).size);
      const read = await readArchive(store, decryption);
      expect(read.map(({ sealed }) => sealed !== undefined)).toEqual(
        ids.map((one) => one !== ids.at(-1)),
      );
    }
  });
});

test.each([1, 2, 3, 4, 5, 6, 7])(
  "what a store lists only later is not sent in conflict with itself: object %p",
  async (put) => {
    const { url, history } = bench.fresh("s3");
    const store = bench.open(url);
    const stored: string[] = [];
    history.begin(PIECE_BYTES + 500, 1_000);
    history.grow(1, 5_000);
    await live(history, store, stored, { put, isStored: true });
    bench.server.unlisted.add(`${url.replace("s3://bucket/", "")}/${stored.at(-1)!}`);
    await live(history, store, [], undefined);
    bench.server.unlisted.clear();
    await bench.expectSame(history, store, [1], decryption);
    history.grow(1, 5_000);
    const rig = bench.start(history, store, { writer });
    await rig.whole();
    expect(rig.archiver.status().stopped.size).toBe(0);
    await bench.expectSame(history, store, [1], decryption);
  },
);

test("what a torn line was to remember is done again", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  const stored: string[] = [];
  history.begin(1_000, 0);
  // Dies before the only piece is sent.
  await live(history, store, stored, { put: 3, isStored: false });
  history.tearMemory(1);
  await live(history, store, stored, undefined);
  await bench.expectSame(history, store, [1], decryption);
});

test("a piece that reached the archive only after another was made of it counts as it is", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  history.begin(1_000, 0);
  let late: (() => Promise<void>) | undefined;
  /** Answers nobody, and stores the piece after the next process has looked around. */
  const slow = withPut(store, async (key, body, signal) => {
    if (!key.endsWith(".age")) return await store.put(key, body, signal);
    late = () => store.put(key, body, new AbortController().signal);
    await new Promise(() => undefined);
  });
  const first = bench.start(history, slow, { writer });
  await until(() => late !== undefined, { what: "the piece" });
  await first.stop();
  const second = bench.start(history, slow, { writer });
  const before = late!;
  await until(() => late !== before, { what: "the piece again" });
  await second.stop();
  await before();
  const third = bench.start(history, store, { writer });
  await third.whole();
  await bench.expectSame(history, store, [1], decryption);
  expect(third.archiver.status().stopped.size).toBe(0);
});

/** A store that puts in another way. */
function withPut(store: ObjectStore, put: ObjectStore["put"]): ObjectStore {
  return {
    url: store.url,
    get: (key, options, signal) => store.get(key, options, signal),
    list: (folder, signal) => store.list(folder, signal),
    settle: (folder, signal) => store.settle(folder, signal),
    delete: (key, signal) => store.delete(key, signal),
    now: (signal) => store.now(signal),
    put,
  };
}

test("a document that somebody deleted is written again", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  const stored: string[] = [];
  history.begin(1_000, 0);
  history.grow(1, 10);
  await live(history, store, stored, undefined);
  const document = stored.find((key) => key.endsWith("/generation.json"))!;
  await store.delete(document, new AbortController().signal);
  history.grow(1, 10);
  await live(history, store, stored, undefined);
  await bench.expectSame(history, store, [1], decryption);
  expect(stored.filter((key) => key === document).length).toBe(2);
});

test("a copy of the data directory has folders of its own", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  history.begin(1_000, 0);
  history.grow(1, 1_000);
  await live(history, store, [], undefined);
  const copy = history.copyTo(bench.file("copied"));
  history.grow(1, 50);
  copy.grow(1, 60);
  await live(copy, store, [], undefined);
  await live(history, store, [], undefined);
  const logs = (await readArchive(store, decryption)).map(({ log }) => log.toString("hex"));
  const wanted = [history, copy].map((one) => one.content(1).log.toString("hex"));
  expect(logs.toSorted()).toEqual(wanted.toSorted());
});

test("a log that another one has replaced goes to another folder, and the first stays as it is", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  history.begin(1_000, 0);
  history.grow(1, 1_000);
  await live(history, store, [], undefined);
  const before = history.content(1).log;
  history.rewrite(1, 500);
  await live(history, store, [], undefined);
  const logs = (await readArchive(store, decryption)).map(({ log }) => log.toString("hex"));
  const wanted = [before, history.content(1).log].map((log) => log.toString("hex"));
  expect(logs.toSorted()).toEqual(wanted.toSorted());
});

test("a generation that was sealed too early is archived anew", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  history.begin(1_000, 0);
  history.grow(1, 1_000);
  history.seal(1);
  // Dies when it has stored that the generation is sealed.
  expect(await live(history, store, [], { put: 6, isStored: true })).toBe(true);
  history.grow(1, 500);
  await live(history, store, [], undefined);
  const ends = (await readArchive(store, decryption)).map(({ sealed }) => sealed?.endOffset ?? -1);
  expect(ends.toSorted((a, b) => a - b)).toEqual([1_000, 1_500]);
});

test("another archive, or other recipients, get the generation from its beginning", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  history.begin(1_000, 0);
  history.grow(1, 1_000);
  await live(history, store, [], undefined);
  const other = bench.open(bench.fresh().url);
  await live(history, other, [], undefined);
  await bench.expectSame(history, other, [1], decryption);
  const plain = bench.open(bench.fresh().url);
  const rig = bench.start(history, plain);
  await rig.whole();
  await rig.stop();
  await live(history, plain, [], undefined);
  const read = await readArchive(plain, decryption);
  expect(read.map(({ document }) => document.recipients.length).toSorted()).toEqual([0, 1]);
  for (const { base } of read) expect(base.equals(history.content(1).base)).toBe(true);
});

test("lists only its own folder, once", async () => {
  const { url, history } = bench.fresh("s3");
  const store = bench.open(url);
  history.begin(1_000, 0);
  history.grow(1, 1_000);
  history.begin(1_000, 1_000);
  await live(history, store, [], undefined);
  const before = bench.server.count("LIST");
  history.grow(2, 1_000);
  await live(history, store, [], undefined);
  // The sealed generation is known to be whole; of the other, the folder and its log.
  expect(bench.server.count("LIST") - before).toBe(2);
});
