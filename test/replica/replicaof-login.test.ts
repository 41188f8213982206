import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { thrownBy } from "../support/error-of.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { fakeSentinel, named, sentinelUrl } from "../support/fake-sentinel.ts";
import { follow } from "../support/following.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SECRET = "the-primary-s-own";
const OPEN = { unprotected: "true" };

/** A primary that requires a password, and logs each command; a peer without the right one gets -NOAUTH. */
function guarded(password: string) {
  return fakePrimary(async (peer: FakePeer) => {
    let isLoggedIn = false;
    for (;;) {
      const [name = "", ...words] = await peer.readCommand();
      if (name === "AUTH") isLoggedIn = words.at(-1) === password;
      if (!isLoggedIn) {
        await peer.send(
          name === "AUTH" ? "-WRONGPASS no\r\n" : "-NOAUTH Authentication required.\r\n",
        );
      } else if (name === "INFO") {
        await peer.send("-NOPERM no\r\n");
      } else if (name === "PSYNC") {
        const isNew = words[0] === "?";
        await peer.send(isNew ? `+FULLRESYNC ${REPLID} 100\r\n` : "+CONTINUE\r\n");
        if (isNew) await peer.send(bulkPayload(smallRdb("a value")));
      } else if (name !== "REPLCONF" || words[0]?.toLowerCase() !== "ack") {
        await peer.send(name === "PING" ? "+PONG\r\n" : "+OK\r\n");
      }
    }
  });
}

/** Everything that was ever sent to a primary. */
const sentTo = ({ peers }: ReturnType<typeof guarded>): string =>
  peers.map(({ received }) => received.toString("latin1")).join("");

const urlOf = (port: number, login = `:${SECRET}@`, host = "127.0.0.1") =>
  `redis://${login}${host}:${port}`;

const refused = ({ replica }: ReturnType<typeof follow>): string =>
  replica.links.failedAttempts.has("AUTH_FAILED") ? replica.links.lastCause : "";

test.each(["the URL", "a file", "CONFIG SET"])(
  "REPLICAOF doesn't hand out the password from %s",
  async (source) => {
    using dir = tempDir("stranger");
    writeFileSync(dir.file("password"), source === "a file" ? SECRET : "of before");
    const given = source === "the URL" ? `u:${SECRET}@` : "u@";
    await using first = guarded(SECRET);
    await using stranger = guarded("its own");
    const flags = source === "the URL" ? {} : { "password-file": dir.file("password") };
    await using replica = follow(urlOf(first.port, given), realDisk, dir, { ...OPEN, ...flags });
    await using client = await RespClient.connect({ port: replica.port });
    if (source === "CONFIG SET") await client.send("CONFIG", "SET", "masterauth", SECRET);
    await replica.connected();
    // A name is never looked up to find out that it is the same.
    for (const host of ["127.0.0.1", "localhost"]) {
      await client.send("REPLICAOF", host, stranger.port);
      await until(() => refused(replica).includes(`redis://${host}:`), { what: "a refusal" });
      expect(refused(replica)).toMatch(
        /^the primary requires a password \(-NOAUTH .*\): no password is sent to redis:\/\/[\w.]+:\d+, which only REPLICAOF names: start with its URL, or .* send CONFIG SET masterauth for it$/,
      );
    }
    // By the side link for questions neither, nor by the link of a new snapshot.
    expect(await thrownBy(client.send("BGSAVE"))).toThrow();
    expect(sentTo(stranger)).not.toContain(SECRET);
    expect(sentTo(stranger)).not.toContain("AUTH");
    await client.send("REPLICAOF", "127.0.0.1", first.port);
    await replica.connected();
  },
);

