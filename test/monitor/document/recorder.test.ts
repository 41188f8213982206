import { afterEach, expect, test } from "bun:test";
import { resetSync } from "@logtape/logtape";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import { limits } from "../../../src/config/limits.ts";
import { type Recorded, Recorder, together } from "../../../src/monitor/document/recorder.ts";
import type { Sample } from "../../../src/replica/past.ts";
import { Screen } from "../../cli/commands/screen.ts";

afterEach(() => resetSync());

const START_MS = Date.UTC(2026, 0, 1);

/** A replica whose figures a test sets, and a clock that it moves. */
class Rig {
  nowMs = START_MS;
  rate = 100;
  isUp = true;
  staleSeconds: number | undefined = 0.5;
  archivedOffset = 0;
  isBroken = false;
  kept: Sample[] = [];
  commits = 0;
  readonly status: Recorded;
  readonly recorder: Recorder;

  constructor(kept: Sample[] = []) {
    this.kept = kept;
    const rig = () => this;
    this.status = {
      get bytesPerSecond() {
        return { received: rig().rate, written: rig().rate, durable: rig().rate };
      },
      get archive() {
        return { generation: 1, archivedOffset: rig().archivedOffset, lag: { lagMs: 40 } };
      },
      get staleSeconds() {
        return rig().staleSeconds;
      },
      get link() {
        return { state: rig().isUp ? "connected" : "connect" };
      },
      supply: { trouble: undefined },
      past: {
        samples: () => rig().kept,
        addSamples: (samples: readonly Sample[]) => {
          if (rig().isBroken) throw new Error("the disk is full");
          rig().commits++;
          rig().kept.push(...samples);
        },
      },
    } as unknown as Recorded;
    this.recorder = new Recorder(this.status, {
      now: () => this.nowMs,
      monotonicMs: () => this.nowMs,
      sleep: () => Promise.resolve(),
      random: () => 0,
    });
  }

  /** Lets minutes pass, with a sample every 5 s. */
  pass(minutes: number): void {
    for (let n = 0; n < (minutes * 60_000) / limits.sampleMs; n++) {
      this.nowMs += limits.sampleMs;
      this.archivedOffset += 500;
      this.recorder.sample();
    }
  }
}

test("keeps half an hour by 5 s and a day by minutes, and no more", () => {
  const rig = new Rig();
  rig.pass(26 * 60);
  const all = rig.recorder.since(0);
  expect(all.length).toBeLessThanOrEqual(limits.fineSamples + limits.minuteSamples);
  expect(all.at(-1)!.atMs).toBe(rig.nowMs);
  const steps = all.slice(1).map(({ atMs }, at) => atMs - all[at]!.atMs);
  expect(steps.every((step) => step > 0 && step <= 60_000)).toBe(true);
  expect(steps.filter((step) => step === limits.sampleMs).length).toBeGreaterThanOrEqual(
    limits.fineSamples - 1,
  );
  expect(rig.nowMs - all[0]!.atMs).toBeGreaterThan(23 * 3_600_000);
  // Later questions get little.
  expect(rig.recorder.since(rig.nowMs - 10_000)).toHaveLength(2);
  expect(all.at(-1)).toEqual({
    atMs: rig.nowMs,
    received: 100,
    written: 100,
    durable: 100,
    archived: 100,
    lagMs: 500,
    archiveLagMs: 40,
    isUp: 1,
  });
});

test("a minute has the mean of rates, the worst lag, and counts as up only where all of it was", () => {
  const rig = new Rig();
  rig.nowMs = START_MS - limits.sampleMs;
  rig.pass(0.5);
  rig.rate = 300;
  rig.staleSeconds = 30;
  rig.isUp = false;
  rig.pass(0.5);
  rig.pass(6);
  const [minute] = rig.kept;
  expect(minute).toMatchObject({ received: 200, lagMs: 30_000, isUp: 0, atMs: START_MS + 55_000 });
});

test("the database gets some minutes at a time; the end and the next start have the rest", () => {
  const rig = new Rig();
  rig.pass(11);
  expect(rig.commits).toBe(2);
  const before = rig.kept.length;
  rig.pass(2);
  rig.recorder.keep();
  expect(rig.kept.length).toBeGreaterThan(before);
  const again = new Rig(rig.kept);
  expect(again.recorder.since(0)).toEqual(rig.kept);
});

test("a database that fails is told of once, and recording goes on", () => {
  const rig = new Rig();
  const screen = new Screen();
  configureLogging({ level: "info", format: "text", output: screen.output });
  rig.isBroken = true;
  rig.pass(30);
  expect(screen.text.match(/history is not kept: the disk is full/g)).toHaveLength(1);
  expect(rig.recorder.since(0).length).toBeGreaterThan(300);
});

test("a clock that is set back adds nothing until it has caught up", () => {
  const rig = new Rig();
  rig.pass(2);
  const before = rig.recorder.since(0).length;
  rig.nowMs -= 60_000;
  rig.pass(0.5);
  expect(rig.recorder.since(0)).toHaveLength(before);
  rig.pass(1);
  expect(rig.recorder.since(0).length).toBeGreaterThan(before);
});

test("samples of shards add up by their moments; the worst lag counts", () => {
  const one = {
    atMs: 5,
    received: 1,
    written: 1,
    durable: 1,
    archived: null,
    lagMs: 10,
    archiveLagMs: null,
    isUp: 1,
  };
  const other = { ...one, received: 4, archived: 2, lagMs: 70, isUp: 0 };
  expect(together([[one, { ...one, atMs: 10 }], [other]])).toEqual([
    { ...one, received: 5, written: 2, durable: 2, archived: 2, lagMs: 70, isUp: 0 },
    { ...one, atMs: 10 },
  ]);
});
