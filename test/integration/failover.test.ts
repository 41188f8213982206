import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { existsSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { fillAllTypes } from "../support/fill.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** The generations in `replica.db`, oldest first. */
function generationsIn(dir: string) {
  using db = new Database(join(dir, "replica.db"), { readonly: true });
  return db
    .query<{ id: number; state: string; reason: string | null }, []>(
      "SELECT id, state, sealed_reason AS reason FROM generations ORDER BY id",
    )
    .all();
}

/** The replication ids of a generation, in order. */
function replidsOf(dir: string, generation: number) {
  using db = new Database(join(dir, "replica.db"), { readonly: true });
  return db
    .query<{ replid: string; fromOffset: number }, [number]>(
      `SELECT replid, from_offset AS fromOffset FROM replication_ids
       WHERE generation = ? ORDER BY rowid`,
    )
    .all(generation);
}

/** Waits until `server` has so many replicas, and each has acknowledged everything. */
async function allCaughtUp(server: RealServer, replicas: number): Promise<void> {
  await until(
    async () => {
      const info = await server.info("replication");
      if (info["connected_slaves"] !== String(replicas)) return false;
      return Array.from({ length: replicas }, (_, i) => info[`slave${i}`] ?? "").every((slave) =>
        slave.includes(`state=online,offset=${info["master_repl_offset"]},`),
      );
    },
    { what: `${replicas} replicas to have acknowledged everything` },
  );
}

/** No PINGs in the stream: it holds only what the test has written. */
const quiet = { args: ["--repl-ping-replica-period", "3600"] };

/** Fills the primary, and makes the other server its replica. */
async function pair(primary: RealServer, other: RealServer): Promise<void> {
  await fillAllTypes(primary, { keys: 2_000, databases: [0, 3], seed: 21 });
  await other.send("REPLICAOF", primary.host, primary.port);
  await allCaughtUp(primary, 1);
}

function follow(server: RealServer, dir: string): ReplicaProcess {
  return startReplica(["follow", server.url(), "--dir", dir, "--port", "0"]);
}

async function expectSyncs(
  server: RealServer,
  expected: { full: number; partial: number },
): Promise<void> {
  const stats = await server.info("stats");
  expect({ full: Number(stats["sync_full"]), partial: Number(stats["sync_partial_ok"]) }).toEqual(
    expected,
  );
}

async function expectCopyEquals(generationDir: string, digest: string): Promise<void> {
  await using copy = await bootCopy("redis-7.0", generationDir);
  expect(await copy.digest()).toBe(digest);
}

async function writeSome(server: RealServer, name: string): Promise<void> {
  await server.sendAll([
    ["SELECT", 3],
    ...Array.from({ length: 200 }, (_, i) => ["RPUSH", `${name}:${i % 7}`, i]),
    ["SELECT", 0],
    ["SET", name, "in database 0"],
    ["SELECT", 5],
    ["HSET", name, "field", "in a database that was empty"],
  ]);
}

describe("failover", () => {
  test("continues under the id of a promoted replica, and again after a restart", async () => {
    await using primary = await startServer("redis-7.0", quiet);
    await using other = await startServer("redis-7.0", quiet);
    await pair(primary, other);
    using folder = tempDir("failover");
    const dir = folder.file("data");
    {
      await using replica = follow(primary, dir);
      await replica.waitForLine(/connected by full resync/);
      await writeSome(primary, "before");
      await allCaughtUp(primary, 2);
      expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    }
    const { master_replid: oldReplid } = await primary.info("replication");
    await primary.kill9();
    await other.send("REPLICAOF", "NO", "ONE");
    const promotedAt = await other.offset();
    await writeSome(other, "after the failover");
    const { master_replid: newReplid } = await other.info("replication");
    expect(newReplid).not.toBe(oldReplid);

    {
      await using replica = follow(other, dir);
      await replica.waitForLine(/connected by partial resync/);
      await writeSome(other, "followed");
      await allCaughtUp(other, 1);
      await expectSyncs(other, { full: 0, partial: 1 });
      expect(replidsOf(dir, 1)).toEqual([
        { replid: oldReplid!, fromOffset: expect.any(Number) },
        { replid: newReplid!, fromOffset: promotedAt },
      ]);
      // A kill: the next start must know the new id from the database.
      await replica.kill9();
    }
    await writeSome(other, "while it was away");
    await using replica = follow(other, dir);
    await replica.waitForLine(/connected by partial resync/);
    await writeSome(other, "at last");
    await allCaughtUp(other, 1);
    await expectSyncs(other, { full: 0, partial: 2 });
    expect((await other.info("stats"))["sync_partial_err"]).toBe("0");
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });

    expect(generationsIn(dir)).toEqual([{ id: 1, state: "current", reason: null }]);
    expect(replidsOf(dir, 1)).toHaveLength(2);
    await expectCopyEquals(join(dir, "current"), await other.digest());
  });

  test("takes a full resync if it is ahead of the promoted replica, and seals the old generation with the reason", async () => {
    await using primary = await startServer("redis-7.0", quiet);
    await using other = await startServer("redis-7.0", quiet);
    await pair(primary, other);
    using folder = tempDir("ahead");
    const dir = folder.file("data");
    {
      await using replica = follow(primary, dir);
      await replica.waitForLine(/connected by full resync/);
      await writeSome(primary, "before");
      await allCaughtUp(primary, 2);
      // From here on the other one gets nothing more.
      await other.send("REPLICAOF", "NO", "ONE");
      await writeSome(primary, "only here");
      await allCaughtUp(primary, 1);
      expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
    }
    const digestOfOld = await primary.digest();
    await primary.kill9();
    const old = join(dir, readlinkSync(join(dir, "current")));

    await using replica = follow(other, dir);
    await replica.waitForLine(/connected by full resync/);
    await writeSome(other, "after the failover");
    await allCaughtUp(other, 1);
    await expectSyncs(other, { full: 1, partial: 0 });
    expect((await other.info("stats"))["sync_partial_err"]).toBe("1");
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });

    expect(readlinkSync(join(dir, "current"))).toBe("generations/0000000002");
    expect(generationsIn(dir)).toEqual([
      { id: 1, state: "sealed", reason: expect.stringMatching(/^full resync at offset \d+: \S/) },
      { id: 2, state: "current", reason: null },
    ]);
    expect(replica.stderr).toContain(generationsIn(dir)[0]!.reason!);
    expect(existsSync(old)).toBe(true);
    await expectCopyEquals(old, digestOfOld);
    await expectCopyEquals(join(dir, "current"), await other.digest());
  });
});
