import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { thrownBy } from "../support/error-of.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import {
  currentBase,
  currentLog,
  filesIn,
  REPLID,
  smallRdb,
} from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import {
  bulkPayload,
  type FakePrimary,
  fakePrimary,
  standardHandshake,
} from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { encodeCommand } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);
const BASE = 100;
const FIRST = smallRdb("the first");
const SECOND = smallRdb("the second");

/** A primary whose first connection is followed, and whose second does as it is told. */
function primaryWith(second: (peer: FakePeer) => Promise<void> | void) {
  let connections = 0;
  return fakePrimary(async (peer) => {
    if (connections++ > 0) return second(peer);
    await standardHandshake(peer, { replid: REPLID, offset: BASE });
    await peer.send(bulkPayload(FIRST));
    await peer.send(SET);
  });
}

/** What the second link of a renewal gets when all is well: a snapshot of now. */
async function grantNow(peer: FakePeer, answer: { replid?: string; offset?: number } = {}) {
  await standardHandshake(peer, { replid: REPLID, offset: BASE + SET.length, ...answer });
  await peer.send(bulkPayload(SECOND));
}

async function following(
  primary: FakePrimary,
  dir: TempDir,
  disk = realDisk,
  more: Record<string, string> = {},
) {
  const replica = follow(primary.url, disk, dir, { fsync: "always", ...more });
  await replica.connected();
  await until(() => currentLog(replica.path).endsWith(SET.toString()), { what: "the stream" });
  const client = await RespClient.connect({ port: replica.port });
  const ended = () =>
    until(() => replica.replica.renewal.runningSeconds === undefined, { what: "its end" });
  return { ...replica, client, ended };
}

/** The first generation is as it was, and its link goes on. */
async function goesOn(
  { path }: { path: string },
  primary: FakePrimary,
  before: Record<string, string>,
) {
  expect(filesIn(path)).toEqual(before);
  expect(currentBase(path).equals(FIRST)).toBe(true);
  const log = currentLog(path);
  await primary.peers[0]!.send(SET);
  await until(() => currentLog(path) === `${log}${SET}`, { what: "the stream to go on" });
}

test("BGSAVE: the new log holds what came since the snapshot, and the stream goes on behind it", async () => {
  using dir = tempDir("renewal");
  await using primary = primaryWith((peer) => grantNow(peer));
  await using replica = await following(primary, dir);
  // As of before the last command.
  const more = encodeCommand(["SET", "more", "1"]);
  await primary.peers[0]!.send(more);
  await until(() => currentLog(replica.path).endsWith(more.toString()), { what: "the stream" });
  expect(await replica.client.send("BGSAVE")).toBe("Background saving started");
  await replica.ended();
  expect(replica.replica.renewal.last?.error).toBeUndefined();
  expect(currentBase(replica.path).equals(SECOND)).toBe(true);
  expect(replica.replica.receivedBytes.snapshot).toBe(FIRST.length + SECOND.length);
  await primary.peers[0]!.send(SET);
  const select = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
  await until(() => currentLog(replica.path) === `${select}${more}${SET}`, { what: "the new log" });
  const asked = primary.peers[1]!.received.toString();
  expect(asked).toContain("rdb-only");
  // As on the first link: Sentinel would take another port for another replica.
  expect(asked).toContain(
    `listening-port\r\n$${String(replica.port).length}\r\n${replica.port}\r\n`,
  );
  expect(asked).not.toContain("ip-address");
});

test("a second link announces what the first one does", async () => {
  using dir = tempDir("renewal");
  await using primary = primaryWith((peer) => grantNow(peer));
  const announced = { "announce-ip": "10.1.2.3", "announce-port": "7777" };
  await using replica = await following(primary, dir, realDisk, announced);
  await replica.client.send("BGSAVE");
  await replica.ended();
  expect(replica.replica.renewal.last?.error).toBeUndefined();
  for (const peer of primary.peers) {
    expect(peer.received.toString()).toContain("listening-port\r\n$4\r\n7777\r\n");
    expect(peer.received.toString()).toContain("ip-address\r\n$8\r\n10.1.2.3\r\n");
  }
});

