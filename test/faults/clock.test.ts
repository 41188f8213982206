import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { RenewalSchedule } from "../../src/upstream/renewal-schedule.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { restorePoint } from "../../src/store/restore/restore-point.ts";
import { verifyCatalogue } from "../../src/store/restore/verify.ts";
import { keep } from "../store/restore/kept.ts";
import { FakeMachine } from "../support/fake-machine.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { ModelPrimary } from "../support/model-primary.ts";
import { Downstream } from "../support/relaying.ts";
import { RespClient } from "../support/resp-client.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const DAY = 24 * HOUR;
const YEAR = 365 * DAY;

/** A wall clock that can be set. The monotonic clock is the machine's. */
class SetClock implements Clock {
  #aheadMs = 0;
  now(): number {
    return realClock.now() + this.#aheadMs;
  }
  set(byMs: number): void {
    this.#aheadMs += byMs;
  }
  monotonicMs = () => realClock.monotonicMs();
  sleep = (ms: number, signal: AbortSignal) => realClock.sleep(ms, signal);
  random = () => realClock.random();
}

/** Starts a replica with such a clock, behind the given primary or a new one. */
async function following(
  dir: TempDir,
  clock: Clock,
  more: Record<string, string> = {},
  given?: ModelPrimary,
) {
  const primary = given ?? new ModelPrimary();
  let acks = 0;
  primary.onAcknowledged = () => acks++;
  // A day that the clock is set forward by would be one for a new snapshot, too.
  const settings = { fsync: "always", "snapshot-every": "off", ...more };
  const replica = follow(primary.url, realDisk, dir, settings, undefined, clock);
  await replica.connected();
  return {
    ...replica,
    primary,
    /** Writes a command and waits until it is durable. */
    write: async () => {
      primary.write("SET", "key", "a value");
      await until(() => replica.replica.log?.durableOffset === primary.offset, { what: "a mark" });
      return primary.offset;
    },
    /** Waits for an ACK, which comes once a second: by then every periodic task has run. */
    secondPasses: async () => {
      const before = acks;
      await until(() => acks > before, { what: "an ACK" });
    },
    [Symbol.asyncDispose]: async () => {
      await replica[Symbol.asyncDispose]();
      if (given === undefined) await primary[Symbol.asyncDispose]();
    },
  };
}

interface MarkRow {
  readonly atMs: number;
  readonly written: number;
  readonly durable: number;
}

function marksOf(path: string): MarkRow[] {
  using db = new Database(join(path, "replica.db"), { readonly: true });
  return db
    .query<MarkRow, []>(
      "SELECT at_ms AS atMs, written_offset AS written, durable_offset AS durable FROM marks ORDER BY id",
    )
    .all();
}

function eventsOf(path: string, kind: string): string[] {
  using db = new Database(join(path, "replica.db"), { readonly: true });
  return db
    .query<{ detail: string }, [string]>("SELECT detail FROM events WHERE kind = ?")
    .all(kind)
    .map(({ detail }) => detail);
}

/** The offset of a restore by time. */
function offsetAt(path: string, atMs: number, nowMs: number): number {
  using catalogue = new Catalogue(path);
  const wanted = { generation: undefined, offset: undefined, atMs };
  return restorePoint(catalogue, wanted, nowMs).offset;
}

/** Forward and back; two of them go back by more than an hour. */
const JUMPS_MS = [
  3 * DAY,
  -2 * SECOND,
  -59 * 60 * SECOND,
  YEAR,
  -2 * HOUR,
  -10 * YEAR,
  9 * YEAR,
] as const;

test("a clock that jumps breaks no link, and times of marks go back only where the clock went back far", async () => {
  using dir = tempDir("clock");
  const clock = new SetClock();
  await using replica = await following(dir, clock, { timeout: "60s", "snapshot-every": "off" });
  await using client = await RespClient.connect({ port: replica.port });
  for (const byMs of JUMPS_MS) {
    await replica.write();
    clock.set(byMs);
    await replica.write();
    // Otherwise these marks and the next ones would share a row.
    clock.set(SECOND);
    replica.replica.log!.tick();
    replica.replica.relay.tick();
  }
  await replica.secondPasses();
  await replica.secondPasses();
  await replica.write();
  expect(replica.primary.counts).toEqual({ full: 1, partial: 0 });
  expect(replica.replica.links.last?.error).toBeUndefined();
  const info = String(await client.send("INFO", "server"));
  expect(Number(/uptime_in_seconds:(\d+)/.exec(info)?.[1])).toBeLessThan(60);
  expect(replica.replica.pace.durableAgeSeconds).toBeLessThan(5);

  const marks = marksOf(replica.path);
  expect(marks.at(-1)?.durable).toBe(replica.primary.offset);
  let setBack = 0;
  for (const [n, mark] of marks.entries()) {
    const before = marks[n - 1] ?? mark;
    expect(mark.durable).toBeGreaterThanOrEqual(before.durable);
    expect(mark.written).toBeGreaterThanOrEqual(before.written);
    if (mark.atMs >= before.atMs) continue;
    expect(before.atMs - mark.atMs).toBeGreaterThan(HOUR);
    setBack++;
  }
  expect(setBack).toBe(2);
  expect(eventsOf(replica.path, "clock")).toEqual([
    expect.stringMatching(
      /^the clock was set back from .*: from here on, restores by time use the new time/,
    ),
    expect.stringMatching(
      /^the clock was set back from .*: from here on, restores by time use the new time/,
    ),
  ]);
  using catalogue = new Catalogue(replica.path);
  expect(await verifyCatalogue(catalogue, new AbortController().signal)).toEqual([]);
});

