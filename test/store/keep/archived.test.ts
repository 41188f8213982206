import { resetSync } from "@logtape/logtape";
import { describe, expect, test } from "bun:test";
import { reasonOf } from "../../support/error-of.ts";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import { Output } from "../../../src/cli/terminal/output.ts";
import { orderForRoom } from "../../../src/store/keep/plan.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { rig, RoomyDisk } from "./rig.ts";
import { EMPTY, FULL, keepSized, PING } from "./sized.ts";

const some = { keys: 10_000, bytes: 90_000 };
const HOUR = 3_600_000;
const wanted = (freeBytes: number, evenGuarded = true) => ({
  freeBytes,
  why: "a test",
  evenGuarded,
});

/** A data directory with so many generations, whose archive has some of them. */
async function archivedRig(generations: number, ids: readonly number[], disk?: RoomyDisk) {
  const r = rig(disk);
  for (let n = 0; n < generations; n++) {
    await keepSized(r.directory, some);
    r.machine.pass(HOUR);
  }
  const has = new Set(ids);
  r.directory.keeping.archived = has;
  return Object.assign(r, { has });
}

describe("what the archive lacks", () => {
  test("stays, though nothing else keeps it, until the archive has it", async () => {
    using r = await archivedRig(5, [1, 3]);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([1, 3]);
    expect(r.ids()).toEqual([2, 4, 5]);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([]);
    r.has.add(2).add(4);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([2, 4]);
    expect(r.directory.keeping.counts).toEqual({ old: 4, room: 0, unarchived: 0 });
  });

  test("counts for nothing where nobody archives", async () => {
    using r = await archivedRig(3, []);
    r.directory.keeping.archived = undefined;
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([1, 2]);
  });

  test("goes for room only after what is archived, oldest first, and that is told", async () => {
    const lines: string[] = [];
    const output = new Output({ sink: (text) => lines.push(text), isTty: false });
    configureLogging({ level: "warn", format: "text", output });
    try {
      const disk = new RoomyDisk(600_000);
      using r = await archivedRig(6, [3, 4], disk);
      const { keeping } = r.directory;
      const free = disk.freeBytes();
      expect(keeping.freeableBytes(false)).toBeGreaterThan(5 * some.bytes);
      expect(await keeping.freeRoom(wanted(free + 100_000))).toMatchObject({ removed: [3, 4] });
      expect(keeping.counts).toEqual({ old: 0, room: 2, unarchived: 0 });
      expect(r.events("archive")).toEqual([]);
      expect(await keeping.freeRoom(wanted(free + 280_000))).toMatchObject({ removed: [1, 2] });
      expect(r.ids()).toEqual([5, 6]);
      expect(keeping.counts).toEqual({ old: 0, room: 4, unarchived: 2 });
      const told = [1, 2].map((id) =>
        expect.stringMatching(
          new RegExp(
            `^removed generation ${id} to make room for a test before the archive had it all: what the archive lacks of its history is lost \\(it was current from 2.*Z to 2.*Z, offsets 1000 to 1000\\)$`,
          ),
        ),
      );
      expect(r.events("archive")).toEqual(told);
      expect(r.events("retention")).toHaveLength(2);
      expect(lines.filter((line) => line.includes("before the archive had it all"))).toHaveLength(
        2,
      );
    } finally {
      resetSync();
    }
  });

  test("is told even where the next one can't be removed", async () => {
    const disk = new RoomyDisk(600_000);
    using r = await archivedRig(4, [], disk);
    disk.fail({ operation: "removeLarge", call: 2, code: "EIO" });
    const { keeping } = r.directory;
    expect(await reasonOf(keeping.freeRoom(wanted(disk.freeBytes() + 100_000)))).toMatchObject({
      code: "DISK_FAILED",
    });
    expect(keeping.counts).toEqual({ old: 0, room: 1, unarchived: 1 });
    expect(r.events("archive")).toHaveLength(1);
  });

  test("stays where all of it together would not be enough", async () => {
    const disk = new RoomyDisk(600_000);
    using r = await archivedRig(4, [], disk);
    const { keeping } = r.directory;
    const most = disk.freeBytes() + keeping.freeableBytes(true);
    expect(await keeping.freeRoom(wanted(most + 1))).toMatchObject({ removed: [] });
    expect(keeping.counts.unarchived).toBe(0);
  });

  test("stays while it is read, and so does what comes after it", async () => {
    const disk = new RoomyDisk(600_000);
    using r = await archivedRig(4, [1, 2, 3], disk);
    const release = r.directory.pin(2);
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([1]);
    release();
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([2, 3]);
  });

  test("a guarded one stays as before, whether the archive has it or not", async () => {
    using r = rig(new FaultyDisk());
    await keepSized(r.directory, FULL);
    for (let n = 0; n < 3; n++) {
      r.machine.pass(HOUR);
      await keepSized(r.directory, { ...EMPTY, stream: PING });
    }
    r.directory.keeping.archived = { has: () => true };
    expect(await r.directory.keeping.retain(0, undefined)).toEqual([2, 3]);
    expect(r.ids()).toEqual([1, 4]);
  });
});

test("the order for room: archived ones as ever, the guarded last; then the others, oldest first", () => {
  const plan = { spare: [4, 2, 5, 1, 3], last: [7, 6] };
  const order = (evenGuarded: boolean, ...archived: number[]) =>
    orderForRoom(plan, evenGuarded, (id) => archived.includes(id));
  expect(order(true, 1, 2, 3, 4, 5, 6, 7)).toEqual([4, 2, 5, 1, 3, 7, 6]);
  expect(order(true)).toEqual([1, 2, 3, 4, 5, 7, 6]);
  expect(order(false)).toEqual([1, 2, 3, 4, 5]);
  expect(order(false, 5, 2, 6)).toEqual([2, 5, 1, 3, 4]);
  expect(order(true, 5, 2, 6)).toEqual([2, 5, 6, 1, 3, 4, 7]);
});