const FAILURES: [string, (peer: FakePeer) => Promise<void> | void, RegExp][] = [
  ["closes it", (peer) => peer.close(), /closed the link/],
  [
    "refuses",
    async (peer) => {
      const psyncReply = "-NOMASTERLINK Can't SYNC while not connected with my master";
      await standardHandshake(peer, { replid: REPLID, offset: 0, psyncReply });
      // Whom it follows is asked for next; without an answer, the timeout would be waited for.
      expect(await peer.readCommand()).toEqual(["INFO", "replication"]);
      await peer.send("-NOPERM this user has no permissions to run the 'info' command\r\n");
    },
    /NOMASTERLINK/,
  ],
  [
    "breaks off the payload",
    async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: BASE + SET.length });
      await peer.send(bulkPayload(SECOND).subarray(0, -3));
      await peer.close();
    },
    /closed the link/,
  ],
  [
    "sends a damaged payload",
    async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: BASE + SET.length });
      const payload = bulkPayload(SECOND);
      payload[payload.length - 1]! ^= 1;
      await peer.send(payload);
    },
    /checksum/,
  ],
  [
    "is of another history",
    (peer) => grantNow(peer, { replid: "c".repeat(40) }),
    /isn't in the history/,
  ],
  [
    "has no newer snapshot, and would not shorten the log,",
    (peer) => grantNow(peer, { offset: BASE }),
    /has no newer snapshot than the one that is kept, of offset 100/,
  ],
  [
    "is behind what is kept",
    (peer) => grantNow(peer, { offset: BASE - 1 }),
    /has no newer snapshot than the one that is kept, of offset 100/,
  ],
];

test.each(FAILURES)("a second link that %s changes nothing", async (_, second, why) => {
  using dir = tempDir("renewal");
  await using primary = primaryWith(second);
  await using replica = await following(primary, dir);
  const before = filesIn(replica.path);
  await replica.client.send("BGSAVE");
  await replica.ended();
  expect(replica.replica.renewal.last?.error?.message).toMatch(why);
  expect(String(await replica.client.send("INFO"))).toMatch(/rdb_last_bgsave_status:err/);
  await goesOn(replica, primary, before);
  expect(primary.peers[0]!.isClosed).toBe(false);
});

test("a snapshot of a quiet primary is kept, though the stream moves on while it is made", async () => {
  using dir = tempDir("renewal");
  let writtenMeanwhile = () => Promise.resolve();
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: BASE });
    if (primary.peers.length > 1) await writtenMeanwhile();
    await peer.send(bulkPayload(primary.peers.length > 1 ? SECOND : FIRST));
  });
  await using replica = follow(primary.url, realDisk, dir, { fsync: "always" });
  await replica.connected();
  writtenMeanwhile = async () => {
    await primary.peers[0]!.send(SET);
    await until(() => currentLog(replica.path).endsWith(SET.toString()), { what: "the stream" });
  };
  replica.replica.renewal.begin("a test");
  await until(() => replica.replica.renewal.runningSeconds === undefined, { what: "its end" });
  expect(replica.replica.renewal.last?.error).toBeUndefined();
  expect(currentBase(replica.path).equals(SECOND)).toBe(true);
  expect(currentLog(replica.path).endsWith(SET.toString())).toBe(true);
});

test("refuses a new snapshot while the link is down", async () => {
  using dir = tempDir("renewal");
  await using primary = primaryWith((peer) => grantNow(peer));
  await using replica = await following(primary, dir);
  await replica.client.send("REPLICAOF", "NO", "ONE");
  expect(await thrownBy(replica.client.send("BGSAVE"))).toThrow("no primary is followed");
  expect(await thrownBy(replica.client.send("BGSAVE", "NOW"))).toThrow("syntax error");
});

