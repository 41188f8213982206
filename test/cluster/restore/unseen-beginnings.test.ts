import { expect, test } from "bun:test";
import type { Arrival } from "../../../src/cluster/restore/arrivals.ts";
import { unseenBeginnings } from "../../../src/cluster/restore/unseen-beginnings.ts";
import type { OpenSlot } from "../../../src/cluster/ledger/layouts.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { keySlot } from "../../support/key-slot.ts";
import { tempDir } from "../../support/temp.ts";
import { madeUpHistory, type Seen } from "./made-up.ts";
import { type Heard, madeUpShard } from "./made-up-shard.ts";

const SLOT = keySlot("{a}");
const AT_MS = 1_000_000;
const LONG_AGO: Heard = [AT_MS - 60_000, "PING"];
const ARRIVAL: Arrival = { slot: SLOT, owner: 1, shard: 2, sinceMs: AT_MS - 12_000 };
const BEFORE: Seen = [0, { 1: [[0, 16_383]] }];
const got = (atMs: number): Seen => [atMs, { 2: [[0, 16_383]] }];

/** What becomes of a slot that moved from shard 1 to 2, of which these logs are kept. */
async function found(
  source: readonly Heard[],
  target: readonly Heard[],
  {
    seen = [BEFORE],
    open: opened = [],
    keys = 5,
  }: { seen?: readonly Seen[]; open?: readonly OpenSlot[]; keys?: number } = {},
) {
  using dir = tempDir("unseen");
  const cuts = new Map(
    [source, target].map((heard, index) => {
      const { log } = madeUpShard(dir, `${index}`, heard, { keys });
      return [index + 1, { log, offset: log.offsetAt(AT_MS) }] as const;
    }),
  );
  const { given, open } = await unseenBeginnings(
    madeUpHistory(seen, opened),
    [ARRIVAL],
    cuts,
    AT_MS,
    {
      disk: realDisk,
      signal: new AbortController().signal,
    },
  );
  return given.length > 0 ? "given" : open.length > 0 ? "open" : "in the log";
}

const JUST_BEGUN: readonly Heard[] = [[AT_MS - 500, "PING"]];
const REMOVED: readonly Heard[] = [LONG_AGO, [AT_MS - 900, "DEL {a}1"]];
const MOVED = { seen: [BEFORE, got(AT_MS - 800)] };

test("the slot goes to its new owner where all had left the source by then", async () => {
  expect(await found(REMOVED, JUST_BEGUN, MOVED)).toBe("given");
});

test("and where the source's snapshot, too, is younger than that", async () => {
  expect(await found(JUST_BEGUN, JUST_BEGUN, MOVED)).toBe("given");
  const seen = [BEFORE, got(AT_MS + 500)];
  expect(await found(JUST_BEGUN, JUST_BEGUN, { seen })).toBe("given");
  const moving: readonly Heard[] = [...JUST_BEGUN, [AT_MS + 400, "DEL {a}1"]];
  expect(await found(moving, JUST_BEGUN, { seen })).toBe("open");
});

test("it stays open where keys left the source behind its cut, or were written since", async () => {
  const later: Heard = [AT_MS + 500, "DEL {a}2"];
  expect(await found([...REMOVED, later], JUST_BEGUN, MOVED)).toBe("open");
  const written: Heard = [AT_MS - 800, "SET {a}2 1"];
  expect(await found([...REMOVED, written], JUST_BEGUN, MOVED)).toBe("open");
  expect(await found(REMOVED, JUST_BEGUN)).toBe("open");
});

test("it stays the source's where a look came before anything left, and didn't find it open", async () => {
  const begun = (beforeMs: number): readonly Heard[] => [[AT_MS - beforeMs, "PING"]];
  const removed = (beforeMs: number): readonly Heard[] => [
    ...begun(beforeMs),
    [AT_MS + 500, "DEL {a}1"],
  ];
  const seen = [BEFORE, got(AT_MS + 800)];
  expect(await found(removed(4_600), begun(4_600), { seen })).toBe("in the log");
  expect(await found(removed(4_400), begun(4_600), { seen })).toBe("open");
  expect(await found(removed(4_600), begun(4_400), { seen })).toBe("open");
  const open = [{ slot: SLOT, source: 1, target: 2, fromMs: AT_MS - 3_000, untilMs: AT_MS + 800 }];
  expect(await found(removed(4_600), begun(4_600), { seen, open })).toBe("open");
});

test("it stays the source's where nothing had left, or the log has all that came", async () => {
  expect(await found([LONG_AGO], JUST_BEGUN, MOVED)).toBe("in the log");
  expect(await found([LONG_AGO, [AT_MS + 500, "DEL {a}1"]], JUST_BEGUN, MOVED)).toBe("in the log");
  expect(await found(REMOVED, [LONG_AGO, ...JUST_BEGUN], MOVED)).toBe("in the log");
  expect(await found(REMOVED, [[AT_MS - 8_000, "PING"]], MOVED)).toBe("in the log");
  expect(await found(REMOVED, JUST_BEGUN, { ...MOVED, keys: 0 })).toBe("in the log");
});
