import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { walDamage } from "../../../src/store/ledger/wal.ts";
import { IS_FULL } from "../../support/sweep.ts";
import { tempDir } from "../../support/temp.ts";

/** More than is read at once. */
const ROWS = 300;

test("finds a damaged frame wherever it is, in a WAL of any length", () => {
  using dir = tempDir();
  const path = dir.file("replica.db");
  using db = new Database(path);
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA wal_autocheckpoint = 0");
  db.run("PRAGMA synchronous = OFF");
  db.run("CREATE TABLE t (bytes)");
  for (let row = 0; row < ROWS; row++) db.run("INSERT INTO t VALUES (zeroblob(3000))");
  const wal = fs.readFileSync(`${path}-wal`);
  expect(wal.length).toBeGreaterThan(2 * 1024 * 1024);
  const copy = dir.file("copy.db");
  fs.writeFileSync(`${copy}-wal`, wal);
  expect(walDamage(copy)).toBeUndefined();
  const frameBytes = 24 + 4096;
  const frames = (wal.length - 32) / frameBytes;
  for (const frame of [0, 254, 255, 511, frames - 8]) {
    const at = 32 + frame * frameBytes;
    const damaged = Buffer.from(wal);
    damaged[at + 1_000]! ^= 1;
    fs.writeFileSync(`${copy}-wal`, damaged);
    expect([frame, walDamage(copy)]).toEqual([frame, at]);
  }
});

test.skipIf(!IS_FULL)(
  "a WAL that is longer than memory allows is checked too, in a little memory",
  () => {
    using dir = tempDir();
    const path = dir.file("replica.db");
    using db = new Database(path);
    db.run("PRAGMA journal_mode = WAL");
    db.run("PRAGMA wal_autocheckpoint = 0");
    db.run("PRAGMA synchronous = OFF");
    db.run("CREATE TABLE t (bytes)");
    const before = fs.statSync(`${path}-wal`).size;
    db.run("INSERT INTO t VALUES (zeroblob(300000000))");
    db.run("INSERT INTO t VALUES (zeroblob(1))");
    const fd = fs.openSync(`${path}-wal`, "r+");
    fs.writeSync(fd, Buffer.from("x"), 0, 1, before + 3 * 4120 + 500);
    fs.closeSync(fd);
    const peakBefore = process.memoryUsage.rss();
    expect(walDamage(path)).toBe(before + 3 * 4120);
    expect(process.memoryUsage.rss() - peakBefore).toBeLessThan(128 * 1024 * 1024);
  },
);
