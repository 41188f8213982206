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
/** Decides which calls a shorter run takes. */
const SEED = seedOf("EVERY_DISK_CALL_SEED");
/** `npm test` lets about one call in so many fail with EIO. */
const ONE_IN = 16;
/** Number of calls for each other kind of fault. */
const SOME = IS_FULL ? 16 : 2;

setDefaultTimeout(ALL ? 1_800_000 : 600_000);

type Io = "direct" | "buffered";
type Fault = DiskFault & { readonly call: number };

const IOS: readonly Io[] = ["direct", "buffered"];
/** Lives that run concurrently: each waits for the disk most of the time. */
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
  /** The disk calls of the two processes that meet the fault. */
  readonly calls: readonly DiskCall[];
  readonly struck: readonly DiskCall[];
  /** The syncs that the primary granted. */
  readonly syncs: { readonly full: number; readonly partial: number };
  /** The messages for people, in the log or in errors. */
  readonly told: readonly string[];
}

/** The whole life of a folder: two processes on a failing disk, and a third on a sound one. */
async function live(io: Io, fault?: Fault): Promise<Lived> {
  using dir = tempDir("life");
  await using primary = new ModelPrimary();
  const disk = new RememberingDisk();
  if (fault !== undefined) disk.fail(fault);
  // ACK is the written offset, as in Redis, or the durable one.
  const ack = io === "direct" ? "written" : "durable";
  const settings = { fsync: "always", keep: "1", "keep-for": "off", "retry-max": "10ms", io, ack };
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

/** Lives one life with one fault; returns whether the fault was met. */
async function liveWith(io: Io, fault: Fault): Promise<boolean> {
  try {
    undisturbed[io] ??= live(io);
    const { syncs } = await undisturbed[io];
    const lived = await live(io, fault);
    const { code } = fault;
    const words = code === undefined ? undefined : `: ${HINTS[code]} (${code})`;
    const told = lived.told.filter((line) => words !== undefined && line.includes(words));
    // A fault that isn't reported must not cost the primary anything.
    if (told.length === 0) expect(lived.syncs).toEqual(syncs);
    // It isn't reported in other words.
    expect(lived.told.filter((line) => line.includes("made by the test"))).toEqual([]);
    return lived.struck.length > 0;
  } catch (error) {
    const what = `EVERY_DISK_CALL_SEED=${SEED}, ${io}, ${JSON.stringify(fault)}`;
    throw new Error(`${what}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** Lives all of them, some concurrently; returns how many met their fault. */
async function liveAll(lives: readonly (readonly [Io, Fault])[]): Promise<number> {
  lines = [];
  const left = lives.values();
  let met = 0;
  const lane = async () => {
    for (const [io, fault] of left) if (await liveWith(io, fault)) met++;
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  // Only the meaning of a failure is reported, not the raw error.
  expect(lines.filter((line) => line.includes("made by the test"))).toEqual([]);
  return met;
}

async function callsOf(io: Io): Promise<readonly DiskCall[]> {
  undisturbed[io] ??= live(io);
  return (await undisturbed[io]).calls;
}

test("a life without a fault takes one full resync per history, and logs no warning", async () => {
  for (const io of IOS) {
    const { calls, struck, syncs, told } = await live(io);
    expect(calls.length).toBeGreaterThan(100);
    expect(struck).toEqual([]);
    // The new generation takes a full resync, too.
    expect(syncs).toEqual({ full: 3, partial: 3 });
    expect(told).toEqual([]);
  }
});

test("a life on a disk that writes only half of each buffer, without an error, is like any other", async () => {
  using short = shortWrites();
  for (const io of IOS) {
    const { syncs, told } = await live(io);
    expect(syncs).toEqual({ full: 3, partial: 3 });
    expect(told).toEqual([]);
  }
  expect(short.calls).toBeGreaterThan(100);
});

test("after any failed disk call it reports the failure, claims nothing false, and goes on", async () => {
  const lives: [Io, Fault][] = [];
  for (const [n, io] of IOS.entries()) {
    const { length } = await callsOf(io);
    for (let call = 1; call <= length; call++) {
      // The two differ in how they write snapshots and what they acknowledge.
      if (ALL || call % 2 === n) lives.push([io, { call, code: "EIO" }]);
    }
  }
  const some = ALL ? lives : swept(lives, ONE_IN, new Random(SEED));
  const met = await liveAll(some);
  expect(met).toBeGreaterThanOrEqual(some.length - 2);
});

/** Longer than the second between two ACKs. */
const LATE_MS = 1_200;

/** Other faults, of one call or of several. */
const KINDS: readonly (readonly [
  string,
  Omit<DiskFault, "call">,
  ((call: DiskCall) => boolean)?,
])[] = [
  ["fails with ENOSPC", { code: "ENOSPC" }],
  ["fails with ENOSPC, as do some after it", { code: "ENOSPC", times: 7 }],
  ["fails with EDQUOT", { code: "EDQUOT", times: 2 }],
  ["fails with EROFS, for a while", { code: "EROFS", times: 3 }],
  ["fails with EIO, as do many after it", { code: "EIO", times: 25 }],
  [
    "writes only half",
    { code: "ENOSPC", half: true },
    ({ operation }) => /^(sink\.)?write$/.test(operation),
  ],
  [
    "is late",
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
  "after any failed call, a backup (%s) reports it and leaves the earlier file",
  async (io) => {
    const settings = loadSettings({ flags: new Map(Object.entries({ io })), env: {} });
    const earlier = Buffer.from("an earlier backup");
    for (let call = 1; ; call++) {
      using dir = tempDir("backup");
      await using primary = new ModelPrimary();
      const out = dir.file("dump.rdb");
      fs.writeFileSync(out, earlier);
      const disk = new FaultyDisk({ call, code: "EIO" });
      const surroundings = { disk, clock: hastyClock(), settings, replaces: true };
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
      // A failed open is retried; the folder is synced after the rename.
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