test.each([
  ["ahead by days", 3 * DAY],
  ["back by seconds", -5 * SECOND],
  ["back by most of an hour", -59 * 60 * SECOND],
])("a restore by time stays right where the clock went %s", async (_, byMs) => {
  using dir = tempDir("clock");
  const clock = new SetClock();
  await using replica = await following(dir, clock);
  const known: { atMs: number; offset: number }[] = [];
  const write = async () => {
    const offset = await replica.write();
    // The clock of the marks stands still until one that was set back catches up.
    known.push({ atMs: marksOf(replica.path).at(-1)!.atMs, offset });
    clock.set(SECOND);
    replica.replica.log!.tick();
  };
  for (let n = 0; n < 3; n++) await write();
  clock.set(byMs);
  for (let n = 0; n < 3; n++) await write();
  const nowMs = clock.now();
  for (const [n, { atMs, offset }] of known.entries()) {
    // Writes while that clock stood still share its time.
    const isSame = known.findLast((later) => later.atMs === atMs)!;
    expect([n, offsetAt(replica.path, atMs, nowMs)]).toEqual([n, isSame.offset]);
    expect(isSame.offset).toBeGreaterThanOrEqual(offset);
  }
  expect(offsetAt(replica.path, Math.max(nowMs, known.at(-1)!.atMs), nowMs)).toBe(
    replica.primary.offset,
  );
});

test.each([
  ["ahead by days", 3 * DAY],
  ["back by seconds", -5 * SECOND],
  ["back by most of half an hour", -29 * 60 * SECOND],
  ["back by a year", -YEAR],
])("marks and restores stay right if the clock is set %s between two runs", async (_, byMs) => {
  using dir = tempDir("clock");
  const clock = new SetClock();
  await using primary = new ModelPrimary();
  const known: { atMs: number; offset: number }[] = [];
  const write = async (replica: Awaited<ReturnType<typeof following>>) => {
    const offset = await replica.write();
    known.push({ atMs: marksOf(replica.path).at(-1)!.atMs, offset });
    clock.set(SECOND);
    replica.replica.log!.tick();
  };
  const lives = 3;
  for (let life = 0; life < lives; life++) {
    await using replica = await following(dir, clock, { timeout: "60s" }, primary);
    await write(replica);
    await write(replica);
    expect(replica.replica.links.last?.error).toBeUndefined();
    expect(await replica.stop()).toBeUndefined();
    clock.set(byMs);
  }
  expect(primary.counts).toEqual({ full: 1, partial: lives - 1 });
  const path = dir.file("data");
  const marks = marksOf(path);
  const setBack = marks.filter((mark, n) => mark.atMs < (marks[n - 1] ?? mark).atMs);
  expect(setBack).toHaveLength(byMs < -HOUR ? lives - 1 : 0);
  expect(eventsOf(path, "clock")).toHaveLength(setBack.length);
  const lastMs = marks.at(-1)!.atMs;
  for (const [n, { atMs }] of known.entries()) {
    // Writes before the clock was set back far can't be restored by time, only by offset.
    if (atMs > lastMs) {
      const earliestMs = Math.min(...known.map((one) => one.atMs));
      const range = `from ${new Date(earliestMs).toISOString()} to ${new Date(lastMs).toISOString()}`;
      expect(() => offsetAt(path, atMs, lastMs)).toThrow(range);
      continue;
    }
    const asOf = known.findLast((other) => other.atMs <= atMs)!;
    expect([n, offsetAt(path, atMs, lastMs)]).toEqual([n, asOf.offset]);
  }
  using catalogue = new Catalogue(path);
  expect(await verifyCatalogue(catalogue, new AbortController().signal)).toEqual([]);
});

