import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { ReplicaError } from "../../src/base/errors.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import { parsePrimaryUrl } from "../../src/config/primary-url.ts";
import { realClock } from "../../src/base/clock.ts";
import { assemble } from "../../src/program/assemble.ts";
import { currentLog, REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { encodeCommand } from "../support/resp.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);

/** A disk on which the test decides when syncs of single files finish. */
class HeldDisk extends FaultyDisk {
  /** Syncs held by the test, by descriptor or folder. */
  readonly held = new Map<number | string, PromiseWithResolvers<void>>();
  /** Those that somebody waits for by now. */
  readonly awaited = new Set<number | string>();

  holdSync(subject: number | string): PromiseWithResolvers<void> {
    const answer = Promise.withResolvers<void>();
    this.held.set(subject, answer);
    return answer;
  }

  override syncData(fd: number): Promise<void> {
    return this.#answer(fd) ?? super.syncData(fd);
  }

  override syncDir(path: string): Promise<void> {
    return this.#answer(path) ?? super.syncDir(path);
  }

  #answer(subject: number | string): Promise<void> | undefined {
    const answer = this.held.get(subject);
    if (answer !== undefined) this.awaited.add(subject);
    return answer?.promise;
  }
}

function ioError(): Error {
  return Object.assign(new Error("EIO: made by the test"), { code: "EIO" });
}

async function grantFull(peer: FakePeer, offset = 100): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset });
  await peer.send(bulkPayload(smallRdb("a value")));
}

async function goOn(peer: FakePeer): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset: 0, psyncReply: "+CONTINUE" });
}

/** The descriptor of the current log. */
function logFd(disk: FaultyDisk): number {
  const { calls } = disk;
  const made = calls.findLastIndex(
    (call) => call.operation === "create" && String(call.subject).endsWith(".incr.aof"),
  );
  return Number(calls.slice(made).find((call) => call.operation === "write")!.subject);
}

function events(path: string): { kind: string; detail: string }[] {
  using db = new Database(join(path, "replica.db"), { readonly: true });
  return db.query<{ kind: string; detail: string }, []>("SELECT kind, detail FROM events").all();
}

/** Holds the old log's sync, lets the primary force a full resync, and holds the sync of its folder too. */
async function promoteUnderWay(disk: HeldDisk, dir: TempDir, third: (peer: FakePeer) => void) {
  const primary = fakePrimary(async (peer) => {
    if (peer.index === 0) await grantFull(peer);
    else if (peer.index === 1) await grantFull(peer, 5_000);
    else third(peer);
  });
  const following = follow(primary.url, disk, dir);
  await following.connected();
  const fd = logFd(disk);
  const oldLog = disk.holdSync(fd);
  const [first] = primary.peers;
  await first!.send(SET);
  await until(() => disk.awaited.has(fd), { what: "the sync that comes each second" });
  const generations = join(following.path, "generations");
  const folder = disk.holdSync(generations);
  await first!.reset();
  await until(() => disk.awaited.has(generations), {
    what: "the promotion of the second snapshot",
  });
  const end = async () => {
    await following[Symbol.asyncDispose]();
    await primary.stop();
  };
  return { following, oldLog, folder, [Symbol.asyncDispose]: end };
}

describe("a disk that fails the old log and the new generation at once", () => {
  test("resumes if the primary continues, and writes the stream again", async () => {
    using dir = tempDir("both");
    const disk = new HeldDisk();
    await using rig = await promoteUnderWay(disk, dir, (peer) => {
      void goOn(peer).then(() => peer.send(SET));
    });
    const { following } = rig;
    disk.held.clear();
    rig.oldLog.reject(ioError());
    await Bun.sleep(5);
    rig.folder.reject(ioError());
    await following.connected();
    await until(() => currentLog(following.path).endsWith(SET.toString()), {
      what: "the stream in the log",
    });
    expect(following.replica.directory.current?.id).toBe(1);
  });

  test("takes the next snapshot if the primary forces another full resync", async () => {
    using dir = tempDir("both");
    const disk = new HeldDisk();
    await using rig = await promoteUnderWay(disk, dir, (peer) => void grantFull(peer, 9_000));
    const { following } = rig;
    disk.held.clear();
    rig.oldLog.reject(ioError());
    await Bun.sleep(5);
    rig.folder.reject(ioError());
    await until(() => following.replica.directory.current?.baseOffset === 9_000, {
      what: "the third snapshot",
    });
    // The second generation was discarded, and its number with it.
    expect(following.replica.directory.current?.id).toBe(3);
  });
});

