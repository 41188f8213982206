import { resetSync } from "@logtape/logtape";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { configureLogging } from "../../src/cli/terminal/logging.ts";
import { Output } from "../../src/cli/terminal/output.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { parsePrimarySource } from "../../src/config/primary-source.ts";
import { backup } from "../../src/upstream/backup.ts";
import { type DiskCall, type DiskFault, FaultyDisk } from "../support/faulty-disk.ts";
import { Random } from "../support/fill.ts";
import { ModelPrimary } from "../support/model-primary.ts";
import { shortWrites } from "../support/short-writes.ts";
import { IS_FULL, seedOf, swept } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { hastyClock, Lifetime, RememberingDisk } from "./lifetime-rig.ts";

/** `EVERY_DISK_CALL=all bun test test/faults/every-disk-call.test.ts`: every fault at every call, in some minutes. */
const ALL = process.env["EVERY_DISK_CALL"] === "all";
/** Which calls a shorter run takes. */
const SEED = seedOf("EVERY_DISK_CALL_SEED");
/** Of the calls that fail by EIO, `npm test` takes about one in so many. */
const ONE_IN = 8;
/** So many calls of each other kind of fault. */
const SOME = IS_FULL ? 16 : 4;

setDefaultTimeout(ALL ? 1_800_000 : 600_000);

type Io = "direct" | "buffered";
type Fault = DiskFault & { readonly call: number };

const IOS: readonly Io[] = ["direct", "buffered"];
/** Lives that are lived at once: each waits for the disk most of the time. */
const LANES = 4;

const HINTS: Record<string, string> = {
  EIO: "the device reports an error: check the disk",
  ENOSPC: "the disk is full: make room",
  EDQUOT: "the quota is used up: raise it or make room",
  EROFS: "the file system is read-only: choose another folder, or remount it",
};

let lines: string[] = [];

beforeAll(() => {
  const output = new Output({ sink: (text) => lines.push(text), isTty: false });
  configureLogging({ level: "warn", format: "text", output });
});
afterAll(resetSync);

interface Lived {
  /** Those of the two processes that meet the fault. */
  readonly calls: readonly DiskCall[];
  readonly struck: readonly DiskCall[];
  /** What cost the primary something. */
  readonly syncs: { readonly full: number; readonly partial: number };
  /** What people were told, in the log or by what failed. */
  readonly told: readonly string[];
}

/** The whole life of a folder, with two processes on a disk that fails, and a third on one that is sound. */
async function live(io: Io, fault?: Fault): Promise<Lived> {
  using dir = tempDir("life");
  await using primary = new ModelPrimary();
  const disk = new RememberingDisk();
  if (fault !== undefined) disk.fail(fault);
  // What is acknowledged is what is written, as Redis does it, or what is durable.
  const ack = io === "direct" ? "written" : "durable";
  const settings = { fsync: "always", keep: "1", "retry-max": "10ms", io, ack };
  const life = new Lifetime(dir, primary, disk, settings);
  await life.first();
  await life.second();
  const calls = [...disk.calls];
  disk.heal();
  await life.last();
  expect(primary.failures).toEqual([]);
  expect(disk.openFds).toEqual(new Set());
  const told = [...life.told, ...lines.filter((line) => line.includes(dir.path))];
  return { calls, struck: disk.struck, syncs: primary.counts, told };
}

const undisturbed: Partial<Record<Io, Promise<Lived>>> = {};