test("refuses a new snapshot that would leave less than --min-free, and says so", async () => {
  using dir = tempDir("renewal");
  await using primary = primaryWith((peer) => grantNow(peer));
  const disk = new FaultyDisk();
  let free = 10_000;
  disk.freeBytes = () => free;
  await using replica = await following(primary, dir, disk, { "min-free": "8KiB" });
  free = 8 * 1024 + FIRST.length - 1;
  expect(await thrownBy(replica.client.send("BGSAVE"))).toThrow(
    /would leave less than --min-free \(8/,
  );
  expect(primary.peers).toHaveLength(1);
  free++;
  await replica.client.send("BGSAVE");
  await replica.ended();
  expect(currentBase(replica.path).equals(SECOND)).toBe(true);
});

test("old generations don't give way to a new snapshot that wouldn't fit all the same", async () => {
  using dir = tempDir("renewal");
  const disk = new FaultyDisk();
  let free = 10_000;
  disk.freeBytes = () => free;
  let snapshots = 0;
  await using primary = primaryWith(async (peer) => {
    if (snapshots++ === 0) return grantNow(peer);
    await standardHandshake(peer, { replid: REPLID, offset: BASE + SET.length });
    free = 200;
    await peer.send("$11000\r\n");
  });
  await using replica = await following(primary, dir, disk, { "min-free": "0" });
  await replica.client.send("BGSAVE");
  await replica.ended();
  const before = filesIn(replica.path);
  await replica.client.send("BGSAVE");
  await replica.ended();
  expect(replica.replica.renewal.last?.error?.message).toMatch(
    /10\.7 KiB doesn't fit on the disk, which has room for/,
  );
  expect(filesIn(replica.path)).toEqual(before);
});

test.each([
  ["REPLICAOF NO ONE", "REPLICAOF NO ONE"],
  ["SHUTDOWN", "the replica stops"],
])("%s gives up the snapshot that is under way, and says so", async (command, why) => {
  using dir = tempDir("renewal");
  // It says nothing of a snapshot that is behind what is ever followed: the wait has no end.
  await using primary = primaryWith((peer) => grantNow(peer, { offset: BASE + 10_000 }));
  await using replica = await following(primary, dir);
  const before = filesIn(replica.path);
  await replica.client.send("BGSAVE");
  await until(() => Object.keys(filesIn(replica.path)).some((name) => name.includes("2/append")), {
    what: "the second snapshot",
  });
  replica.client.send(...(command.split(" ") as [string])).catch(() => undefined);
  await replica.ended();
  await until(() => Object.keys(filesIn(replica.path)).length === Object.keys(before).length, {
    what: "the half-made generation to go",
  });
  expect(filesIn(replica.path)).toEqual(before);
  using database = new Database(join(replica.path, "replica.db"), { readonly: true });
  const events = database.query<{ detail: string }, []>("SELECT detail FROM events").all();
  expect(events.map(({ detail }) => detail)).toContain(`the new snapshot was given up: ${why}`);
});

test("whichever disk call fails, following goes on or resumes", async () => {
  let failed = 0;
  for (let call = 1; ; call++) {
    using dir = tempDir("renewal");
    let snapshots = 0;
    // Any further link gets what is wanted: a snapshot, or the stream from where it broke.
    await using primary = primaryWith(async (peer) => {
      const psyncReply = snapshots++ === 0 ? undefined : "+CONTINUE";
      await standardHandshake(peer, {
        replid: REPLID,
        offset: BASE + SET.length,
        ...(psyncReply === undefined ? {} : { psyncReply }),
      });
      if (psyncReply === undefined) await peer.send(bulkPayload(SECOND));
    });
    const disk = new FaultyDisk();
    await using replica = await following(primary, dir, disk);
    await primary.peers[0]!.send(SET);
    const end = BASE + 2 * SET.length;
    await until(() => replica.replica.log!.durableOffset === end, { what: "a sync" });
    const calls = disk.calls.length;
    disk.fail({ call, code: "EIO" });
    // The look for room is the first.
    const refused = await replica.client.send("BGSAVE").then(
      () => false,
      (error: Error) => error.message.includes("EIO"),
    );
    await replica.ended();
    const { renewal } = replica.replica;
    const made = disk.calls.length - calls;
    disk.heal();
    await replica.connected();
    const [base, log] = [currentBase(replica.path), currentLog(replica.path)];
    expect(log.endsWith(SET.toString())).toBe(true);
    const hasFailed = refused || renewal.last?.error !== undefined;
    const isNew = replica.replica.directory.current?.id === 2;
    expect(base.equals(isNew ? SECOND : FIRST)).toBe(true);
    if (hasFailed) failed++;
    // Where it is current all the same, only the sync of its row has failed.
    if (!hasFailed) expect(isNew).toBe(true);
    else if (isNew) expect(disk.pathOf(disk.struck[0]!)).toEndWith("replica.db-wal");
    expect(replica.replica.log!.durableOffset).toBe(end);
    expect(await replica.stop()).toBeUndefined();
    if (call > made) break;
  }
  expect(failed).toBeGreaterThan(15);
});
