import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { realClock } from "../../../src/base/clock.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import { Locator } from "../../../src/upstream/link/locator.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { currentLog, REPLID, smallRdb } from "../../integration/bad-input-rig.ts";
import type { FakePeer } from "../../support/fake-peer.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../../support/fake-primary.ts";
import {
  type FakeSentinel,
  fakeSentinel,
  named,
  sentinelUrl,
} from "../../support/fake-sentinel.ts";
import { FaultyDisk } from "../../support/faulty-disk.ts";
import { follow } from "../../support/following.ts";
import { freePort } from "../../support/ports.ts";
import { encodeCommand } from "../../support/resp.ts";
import { RespClient } from "../../support/resp-client.ts";
import { tempDir } from "../../support/temp.ts";
import { PATIENCE_MS, until, withinOwnTime } from "../../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);

async function grantFull(peer: FakePeer): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset: 100, password: "p" });
  await peer.send(bulkPayload(smallRdb("a value")));
}

async function goOn(peer: FakePeer): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset: 0, psyncReply: "+CONTINUE" });
}

const askedOnce = ({ asked }: FakeSentinel) => until(() => asked[0], { what: "the question" });

test("waits for the next attempt no longer than until another primary is named", async () => {
  const settings = loadSettings({ flags: new Map(), env: {} });
  let changing = new AbortController();
  const naming = {
    locate: async () => await Promise.resolve(undefined),
    judge: () => undefined,
    get changed() {
      return changing.signal;
    },
  };
  const about = { tls: false, username: undefined, password: undefined, name: "shard 1" };
  const locator = new Locator({ kind: "shard", ...about, naming }, realClock, settings);
  const never = new AbortController().signal;
  const rest = locator.rest(PATIENCE_MS, never);
  changing.abort();
  await withinOwnTime(1_000, "the wait to end", rest);
  changing = new AbortController();
  const stopping = new AbortController();
  const last = locator.rest(PATIENCE_MS, stopping.signal);
  stopping.abort();
  await withinOwnTime(1_000, "the wait to end", last);
});

test("asks Sentinel first, and again after each break, and follows the primary it names", async () => {
  using dir = tempDir("locator");
  await using first = fakePrimary(grantFull);
  await using second = fakePrimary(goOn);
  let port = freePort();
  await using sentinel = fakeSentinel(() => named(port));
  const url = sentinelUrl([sentinel], { login: "u:p@" });
  await using replica = follow(url, realDisk, dir);
  // Down at first: Sentinel has not noticed yet.
  await until(() => sentinel.asked.length === 2, { what: "the second question" });
  ({ port } = first);
  await replica.connected();
  expect(first.peers[0]!.received.toString()).toContain("AUTH\r\n$1\r\nu\r\n$1\r\np\r\n");
  const { primary } = replica.replica;
  expect(primary.name).toBe(`redis://u@127.0.0.1:${first.port}`);
  expect(primary.hostAndPort).toEqual(["127.0.0.1", first.port]);
  const questions = sentinel.asked.length;
  ({ port } = second);
  await first.peers[0]!.reset();
  await until(() => second.peers[0], { what: "the second primary" });
  await replica.connected();
  expect(second.peers[0]!.received.toString()).toContain("AUTH\r\n$1\r\nu\r\n$1\r\np\r\n");
  expect(sentinel.asked.length).toBe(questions + 1);
  expect(replica.replica.resyncs).toMatchObject({ full: 1, partial: 1 });
});

test("follows the primary that REPLICAOF names at once; after the next break Sentinel decides", async () => {
  using dir = tempDir("locator");
  await using first = fakePrimary(grantFull);
  await using second = fakePrimary(goOn);
  await using third = fakePrimary(goOn);
  let { port } = first;
  await using sentinel = fakeSentinel(() => named(port));
  const url = sentinelUrl([sentinel]);
  {
    await using replica = follow(url, realDisk, dir);
    await replica.connected();
    await using client = await RespClient.connect({ port: replica.port });
    ({ port } = third);
    expect(await client.send("REPLICAOF", "127.0.0.1", second.port)).toBe("OK");
    await until(() => second.peers[0], { what: "the one that was named" });
    await replica.connected();
    expect(sentinel.asked.length).toBe(1);
    expect(await client.send("CONFIG", "REWRITE")).toBe("OK");
    await second.peers[0]!.reset();
    await until(() => third.peers[0], { what: "the one that Sentinel names" });
    await replica.connected();
    expect(sentinel.asked.length).toBe(2);
    // Nothing listens there: that is a break too.
    expect(await client.send("REPLICAOF", "127.0.0.1", freePort())).toBe("OK");
    await until(() => third.peers[1], { what: "the one that Sentinel names" });
    await replica.connected();
  }
  // What CONFIG REWRITE kept is no address.
  await using again = follow(url, realDisk, dir);
  await again.connected();
  expect(second.peers.length).toBe(1);
  expect(third.peers.length).toBe(3);
});

