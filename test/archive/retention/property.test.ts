import { expect, test } from "bun:test";
import { Archive } from "../../../src/archive/reader/archive.ts";
import { ArchiveSource } from "../../../src/archive/reader/archive-source.ts";
import { ArchiveRetention } from "../../../src/archive/retention/archive-retention.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { realClock } from "../../../src/base/clock.ts";
import { Random } from "../../../src/demo/random.ts";
import { amount, seedOf } from "../../support/sweep.ts";
import { HOUR, START, successors, type TrueGeneration, World } from "./world.ts";

const RUNS = amount("RETENTION_WORLDS", { sample: 5, full: 50 });
const SEED = seedOf("RETENTION_SEED", 1);
const HOURS = 300;
const never = new AbortController().signal;

test("nothing that a young moment needs ever goes, whatever the layout, the clocks and the cuts", async () => {
  let gone = 0;
  for (let run = 0; run < RUNS; run++) {
    const seed = SEED + run;
    try {
      gone += await liveThrough(new Random(seed));
    } catch (cause) {
      throw new Error(`RETENTION_SEED=${seed} RETENTION_WORLDS=1`, { cause });
    }
  }
  // It would be easy to remove nothing.
  expect(gone).toBeGreaterThan(RUNS * 3);
}, 600_000);

/** Runs retention in a world, again and again, each time cut somewhere. Returns how many generations went. */
async function liveThrough(random: Random): Promise<number> {
  const world = await World.make(random, HOURS);
  const { store, generations } = world;
  const after = successors(generations);
  const damaged = damageSome(world, random);
  const sound = generations.filter((one) => !damaged.has(one));
  const keepForHours = random.below(150);
  const aheadMs = [0, 0, 24, -24, 10_000][random.below(5)]! * HOUR;
  // Some of it may be of a store whose clock was ahead once.
  let hour = HOURS - random.below(2) * random.below(200);
  for (let step = 0; step < 25; step++) {
    store.nowMs = START + hour * HOUR;
    store.changesLeft = random.below(3) === 0 ? Infinity : random.below(12);
    const clock = { ...realClock, now: () => store.nowMs + aheadMs };
    // Several replicas may do the same at once, and one of them may keep less.
    const keeping =
      random.below(3) === 0 ? [keepForHours, keepForHours + random.below(80)] : [keepForHours];
    const youngFrom = hour - keepForHours;
    const lives = world.halfMade.filter(
      ({ objects }) => youngest(world, objects) > store.nowMs - 48 * HOUR,
    );
    await Promise.all(
      keeping.map(async (hours) => {
        const retention = new ArchiveRetention({ store, clock, keepForMs: hours * HOUR });
        await retention.runOnce(never).catch((error: unknown) => {
          if (!(error instanceof ReplicaError) || error.code !== "ARCHIVE_FAILED") throw error;
        });
      }),
    );
    await expectCovered(world, sound, after, youngFrom);
    for (const { name, objects } of lives)
      for (const key of objects) expect([name, store.objects.has(key)]).toEqual([name, true]);
    for (const [{ objects }, taken] of damaged)
      for (const key of objects)
        expect([key, store.objects.has(key)]).toEqual([key, key !== taken]);
    hour += random.below(40);
  }
  const heads = await headsOf(world);
  return sound.filter(({ written }) => !heads.has(written.name)).length;
}

function youngest({ store }: World, keys: readonly string[]): number {
  return keys.reduce(
    (most, key) => Math.max(most, store.objects.get(key)?.atMs ?? -Infinity),
    -Infinity,
  );
}

/** Some lose a piece. Returns which one of each. */
function damageSome({ store, generations }: World, random: Random): Map<TrueGeneration, string> {
  const damaged = new Map<TrueGeneration, string>();
  for (const one of generations) {
    if (random.below(12) > 0) continue;
    const key = [...one.objects].find((each) => each.includes("/base/"))!;
    store.objects.delete(key);
    damaged.set(one, key);
  }
  return damaged;
}

async function headsOf({ store }: World): Promise<Set<string>> {
  const archive = await Archive.open(new ArchiveSource(store, undefined), never);
  return new Set(archive.heads.map(({ name }) => name));
}

/** What could be restored of the moments that are young, each as well as before anything was removed. */
async function expectCovered(
  world: World,
  all: readonly TrueGeneration[],
  after: ReadonlyMap<TrueGeneration, ReadonlySet<TrueGeneration>>,
  youngFromHour: number,
): Promise<void> {
  const heads = await headsOf(world);
  const left = all.filter(({ written }) => heads.has(written.name));
  // What a reader finds is whole.
  for (const { objects } of left)
    for (const key of objects) expect([key, world.store.objects.has(key)]).toEqual([key, true]);
  for (const one of all) {
    if (heads.has(one.written.name)) continue;
    const others = left.filter((other) => after.get(one)!.has(other));
    const from = Math.max(youngFromHour, one.fromHour);
    for (let hour = from; hour <= Math.max(from, one.toHour) + 1; hour++) {
      const wanted = Math.min(hour, one.toHour);
      const isCovered = others.some(
        ({ fromHour, toHour }) => fromHour <= hour && Math.min(hour, toHour) >= wanted,
      );
      expect([one.written.name, hour, isCovered]).toEqual([one.written.name, hour, true]);
    }
  }
}
