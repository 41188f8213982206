import { resetSync } from "@logtape/logtape";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import { ARCHIVE_KEY, GENERATIONS } from "../../../src/archive/format/names.ts";
import { FileStore } from "../../../src/archive/store/file-store.ts";
import type { ObjectStore } from "../../../src/archive/store/object-store.ts";
import { realClock } from "../../../src/base/clock.ts";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import { Output } from "../../../src/cli/terminal/output.ts";
import type { S3Effect, S3Operation } from "../../support/fault-s3.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { Random } from "../../support/fill.ts";
import { stride } from "../../support/sweep.ts";
import { until, withinOwnTime } from "../../support/wait.ts";
import { Bench, SEED } from "./bench.ts";
import type { LocalHistory } from "./local-history.ts";
import { names, PauseClock, readArchive, type Rig } from "./rig.ts";

const MIB = 1024 * 1024;
const never = new AbortController().signal;
const bench = new Bench();
let lines: string[] = [];

beforeAll(() => bench.setUp());
beforeEach(() => {
  lines = [];
  const output = new Output({ sink: (text) => lines.push(text), isTty: false });
  configureLogging({ level: "info", format: "text", output });
});
afterEach(async () => {
  await bench.stopAll();
  resetSync();
});
afterAll(() => bench.tearDown());

/** The levels of the lines that were logged. */
function levels(): string[] {
  return lines.map((line) => line.split(" ")[1]!);
}

function breakStore(effect: S3Effect, operation?: S3Operation): void {
  const meant = operation === undefined ? {} : { operation };
  bench.server.fail({ ...meant, times: Infinity, effect });
}

const AWAY: S3Effect = { kind: "error", status: 503, code: "SlowDown" };
const FORBIDDEN: S3Effect = { kind: "error", status: 403, code: "AccessDenied" };

test.each([
  ["is away or throttles", AWAY, "ARCHIVE_FAILED"],
  ["forbids", FORBIDDEN, "ARCHIVE_FORBIDDEN"],
  ["is full", { kind: "error", status: 507, code: "InsufficientStorage" }, "ARCHIVE_FAILED"],
] as const)(
  "a store that %s is tried until it takes objects, and told of twice",
  async (_, effect, code) => {
    const { url, history } = bench.fresh("s3");
    const store = bench.open(url);
    const rig = bench.start(history, store);
    history.begin(1_000, 0);
    rig.archiver.changed();
    rig.grow(1, 500);
    await rig.whole();
    breakStore(effect);
    for (let step = 0; step < 20; step++) rig.grow(1, 1_000);
    const failures = () => rig.archiver.status().failures.get(code) ?? 0;
    await until(() => failures() >= 5, { what: "five failures" });
    const { error, archivedOffset, lagBytes, lagMs } = rig.archiver.status();
    expect(error?.code).toBe(code);
    expect([archivedOffset, lagBytes]).toEqual([500, 20_000]);
    expect(lagMs).toBeGreaterThan(0);
    bench.server.heal();
    await rig.whole();
    await bench.expectSame(history, store, [1]);
    expect(rig.archiver.status().error).toBeUndefined();
    expect(levels()).toEqual(["warn", "info"]);
    expect(lines[0]).toContain(`${url} gets nothing at present`);
    expect(lines[1]).toContain(`${url} gets objects again, after ${failures()} failures`);
  },
);

test("while a store is away one object is in memory, and nothing more is read", async () => {
  const { url, history } = bench.fresh("s3");
  const store = bench.open(url);
  const rig = bench.start(history, store);
  history.begin(1_000, 0);
  rig.archiver.changed();
  await rig.whole();
  breakStore(AWAY);
  rig.grow(1, 1_000);
  const failures = () => rig.archiver.status().failures.get("ARCHIVE_FAILED") ?? 0;
  await until(() => failures() >= 1, { what: "a failure" });
  const { pins } = history;
  for (let step = 0; step < 20; step++) rig.grow(1, MIB);
  await until(() => failures() >= 4, { what: "more failures" });
  expect(history.pins).toBe(pins);
  bench.server.heal();
  await rig.whole();
  await bench.expectSame(history, store, [1]);
  // What has piled up went in the largest segments.
  const [read] = await readArchive(store);
  expect(read!.segments.map(({ to, from }) => to - from)).toEqual([1_000, 16 * MIB, 4 * MIB]);
});

test("pauses between tries grow up to a minute, and differ", async () => {
  const { url, history } = bench.fresh("s3");
  const clock = new PauseClock(SEED);
  breakStore(FORBIDDEN);
  const rig = bench.start(history, bench.open(url), { clock });
  history.begin(1_000, 0);
  rig.archiver.changed();
  await until(() => clock.pauses.length >= 14, { what: "14 pauses" });
  const pauses = clock.pauses.slice(0, 14);
  for (const [at, ms] of pauses.entries()) {
    const ceiling = Math.min(60_000, 100 * 2 ** at);
    expect(ms).toBeWithin(ceiling / 2, ceiling + 1);
  }
  expect(new Set(pauses.slice(-4)).size).toBe(4);
});

