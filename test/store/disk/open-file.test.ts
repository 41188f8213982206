import { expect, test } from "bun:test";
import { reasonOf, thrownBy } from "../../support/error-of.ts";
import { OpenFile } from "../../../src/store/disk/open-file.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";

test("is closed once no call uses it, however it was given up", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const file = OpenFile.create(disk, dir.file("file"));
  const held = disk.hold("syncData");
  file.hold();
  const syncing = file.sync();
  file.closeQuietly();
  file.closeQuietly();
  expect([file.isOpen, disk.openFds.size]).toEqual([false, 1]);
  file.release();
  expect(disk.openFds.size).toBe(1);
  held.release();
  await syncing;
  expect([disk.openFds.size, disk.count("close")]).toEqual([0, 1]);
  expect(await thrownBy(file.sync())).toThrow("closed");
});

test("runs one sync at a time, and a later one for each that comes meanwhile", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const file = OpenFile.create(disk, dir.file("file"));
  const held = disk.hold("syncData");
  const syncs = [file.sync(), file.sync(), file.sync()];
  await Bun.sleep(5);
  expect(disk.count("syncData")).toBe(1);
  held.release();
  await Promise.all(syncs);
  expect(disk.count("syncData")).toBe(3);
  await file.close();
});

test("fails every sync after one that failed", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk({ operation: "syncData", call: 1, code: "EIO" });
  const file = OpenFile.create(disk, dir.file("file"));
  const results = await Promise.allSettled([file.sync(), file.sync()]);
  expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(await reasonOf(file.sync())).toMatchObject({ code: "EIO" });
  expect(disk.count("syncData")).toBe(1);
  file.closeQuietly();
  expect(disk.openFds.size).toBe(0);
});

test("reports what close(2) says for a whole file, and ignores it for one that is given up", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk({ operation: "close", code: "EIO" });
  expect(await thrownBy(OpenFile.create(disk, dir.file("whole")).close())).toThrow("EIO");
  OpenFile.create(disk, dir.file("given up")).closeQuietly();
  expect(disk.openFds.size).toBe(0);
});

test("waits for the last call before it is closed as whole", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const file = OpenFile.create(disk, dir.file("file"));
  file.hold();
  const closing = file.close();
  expect(disk.openFds.size).toBe(1);
  file.release();
  await closing;
  expect(disk.openFds.size).toBe(0);
  expect(() => file.release()).toThrow("invariant broken");
});
