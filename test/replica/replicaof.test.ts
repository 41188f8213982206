import { expect, test } from "bun:test";
import { thrownBy } from "../support/error-of.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { currentLog, REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { encodeCommand } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);

async function grantFull(peer: FakePeer): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset: 100 });
  await peer.send(bulkPayload(smallRdb("a value")));
}

async function goOn(peer: FakePeer): Promise<void> {
  const psyncReply = `+CONTINUE ${"b".repeat(40)}`;
  await standardHandshake(peer, { replid: REPLID, offset: 0, psyncReply });
}

function portOf(url: string): string {
  return new URL(url.replace("redis:", "http:")).port;
}

test("REPLICAOF: the other primary continues under its own id; after CONFIG REWRITE a restart follows it too", async () => {
  using dir = tempDir("replicaof");
  await using first = fakePrimary(grantFull);
  await using second = fakePrimary(goOn);
  const port = portOf(second.url);
  {
    await using replica = follow(first.url, realDisk, dir);
    await replica.connected();
    await using client = await RespClient.connect({ port: replica.port });
    expect(await client.send("SLAVEOF", "127.0.0.1", portOf(first.url))).toBe(
      "OK Already connected to specified master",
    );
    expect(await thrownBy(client.send("REPLICAOF", "127.0.0.1", "x"))).toThrow(
      "Invalid master port",
    );
    expect(await thrownBy(client.send("REPLICAOF", "a b", "1"))).toThrow();
    // As a Sentinel does it.
    await client.send("MULTI");
    await client.send("SLAVEOF", "127.0.0.1", port);
    await client.send("CONFIG", "REWRITE");
    await client.send("CLIENT", "KILL", "TYPE", "normal");
    await client.send("EXEC");
    await replica.connected();
    expect(second.peers[0]!.received.toString()).toContain(`${REPLID}\r\n$3\r\n101\r\n`);
    await second.peers[0]!.send(SET);
    await until(() => currentLog(replica.path).endsWith(SET.toString()), { what: "the stream" });
    const info = String(await client.send("INFO", "replication"));
    expect(info).toContain(`master_port:${port}\r\n`);
    expect(info).toContain(`master_replid:${"b".repeat(40)}\r\n`);
    expect(info).toContain(`master_replid2:${REPLID}\r\n`);
    expect(info).toContain("second_repl_offset:101\r\n");
    expect(first.peers[0]!.isClosed).toBe(true);
  }
  const before = first.peers.length;
  await using again = follow(first.url, realDisk, dir);
  await again.connected();
  expect([first.peers.length, second.peers.length]).toEqual([before, 2]);
  expect(again.replica.resyncs).toMatchObject({ full: 0, partial: 1 });
});

test("REPLICAOF NO ONE leaves the primary from any state, and another can be followed after it", async () => {
  using dir = tempDir("no-one");
  // The first never answers; the second breaks off in its payload; the third goes on.
  await using silent = fakePrimary(async (peer) => await peer.closed);
  await using slow = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send("$1000\r\nREDIS0009");
    await peer.closed;
  });
  await using whole = fakePrimary(grantFull);
  {
    await using replica = follow(silent.url, realDisk, dir);
    await using client = await RespClient.connect({ port: replica.port });
    const leaves = async () => {
      expect(await client.send("REPLICAOF", "NO", "ONE")).toBe("OK");
      expect(replica.replica.state.at).toBe("none");
      expect(await client.send("REPLICAOF", "no", "one")).toBe("OK");
      const [, , , link] = (await client.send("ROLE")) as string[];
      expect(link).toBe("none");
    };
    await until(() => replica.replica.state.at === "receive-pong", { what: "the PING" });
    await leaves();
    await client.send("REPLICAOF", "127.0.0.1", portOf(slow.url));
    await until(() => replica.replica.state.at === "transfer", { what: "the payload" });
    await leaves();
    await slow.peers[0]!.closed;
    await client.send("REPLICAOF", "127.0.0.1", "1");
    await until(() => replica.replica.links.last?.error !== undefined, { what: "a refusal" });
    await leaves();
    await client.send("REPLICAOF", "127.0.0.1", portOf(whole.url));
    await replica.connected();
    await leaves();
    await client.send("CONFIG", "REWRITE");
  }
  // Stored too: nobody is followed until somebody is named.
  await using again = follow(silent.url, realDisk, dir);
  await Bun.sleep(50);
  expect(again.replica.state.at).toBe("none");
  expect(silent.peers.length).toBe(1);
  expect(await again.stop()).toBeUndefined();
});

test("follows a primary that is named while a slow disk is waited for", async () => {
  using dir = tempDir("meanwhile");
  const disk = new FaultyDisk();
  await using first = fakePrimary(grantFull);
  await using second = fakePrimary(goOn);
  await using replica = follow(first.url, disk, dir);
  await replica.connected();
  const held = disk.hold("write");
  await first.peers[0]!.send(SET);
  await until(() => disk.count("write") > 1, { what: "the write that hangs" });
  await first.peers[0]!.reset();
  await until(() => replica.replica.state.at === "connect", { what: "the break" });
  await using client = await RespClient.connect({ port: replica.port });
  await client.send("REPLICAOF", "127.0.0.1", portOf(second.url));
  held.release();
  await replica.connected();
  expect(second.peers.length).toBe(1);
});

test("opens the log once, though another primary is named while it is being opened", async () => {
  using dir = tempDir("opened-once");
  await using first = fakePrimary(grantFull);
  await using second = fakePrimary(goOn);
  {
    await using before = follow(first.url, realDisk, dir);
    await before.connected();
  }
  const disk = new FaultyDisk();
  const held = disk.hold("syncData");
  {
    await using replica = follow(first.url, disk, dir);
    await until(() => disk.count("syncData") > 0, { what: "the sync that hangs" });
    await using client = await RespClient.connect({ port: replica.port });
    await client.send("REPLICAOF", "127.0.0.1", portOf(second.url));
    held.release();
    await replica.connected();
    await second.peers[0]!.send(SET);
    await until(() => currentLog(replica.path).endsWith(SET.toString()), { what: "the stream" });
    expect(await replica.stop()).toBeUndefined();
  }
  expect(disk.openFds.size).toBe(0);
});

test("CONFIG GET shows the settings, never a password; SET says how to change them", async () => {
  using dir = tempDir("config");
  await Bun.write(dir.file("password"), "secret\n");
  await using primary = fakePrimary(grantFull);
  await using replica = follow(primary.url, realDisk, dir, {
    "requirepass-file": dir.file("password"),
  });
  await using client = await RespClient.connect({ port: replica.port, password: "secret" });
  expect(await client.send("CONFIG", "GET", "slave-priority", "appendf*")).toEqual([
    "appendfsync",
    "everysec",
    "slave-priority",
    "0",
  ]);
  expect(JSON.stringify(await client.send("CONFIG", "GET", "*"))).not.toContain("secret");
  expect(await client.send("CONFIG", "SET", "slave-priority", "0")).toBe("OK");
  expect(await thrownBy(client.send("CONFIG", "SET", "slave-priority", "100"))).toThrow(
    "immutable",
  );
  expect(await thrownBy(client.send("CONFIG", "SET", "nonsense", "1"))).toThrow("Unknown option");
  expect(await client.send("CONFIG", "RESETSTAT")).toBe("OK");
  expect(String(await client.send("INFO", "stats"))).toContain("total_commands_processed:1\r\n");
});