test("generations that were sealed while the store was away follow in order", async () => {
  const { url, history } = bench.fresh("s3");
  const store = bench.open(url);
  const rig = bench.start(history, store);
  history.begin(1_000, 0);
  rig.archiver.changed();
  await rig.whole();
  breakStore(AWAY);
  rig.grow(1, 100);
  for (const id of [2, 3]) {
    history.begin(1_000, history.of(id - 1).durableOffset);
    rig.archiver.changed();
    rig.grow(id, 100 * id);
  }
  await until(() => rig.archiver.status().error !== undefined, { what: "a failure" });
  bench.server.heal();
  const before = bench.server.seen.length;
  await rig.whole();
  await bench.expectSame(history, store, [1, 2, 3]);
  const put = bench.server.seen.slice(before).filter(({ operation }) => operation === "PUT");
  const folders = put.map(({ key }) => key.split("/")[2]);
  const order = folders.filter((folder, at) => folder !== folders[at - 1]);
  expect(order).toEqual(await names(store, GENERATIONS));
});

test("other bytes under a name of its own stop that generation loudly, and no other", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  history.begin(1_000, 0);
  history.grow(1, 10);
  history.begin(1_000, 10);
  const rig = bench.start(history, meddled(store, "/base.json"));
  await rig.whole();
  const { stopped, error, failures } = rig.archiver.status();
  expect([...stopped.keys()]).toEqual([1]);
  expect(stopped.get(1)!.code).toBe("ARCHIVE_CONFLICT");
  expect(error).toBeUndefined();
  expect(failures.get("ARCHIVE_CONFLICT")).toBe(1);
  expect(levels()).toEqual(["error"]);
  expect(lines[0]).toContain("generation 1 is archived no further");
  expect(rig.archiver.has(1)).toBe(false);
  const found = await names(store, GENERATIONS);
  expect(found.length).toBe(2);
  const whole = found.map(async (name) => (await names(store, `${GENERATIONS}/${name}`)).length);
  expect(await Promise.all(whole)).toEqual([3, 3]);
  rig.grow(2, 100);
  await rig.whole();
  expect(rig.archiver.status().archivedOffset).toBe(110);
  await rig.stop();
  // A start sees what lies there, and does not take it for its own.
  const again = bench.start(history, store);
  await again.whole();
  expect([...again.archiver.status().stopped.keys()]).toEqual([1]);
  expect(levels()).toEqual(["error", "error"]);
  expect(lines[1]).toContain(history.of(1).memoryPath);
});

/** A store in which somebody else has just written the first object of that name. */
function meddled(store: ObjectStore, ending: string): ObjectStore {
  let isDone = false;
  return {
    url: store.url,
    get: (key, options, signal) => store.get(key, options, signal),
    list: (folder, signal) => store.list(folder, signal),
    settle: (folder, signal) => store.settle(folder, signal),
    delete: (key, signal) => store.delete(key, signal),
    now: (signal) => store.now(signal),
    put: async (key, body, signal) => {
      if (!isDone && key.endsWith(ending)) {
        isDone = true;
        await store.put(key, Buffer.from("{}"), signal);
      }
      await store.put(key, body, signal);
    },
  };
}

test("an archive of a newer format gets nothing", async () => {
  const { url, history } = bench.fresh();
  const store = bench.open(url);
  const newer = Buffer.from('{"format": 2, "kind": "replica-archive"}');
  await store.put(ARCHIVE_KEY, newer, never);
  history.begin(1_000, 0);
  const rig = bench.start(history, store);
  const failures = () => rig.archiver.status().failures.get("ARCHIVE_TOO_NEW") ?? 0;
  await until(() => failures() >= 2, { what: "two failures" });
  expect(levels()).toEqual(["warn"]);
  expect(await names(store, "")).toEqual([ARCHIVE_KEY]);
});

test("an answer that was cut after the work was done costs nothing but another try", async () => {
  const { url, history } = bench.fresh("s3");
  const store = bench.open(url);
  const rig = bench.start(history, store);
  history.begin(1_000, 0);
  rig.archiver.changed();
  await rig.whole();
  // More often than one request is tried.
  bench.server.fail({ operation: "PUT", times: 12, effect: { kind: "cut", at: "answer" } });
  for (let step = 0; step < 5; step++) rig.grow(1, 1_000);
  await rig.whole();
  await bench.expectSame(history, store, [1]);
});

test("sends no more bytes a second than it may, on average", async () => {
  const { url, history } = bench.fresh();
  const clock = new PauseClock(SEED);
  const began = clock.monotonicMs();
  const writer = { codec: "none", encryption: undefined } as const;
  const rig = bench.start(history, bench.open(url), { clock, writer, bytesPerSecond: 1_000 });
  history.begin(100_000, 0);
  rig.archiver.changed();
  for (let step = 0; step < 5; step++) {
    rig.grow(1, 20_000);
    await rig.whole();
  }
  const { sent } = rig.archiver.status();
  const bytes = Object.values(sent).reduce((sum, kind) => sum + kind.bytes, 0);
  expect(bytes).toBeGreaterThan(200_000);
  // The last object's time is not over yet.
  expect(clock.monotonicMs() - began).toBeGreaterThanOrEqual(bytes - 22_000);
});

