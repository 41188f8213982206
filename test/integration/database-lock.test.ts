import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** Locks a database exclusively, as SQLite does while it recovers the log after a kill. */
function hold(path: string) {
  const db = new Database(path);
  // First, so that the shared-memory file exists.
  db.query("SELECT count(*) FROM sqlite_schema").get();
  db.run("PRAGMA locking_mode = EXCLUSIVE");
  db.run("BEGIN IMMEDIATE");
  db.run("COMMIT");
  return {
    release: () => {
      db.run("PRAGMA locking_mode = NORMAL");
      db.query("SELECT count(*) FROM sqlite_schema").get();
    },
    [Symbol.dispose]: () => db.close(),
  };
}

function hasOpen({ pid }: ReplicaProcess, path: string): boolean {
  const fds = `/proc/${pid}/fd`;
  return readdirSync(fds).some((fd) => readlinkSync(`${fds}/${fd}`) === path);
}

test.each(["snapshots", "verify"])("%s waits for a short lock on the database", async (command) => {
  using dir = tempDir("held");
  const data = dir.file("data");
  new DataDirectory(data, realDisk, Date).close();
  using held = hold(dir.file("data/replica.db"));
  await using replica = startReplica([command, data]);
  await until(() => !replica.isRunning || hasOpen(replica, dir.file("data/replica.db")), {
    what: "it to open the database",
  });
  held.release();
  await replica.waitForLine(/keeps no snapshot yet/);
  expect(replica.output()).not.toContain("locked");
  expect((await replica.stop()).exitCode).toBe(0);
});
