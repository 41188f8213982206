import { expect, test } from "bun:test";
import type { Clock } from "../../../src/base/clock.ts";
import { ArchiveRetention } from "../../../src/archive/retention/archive-retention.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { writeArchive } from "../../support/written-archive.ts";
import { MemoryStore } from "./memory-store.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Runs until so many pauses were made. Returns them, in milliseconds, and how often the archive was looked at. */
async function paused(
  pauses: number,
  random: number,
  options: { readonly keepForMs?: number; readonly failures?: number } = {},
) {
  const stop = new AbortController();
  const made: number[] = [];
  const store = new MemoryStore();
  await writeArchive(store);
  let [looks, failures] = [0, options.failures ?? 0];
  store.now = async () => {
    looks++;
    if (failures-- > 0) throw new ReplicaError("ARCHIVE_FAILED", { message: "it is away" });
    return 0;
  };
  const clock: Clock = {
    now: () => 0,
    monotonicMs: () => 0,
    random: () => random,
    sleep: async (ms) => {
      made.push(ms);
      if (made.length === pauses) stop.abort(new Error("over"));
    },
  };
  const retention = new ArchiveRetention({ store, clock, keepForMs: options.keepForMs });
  await retention.run(stop.signal);
  return { made, looks, counts: retention.counts };
}

test("looks some minutes after the start, and then each day: never sooner, so that marks are a day old", async () => {
  const early = await paused(3, 0, { keepForMs: HOUR });
  expect(early).toMatchObject({ made: [5 * MINUTE, 24 * HOUR, 24 * HOUR], looks: 2 });
  const late = await paused(3, 0.5, { keepForMs: HOUR });
  expect(late.made).toEqual([10 * MINUTE, 24.5 * HOUR, 24.5 * HOUR]);
});

test("looks again an hour after a failure, and is not ended by it", async () => {
  const { made, looks, counts } = await paused(4, 0, { keepForMs: HOUR, failures: 2 });
  expect(made).toEqual([5 * MINUTE, HOUR, HOUR, 24 * HOUR]);
  expect([looks, counts.failures]).toEqual([3, 2]);
});

test("does nothing where everything stays", async () => {
  expect(await paused(1, 0)).toMatchObject({ made: [], looks: 0 });
});
