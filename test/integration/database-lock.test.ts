import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { DataDirectory } from "../../src/store/generation/data-directory.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** Holds a database so that nobody can read it, as one does that sets its log right after a kill. */
function hold(path: string) {
  const db = new Database(path);
  // Before it is exclusive, so that the file is there which all who use the database share.
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

test.each(["snapshots", "verify"])(
  "%s waits for whoever holds the database for a moment",
  async (command) => {
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
  },
);
