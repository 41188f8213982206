import { describe, expect, test } from "bun:test";
import { readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, eofPayload, fakePrimary } from "../support/fake-primary.ts";
import { programEnvironment, runReplica, startReplica } from "../support/replica-process.ts";
import { limitFileBytes, smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp.ts";
import { compiledProgram } from "../support/compiled.ts";
import { until } from "../support/wait.ts";
import {
  behave,
  currentBase,
  filesIn,
  followArgs,
  grantFullSync,
  MARK,
  onlyLine,
  smallRdb,
} from "./bad-input-rig.ts";

const MIB = 1024 * 1024;
const first = smallRdb("first", 5000);
const second = smallRdb("second", 5000);
const tooLarge = smallRdb("too large", 12 * MIB);

describe("a folder that can't be written", () => {
  // Permission bits don't bind root; these two cases do.
  const places: [string, (file: string) => string, RegExp][] = [
    ["below a file", (file) => join(file, "data"), /a part of the path is not a folder.*ENOTDIR/],
    ["in /proc", () => "/proc/replica-data", /\/proc\/replica-data: .*ENOENT/],
  ];
  test.concurrent.each(places)("%s: follow ends with 1 before it connects", async (_, at, says) => {
    using temp = tempDir();
    writeFileSync(temp.file("file"), "here before");
    await using primary = fakePrimary({ connections: [] });
    const dir = at(temp.file("file"));
    const ended = await runReplica(followArgs(primary.url, dir));
    expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
    expect(onlyLine(ended)).toMatch(says);
    expect(onlyLine(ended)).toContain(dir);
    expect(primary.peers).toHaveLength(0);
    expect(readFileSync(temp.file("file"), "utf8")).toBe("here before");
  });

  test.concurrent("backup: refuses an impossible path before it connects", async () => {
    using temp = tempDir();
    writeFileSync(temp.file("file"), "here before");
    symlinkSync("/dev/null", temp.file("link"));
    await using primary = fakePrimary({ connections: [] });
    for (const [out, says] of [
      [temp.file("file", "dump.rdb"), /the folder .*file does not exist/],
      [temp.file("none", "dump.rdb"), /the folder .*none does not exist/],
      [temp.path, /is a folder: name a file in it/],
      // The backup would replace the device.
      [temp.file("link"), /isn't a regular file: give - for standard output/],
    ] as const) {
      const ended = await runReplica(["backup", primary.url, out]);
      expect(ended).toMatchObject({ exitCode: 2, stdout: "" });
      expect(onlyLine(ended)).toMatch(says);
    }
    expect(primary.peers).toHaveLength(0);
    expect(readdirSync(temp.path).toSorted()).toEqual(["file", "link"]);
  });

  test.concurrent("backup: ends with 1 after five tries, a second apart", async () => {
    await using primary = fakePrimary(async (peer) => {
      await grantFullSync(peer);
      await peer.send(eofPayload(first, MARK));
      await peer.untilClosed();
    });
    const beganMs = performance.now();
    const ended = await runReplica(["backup", primary.url, "/proc/dump.rdb"]);
    expect(ended.exitCode).toBe(1);
    expect(onlyLine(ended)).toMatch(
      /opening the temporary file \/proc\/temp-\d+\.\d+\.rdb.*ENOENT/,
    );
    expect(performance.now() - beganMs).toBeGreaterThan(3900);
  });
});

describe("a disk that is full", () => {
  /** The first snapshot fits, the second doesn't, the third does. */
  const script =
    (payload: Uint8Array, thirdMay: Promise<void>) =>
    async (peer: FakePeer): Promise<void> => {
      if (peer.index === 0) {
        await behave(peer, first);
        await peer.close();
        return;
      }
      if (peer.index > 1) await thirdMay;
      if (peer.isClosed) return;
      if (peer.index > 1) return await behave(peer, second);
      await grantFullSync(peer);
      // The replica closes the link during this.
      await peer.send(payload).catch(() => undefined);
      await peer.untilClosed();
    };

  const payloads: [string, Buffer, RegExp][] = [
    ["disk-based", bulkPayload(tooLarge), /has room for \d+: make room/],
    [
      "diskless",
      eofPayload(tooLarge, MARK),
      /writing byte \d+ of .*temp-\d+\.\d+\.rdb: (the disk is full: make room.*ENOSPC|.*EFBIG)/,
    ],
  ];

  test.concurrent.each(payloads)("a snapshot, %s: follow goes on", async (name, payload, says) => {
    using temp = tempDir();
    using disk = smallDisk(temp.file("disk"), 6 * MIB);
    const dir = temp.file("disk", "data");
    const thirdMay = Promise.withResolvers<void>();
    await using primary = fakePrimary(script(payload, thirdMay.promise));
    await using replica = startReplica(followArgs(primary.url, dir));
    await replica.waitForLine(/connected by full resync/);
    if (disk === undefined) limitFileBytes(replica, 6 * MIB);
    await until(() => primary.peers.length > 1, { what: "the second attempt" });
    const kept = filesIn(dir);
    await until(() => primary.peers.length > 2, { what: "the third attempt" });
    if (disk !== undefined || name === "diskless") await replica.waitForLine(says);
    expect(filesIn(dir)).toMatchObject({
      current: "-> generations/0000000001",
      "generations/0000000001/appendonly.aof.1.base.rdb":
        kept["generations/0000000001/appendonly.aof.1.base.rdb"],
    });
    expect(readdirSync(join(dir, "generations"))).toEqual(["0000000001"]);
    expect(Object.keys(filesIn(dir)).filter((name) => /temp-/.test(name))).toEqual([]);
    thirdMay.resolve();
    await until(() => currentBase(dir).equals(second), { what: "the snapshot that fits" });
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
  });

  test.concurrent.each(payloads)("a snapshot, %s: backup ends with 1", async (_, payload, says) => {
    using temp = tempDir();
    using disk = smallDisk(temp.file("disk"), 6 * MIB);
    const out = temp.file("disk", "dump.rdb");
    writeFileSync(out, "an earlier backup");
    const mayGoOn = Promise.withResolvers<void>();
    await using primary = fakePrimary(async (peer) => {
      await mayGoOn.promise;
      await grantFullSync(peer);
      await peer.send(payload).catch(() => undefined);
      await peer.untilClosed();
    });
    await using replica = startReplica(["backup", primary.url, out, "--force"]);
    await until(() => primary.peers.length > 0, { what: "the attempt" });
    if (disk === undefined) limitFileBytes(replica, 6 * MIB);
    mayGoOn.resolve();
    const ending = await replica.ended();
    expect(ending).toEqual({ exitCode: 1, signal: null });
    const line = onlyLine({ ...ending, stderr: replica.stderr });
    expect(line).toMatch(
      disk === undefined
        ? /EFBIG/
        : says.source.includes("room for")
          ? /has room for \d+: make room/
          : says,
    );
    expect(readFileSync(out, "utf8")).toBe("an earlier backup");
    expect(readdirSync(temp.file("disk"))).toEqual(["dump.rdb"]);
  });

  test.concurrent("a file size limit: follow goes on once it is lifted", async () => {
    using temp = tempDir();
    const dir = temp.file("data");
    const thirdMay = Promise.withResolvers<void>();
    await using primary = fakePrimary(script(bulkPayload(tooLarge), thirdMay.promise));
    await using replica = startReplica(followArgs(primary.url, dir));
    await replica.waitForLine(/connected by full resync/);
    limitFileBytes(replica, 6 * MIB);
    await replica.waitForLine(/warn .*writing byte \d+ of .*EFBIG/);
    await until(() => primary.peers.length > 2, { what: "the third attempt" });
    expect(filesIn(dir)["current"]).toBe("-> generations/0000000001");
    expect(currentBase(dir)).toEqual(first);
    expect(readdirSync(join(dir, "generations"))).toEqual(["0000000001"]);
    limitFileBytes(replica, "unlimited");
    thirdMay.resolve();
    await until(() => currentBase(dir).equals(second), { what: "the snapshot that fits" });
  });

  test.concurrent("a full standard output: backup ends with 1", async () => {
    await using primary = fakePrimary(async (peer) => await behave(peer, first));
    const command = `"$@" backup ${primary.url} - > /dev/full`;
    const child = Bun.spawn(["sh", "-c", command, "sh", compiledProgram()], {
      stderr: "pipe",
      env: programEnvironment(),
    });
    const stderr = await new Response(child.stderr).text();
    expect(await child.exited).toBe(1);
    expect(onlyLine({ exitCode: 1, signal: null, stderr })).toMatch(
      /writing to standard output: the disk is full/,
    );
  });

  test.concurrent("the stream: follow reports it, keeps what it has, and goes on", async () => {
    using temp = tempDir();
    const dir = temp.file("data");
    let room = false;
    await using primary = fakePrimary(async (peer) => {
      if (peer.index === 0) await behave(peer, first);
      else {
        await until(() => room || peer.isClosed, { what: "room" });
        if (!peer.isClosed) {
          await grantFullSync(peer, { psyncReply: "+CONTINUE" });
          await peer.send("PING\r\n");
          await peer.untilClosed();
        }
        return;
      }
      await peer.send("PING\r\n".repeat(100));
      await peer.readAck(700);
      await peer.send("PING\r\n".repeat(200_000)).catch(() => undefined);
      await peer.untilClosed();
    });
    await using replica = startReplica(followArgs(primary.url, dir));
    await replica.waitForLine(/connected by full resync/);
    limitFileBytes(replica, 512 * 1024);
    await replica.waitForLine(/warn .*appendonly\.aof\.1\.incr\.aof.*EFBIG/);
    expect(currentBase(dir)).toEqual(first);
    limitFileBytes(replica, "unlimited");
    room = true;
    await replica.waitForLine(/connected by partial resync at offset \d+/);
    const log = readFileSync(join(dir, "current/appendonly.aof.1.incr.aof"), "latin1");
    expect(log.length).toBeGreaterThan(600);
    expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
  });
});

describe("a second process on the same folder", () => {
  test.concurrent("ends with 1 and names the first, which goes on", async () => {
    using temp = tempDir();
    const dir = temp.file("data");
    await using primary = fakePrimary(async (peer) => {
      await behave(peer, first);
      await peer.readAck(106);
    });
    await using holder = startReplica(followArgs(primary.url, dir));
    await holder.waitForLine(/connected by full resync/);
    const kept = filesIn(dir);
    const ended = await runReplica(followArgs(primary.url, dir));
    expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
    expect(onlyLine(ended)).toMatch(
      new RegExp(`data is in use by process ${holder.pid} on .*: stop it, or choose another --dir`),
    );
    expect(filesIn(dir)).toEqual(kept);
    expect(primary.peers).toHaveLength(1);
    await primary.peers[0]?.send("PING\r\n");
    await primary.finished();
    expect(await holder.stop()).toEqual({ exitCode: 0, signal: null });

    // The lock goes with its holder, even after a kill.
    await using again = startReplica(followArgs(primary.url, dir));
    await again.waitForLine(/serving/);
    await again.kill9();
    await using third = startReplica(followArgs(primary.url, dir));
    await third.waitForLine(/serving/);
  });
});
