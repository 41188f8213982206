import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { Ledger } from "../../../src/store/ledger/ledger.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";

test("after a failed sync nothing counts as durable while another process reads, and everything does once a sync succeeds", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const path = dir.file("replica.db");
  const generations = new Ledger(path, disk, true);
  generations.begin("p", 0, 1);
  await generations.sync();
  disk.fail({ operation: "syncData", code: "EIO" });
  generations.event("kind", "detail", 0);
  await expect(generations.sync()).rejects.toThrow("EIO");
  disk.heal();
  const syncs = disk.count("syncData");
  {
    using reader = new Database(path, { readonly: true });
    reader.run("BEGIN");
    reader.query("SELECT count(*) FROM events").get();
    await expect(generations.sync()).rejects.toThrow("another process reads");
    // A durable step fails too, and changes nothing.
    expect(() => generations.choosePrimary("a", "b")).toThrow("another process reads");
    expect(generations.chosenPrimary("a")).toBeUndefined();
    reader.run("COMMIT");
  }
  expect(disk.count("syncData")).toBe(syncs);
  await generations.sync();
  generations.choosePrimary("a", "b");
  expect(generations.chosenPrimary("a")).toBe("b");
  generations.close();
  expect(disk.openFds.size).toBe(0);
}, 60_000);

test("runs concurrent syncs one after another", async () => {
  using dir = tempDir();
  const disk = new FaultyDisk();
  const generations = new Ledger(dir.file("replica.db"), disk, true);
  await generations.sync();
  const before = disk.count("syncData");
  const held = disk.hold("syncData");
  const both = Promise.all([generations.sync(), generations.sync()]);
  await Bun.sleep(5);
  expect(disk.count("syncData")).toBe(before + 1);
  held.release();
  await both;
  expect(disk.count("syncData")).toBe(before + 2);
  generations.close();
});