test.each(["request", "answer"] as const)(
  "a stop gives up what is in flight: the %s hangs",
  async (at) => {
    const { url, history } = bench.fresh("s3");
    const rig = bench.start(history, bench.open(url));
    history.begin(1_000, 0);
    const before = bench.server.hanging;
    breakStore({ kind: "hang", at }, "PUT");
    rig.archiver.changed();
    await until(() => bench.server.hanging > before, { what: "a request that hangs" });
    await withinOwnTime(1_000, "the archiver to stop", rig.stop());
    expect(lines).toEqual([]);
  },
);

test("a stop ends a pause, and a wait for the rate", async () => {
  const { url, history } = bench.fresh();
  const clock = new PauseClock(SEED);
  clock.isHeld = true;
  history.begin(100_000, 0);
  const rig = bench.start(history, bench.open(url), { clock, bytesPerSecond: 1 });
  await until(() => rig.isIdle, { what: "a wait" });
  await withinOwnTime(1_000, "the archiver to stop", rig.stop());
});

/** Archives two generations, with another call failing each time, until that call never comes. */
async function failEachCall(
  start: (disk: FaultyDisk, history: LocalHistory, url: string) => Rig,
): Promise<void> {
  const random = new Random(SEED);
  for (let call = 1; ; call += stride(4, random)) {
    const { url, history } = bench.fresh();
    const disk = new FaultyDisk({ call, code: call % 2 === 0 ? "ENOSPC" : "EIO", half: true });
    history.begin(1_000, 0);
    history.grow(1, 700);
    history.begin(1_000, 700);
    const rig = start(disk, history, url);
    await rig.whole();
    rig.grow(2, 50);
    await rig.whole();
    await rig.stop();
    expect(rig.archiver.status().stopped.size).toBe(0);
    await bench.expectSame(history, bench.open(url), [1, 2]);
    expect(history.pinned).toBe(0);
    if (disk.struck.length === 0) break;
  }
}

test("whatever call of the local disk fails, the archive becomes whole", async () => {
  await failEachCall((disk, history, url) => bench.start(history, bench.open(url), { disk }));
});

test("whatever call of the archive's disk fails, the archive becomes whole", async () => {
  await failEachCall((disk, history, url) =>
    bench.start(history, new FileStore(fileURLToPath(url), disk, realClock)),
  );
});

test("an archive's folder that is removed, or unmounted and mounted again, is filled anew or gone on with", async () => {
  const { url, history } = bench.fresh("file");
  const folder = fileURLToPath(url);
  const store = bench.open(url);
  const rig = bench.start(history, store);
  const id = history.begin(50_000, 100);
  rig.archiver.changed();
  const grows = async () => {
    rig.grow(id, 1_000);
    await rig.whole();
    // What is told to be there is there.
    await bench.expectSame(history, store, [id]);
  };
  await grows();
  fs.renameSync(folder, `${folder}.away`);
  await grows();
  fs.rmSync(folder, { recursive: true });
  await grows();
  fs.rmSync(folder, { recursive: true });
  fs.renameSync(`${folder}.away`, folder);
  await grows();
});

test("a generation that ends while another folder is mounted goes to the archive once that is back", async () => {
  const { url, history } = bench.fresh("file");
  const folder = fileURLToPath(url);
  const store = bench.open(url);
  const rig = bench.start(history, store);
  const first = history.begin(50_000, 100);
  rig.archiver.changed();
  rig.grow(first, 1_000);
  await rig.whole();
  fs.renameSync(folder, `${folder}.away`);
  rig.grow(first, 1_000);
  await rig.whole();
  const second = history.begin(3_000, 2_100);
  rig.archiver.changed();
  await rig.whole();
  expect(rig.archiver.has(first)).toBe(true);
  fs.rmSync(folder, { recursive: true });
  fs.renameSync(`${folder}.away`, folder);
  rig.grow(second, 1_000);
  await rig.whole();
  await bench.expectSame(history, store, [first, second]);
  const read = await readArchive(store);
  expect(read.map(({ sealed }) => sealed !== undefined)).toEqual([true, false]);
});

test("a generation that is removed while it is archived is told, and the next one follows", async () => {
  const { url, history } = bench.fresh("s3");
  const store = bench.open(url);
  const rig = bench.start(history, store);
  history.begin(1_000, 0);
  rig.archiver.changed();
  await rig.whole();
  breakStore(AWAY);
  rig.grow(1, 100);
  await until(() => rig.archiver.status().error !== undefined, { what: "a failure" });
  rig.grow(1, 17 * MIB);
  history.begin(1_000, 1_000);
  history.remove(1);
  rig.archiver.changed();
  bench.server.heal();
  await until(() => rig.archiver.status().archivedOffset === 1_000, { what: "the next one" });
  expect(levels()).toEqual(["warn", "info", "warn"]);
  expect(lines[2]).toContain("generation 1 was removed before");
});
