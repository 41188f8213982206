import { expect } from "bun:test";
import { RespClient } from "../support/resp-client.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { filledPrimary, fill, MIB, onSmallDisk, SEED, WatchedReplica } from "./small-disk-rig.ts";
import { smallDisk } from "../support/small-disk.ts";

/** What a primary has done for its replicas since it started. */
async function fullSyncs(primary: RealServer): Promise<[forks: string, syncs: string]> {
  const stats = await primary.info("stats");
  return [stats["total_forks"] ?? "", stats["sync_full"] ?? ""];
}

onSmallDisk(
  "a full resync that can't fit asks for no fork, is told, and is taken once there is room",
  async () => {
    using temp = tempDir("no-room");
    using disk = smallDisk(temp.file("disk"), 8 * MIB)!;
    await using primary = await filledPrimary(12);
    const retry = ["--retry-max", "100ms"];
    await using replica = new WatchedReplica(primary, temp.file("disk", "data"), retry);
    await replica.process.waitForLine(/a full resync of about 1\d\.\d MiB doesn't fit on the disk/);
    await until(async () => (await replica.metric("attempts_failed_total")) > 5, {
      what: "more attempts",
    });
    expect(await fullSyncs(primary)).toEqual(["0", "0"]);
    expect(replica.process.stderr.match(/doesn't fit/g)).toHaveLength(1);
    expect(await replica.whyNotReady()).toMatch(/a full resync of about .* doesn't fit/);
    expect(await replica.metric("full_resync_lacks_room_bytes")).toBeGreaterThan(12 * MIB);
    // Whoever follows nobody lacks no room.
    const [, port] = await replica.process.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    await using client = await RespClient.connect({ port: Number(port) });
    await client.send("REPLICAOF", "NO", "ONE");
    expect(await replica.whyNotReady()).toBe("not ready: the link is in state none");
    expect(await replica.metric("full_resync_lacks_room_bytes")).toBe(0);
    await client.send("REPLICAOF", "127.0.0.1", String(primary.port));
    disk.resize(40 * MIB);
    await replica.process.waitForLine(/connected by full resync/);
    expect(await replica.metric("full_resync_lacks_room_bytes")).toBe(0);
    expect(await fullSyncs(primary)).toEqual(["1", "1"]);
    expect(await replica.whyNotReady()).toBeUndefined();

    // The same where something is kept, but the primary's backlog no longer holds what comes after it.
    expect((await replica.process.stop()).exitCode).toBe(0);
    await fill(primary, 12, SEED + 1);
    disk.resize(20 * MIB);
    await using again = new WatchedReplica(primary, temp.file("disk", "data"), retry);
    await again.process.waitForLine(/a full resync of about 1\d\.\d MiB doesn't fit on the disk/);
    await until(async () => (await again.metric("attempts_failed_total")) > 5, {
      what: "more attempts",
    });
    expect(await fullSyncs(primary)).toEqual(["1", "1"]);
    disk.resize(60 * MIB);
    await again.process.waitForLine(/connected by full resync/);
    expect(await fullSyncs(primary)).toEqual(["2", "2"]);
  },
);

onSmallDisk(
  "after a restart, the kept snapshot tells that a full resync fits which takes less than the data in memory",
  async () => {
    using temp = tempDir("no-room");
    using disk = smallDisk(temp.file("disk"), 40 * MIB)!;
    await using primary = await filledPrimary(4);
    const values = (text: string) => Buffer.alloc(16 * MIB, text).toString();
    await primary.send("SET", "compressible", values("abcdefgh"));
    const dir = temp.file("disk", "data");
    await using replica = new WatchedReplica(primary, dir);
    await replica.process.waitForLine(/connected by full resync/);
    expect((await replica.process.stop()).exitCode).toBe(0);
    // Longer than the backlog.
    await primary.send("SET", "compressible", values("ijklmnop"));
    disk.resize(13 * MIB);
    await using again = new WatchedReplica(primary, dir);
    await again.process.waitForLine(/connected by full resync/);
    expect(again.process.stderr).not.toContain("doesn't fit");
    expect(await fullSyncs(primary)).toEqual(["2", "2"]);
  },
);

onSmallDisk(
  "a primary that may not be asked for its size forks for what can't fit ever more rarely",
  async () => {
    using temp = tempDir("no-room");
    using disk = smallDisk(temp.file("disk"), 8 * MIB)!;
    await using primary = await filledPrimary(12);
    await primary.send("ACL", "SETUSER", "default", "-info");
    const retry = ["--retry-max", "100ms"];
    const beganMs = performance.now();
    await using replica = new WatchedReplica(primary, temp.file("disk", "data"), retry);
    await replica.process.waitForLine(/a full resync of about .* doesn't fit on the disk/);
    const failed = await replica.metric("attempts_failed_total");
    await until(async () => (await replica.metric("attempts_failed_total")) > failed + 5, {
      what: "attempts that ask for nothing",
    });
    await primary.send("ACL", "SETUSER", "default", "+info");
    const forks = Number((await fullSyncs(primary))[0]);
    // One, and another after 5 s, after 10 s more, after 20 s more: so long may a busy machine take.
    const seconds = (performance.now() - beganMs) / 1000;
    expect(forks).toBeLessThanOrEqual(1 + Math.floor(Math.log2(seconds / 5 + 1)));
    expect(await replica.metric("attempts_failed_total")).toBeGreaterThan(forks + 4);
    disk.resize(40 * MIB);
    await replica.process.waitForLine(/connected by full resync/);
  },
);

onSmallDisk(
  "old generations give way to a new snapshot that is larger than the last one was",
  async () => {
    using temp = tempDir("no-room");
    using disk = smallDisk(temp.file("disk"), 120 * MIB)!;
    await using primary = await startServer("redis-7.0", {
      args: ["--repl-diskless-sync", "no", "--rdbcompression", "no"],
    });
    await fill(primary, 6, SEED);
    await using replica = new WatchedReplica(primary, temp.file("disk", "data"));
    await replica.process.waitForLine(/connected by full resync/);
    for (let id = 2; id <= 6; id++) {
      replica.process.signal("SIGUSR1");
      await replica.process.waitForLine(new RegExp(`generation ${id} replaces`));
    }
    disk.resize(60 * MIB);
    // The data grow fivefold, the log by some bytes.
    for (let n = 0; n < 24; n++) await primary.send("COPY", `key:${n % 6}`, `copy:${n}`);
    replica.process.signal("SIGUSR1");
    await replica.process.waitForLine(/removed generations? 1.* to make room for a new snapshot/);
    await replica.process.waitForLine(/generation 7 replaces/);
    expect((await fullSyncs(primary))[0]).toBe("7");
  },
);
