import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { ReplicaError } from "../../../src/base/errors.ts";
import type { S3Effect } from "../../support/fault-s3.ts";
import { until } from "../../support/wait.ts";
import { Bench, SEED } from "./bench.ts";
import { PauseClock } from "./rig.ts";

const MIB = 1024 * 1024;
const AWAY: S3Effect = { kind: "error", status: 503, code: "SlowDown" };
const bench = new Bench();

beforeAll(() => bench.setUp());
afterEach(() => bench.stopAll());
afterAll(() => bench.tearDown());

/** An archiver whose news are kept. */
function started(kind: "file" | "s3" = "s3") {
  const { url, history } = bench.fresh(kind);
  const clock = new PauseClock(SEED);
  const news: string[] = [];
  const rig = bench.start(history, bench.open(url), { clock, onNews: (what) => news.push(what) });
  return { url, history, clock, news, rig };
}

describe("the lag in time", () => {
  test("counts from the first mark that the archive lacks", async () => {
    const { history, clock, rig } = started();
    history.begin(1_000, 0);
    rig.archiver.changed();
    rig.grow(1, 100);
    await rig.whole();
    expect(rig.archiver.lag()).toEqual({
      lagBytes: 0,
      lagBaseBytes: 0,
      lagMs: 0,
      stoppedCurrent: undefined,
    });
    clock.isHeld = true;
    history.grow(1, 10);
    const sinceMs = history.marksOf(1).at(-1)!.timeMs;
    clock.skip(5_000);
    history.grow(1, 10);
    expect(rig.archiver.lag()).toMatchObject({ lagBytes: 20, lagMs: clock.now() - sinceMs });
  });

  test("is not hidden by a clock that is set back", async () => {
    const { history, clock, rig } = started();
    history.begin(1_000, 0);
    rig.archiver.changed();
    rig.grow(1, 100);
    await rig.whole();
    clock.isHeld = true;
    history.grow(1, 10);
    expect(rig.archiver.lag().lagMs).toBeGreaterThan(0);
    const { now } = clock;
    clock.now = () => now() - 24 * 3_600_000;
    clock.skip(60_000);
    expect(rig.archiver.lag().lagMs).toBe(60_000);
    // What comes meanwhile is younger.
    history.grow(1, 10);
    clock.skip(60_000);
    expect(rig.archiver.lag().lagMs).toBe(120_000);
    clock.isHeld = false;
    rig.archiver.changed();
    await rig.whole();
    expect(rig.archiver.lag().lagMs).toBe(0);
    clock.isHeld = true;
    history.grow(1, 10);
    expect(rig.archiver.lag().lagMs).toBe(0);
    clock.skip(1_000);
    expect(rig.archiver.lag().lagMs).toBe(1_000);
  });

  test("while nothing is there, counts from when the generation became current", () => {
    const { history, clock, rig } = started();
    bench.server.fail({ times: Infinity, effect: AWAY });
    history.begin(3 * MIB, 0);
    history.grow(1, 10);
    expect(rig.archiver.lag()).toMatchObject({
      lagBytes: 10,
      lagBaseBytes: 3 * MIB,
      lagMs: clock.now() - history.of(1).startedMs,
    });
  });

  test.each([
    ["began before the one before it ended: from that end", 3_600_000],
    ["began later: from then", 0],
  ])("of a generation whose base isn't there, and that %s", async (_, agoMs) => {
    const { history, clock, rig } = started();
    history.begin(1_000, 0);
    history.grow(1, 100);
    rig.archiver.changed();
    await rig.whole();
    bench.server.fail({ within: "/base/", times: Infinity, effect: AWAY });
    history.begin(3 * MIB, 50, agoMs);
    rig.archiver.changed();
    await until(() => rig.archiver.has(1), { what: "the end of the first one" });
    const { startedMs } = history.of(2);
    const sinceMs = Math.max(startedMs, history.of(1).sealed!.atMs);
    expect(sinceMs === startedMs).toBe(agoMs === 0);
    const { lagMs } = rig.archiver.lag();
    expect(lagMs).toBe(clock.now() - sinceMs);
  });
});

describe("a generation that was given up", () => {
  test("counts while it is current, and no longer once it is sealed", async () => {
    const { history, rig, news } = started("file");
    history.begin(1_000, 0);
    history.grow(1, 100);
    // Not the snapshot that was received.
    writeFileSync(history.of(1).basePath, Buffer.alloc(1_000, "other"));
    rig.archiver.changed();
    await until(() => rig.archiver.facts.stopped.size === 1, { what: "it to be given up" });
    const { lagBytes, lagMs, stoppedCurrent } = rig.archiver.lag();
    expect([lagBytes, stoppedCurrent]).toEqual([100, 1]);
    expect(lagMs).toBeGreaterThan(0);
    history.begin(1_000, 100);
    rig.archiver.changed();
    await rig.whole();
    expect(rig.archiver.lag()).toMatchObject({ lagBytes: 0, lagMs: 0, stoppedCurrent: undefined });
    expect(news).toEqual([expect.stringMatching(/^generation 1 is archived no further in file:/)]);
  });
});

describe("what people look up later", () => {
  test("names the first failure and the recovery, and no try in between", async () => {
    const { url, history, clock, news, rig } = started();
    history.begin(1_000, 0);
    rig.archiver.changed();
    await rig.whole();
    expect(rig.archiver.facts).toMatchObject({ url, error: undefined, lastFailure: undefined });
    const lastSuccessMs = rig.archiver.facts.lastSuccessMs!;
    expect(lastSuccessMs).toBeLessThanOrEqual(clock.now());
    bench.server.fail({ times: Infinity, effect: AWAY });
    rig.grow(1, 1_000);
    const failures = () => rig.archiver.facts.failures.get("ARCHIVE_FAILED") ?? 0;
    await until(() => failures() >= 5, { what: "five failures" });
    const failing = rig.archiver.facts;
    expect(failing.lastSuccessMs).toBe(lastSuccessMs);
    expect(failing.failingSinceMs).toBeLessThan(failing.lastFailure!.atMs);
    bench.server.heal();
    await rig.whole();
    expect(news).toEqual([
      expect.stringContaining(`${url} gets nothing at present`),
      expect.stringContaining(`${url} gets objects again`),
    ]);
    const { error, failingSinceMs, lastFailure } = rig.archiver.facts;
    expect([error, failingSinceMs, lastFailure?.error.code]).toEqual([
      undefined,
      undefined,
      "ARCHIVE_FAILED",
    ]);
  });

  test("a failure that leaves nothing to be sent is over once the store answers again", async () => {
    const { url, history } = bench.fresh("s3");
    const store = bench.open(url);
    history.begin(1_000, 0);
    const before = bench.start(history, store);
    await before.whole();
    await before.stop();
    bench.server.fail({ times: Infinity, effect: AWAY });
    const again = bench.start(history, store);
    await until(() => again.archiver.facts.error !== undefined, { what: "a failure" });
    bench.server.heal();
    await until(() => again.archiver.facts.error === undefined, { what: "the recovery" });
    expect(again.archiver.facts.lastSuccessMs).toBeUndefined();
  });
});

test("what the archiver knows by itself is told while the ledger fails", () => {
  const { history, rig } = started("file");
  history.generations = () => {
    throw new ReplicaError("DISK_FAILED", { message: "reading replica.db" });
  };
  expect(() => rig.archiver.lag()).toThrow("reading replica.db");
  expect(rig.archiver.facts.stopped.size).toBe(0);
});