test.each(["write", "syncData"] as const)(
  "a stop doesn't wait for a disk that hangs in a %s, connected or not",
  async (operation) => {
    for (const broken of [false, true]) {
      using dir = tempDir("hangs");
      const disk = new FaultyDisk();
      await using primary = fakePrimary((peer) =>
        peer.index === 0 ? grantFull(peer) : goOn(peer),
      );
      await using following = follow(primary.url, disk, dir);
      await following.connected();
      const before = disk.count(operation);
      const held = disk.hold(operation);
      try {
        await primary.peers[0]!.send(SET);
        await until(() => disk.count(operation) > before, { what: "a call that hangs" });
        if (broken) {
          await primary.peers[0]!.reset();
          await until(() => following.replica.state.at !== "connected", { what: "the break" });
        }
        expect(await following.stop()).toBeUndefined();
      } finally {
        held.release();
      }
    }
  },
);

test("a stop lets a complete snapshot become current", async () => {
  using dir = tempDir("finishing");
  const disk = new HeldDisk();
  await using primary = fakePrimary((peer) => grantFull(peer));
  await using following = follow(primary.url, disk, dir);
  const folder = disk.holdSync(join(following.path, "generations", "0000000001"));
  await until(() => disk.count("rename") > 0, { what: "the snapshot's rename" });
  const stopped = following.stop();
  folder.resolve();
  disk.held.clear();
  expect(await stopped).toBeUndefined();
  expect(following.replica.directory.current?.id).toBe(1);
});

test.each(["reset", "close"] as const)(
  "a stop succeeds if the primary leaves at the same time (%s)",
  async (how) => {
    using dir = tempDir("both-leave");
    const disk = new FaultyDisk();
    await using primary = fakePrimary((peer) => grantFull(peer));
    await using following = follow(primary.url, disk, dir);
    await following.connected();
    const held = disk.hold("syncData");
    await primary.peers[0]!.send(SET);
    await until(() => (following.replica.log?.writtenOffset ?? 0) > 100, { what: "the write" });
    const stopped = following.stop();
    await primary.peers[0]![how]();
    await Bun.sleep(50);
    held.release();
    expect(await stopped).toBeUndefined();
  },
);

test("a stop fails if its last sync fails, even without a link", async () => {
  using dir = tempDir("last-sync");
  const disk = new FaultyDisk();
  await using primary = fakePrimary((peer) => grantFull(peer));
  await using following = follow(primary.url, disk, dir, { fsync: "no", "retry-max": "5s" });
  await following.connected();
  await primary.peers[0]!.send(SET);
  await until(() => (following.replica.log?.writtenOffset ?? 0) > 100, { what: "the write" });
  primary.stopListening();
  await primary.peers[0]!.reset();
  await until(() => following.replica.state.at === "connect", { what: "the back-off" });
  disk.fail({ operation: "syncData", code: "EIO" });
  const error = await following.stop();
  expect(error).toBeInstanceOf(ReplicaError);
  expect(error).toMatchObject({ code: "DISK_FAILED" });
  expect(events(following.path).some(({ detail }) => detail.includes("EIO"))).toBe(true);
});

test("a write that fails without a link is reported, and earlier writes are kept", async () => {
  using dir = tempDir("late-write");
  const disk = new FaultyDisk();
  await using primary = fakePrimary((peer) => (peer.index === 0 ? grantFull(peer) : goOn(peer)));
  await using following = follow(primary.url, disk, dir, { fsync: "no" });
  await following.connected();
  const held = disk.hold("write");
  const before = disk.count("write");
  await primary.peers[0]!.send(SET);
  await until(() => disk.count("write") > before, { what: "the write that is held" });
  await primary.peers[0]!.send(SET);
  await Bun.sleep(20);
  await primary.peers[0]!.reset();
  await until(() => following.replica.state.at !== "connected", { what: "the break" });
  disk.fail({ operation: "write", code: "ENOSPC" });
  held.release();
  await until(() => disk.count("write") > before + 1, { what: "the write that fails" });
  disk.heal();
  await following.connected();
  const told = events(following.path).map(({ detail }) => detail);
  expect(told.find((detail) => detail.includes("ENOSPC"))).toBeDefined();
  // The first command was written, and became durable when the write of the second failed.
  const [, second] = primary.peers;
  expect(second!.received.toString("latin1")).toContain(String(100 + SET.length + 1));
  expect(following.replica.resyncs).toMatchObject({ full: 1, partial: 1 });
});

