import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { BufferedWriter } from "../../../src/store/disk/buffered-writer.ts";
import { OpenFile } from "../../../src/store/disk/open-file.ts";
import { Reservation } from "../../../src/store/disk/reservation.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";

test("finish waits for a sync in flight, and flushes only then", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const path = dir.file("file");
  const file = OpenFile.create(disk, path);
  const writer = new BufferedWriter(file, new Reservation(file, undefined), 1024, {
    written: () => undefined,
    failed: () => undefined,
  });
  writer.write(Buffer.from("payload"));
  const held = disk.hold("sink.flush");
  const syncing = writer.sync();
  const finishing = writer.finish();
  await Bun.sleep(20);
  expect(disk.count("sink.flush")).toBe(1);
  held.release();
  await syncing;
  await finishing;
  expect(disk.count("sink.flush")).toBe(2);
  expect(fs.readFileSync(path, "utf8")).toBe("payload");
  expect(disk.openFds.size).toBe(0);
});