test("a restore by time begins with a snapshot taken while the clock was ahead, once that is set back", async () => {
  using dir = tempDir("clock");
  const clock = new SetClock();
  await using replica = await following(dir, clock);
  const { primary, path } = replica;
  await replica.write();
  clock.set(SECOND);
  const beforeMs = clock.now();
  clock.set(3 * HOUR);
  primary.forget();
  await primary.breakLinks();
  await until(() => replica.replica.directory.current?.id === 2, { what: "a new generation" });
  await replica.write();
  clock.set(-3 * HOUR);
  const offset = await replica.write();
  const at = (atMs: number) => {
    using catalogue = new Catalogue(path);
    const wanted = { generation: undefined, offset: undefined, atMs };
    const point = restorePoint(catalogue, wanted, clock.now());
    return { generation: point.generation.id, offset: point.offset };
  };
  expect(at(clock.now())).toEqual({ generation: 2, offset });
  expect(at(beforeMs).generation).toBe(1);
});

test("the timeout uses the monotonic clock: setting the wall clock neither hides nor causes silence", async () => {
  using dir = tempDir("clock");
  const clock = new SetClock();
  // Long enough that a busy machine is not taken for a silent primary.
  await using replica = await following(dir, clock, { timeout: "4s" });
  const alive = setInterval(() => replica.primary.write("PING"), 100);
  clock.set(DAY);
  await replica.secondPasses();
  await replica.secondPasses();
  expect(replica.primary.counts).toEqual({ full: 1, partial: 0 });
  clearInterval(alive);
  clock.set(-YEAR);
  await until(() => replica.replica.links.last?.error !== undefined, {
    what: "the silence to be reported",
  });
  expect(replica.replica.links.last?.error).toMatchObject({ code: "TIMED_OUT" });
  await replica.connected();
  expect(replica.primary.counts.full).toBe(1);
});

test("a downstream is not dropped because the clock was set", async () => {
  using dir = tempDir("clock");
  const clock = new SetClock();
  let aheadMs = 0;
  clock.monotonicMs = () => realClock.monotonicMs() + aheadMs;
  await using replica = await following(dir, clock);
  const { relay } = replica.replica;
  await using downstream = await Downstream.connect(replica.port);
  downstream.say("PSYNC", "?", -1);
  await until(() => [...relay.downstreams].some(({ state }) => state === "online"), {
    what: "it to be online",
  });
  for (const byMs of [DAY, -2 * YEAR]) {
    clock.set(byMs);
    relay.tick();
    expect(relay.downstreams.size).toBe(1);
  }
  aheadMs += 61 * SECOND;
  relay.tick();
  expect(relay.downstreams.size).toBe(0);
  await downstream.closed();
});