test("CONFIG SET masterauth after REPLICAOF is for that one alone; the user of the start goes with it", async () => {
  using dir = tempDir("stranger");
  await using first = guarded(SECRET);
  await using other = guarded("its own");
  await using third = guarded("another");
  const url = urlOf(first.port, `u:${SECRET}@`);
  {
    await using replica = follow(url, realDisk, dir, OPEN);
    await replica.connected();
    await using client = await RespClient.connect({ port: replica.port });
    await client.send("REPLICAOF", "127.0.0.1", other.port);
    await until(() => refused(replica), { what: "a refusal" });
    await client.send("CONFIG", "SET", "masterauth", "its own");
    await replica.connected();
    expect(sentTo(other)).toContain("AUTH\r\n$1\r\nu\r\n$7\r\nits own\r\n");
    await client.send("REPLICAOF", "127.0.0.1", third.port);
    await until(() => refused(replica).includes(`:${third.port},`), { what: "a refusal" });
    expect(sentTo(third)).not.toContain("AUTH");
    // Back to whom the URL names: its login goes there again.
    await client.send("REPLICAOF", "127.0.0.1", first.port);
    await replica.connected();
    await client.send("REPLICAOF", "127.0.0.1", other.port);
    await client.send("CONFIG", "SET", "masterauth", "its own");
    await replica.connected();
    await client.send("CONFIG", "REWRITE");
  }
  // The address is kept, the password isn't: a start with that URL sends one.
  const before = sentTo(other).split("AUTH").length;
  {
    await using again = follow(url, realDisk, dir, OPEN);
    await until(() => refused(again).includes("start with its URL"), { what: "a refusal" });
    await using client = await RespClient.connect({ port: again.port });
    expect(sentTo(other).split("AUTH").length).toBe(before);
    await client.send("REPLICAOF", "127.0.0.1", first.port);
    await again.connected();
  }
  await using named = follow(urlOf(other.port, ":its%20own@"), realDisk, dir, OPEN);
  await named.connected();
});

test("an address of the URL's host name is whom the URL names", async () => {
  using dir = tempDir("stranger");
  await using first = guarded(SECRET);
  await using replica = follow(urlOf(first.port, undefined, "localhost"), realDisk, dir, OPEN);
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  await client.send("REPLICAOF", "127.0.0.1", first.port);
  await until(() => replica.replica.primary.hostAndPort[0] === "127.0.0.1", {
    what: "the address",
  });
  await replica.connected();
  expect(replica.replica.links.failedAttempts.size).toBe(0);
});

test("with sentinels, REPLICAOF to whom they name keeps the login, and to another doesn't", async () => {
  using dir = tempDir("stranger");
  await using first = guarded(SECRET);
  await using promoted = guarded(SECRET);
  await using stranger = guarded("its own");
  let { port } = first;
  await using sentinel = fakeSentinel(() => named(port));
  const url = sentinelUrl([sentinel], { login: `:${SECRET}@` });
  await using replica = follow(url, realDisk, dir, OPEN);
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  ({ port } = promoted);
  await client.send("REPLICAOF", "127.0.0.1", promoted.port);
  await replica.connected();
  expect(replica.replica.links.failedAttempts.size).toBe(0);
  expect(sentTo(promoted)).toContain(SECRET);
  await client.send("REPLICAOF", "127.0.0.1", stranger.port);
  await until(() => stranger.peers.length > 0, { what: "the stranger" });
  // After it, Sentinel decides again.
  await until(() => promoted.peers.length > 1, { what: "the one that Sentinel names" });
  await replica.connected();
  expect(sentTo(stranger)).not.toContain("AUTH");
});

test("a server without a password is followed as ever", async () => {
  using dir = tempDir("stranger");
  await using first = guarded(SECRET);
  await using open = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100, psyncReply: "+CONTINUE" });
  });
  await using replica = follow(urlOf(first.port), realDisk, dir, OPEN);
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  await client.send("REPLICAOF", "127.0.0.1", open.port);
  await until(() => open.peers.length > 0, { what: "the other" });
  await replica.connected();
  expect(replica.replica.links.failedAttempts.size).toBe(0);
});