/** One life with one fault; whether its call was ever made. */
async function liveWith(io: Io, fault: Fault): Promise<boolean> {
  try {
    undisturbed[io] ??= live(io);
    const { syncs } = await undisturbed[io];
    const lived = await live(io, fault);
    const { code } = fault;
    const words = code === undefined ? undefined : `: ${HINTS[code]} (${code})`;
    const told = lived.told.filter((line) => words !== undefined && line.includes(words));
    // What nobody is told of has cost nothing.
    if (told.length === 0) expect(lived.syncs).toEqual(syncs);
    // Nobody is told of it in other words.
    expect(lived.told.filter((line) => line.includes("made by the test"))).toEqual([]);
    return lived.struck.length > 0;
  } catch (error) {
    const what = `EVERY_DISK_CALL_SEED=${SEED}, ${io}, ${JSON.stringify(fault)}`;
    throw new Error(`${what}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** All of them, some at a time; how many met a call. */
async function liveAll(lives: readonly (readonly [Io, Fault])[]): Promise<number> {
  lines = [];
  const left = lives.values();
  let met = 0;
  const lane = async () => {
    for (const [io, fault] of left) if (await liveWith(io, fault)) met++;
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  // Of a call that failed, only what it means is told.
  expect(lines.filter((line) => line.includes("made by the test"))).toEqual([]);
  return met;
}

async function callsOf(io: Io): Promise<readonly DiskCall[]> {
  undisturbed[io] ??= live(io);
  return (await undisturbed[io]).calls;
}

test("a life without a fault takes one full sync for each history, and tells of nothing", async () => {
  for (const io of IOS) {
    const { calls, struck, syncs, told } = await live(io);
    expect(calls.length).toBeGreaterThan(100);
    expect(struck).toEqual([]);
    // The new generation comes by a full sync, too.
    expect(syncs).toEqual({ full: 3, partial: 3 });
    expect(told).toEqual([]);
  }
});

test("a life on a disk that takes half of what it is given, and says no error, is as any other", async () => {
  using short = shortWrites();
  for (const io of IOS) {
    const { syncs, told } = await live(io);
    expect(syncs).toEqual({ full: 3, partial: 3 });
    expect(told).toEqual([]);
  }
  expect(short.calls).toBeGreaterThan(100);
});

test("whichever call of the disk fails: it is said, nothing is claimed that isn't so, and it goes on", async () => {
  const lives: [Io, Fault][] = [];
  for (const [n, io] of IOS.entries()) {
    const { length } = await callsOf(io);
    for (let call = 1; call <= length; call++) {
      // The two differ in how snapshots are written and what is acknowledged.
      if (ALL || call % 2 === n) lives.push([io, { call, code: "EIO" }]);
    }
  }
  const some = ALL ? lives : swept(lives, ONE_IN, new Random(SEED));
  const met = await liveAll(some);
  expect(met).toBeGreaterThanOrEqual(some.length - 2);
});

/** Longer than the second after which a replica tells its primary how far it is. */
const LATE_MS = 1_200;

/** What else may become of a call, and of those behind it. */
const KINDS: readonly (readonly [
  string,
  Omit<DiskFault, "call">,
  ((call: DiskCall) => boolean)?,
])[] = [
  ["finds no room", { code: "ENOSPC" }],
  ["finds no room, nor do some after it", { code: "ENOSPC", times: 7 }],
  ["is past the quota", { code: "EDQUOT", times: 2 }],
  ["is on a disk that can't be written for a while", { code: "EROFS", times: 3 }],
  ["fails with all around it", { code: "EIO", times: 25 }],
  [
    "is done by half",
    { code: "ENOSPC", half: true },
    ({ operation }) => /^(sink\.)?write$/.test(operation),
  ],
  [
    "comes late",
    { code: undefined, lateMs: LATE_MS },
    ({ operation }) => /^(sink\..*|write|sync.*|read|removeLarge)$/.test(operation),
  ],
];

test.each(KINDS)("a call that %s", async (_, fault, isMeant = () => true) => {
  const random = new Random(SEED);
  const lives: [Io, Fault][] = [];
  for (const io of IOS) {
    const calls = (await callsOf(io)).entries().filter(([, call]) => isMeant(call));
    const numbers = [...calls].map(([n]) => n + 1);
    const wanted = ALL ? numbers.length : Math.min(SOME / IOS.length, numbers.length);
    for (let left = wanted; left > 0; left--) {
      const [call] = numbers.splice(ALL ? 0 : random.below(numbers.length), 1);
      lives.push([io, { ...fault, call: call! }]);
    }
  }
  expect(await liveAll(lives)).toBeGreaterThan(lives.length / 2);
});

test.each(IOS)(
  "whichever call of a backup fails (%s): it says so, and leaves what was there",
  async (io) => {
    const settings = loadSettings({ flags: new Map(Object.entries({ io })), env: {} });
    const earlier = Buffer.from("an earlier backup");
    for (let call = 1; ; call++) {
      using dir = tempDir("backup");
      await using primary = new ModelPrimary();
      const out = dir.file("dump.rdb");
      fs.writeFileSync(out, earlier);
      const disk = new FaultyDisk({ call, code: "EIO" });
      const surroundings = { disk, clock: hastyClock(), settings };
      const { signal } = new AbortController();
      const error = await backup(
        parsePrimarySource(primary.url),
        out,
        surroundings,
        signal,
        () => undefined,
      ).then(
        () => undefined,
        (failure: unknown) => failure,
      );
      const [struck] = disk.struck;
      const kept = fs.readFileSync(out);
      await until(() => disk.openFds.size === 0, { what: "its descriptor to be closed" });
      const isWhole = kept.equals(primary.snapshotAt(primary.offset));
      expect(fs.readdirSync(dir.path)).toEqual(["dump.rdb"]);
      if (struck === undefined) {
        expect([error, isWhole]).toEqual([undefined, true]);
        expect(call).toBeGreaterThan(5);
        break;
      }
      // A try to open its file that failed was made again; the folder is synced once the name is taken.
      if (error === undefined) expect(isWhole).toBe(true);
      else {
        expect(error).toMatchObject({
          code: "DISK_FAILED",
          message: expect.stringContaining(HINTS["EIO"]!),
        });
        expect([struck.operation, isWhole || kept.equals(earlier)]).toEqual([
          struck.operation,
          true,
        ]);
        expect(isWhole).toBe(struck.operation === "syncDir");
      }
    }
  },
);