describe("retention", () => {
  /** Makes generations an hour apart by both clocks, the last one current. */
  async function generations(path: string, clock: SetClock, count: number) {
    const disk = new FaultyDisk();
    const machine = new FakeMachine();
    const directory = new DataDirectory(path, disk, clock, machine);
    for (let n = 0; n < count; n++) {
      if (n > 0) clock.set(HOUR);
      if (n > 0) machine.pass(HOUR);
      await (await keep(directory, disk)).close();
    }
    return { directory, disk, machine };
  }

  test("removes nothing if the clock is set ahead, and what is old once the time has passed", async () => {
    using dir = tempDir("clock");
    const clock = new SetClock();
    const { directory, machine } = await generations(dir.path, clock, 5);
    clock.set(2 * DAY);
    expect(await directory.keeping.retain(0, DAY)).toEqual([]);
    clock.set(10 * YEAR);
    expect(await directory.keeping.retain(0, DAY)).toEqual([]);
    // The first was sealed after an hour, three hours ago.
    machine.pass(DAY - 3 * HOUR - SECOND);
    expect(await directory.keeping.retain(0, DAY)).toEqual([]);
    machine.pass(SECOND);
    expect(await directory.keeping.retain(0, DAY)).toEqual([1]);
    machine.pass(2 * HOUR);
    expect(await directory.keeping.retain(1, DAY)).toEqual([2, 3]);
    expect(directory.current?.id).toBe(5);
    directory.close();
  });

  test("a clock that is two days ahead after a restart, or after a reboot, removes nothing", async () => {
    using dir = tempDir("clock");
    const clock = new SetClock();
    const { directory, disk, machine } = await generations(dir.path, clock, 4);
    directory.close();
    for (const meanwhile of [() => undefined, () => machine.reboot()]) {
      meanwhile();
      clock.set(2 * DAY);
      const again = new DataDirectory(dir.path, disk, clock, machine);
      expect(await again.keeping.retain(0, DAY)).toEqual([]);
      again.close();
    }
    machine.pass(DAY);
    const again = new DataDirectory(dir.path, disk, clock, machine);
    expect(await again.keeping.retain(0, DAY)).toEqual([]);
    again.keeping.tick();
    machine.pass(DAY);
    expect(await again.keeping.retain(0, DAY)).toEqual([1, 2, 3]);
    again.close();
  });

  test("two days without a process count where the machine was up, and not where it was off", async () => {
    using dir = tempDir("clock");
    const clock = new SetClock();
    const { directory, disk, machine } = await generations(dir.path, clock, 3);
    directory.close();
    machine.pass(DAY - 2 * HOUR);
    {
      const again = new DataDirectory(dir.path, disk, clock, machine);
      expect(await again.keeping.retain(0, DAY)).toEqual([]);
      again.close();
    }
    machine.pass(HOUR);
    const again = new DataDirectory(dir.path, disk, clock, machine);
    expect(await again.keeping.retain(0, DAY)).toEqual([1]);
    again.close();
  });

  test("removes generations beyond --keep at once if the clock is set back, without --keep-for", async () => {
    using dir = tempDir("clock");
    const clock = new SetClock();
    const { directory } = await generations(dir.path, clock, 4);
    clock.set(-YEAR);
    expect(await directory.keeping.retain(1, undefined)).toEqual([1, 2]);
    directory.close();
  });

  test("with --keep-for, generations from before a clock was set back grow old like others", async () => {
    using dir = tempDir("clock");
    const clock = new SetClock();
    const { directory, machine } = await generations(dir.path, clock, 4);
    clock.set(-YEAR);
    machine.pass(DAY - 2 * HOUR - SECOND);
    expect(await directory.keeping.retain(0, DAY)).toEqual([]);
    machine.pass(SECOND);
    expect(await directory.keeping.retain(0, DAY)).toEqual([1]);
    directory.close();
  });

  test("a directory of an older version counts from the newest time that it bears out", async () => {
    using dir = tempDir("clock");
    const clock = new SetClock();
    const { directory, disk, machine } = await generations(dir.path, clock, 3);
    directory.close();
    {
      using db = new Database(join(dir.path, "replica.db"));
      db.run("DELETE FROM lived");
      db.run(
        "UPDATE generations SET current_lived_ms = current_at_ms, sealed_lived_ms = sealed_at_ms",
      );
    }
    clock.set(2 * DAY);
    machine.reboot();
    const again = new DataDirectory(dir.path, disk, clock, machine);
    expect(await again.keeping.retain(0, DAY)).toEqual([]);
    machine.pass(DAY - HOUR);
    expect(await again.keeping.retain(0, DAY)).toEqual([1]);
    again.close();
  });
});

describe("--snapshot-every", () => {
  test("asks for one new generation if the clock is set ahead, and no more", async () => {
    using dir = tempDir("clock");
    const clock = new SetClock();
    await using replica = await following(dir, clock, { "snapshot-every": "1h" });
    const { renewal } = replica.replica;
    const ticks = async () => {
      for (let n = 0; n < 20; n++) {
        renewal.tick();
        await until(() => renewal.runningSeconds === undefined, { what: "its end" });
      }
    };
    await ticks();
    expect(renewal.counts).toEqual({ ok: 0, failed: 0 });
    clock.set(3 * DAY);
    await ticks();
    expect(renewal.counts).toEqual({ ok: 1, failed: 0 });
    for (const byMs of [-2 * DAY, 2 * DAY, -3 * DAY, 30 * 60 * SECOND]) {
      clock.set(byMs);
      await ticks();
    }
    expect(renewal.counts).toEqual({ ok: 1, failed: 0 });
    expect(replica.primary.counts).toEqual({ full: 2, partial: 0 });
  });

  test("asks for no more new generations if the clock jumps back and forth", () => {
    const clock = new SetClock();
    let aheadMs = 0;
    clock.monotonicMs = () => aheadMs;
    const schedule = new RenewalSchedule(clock, {
      snapshotEveryMs: HOUR,
      snapshotRatio: 0,
      snapshotRatioFromBytes: 0,
    });
    const plenty = { dueBytes: undefined, leftSeconds: Infinity };
    let current = { id: 1, currentAtMs: clock.now(), rdbBytes: 1_000 };
    for (let second = 0; second < (2 * DAY) / SECOND; second++) {
      aheadMs += SECOND;
      clock.set(SECOND + (second % 2 === 0 ? YEAR : -YEAR));
      if (schedule.next(current, 0, plenty) === undefined) continue;
      schedule.succeeded();
      current = { ...current, id: current.id + 1, currentAtMs: clock.now() };
    }
    // One per hour, and one for the first jump.
    expect(current.id).toBeGreaterThanOrEqual(48);
    expect(current.id).toBeLessThanOrEqual(50);
  });
});
