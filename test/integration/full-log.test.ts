import * as fs from "node:fs";
import { expect } from "bun:test";
import { Random } from "../support/fill.ts";
import { runReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { bootCopyOfDir, type RealServer, startServer } from "../support/servers.ts";
import { smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { MIB, onSmallDisk, SEED, WatchedReplica } from "./small-disk-rig.ts";

/** Overwrites ten small keys with `mib` MiB of writes in all. */
async function write(primary: RealServer, mib: number): Promise<void> {
  const value = new Random(SEED).text(1_000);
  await using client = await primary.connect();
  const commands = Array.from({ length: mib * 1_000 }, (_, n) => ["SET", `key:${n % 10}`, value]);
  await client.exchange([...commands, ["INCR", "writes"]]);
}

onSmallDisk.each([
  ["its primary", false],
  ["another replica, which takes one for it", true],
])(
  "a log that filled the disk while no snapshot shortened it is ended by a full resync from %s, whose snapshot fits",
  async (_, isRelayed) => {
    using temp = tempDir("full-log");
    const mount = temp.file("disk");
    using disk = smallDisk(mount, 40 * MIB)!;
    await using primary = await startServer("redis-7.0", {
      args: ["--repl-backlog-size", "16mb"],
    });
    const dir = temp.file("disk", "data");
    await using relay = isRelayed ? new WatchedReplica(primary, temp.file("relay")) : undefined;
    await relay?.process.waitForLine(/connected by full resync/);
    const followed = relay ?? primary;
    const caughtUp = async () => {
      await primary.acknowledgedBy(1);
      if (relay === undefined) return;
      await using client = await RespClient.connect({ port: relay.port });
      expect(await client.send("WAIT", 1, 20_000)).toBe(1);
    };
    const more = ["--snapshot-ratio", "0", "--retry-max", "100ms"];
    await using before = new WatchedReplica(followed, dir, more);
    await before.process.waitForLine(/connected by full resync/);
    await write(primary, 10);
    await caughtUp();
    expect((await before.process.stop()).exitCode).toBe(0);
    const { blocks, bfree, bsize } = fs.statfsSync(mount);
    disk.resize((blocks - bfree) * bsize + MIB);
    // More than fits comes at once, before the first mark: the log is cut back to where the last process ended.
    await write(primary, 4);
    await using replica = new WatchedReplica(followed, dir, more);
    await replica.process.waitForLine(/connected by partial resync/);
    await replica.process.waitForLine(/the disk is full: make room .*next attempt/);
    await replica.process.waitForLine(
      /has filled the disk, and nothing older may go: a full resync is asked for/,
    );
    await replica.process.waitForLine(/full resync at offset \d+: the log up to offset \d+ had/);
    await replica.process.waitForLine(
      /removed generation 1 ahead of time to make room for the log/,
    );
    await until(async () => (await replica.metric("link_up")) === 1, { what: "the link" });
    // It stays up: what comes next has room.
    await write(primary, 4);
    await caughtUp();
    await until(async () => (await replica.metric("durable_lag_bytes")) === 0, { what: "a mark" });
    expect((await primary.info("stats"))["sync_full"]).toBe("2");
    expect((await runReplica(["restore", dir, temp.file("now")])).exitCode).toBe(0);
    await using copy = await bootCopyOfDir("redis-7.0", temp.file("now"), {
      args: ["--appendonly", "yes"],
    });
    expect(await copy.digest()).toBe(await primary.digest());
  },
);