test("REPLICAOF ends a question to Sentinel: the primary that it names, or none, is followed", async () => {
  using dir = tempDir("locator");
  await using primary = fakePrimary(grantFull);
  let answer: Buffer | undefined;
  await using sentinel = fakeSentinel(() => answer);
  const url = sentinelUrl([sentinel]);
  {
    await using replica = follow(url, realDisk, dir);
    await using client = await RespClient.connect({ port: replica.port });
    await askedOnce(sentinel);
    const [, host, port, link] = (await client.send("ROLE")) as unknown[];
    expect([host, port, link]).toEqual(["", 0, "connect"]);
    expect(String(await client.send("INFO", "replication"))).toContain(
      "master_host:\r\nmaster_port:0\r\nmaster_link_status:down\r\n",
    );
    await client.send("REPLICAOF", "127.0.0.1", primary.port);
    await replica.connected();
    await sentinel.peers[0]!.untilClosed();
    // Asked anew, and left while it is silent.
    await primary.peers[0]!.reset();
    await until(() => sentinel.asked.length === 2, { what: "the next question" });
    await client.send("REPLICAOF", "NO", "ONE");
    expect(replica.replica.state.at).toBe("none");
    await sentinel.peers[1]!.untilClosed();
    await client.send("CONFIG", "REWRITE");
  }
  // Kept too: nobody is followed, and nobody is asked.
  answer = named(primary.port);
  await using again = follow(url, realDisk, dir);
  await using client = await RespClient.connect({ port: again.port });
  await client.send("PING");
  expect(again.replica.isFollowing).toBe(false);
  using database = new Database(join(again.path, "replica.db"), { readonly: true });
  const query = "SELECT detail FROM events WHERE kind = 'replicaof' AND detail = 'no one'";
  // That it begins as it was left is no news.
  expect(database.query(query).all()).toHaveLength(1);
  await client.send("REPLICAOF", "127.0.0.1", primary.port);
  await again.connected();
  expect(sentinel.asked.length).toBe(2);
  await client.send("CONFIG", "REWRITE");
  await again.stop();
});

test("a sentinel that names a dead primary is asked last; with all away, the last primary is tried again", async () => {
  using dir = tempDir("locator");
  let links = 0;
  await using primary = fakePrimary((peer) => (links++ === 0 ? grantFull(peer) : goOn(peer)));
  await using stale = fakeSentinel(() => named(gone));
  await using knowing = fakeSentinel(() => named(primary.port));
  const gone = freePort();
  const url = sentinelUrl([stale, knowing], { login: "u:p@" });
  await using replica = follow(url, realDisk, dir);
  await replica.connected();
  expect([stale.asked.length, knowing.asked.length]).toEqual([1, 1]);
  await primary.peers[0]!.reset();
  await until(() => primary.peers[1], { what: "the next link" });
  await replica.connected();
  expect([stale.asked.length, knowing.asked.length]).toEqual([1, 2]);
  await Promise.all([stale.stop(), knowing.stop()]);
  await primary.peers[1]!.reset();
  await until(() => primary.peers[2], { what: "the link after that" });
  await replica.connected();
  expect(replica.replica.resyncs).toMatchObject({ full: 1, partial: 2 });
});

test("a stop ends a question to Sentinel at once", async () => {
  using dir = tempDir("locator");
  await using sentinel = fakeSentinel(() => undefined);
  await using replica = follow(sentinelUrl([sentinel]), realDisk, dir);
  await askedOnce(sentinel);
  expect(await withinOwnTime(1_000, "the end", replica.stop())).toBeUndefined();
  await sentinel.peers[0]!.untilClosed();
});

test("a log that fails while Sentinel is asked is opened again before the primary is", async () => {
  using dir = tempDir("locator");
  const disk = new FaultyDisk();
  let asked = "";
  await using first = fakePrimary(grantFull);
  await using second = fakePrimary(async (peer) => {
    await goOn(peer);
    asked += peer.received.toString();
    await peer.send(SET);
  });
  await using sentinel = fakeSentinel(() =>
    sentinel.asked.length === 1 ? named(first.port) : undefined,
  );
  await using replica = follow(sentinelUrl([sentinel], { login: "u:p@" }), disk, dir);
  await replica.connected();
  // Written, but not durable yet when the link breaks.
  const sync = disk.hold("syncData");
  await first.peers[0]!.send(SET);
  await until(() => currentLog(replica.path).endsWith(SET.toString()), { what: "the write" });
  await first.peers[0]!.reset();
  await until(() => sentinel.asked.length === 2, { what: "the second question" });
  disk.fail({ operation: "syncData", code: "EIO" });
  sync.release();
  await until(() => replica.replica.log === undefined, { what: "the log to fail" });
  disk.heal();
  await sentinel.peers.at(-1)!.send(named(second.port));
  await until(() => sentinel.asked.length === 3, { what: "the third question" });
  await sentinel.peers.at(-1)!.send(named(second.port));
  await replica.connected();
  // The write was never durable: it is asked for again.
  expect(asked).toContain(`${REPLID}\r\n$3\r\n101\r\n`);
  await until(() => currentLog(replica.path).endsWith(SET.toString()), { what: "the stream" });
});
