import { describe, expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { IoChoice } from "../../../src/store/disk/io-choice.ts";
import { Meter } from "../../../src/store/disk/meter.ts";
import { PayloadFiles } from "../../../src/store/disk/payload-file.ts";
import type { Io } from "../../../src/store/disk/payload-writer.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";

const GB = 1_000_000_000;
/** A snapshot that waited for the disk all the time, at so many MB a second. */
const at = (megabytes: number) => ({ bytes: GB, ms: 1e6 / megabytes, waitedMs: 1e6 / megabytes });

/** Takes snapshots at these speeds, MB a second, one of each way; returns which way each went. */
function takes(choice: IoChoice, speeds: Record<Io, number>, count: number) {
  const ways: Io[] = [];
  const told: string[] = [];
  for (let n = 0; n < count; n++) {
    const { io } = choice;
    ways.push(io);
    const change = choice.took(io, at(speeds[io]));
    if (change !== undefined) told.push(change);
  }
  return { ways: ways.map((io) => io[0]).join(""), told };
}

/** One for which the disk was hardly waited for. */
const keptUp = { bytes: GB, ms: 1000, waitedMs: 499 };

describe("IoChoice", () => {
  test("goes past the page cache while the disk keeps up", () => {
    const choice = new IoChoice();
    for (let n = 0; n < 20; n++) {
      expect(choice.io).toBe("direct");
      expect(choice.took("direct", keptUp)).toBeUndefined();
    }
  });

  test("tries the other way once the disk was waited for, and takes it where it is faster", () => {
    const choice = new IoChoice();
    const { ways, told } = takes(choice, { direct: 700, buffered: 1000 }, 25);
    expect(ways).toBe("dbbbbbbbbbbbdbbbbbbbbbbdb");
    expect(told).toEqual([
      "snapshots are written through the page cache from now on: 1000 MB/s through it, 700 MB/s past it",
    ]);
  });

  test("stays past the cache where the other way gains little, and tries again at times", () => {
    const choice = new IoChoice();
    expect(takes(choice, { direct: 1000, buffered: 1100 }, 24)).toEqual({
      ways: "dbddddddddddbddddddddddb",
      told: [],
    });
  });

  test("stays on the way that it took while the other one gains little", () => {
    const choice = new IoChoice();
    takes(choice, { direct: 700, buffered: 1000 }, 2);
    expect(takes(choice, { direct: 1000, buffered: 900 }, 11)).toEqual({
      ways: "bbbbbbbbbbd",
      told: [],
    });
  });

  test("comes back where the disk has changed", () => {
    const choice = new IoChoice();
    takes(choice, { direct: 700, buffered: 1000 }, 2);
    const { ways, told } = takes(choice, { direct: 1200, buffered: 1000 }, 12);
    expect(ways).toBe("bbbbbbbbbbdd");
    expect(told).toEqual([
      "snapshots are written past the page cache from now on: 1000 MB/s through it, 1200 MB/s past it",
    ]);
  });

  test("comes back once the disk keeps up with direct writes", () => {
    const choice = new IoChoice();
    takes(choice, { direct: 700, buffered: 1000 }, 2);
    takes(choice, { direct: 700, buffered: 1000 }, 10);
    expect(choice.io).toBe("direct");
    expect(choice.took("direct", keptUp)).toBe(
      "snapshots are written past the page cache from now on: the disk keeps up",
    );
    expect(choice.io).toBe("direct");
  });

  test("takes the other way where that is faster though the disk was hardly waited for", () => {
    const choice = new IoChoice();
    choice.took("direct", at(700));
    expect(choice.took(choice.io, keptUp)).toStartWith("snapshots are written through");
    expect(choice.io).toBe("buffered");
  });

  test.each([
    ["is small", { bytes: 1_000_000, ms: 1, waitedMs: 1 }],
    ["is slow for another reason", { bytes: GB, ms: 60_000, waitedMs: 1000 }],
  ])("makes no trial again at once that %s", (_, transfer) => {
    const choice = new IoChoice();
    choice.took("direct", at(700));
    expect(choice.io).toBe("buffered");
    expect(choice.took("buffered", transfer)).toBeUndefined();
    for (let n = 0; n < 10; n++) {
      expect(choice.io).toBe("direct");
      choice.took("direct", at(700));
    }
    expect(choice.io).toBe("buffered");
  });

  test("learns nothing from small snapshots", () => {
    const choice = new IoChoice();
    choice.took("direct", { bytes: 1_000_000, ms: 1000, waitedMs: 1000 });
    expect(choice.io).toBe("direct");
  });
});

test("a meter counts how long the link waited", () => {
  let nowMs = 100;
  const measured: unknown[] = [];
  const meter = new Meter(
    () => nowMs,
    (transfer) => measured.push(transfer),
  );
  const pass = (ms: number, isWaiting: boolean) => {
    nowMs += ms;
    meter.waits(isWaiting);
  };
  pass(10, false);
  pass(10, true);
  pass(10, true);
  pass(10, false);
  pass(10, true);
  nowMs += 5;
  pass(0, false);
  nowMs += 3;
  meter.ending();
  // What is written at the end makes room, and yet is waited for.
  meter.waits(false);
  nowMs += 7;
  meter.end(1234);
  expect(measured).toEqual([{ bytes: 1234, ms: 65, waitedMs: 32 }]);
});

test("auto opens the next file as the ones before went; --io decides where it names a way", async () => {
  using dir = tempDir("io");
  const disk = new FaultyDisk();
  let nowMs = 0;
  const clock = { ...realClock, monotonicMs: () => nowMs };
  const never = new AbortController().signal;
  const files = new PayloadFiles(disk, clock, "auto");
  const ways: Io[] = [];
  for (let n = 0; n < 3; n++) {
    const { path, file, io, meter } = await files.open(dir.path, never);
    ways.push(io);
    meter?.waits(true);
    nowMs += io === "direct" ? 2000 : 1000;
    meter?.end(GB);
    await file.close();
    disk.remove(path);
  }
  expect(ways).toEqual(["direct", "buffered", "buffered"]);
  const fixed = await new PayloadFiles(disk, clock, "direct").open(dir.path, never);
  expect(fixed.meter).toBeUndefined();
  await fixed.file.close();
});