test("a snapshot comes though the free space can't be read, and so does the next one", async () => {
  using dir = tempDir("statfs");
  const disk = new FaultyDisk();
  disk.fail({ operation: "freeBytes", code: "EIO" });
  await using primary = fakePrimary((peer) => grantFull(peer, 100 + 5_000 * peer.index));
  await using following = follow(primary.url, disk, dir);
  await following.connected();
  await primary.peers[0]!.reset();
  await until(() => following.replica.state.at !== "connected", { what: "the break" });
  await following.connected();
  expect(following.replica.resyncs.full).toBe(2);
  expect([...following.replica.links.failedAttempts]).toEqual([]);
});

test("a snapshot that finds no room is not asked for again at once, though attempts go on", async () => {
  using dir = tempDir("no-room");
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 0 });
    await peer.send("$9000000000000000\r\n");
  });
  await using following = follow(primary.url, new FaultyDisk(), dir, { "retry-max": "10ms" });
  await until(() => (following.replica.links.failedAttempts.get("DISK_FULL") ?? 0) > 20, {
    what: "attempts",
  });
  expect(primary.peers).toHaveLength(1);
  const told = events(following.path).map(({ detail }) => detail);
  expect(told.filter((detail) => /has room for \d+: make room/.test(detail))).toHaveLength(1);
  expect(
    told.filter((detail) => /about 8\.0 PiB doesn't fit on the disk/.test(detail)),
  ).toHaveLength(1);
});

test("a snapshot given up while finishing leaves nothing in the next one's folder", async () => {
  using dir = tempDir("late-finish");
  const disk = new HeldDisk();
  await using primary = fakePrimary((peer) => grantFull(peer, 100 + 5_000 * peer.index));
  await using following = follow(primary.url, disk, dir);
  await following.connected();
  const oldLog = disk.holdSync(logFd(disk));
  await primary.peers[0]!.send(SET);
  await until(() => (following.replica.log?.writtenOffset ?? 0) > 100, { what: "the write" });
  await Bun.sleep(1_000); // the sync that comes each second is under way then
  const folder = disk.holdSync(join(following.path, "generations", "0000000002"));
  const renames = disk.count("rename");
  await primary.peers[0]!.reset();
  await until(() => disk.count("rename") > renames, { what: "the second snapshot's rename" });
  disk.held.clear();
  oldLog.reject(ioError());
  await until(() => following.replica.state.at === "connect", { what: "the attempt's end" });
  folder.resolve();
  await following.connected();
  expect(following.replica.directory.current?.id).toBe(3);
  expect(following.replica.resyncs.full).toBe(3);
});

const STORMS: Record<
  string,
  { play: (peer: FakePeer) => Promise<void>; says: RegExp; syncTimeout?: string }
> = {
  "no answer to PSYNC": {
    syncTimeout: "1s",
    play: async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: 0, psyncReply: "" });
    },
    says: /receive-psync \(--sync-timeout\) after .*the primary's log may say why/,
  },
  "a break before the payload": {
    play: async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: 0 });
      await peer.close();
    },
    says: /closed the link after \d+\.\d s.*the primary's log may say why/,
  },
  "a break right after a full sync": {
    play: async (peer) => {
      await grantFull(peer, 100 + 5_000 * peer.index);
      await peer.readAck(1);
      await peer.close();
    },
    says: /the primary (closed|reset) .* after \d+\.\d s.*the primary's log may say why/,
  },
};

test.each(Object.entries(STORMS))(
  "pauses longer after repeated failures: %s",
  async (_name, storm) => {
    using dir = tempDir("storm");
    await using primary = fakePrimary(storm.play);
    const lines: string[] = [];
    const clock = {
      ...realClock,
      random: () => 1,
      sleep: async (ms: number, signal: AbortSignal) => {
        lines.push(`${ms}`);
        await realClock.sleep(Math.min(ms, 20), signal);
      },
    };
    const flags = {
      dir: dir.file("data"),
      port: "0",
      "retry-max": "100ms",
      // Where the primary answers, a busy machine must not make it one that doesn't.
      "sync-timeout": storm.syncTimeout ?? "60s",
    };
    const settings = loadSettings({ flags: new Map(Object.entries(flags)), env: {} });
    const { replica, run, close } = assemble(
      parsePrimaryUrl(primary.url),
      new FaultyDisk(),
      clock,
      settings,
      "0",
    );
    const stop = new AbortController();
    const running = run(stop.signal);
    await until(() => lines.length >= 6, { what: "six attempts" });
    expect(lines.slice(0, 6).map(Number)).toEqual([100, 100, 200, 400, 800, 1200]);
    expect(replica.links.lastCause).toMatch(storm.says);
    expect(replica.links.lastCause).toMatch(/[56] times in a row/);
    stop.abort();
    await running;
    close();
  },
);
