import { describe, expect, test } from "bun:test";
import { parseInfo } from "../../src/resp/info-text.ts";
import { SeededLoad } from "../faults/seeded-load.ts";
import { fillAllTypes } from "../support/fill.ts";
import { folderDigest } from "../support/folder-digest.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** No PINGs of the primary in the stream. */
const quiet = { args: ["--repl-ping-replica-period", "3600"] };
/** A short timeout on both sides, so that the replica sends PINGs often. */
const hasty = { args: ["--repl-timeout", "3"] };
const TIMEOUT = "4s";
const PING_BYTES = 14;

async function infoOf(port: number): Promise<Record<string, string>> {
  await using client = await RespClient.connect({ port });
  return Object.fromEntries(parseInfo(String(await client.send("INFO"))));
}

/** Waits until a downstream has everything kept, and so many PINGs after it. */
async function attachedFor(last: RealServer, port: number, pings: number): Promise<void> {
  await until(
    async () => {
      const { master_link_status: status } = await last.info("replication");
      const { slave0 = "", master_repl_offset: end, second_repl_offset: from } = await infoOf(port);
      const acked = Number(/offset=(\d+)/.exec(slave0)?.[1]);
      const tail = acked - (Number(from) - 1);
      return status === "up" && tail >= pings * PING_BYTES && acked <= Number(end);
    },
    { what: `${pings} PINGs after the kept stream` },
  );
}

/** The primary's digest, and the offset that it belongs to: a key that expires between the two moves both. */
async function momentOf(primary: RealServer): Promise<{ offset: number; digest: string }> {
  for (;;) {
    const offset = await primary.offset();
    const digest = await primary.digest();
    if ((await primary.offset()) === offset) return { offset, digest };
  }
}

async function durable(port: number, offset: number): Promise<void> {
  await until(async () => Number((await infoOf(port))["durable_offset"]) >= offset, {
    what: `offset ${offset} on the disk`,
  });
}

async function offline(dir: TempDir, port: number, ...more: string[]): Promise<ReplicaProcess> {
  const argv = ["--offline", "--dir", dir.file("data"), "--port", String(port)];
  const replica = startReplica([...argv, "--timeout", TIMEOUT, ...more]);
  await replica.waitForLine(/serving generation \d+ up to offset/);
  return replica;
}

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("syncs from an offline replica, as of its end and as of an earlier moment, and is promoted", async () => {
    using dir = tempDir("offline");
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 2_000, seed: 8 });
    const port = freePort();
    const where = ["--dir", dir.file("data"), "--port", String(port)];
    const following = startReplica(["follow", primary.url(), ...where, "--keep", "5"]);
    await following.waitForLine(/connected by full resync/);
    await using load = await SeededLoad.start(primary, 8);
    await until(() => load.commands > 400, { what: "some load" });
    await load.stop();
    const then = await momentOf(primary);
    await durable(port, then.offset);
    const thenMs = Date.now() + 1;
    // Times are told apart to the second: what comes sooner may share the row of the mark before it.
    await until(() => Date.now() > thenMs + 2_000, { what: "the next moments" });
    await primary.sendAll([["SET", "later", "than that"]]);
    following.signal("SIGUSR1");
    await following.waitForLine(/generation 2 replaces generation 1/);
    await primary.sendAll([
      ["MULTI"],
      ["SET", "last", "of all"],
      ["RPUSH", "last:list", "a", "b"],
      ["EXEC"],
    ]);
    const now = await momentOf(primary);
    await durable(port, now.offset);
    expect((await following.stop()).exitCode).toBe(0);
    const { master_replid: replid } = await primary.info("replication");
    await primary.stop();
    const kept = folderDigest(dir.file("data/generations"));

    // Nothing is removed while no primary is followed, even if --keep is lower.
    const first = await offline(dir, port, "--keep", "0");
    await using last = await startServer(kind, hasty);
    await last.send("REPLICAOF", "127.0.0.1", port);
    await attachedFor(last, port, 4);
    expect(await last.digest()).toBe(now.digest);
    const info = await infoOf(port);
    expect(info["master_replid"]).not.toBe(replid!);
    expect(info["master_replid2"]).toBe(replid!);
    expect(info["second_repl_offset"]).toBe(String(now.offset + 1));
    expect([info["sync_full"], info["ready"]]).toEqual(["1", "1"]);
    expect((await runReplica(["status", `127.0.0.1:${port}`])).exitCode).toBe(0);
    expect((await first.stop()).exitCode).toBe(0);
    expect(first.stderr).toMatch(/stopped; durable up to offset \d+\n$/);

    // The same end is the same history: the downstream resumes.
    const second = await offline(dir, port);
    await attachedFor(last, port, 1);
    const again = await infoOf(port);
    expect([again["sync_full"], again["sync_partial_ok"]]).toEqual(["0", "1"]);
    await last.send("REPLICAOF", "NO", "ONE");
    expect(await last.send("SET", "written", "by a primary of its own")).toBe("OK");
    expect((await second.stop()).exitCode).toBe(0);

    await using third = await offline(dir, port, "--at", new Date(thenMs).toISOString());
    await last.send("REPLICAOF", "127.0.0.1", port);
    await attachedFor(last, port, 1);
    expect(await last.digest()).toBe(then.digest);
    expect((await infoOf(port))["second_repl_offset"]).toBe(String(then.offset + 1));
    await last.send("REPLICAOF", "NO", "ONE");
    expect(await last.send("EXISTS", "later")).toBe(0);
    expect((await third.stop()).exitCode).toBe(0);
    expect(folderDigest(dir.file("data/generations"))).toEqual(kept);
  });
});

test("REPLICAOF NO ONE: a downstream resumes, and returns with the replica to a primary", async () => {
  using dir = tempDir("no-one");
  await using primary = await startServer("redis-7.0", quiet);
  await fillAllTypes(primary, { keys: 2_000, seed: 9 });
  const port = freePort();
  const where = ["--dir", dir.file("data"), "--port", String(port)];
  await using relay = startReplica(["follow", primary.url(), ...where, "--timeout", TIMEOUT]);
  await relay.waitForLine(/connected by full resync/);
  await using last = await startServer("redis-7.0", hasty);
  await last.send("REPLICAOF", "127.0.0.1", port);
  await last.send("CONFIG", "SET", "repl-timeout", "3600");
  await until(async () => (await last.info("replication"))["master_link_status"] === "up", {
    what: "its link",
  });
  await last.send("CONFIG", "SET", "repl-timeout", "3");
  await using client = await RespClient.connect({ port });
  await client.send("REPLICAOF", "NO", "ONE");
  await attachedFor(last, port, 4);
  const { sync_full: full, sync_partial_ok: partial, ready } = await infoOf(port);
  expect([full, partial, ready]).toEqual(["1", "1", "0"]);
  expect(await last.digest()).toBe(await primary.digest());
  // The primary doesn't know the history that began without it.
  await primary.send("SET", "while", "nobody followed");
  await client.send("REPLICAOF", "127.0.0.1", primary.port);
  await until(
    async () => {
      const { master_link_status: status } = await last.info("replication");
      return status === "up" && (await last.offset()) === (await primary.offset());
    },
    { what: "the downstream to catch up with the primary" },
  );
  expect(await last.digest()).toBe(await primary.digest());
  const after = await infoOf(port);
  expect([after["full_syncs"], after["partial_syncs"]]).toEqual(["1", "1"]);
  expect(after["sync_full"]).toBe("2");
  expect((await primary.info("stats"))["sync_full"]).toBe("1");
});
