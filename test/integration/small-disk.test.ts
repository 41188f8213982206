import { expect, setDefaultTimeout } from "bun:test";
import { runReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { bootCopyOfDir, startServer } from "../support/servers.ts";
import { smallDisk } from "../support/small-disk.ts";
import { amount } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import {
  filledPrimary,
  MIB,
  onSmallDisk,
  SEED,
  SteadyWrites,
  watch,
  WatchedReplica,
} from "./small-disk-rig.ts";

/** How long the disk is written to, its size and the rate: in `npm test`, one that would be full within 12 s. The
 * figures of a disk of 300 MB: SMALL_DISK_SECONDS=600 SMALL_DISK_BYTES=300000000 SMALL_DISK_RATE=5000000. */
const SECONDS = amount("SMALL_DISK_SECONDS", { sample: 16, full: 120 });
const DISK_BYTES = amount("SMALL_DISK_BYTES", { sample: 36_000_000, full: 60_000_000 });
const RATE_BYTES = amount("SMALL_DISK_RATE", { sample: 3_000_000, full: 3_000_000 });
const SYNC_DELAY = amount("SMALL_DISK_SYNC_DELAY", { sample: 0, full: 0 });
/** The same for a replica of a replica: RELAY_DISK_SECONDS=600 RELAY_DISK_BYTES=300000000. */
const RELAY = {
  seconds: amount("RELAY_DISK_SECONDS", { sample: 16, full: 120 }),
  diskBytes: amount("RELAY_DISK_BYTES", { sample: 36_000_000, full: 100_000_000 }),
  rateBytes: amount("RELAY_DISK_RATE", { sample: 3_000_000, full: 5_000_000 }),
  syncDelay: amount("RELAY_DISK_SYNC_DELAY", { sample: 0, full: 0 }),
};
// A busy machine writes more slowly.
setDefaultTimeout((3 * Math.max(SECONDS, RELAY.seconds) + 60) * 1000);

onSmallDisk(
  "with no settings, a small disk under steady writes is never full, and the last moments are restored",
  async () => {
    using temp = tempDir("small-disk");
    using disk = smallDisk(temp.file("disk"), DISK_BYTES);
    expect(disk).toBeDefined();
    const dir = temp.file("disk", "data");
    await using primary = await startServer("redis-7.0", {
      args: ["--repl-diskless-sync-delay", String(SYNC_DELAY)],
    });
    await using writes = new SteadyWrites(primary, RATE_BYTES, 7);
    await using replica = new WatchedReplica(primary, dir);
    await replica.process.waitForLine(/connected by full resync/);
    const seen = await watch(replica, () => writes.bytes >= SECONDS * RATE_BYTES);
    await writes.stop();
    await primary.acknowledgedBy(1);
    await until(async () => (await replica.metric("durable_lag_bytes")) === 0, {
      what: "the last mark",
    });
    if (process.env["SMALL_DISK_SECONDS"] !== undefined) console.log(seen, writes.bytes);
    expect(seen).toMatchObject({ notReady: [], linkDown: 0 });
    expect(seen.renewals).toBeGreaterThan(1);
    // The log may be copied while it is a quarter of the room.
    expect(seen.longestLogBytes).toBeLessThan(DISK_BYTES / 2);
    expect(replica.process.stderr).not.toContain("next attempt");

    const nowMs = Date.now();
    const agoSeconds = Math.min(5, SECONDS / 4);
    const at = new Date(nowMs - agoSeconds * 1000).toISOString();
    const restored = await runReplica(["restore", dir, temp.file("then"), "--at", at]);
    expect(restored.exitCode).toBe(0);
    await using then = await bootCopyOfDir("redis-7.0", temp.file("then"), {
      args: ["--appendonly", "yes"],
    });
    const moment = Number(await then.send("GET", "moment"));
    expect(Math.abs(nowMs - agoSeconds * 1000 - moment)).toBeLessThan(3_000);
    expect((await runReplica(["restore", dir, temp.file("now")])).exitCode).toBe(0);
    await using copy = await bootCopyOfDir("redis-7.0", temp.file("now"), {
      args: ["--appendonly", "yes"],
    });
    expect(await copy.digest()).toBe(await primary.digest());
    expect((await replica.process.stop()).exitCode).toBe(0);
  },
);

onSmallDisk(
  "a replica of a replica, on a small disk under steady writes: the upper one takes snapshots for it, so its disk is never full",
  async () => {
    using temp = tempDir("relay-small-disk");
    using disk = smallDisk(temp.file("disk"), RELAY.diskBytes);
    expect(disk).toBeDefined();
    const dir = temp.file("disk", "data");
    await using primary = await startServer("redis-7.0", {
      args: ["--repl-diskless-sync-delay", String(RELAY.syncDelay)],
    });
    await using writes = new SteadyWrites(primary, RELAY.rateBytes, 7);
    await using upper = new WatchedReplica(primary, temp.file("upper"));
    await upper.process.waitForLine(/connected by full resync/);
    await using lower = new WatchedReplica(upper, dir);
    await lower.process.waitForLine(/connected by full resync/);
    const seen = await watch(lower, () => writes.bytes >= RELAY.seconds * RELAY.rateBytes);
    await writes.stop();
    const forks = Number((await primary.info("stats"))["sync_full"]);
    if (process.env["RELAY_DISK_SECONDS"] !== undefined) console.log(seen, writes.bytes, forks);
    expect(seen).toMatchObject({ notReady: [], linkDown: 0 });
    expect(seen.renewals).toBeGreaterThan(1);
    // The log may be copied while it is a quarter of the room.
    expect(seen.longestLogBytes).toBeLessThan(RELAY.diskBytes / 2);
    expect(lower.process.stderr).not.toMatch(/next attempt|WRN/);
    // Each snapshot that the primary took for it, and the upper one's first.
    expect(forks).toBeLessThanOrEqual(seen.renewals + 2);

    await primary.acknowledgedBy(1);
    await using client = await RespClient.connect({ port: upper.port });
    expect(await client.send("WAIT", 1, 20_000)).toBe(1);
    await until(async () => (await lower.metric("durable_lag_bytes")) === 0, {
      what: "the last mark",
    });
    expect((await runReplica(["restore", dir, temp.file("now")])).exitCode).toBe(0);
    await using copy = await bootCopyOfDir("redis-7.0", temp.file("now"), {
      args: ["--appendonly", "yes"],
    });
    expect(await copy.digest()).toBe(await primary.digest());
  },
);

onSmallDisk(
  "not ready, with what to do, while new snapshots fail and the disk is full within an hour",
  async () => {
    using temp = tempDir("failing-snapshots");
    using disk = smallDisk(temp.file("disk"), 40 * MIB);
    expect(disk).toBeDefined();
    await using primary = await startServer("redis-7.0");
    await using writes = new SteadyWrites(primary, 2_000_000, SEED);
    await using replica = new WatchedReplica(primary, temp.file("disk", "data"));
    await replica.process.waitForLine(/connected by full resync/);
    await primary.send("ACL", "SETUSER", "default", "-psync");
    await replica.process.waitForLine(/the new snapshot failed: .*NOPERM/);
    await until(async () => (await replica.whyNotReady()) !== undefined, { what: "the alarm" });
    expect(await replica.whyNotReady()).toMatch(
      /the disk will be full in \d+ (?:s|min) at the present rate of .*\/s, and new snapshots fail: .*NOPERM/,
    );
    expect(await replica.metric("disk_left_seconds")).toBeLessThan(3_600);
    expect(await replica.metric("link_up")).toBe(1);
    await primary.send("ACL", "SETUSER", "default", "+psync");
    await replica.process.waitForLine(/generation 2 replaces generation 1/);
    await until(async () => (await replica.whyNotReady()) === undefined, { what: "readiness" });
    await replica.process.waitForLine(/the disk is no longer about to be full/);
    expect(await replica.metric("breaks_total")).toBe(0);
    await writes.stop();
  },
);

onSmallDisk(
  "not ready, with what to do, while no second snapshot fits and the disk is full within an hour",
  async () => {
    using temp = tempDir("large-snapshot");
    using disk = smallDisk(temp.file("disk"), 24 * MIB)!;
    await using primary = await filledPrimary(13);
    await using replica = new WatchedReplica(primary, temp.file("disk", "data"));
    await replica.process.waitForLine(/connected by full resync/);
    expect(await replica.whyNotReady()).toBeUndefined();
    await using writes = new SteadyWrites(primary, 50_000, SEED);
    await until(async () => (await replica.whyNotReady()) !== undefined, { what: "the alarm" });
    expect(await replica.whyNotReady()).toMatch(
      /the disk will be full in \d+ min at the present rate of .*, and another snapshot of 13\.\d MiB doesn't fit beside what is kept: make room/,
    );
    disk.resize(200 * MIB);
    await until(async () => (await replica.whyNotReady()) === undefined, { what: "readiness" });
    await writes.stop();
  },
);
