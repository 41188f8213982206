import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { reasonOf } from "../../support/error-of.ts";
import { realClock } from "../../../src/base/clock.ts";
import { PayloadFiles } from "../../../src/store/disk/payload-file.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

const never = new AbortController().signal;
const clock = { ...realClock, now: () => 1_700_000_000_000, sleep: async () => undefined };

/** Opens a snapshot's file, closes and removes it, and returns how it would have been written. */
async function opened(files: PayloadFiles, disk: FaultyDisk, dir: string) {
  const { path, file, io } = await files.open(dir, never);
  await file.close();
  disk.remove(path);
  return io;
}

describe("--io", () => {
  test.each([
    ["buffered", "create"],
    ["direct", "createDirect"],
    ["auto", "createDirect"],
  ] as const)("%s: %s", async (io, operation) => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const files = new PayloadFiles(disk, clock, io);
    expect(await opened(files, disk, dir.path)).toBe(io === "buffered" ? "buffered" : "direct");
    expect(disk.calls[0]?.operation).toBe(operation);
  });

  test.each(["EINVAL", "EOPNOTSUPP"])(
    "asks a file system that refuses (%s) once, then goes through the page cache",
    async (code) => {
      using dir = tempDir();
      const disk = new FaultyDisk({ operation: "createDirect", code });
      const files = new PayloadFiles(disk, clock, "auto");
      for (let n = 0; n < 3; n++) expect(await opened(files, disk, dir.path)).toBe("buffered");
      expect(disk.count("createDirect")).toBe(1);
      expect(fs.readdirSync(dir.path)).toEqual([]);
    },
  );

  test("removes the file that such a file system creates all the same", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    disk.createDirect = (path) => {
      fs.writeFileSync(path, "");
      throw Object.assign(new Error("EINVAL"), { code: "EINVAL" });
    };
    const files = new PayloadFiles(disk, clock, "auto");
    expect(await opened(files, disk, dir.path)).toBe("buffered");
  });

  test("takes a refused first write for a refusal too", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk({ operation: "write", code: "EINVAL" });
    const files = new PayloadFiles(disk, clock, "auto");
    for (let n = 0; n < 2; n++) expect(await opened(files, disk, dir.path)).toBe("buffered");
    expect(disk.count("createDirect")).toBe(1);
    expect(disk.openFds.size).toBe(0);
  });

  test("leaves an empty file after the trial write", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const { path, file } = await new PayloadFiles(disk, clock, "direct").open(dir.path, never);
    expect(fs.statSync(path).size).toBe(0);
    await file.close();
  });

  test("given up during the trial write, leaves nothing", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk();
    const held = disk.hold("write");
    const giveUp = new AbortController();
    const opening = new PayloadFiles(disk, clock, "direct").open(dir.path, giveUp.signal);
    opening.catch(() => undefined);
    await until(() => disk.count("write") === 1, { what: "the first write" });
    giveUp.abort();
    held.release();
    expect(await reasonOf(opening)).toMatchObject({ code: "STOPPED" });
    expect(fs.readdirSync(dir.path)).toEqual([]);
    expect(disk.openFds.size).toBe(0);
  });

  test("takes a full disk for a failure, not a refusal", async () => {
    using dir = tempDir();
    const disk = new FaultyDisk({ operation: "createDirect", code: "ENOSPC" });
    const files = new PayloadFiles(disk, clock, "auto");
    expect(await reasonOf(opened(files, disk, dir.path))).toMatchObject({ code: "DISK_FULL" });
    expect(disk.count("create")).toBe(0);
  });
});
