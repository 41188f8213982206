import { expect, test } from "bun:test";
import { Ledger } from "../../../src/store/ledger/ledger.ts";
import type { Sample } from "../../../src/store/recent/recent-tables.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** What KeptPast calls a gap. */
const GAP_MS = 150_000;

function sampleAt(atMs: number): Sample {
  const rates = { received: 3, written: 2, durable: 1, archived: null };
  return { atMs, ...rates, lagMs: 700, archiveLagMs: null, isUp: 1 };
}

function opened() {
  const dir = tempDir();
  const disk = new FaultyDisk();
  const ledger = new Ledger(dir.file("replica.db"), disk, true);
  return {
    ledger,
    disk,
    recent: ledger.recent,
    [Symbol.dispose]: () => {
      ledger.close();
      dir.remove();
    },
  };
}

/** Makes a generation whole, with marks at these times. */
function generation({ ledger }: { readonly ledger: Ledger }, times: readonly number[]): number {
  const id = ledger.begin("p", times[0] ?? 0, 1);
  ledger.promote(
    id,
    {
      replid: undefined,
      baseOffset: 0,
      streamDb: 0,
      rdbBytes: 10,
      rdbCrc64: "0123456789abcdef",
      rdbChecked: true,
      logHeaderBytes: 23,
    },
    {
      sealReason: "a newer one came",
      atMs: times[0] ?? 0,
      trust: { kind: "stopped" },
      continued: undefined,
      worth: { guarded: undefined, smallBeside: undefined, well: [] },
      lived: { livedMs: times[0] ?? 0, bootId: "b", uptimeMs: 0 },
    },
  );
  times.slice(1).forEach((atMs, n) => {
    ledger.mark(id, { atMs, writtenOffset: n + 1, durableOffset: n + 1 });
  });
  return id;
}

test("keeps the samples of the last day, and none that a wrong clock left in the future; no sync is made for them", () => {
  using at = opened();
  const nowMs = 10 * DAY_MS;
  const syncs = at.disk.count("syncData");
  at.recent.addSamples([sampleAt(nowMs + DAY_MS)], nowMs + DAY_MS, DAY_MS);
  at.recent.addSamples(
    [sampleAt(nowMs - 2 * DAY_MS), sampleAt(nowMs - 5), sampleAt(nowMs)],
    nowMs,
    DAY_MS,
  );
  expect(at.recent.samples(10)).toEqual([sampleAt(nowMs - 5), sampleAt(nowMs)]);
  expect(at.recent.samples(1)).toEqual([sampleAt(nowMs)]);
  expect(at.disk.count("syncData")).toBe(syncs);
});

test("tells the last events first, as one line of bounded length each", () => {
  using at = opened();
  at.recent.event("break", `a\u001b[31m${"x".repeat(5_000)}`, 1);
  at.recent.event("generation", "2 took its place", 2);
  const [last, before] = at.recent.events(5);
  expect(last).toEqual({ atMs: 2, kind: "generation", detail: "2 took its place" });
  expect(before?.detail).toStartWith("a?[31mx");
  expect(before?.detail.length).toBe(1_000);
  expect(at.recent.events(1)).toHaveLength(1);
});

test("finds the times without a mark, in a generation and between two, and goes on where it stopped", () => {
  using at = opened();
  const [a, b] = [MINUTE_MS, 2 * MINUTE_MS + GAP_MS + 1];
  generation(at, [a, 2 * MINUTE_MS, b]);
  const look = (nowMs: number) => {
    const generations = at.recent.past.generations(10);
    return at.recent.past.gaps(generations, nowMs);
  };
  expect(look(b)).toEqual([{ fromMs: 2 * MINUTE_MS, toMs: b }]);
  // Nothing new.
  expect(look(b)).toHaveLength(1);
  const c = b + 2 * GAP_MS;
  const second = generation(at, [c, c + 1]);
  at.ledger.mark(second, { atMs: c + 3 * GAP_MS, writtenOffset: 9, durableOffset: 9 });
  const found = [
    { fromMs: 2 * MINUTE_MS, toMs: b },
    { fromMs: b, toMs: c },
    { fromMs: c + 1, toMs: c + 3 * GAP_MS },
  ];
  expect(look(c + 3 * GAP_MS)).toEqual(found);
  expect(at.recent.past.generations(10).map(({ id, state, toMs }) => [id, state, toMs])).toEqual([
    [1, "sealed", b],
    [2, "current", c + 3 * GAP_MS],
  ]);
  expect(at.recent.past.generations(1)).toHaveLength(1);
});

test("of what is older than a week, where one mark in ten minutes is left, only long pauses are gaps", () => {
  using at = opened();
  generation(at, [MINUTE_MS, 11 * MINUTE_MS, 21 * MINUTE_MS, 43 * MINUTE_MS]);
  const generations = at.recent.past.generations(10);
  expect(at.recent.past.gaps(generations, 30 * DAY_MS)).toEqual([
    { fromMs: 21 * MINUTE_MS, toMs: 43 * MINUTE_MS },
  ]);
});
