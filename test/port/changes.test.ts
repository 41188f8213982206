import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { thrownBy } from "../support/error-of.ts";
import { newerThanCapability, runIdCapability } from "../../src/base/capabilities.ts";
import { COMMANDS } from "../../src/port/command-table.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { fakePrimary } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { Downstream, fullSync } from "../support/relaying.ts";
import { encodeCommand, ReplyError } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** What must not be left to everybody on the machine; SHUTDOWN comes last. */
const CHANGES = [
  ["CONFIG", "SET", "masterauth", "x"],
  ["config", "rewrite"],
  ["CONFIG", "RESETSTAT"],
  ["BGSAVE"],
  ["REPLICA", "ACCEPT"],
  ["CLIENT", "KILL", "TYPE", "pubsub"],
  ["PUBLISH", "__sentinel__:hello", "a message that moves Sentinels to another primary"],
  ["REPLICAOF", "127.0.0.1", "1"],
  ["SLAVEOF", "NO", "ONE"],
  ["SHUTDOWN"],
];

const LOOKS = [
  ["PING"],
  ["INFO"],
  ["ROLE"],
  ["CONFIG", "GET", "*"],
  ["CLIENT", "LIST"],
  ["CLIENT", "SETNAME", "me"],
  ["REPLICA", "HELP"],
  ["LASTSAVE"],
];

async function isDenied(client: RespClient, words: readonly string[]): Promise<boolean> {
  const [reply] = await client.exchange([[...words]]);
  return reply instanceof ReplyError && reply.message.startsWith("DENIED ");
}

const silent = () => fakePrimary(async (peer) => await peer.closed);
const withPassword = (url: string) => url.replace("://", "://:secret@");

test("each command that changes something says so", () => {
  const names = [...COMMANDS.values()].filter(({ changes }) => changes !== undefined);
  const tried = new Set(CHANGES.map(([name = ""]) => name.toLowerCase()));
  expect(new Set(names.map(({ name }) => name))).toEqual(tried);
});

test("where the primary has a password and the port has none, a client may look and change nothing", async () => {
  using dir = tempDir("changes");
  await using primary = silent();
  await using replica = follow(withPassword(primary.url), realDisk, dir);
  await using client = await RespClient.connect({ port: replica.port });
  for (const words of CHANGES)
    expect([words, await isDenied(client, words)]).toEqual([words, true]);
  for (const words of LOOKS) expect([words, await isDenied(client, words)]).toEqual([words, false]);
  // As a Sentinel does it.
  await client.send("MULTI");
  expect(await isDenied(client, ["SLAVEOF", "127.0.0.1", "1"])).toBe(true);
  expect(await thrownBy(client.send("EXEC"))).toThrow("EXECABORT");
  expect(replica.replica.primary.name).toBe(primary.url);
  expect(replica.replica.isFollowing).toBe(true);
});

test("who may only look makes no fork by saying that it is a replica", async () => {
  using dir = tempDir("changes");
  await using primary = fakePrimary({ connections: [fullSync] });
  await using replica = follow(withPassword(primary.url), realDisk, dir);
  await replica.connected();
  // A log that would be worth a new snapshot.
  const stream = encodeCommand(["SET", "key", "v".repeat(100_000)]);
  await primary.peers[0]!.send(stream);
  const { log } = replica.replica;
  await until(() => log!.writtenOffset === 100 + stream.length, { what: "the log" });
  await using downstream = await Downstream.connect(replica.port);
  await downstream.ask("REPLCONF", "capa", newerThanCapability(999_999_999));
  expect(await downstream.ask("PSYNC", "?", -1)).toMatch(/^\+FULLRESYNC \w+ 100$/);
  expect(replica.replica.renewal.counts).toEqual({ ok: 0, failed: 0 });
  expect(primary.peers).toHaveLength(1);
});

test.each([
  ["who may only look isn't believed", {}, ""],
  ["who may change things is believed", { unprotected: "true" }, "a".repeat(40)],
])(
  "%s to be another process: one that is above would end the link to the primary",
  async (_, flags: Record<string, string>, runId) => {
    using dir = tempDir("changes");
    await using primary = fakePrimary({ connections: [fullSync] });
    await using replica = follow(withPassword(primary.url), realDisk, dir, flags);
    await replica.connected();
    await using downstream = await Downstream.connect(replica.port);
    await downstream.ask("REPLCONF", "capa", runIdCapability("a".repeat(40)));
    expect(await downstream.ask("PSYNC", "?", -1)).toStartWith("+FULLRESYNC ");
    expect([...replica.replica.relay.downstreams].map((one) => one.runId)).toEqual([runId]);
  },
);

test.each([
  ["the primary has no password", (url: string) => url, {}],
  ["--unprotected is given", withPassword, { unprotected: "true" }],
  ["the client is logged in", withPassword, { own: "yes" }],
] as const)(
  "a client may change things where %s",
  async (_when, urlOf, { own, ...flags }: Record<string, string>) => {
    using dir = tempDir("changes");
    writeFileSync(dir.file("own"), "sesame");
    await using primary = silent();
    const more = own === undefined ? flags : { ...flags, "requirepass-file": dir.file("own") };
    await using replica = follow(urlOf(primary.url), realDisk, dir, more);
    const login = own === undefined ? {} : { password: "sesame" };
    await using client = await RespClient.connect({ port: replica.port, ...login });
    for (const words of CHANGES.slice(0, -1)) {
      expect([words, await isDenied(client, words)]).toEqual([words, false]);
    }
    expect(replica.replica.isFollowing).toBe(false);
  },
);
