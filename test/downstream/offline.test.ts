import { describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseInfo } from "../../src/resp/info-text.ts";
import type { OfflineStart } from "../../src/program/assemble.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { fakePrimary, type Script, standardHandshake } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { runReplica } from "../support/replica-process.ts";
import { Downstream, fullSync, relaying } from "../support/relaying.ts";
import { RespClient } from "../support/resp-client.ts";
import { encodeCommand } from "../support/resp.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const RDB = smallRdb("a value");
const PING = "*1\r\n$4\r\nPING\r\n";
const SET = encodeCommand(["SET", "key", "value"]).toString();
const BASE = `$${RDB.length}\r\n${RDB.toString("latin1")}`;
/** Makes a PING due every half second. */
const SOON = { timeout: "2s" };

/** Fills a data directory whose log holds these bytes. Returns its last offset. */
async function keptWith(dir: TempDir, ...pieces: string[]): Promise<number> {
  await using primary = fakePrimary({ connections: [(peer) => fullSync(peer)] });
  await using following = follow(primary.url, realDisk, dir);
  await following.connected();
  for (const piece of pieces) await primary.peers[0]!.send(piece);
  const end = 100 + pieces.join("").length;
  await until(() => following.replica.log?.durableOffset === end, { what: "the log" });
  return end;
}

async function serving(dir: TempDir, start: OfflineStart = { until: undefined }, disk = realDisk) {
  const offline = follow("redis://127.0.0.1:1", disk, dir, SOON, start);
  await until(() => offline.replica.stream !== undefined, { what: "it to serve" });
  return { ...offline, connect: () => Downstream.connect(offline.port) };
}

function replidOf({ replica }: Awaited<ReturnType<typeof serving>>): string {
  return replica.stream!.replid!;
}

describe("without a primary", () => {
  test("serves everything that is kept, then periodic PINGs, in a history of its own", async () => {
    using dir = tempDir("offline");
    const end = await keptWith(dir, SET, SET);
    const log = readFileSync(dir.file("data/current/appendonly.aof.1.incr.aof"));
    await using offline = await serving(dir);
    const replid = replidOf(offline);
    expect(replid).not.toBe(REPLID);
    await using downstream = await offline.connect();
    downstream.say("PSYNC", "?", -1);
    downstream.keepAlive();
    await downstream.has(`+FULLRESYNC ${replid} 100\r\n${BASE}${SET}${SET}${PING}${PING}`);
    await using former = await offline.connect();
    former.keepAlive();
    await former.ask("REPLCONF", "capa", "psync2");
    // In the old history, and in the middle of a PING of the new one.
    expect(await former.ask("PSYNC", REPLID, end + 1)).toBe(`+CONTINUE ${replid}`);
    await until(() => former.came.endsWith(`\r\n${PING}${PING}`), { what: "PINGs" });
    await using within = await offline.connect();
    within.keepAlive();
    within.say("PSYNC", replid, end + 1 + 5);
    await until(() => within.came.startsWith(`+CONTINUE\r\n${PING.slice(5)}${PING}`), {
      what: "the rest of a PING, and the next",
    });
    expect(readFileSync(dir.file("data/current/appendonly.aof.1.incr.aof"))).toEqual(log);
  });

  test.each([
    ["a command", [SET, SET.slice(0, 9)], SET],
    ["a transaction", [SET, "*1\r\n$5\r\nMULTI\r\n", SET], SET],
    ["the first command", [SET.slice(0, 9)], ""],
  ])("serves a log that ends within %s without it", async (_what, pieces, whole) => {
    using dir = tempDir("offline");
    const end = await keptWith(dir, ...pieces);
    const cut = 100 + whole.length;
    await using offline = await serving(dir);
    const replid = replidOf(offline);
    await using downstream = await offline.connect();
    downstream.say("PSYNC", "?", -1);
    await downstream.has(`+FULLRESYNC ${replid} 100\r\n${BASE}${whole}${PING}`);
    // A Redis replica asks from the end of its last whole command. One that is ahead has more than is served.
    await using former = await offline.connect();
    expect(await former.ask("PSYNC", REPLID, cut + 1)).toBe("+CONTINUE");
    await using ahead = await offline.connect();
    expect(await ahead.ask("PSYNC", REPLID, end + 1)).toBe(`+FULLRESYNC ${replid} 100`);
  });

  test("serves nothing past the offset that was given", async () => {
    using dir = tempDir("offline");
    const end = await keptWith(dir, SET, SET, SET);
    const offset = 100 + SET.length * 2;
    const offline = await serving(dir, { until: { generation: 1, offset: offset + 3 } });
    const replid = replidOf(offline);
    {
      await using client = await RespClient.connect({ port: offline.port });
      const info = parseInfo(String(await client.send("INFO")));
      const told = (names: readonly string[]) => names.map((name) => info.get(name));
      expect(
        told(["slave_repl_offset", "written_offset", "durable_offset", "served_offset"]),
      ).toEqual(Array(4).fill(String(offset)));
      expect(told(["master_host", "master_port", "offline", "primary"])).toEqual([
        "",
        "0",
        "1",
        "",
      ]);
    }
    await using downstream = await offline.connect();
    downstream.say("PSYNC", "?", -1);
    await downstream.has(`+FULLRESYNC ${replid} 100\r\n${BASE}${SET}${SET}${PING}`);
    for (const [id, next, reply] of [
      [REPLID, offset + 1, "+CONTINUE"],
      [REPLID, offset + 2, `+FULLRESYNC ${replid} 100`],
      [REPLID, end + 1, `+FULLRESYNC ${replid} 100`],
      [replid, end + 1_000, `+FULLRESYNC ${replid} 100`],
      [replid, Number.MAX_SAFE_INTEGER, `+FULLRESYNC ${replid} 100`],
      ["f".repeat(40), offset + 1, `+FULLRESYNC ${replid} 100`],
    ] as const) {
      await using asking = await offline.connect();
      expect([next, await asking.ask("PSYNC", id, next)]).toEqual([next, reply]);
    }
    // Serving up to another offset makes another history.
    await offline[Symbol.asyncDispose]();
    await using all = await serving(dir);
    expect(replidOf(all)).not.toBe(replid);
  });

  test("serves the same history after a restart, and continues where it was", async () => {
    using dir = tempDir("offline");
    const end = await keptWith(dir, SET);
    const first = await serving(dir);
    const replid = replidOf(first);
    await using downstream = await first.connect();
    downstream.say("PSYNC", "?", -1);
    await until(() => downstream.came.endsWith(`${SET}${PING}`), { what: "a PING" });
    await first[Symbol.asyncDispose]();
    await using second = await serving(dir);
    await using again = await second.connect();
    expect(await again.ask("PSYNC", replid, end + 1 + PING.length)).toBe("+CONTINUE");
    await until(() => again.came.endsWith(`CONTINUE\r\n${PING}`), { what: "the next PING" });
  });

  test("serves up to the last mark after a power cut, without cutting the log", async () => {
    using dir = tempDir("offline");
    const marked = await keptWith(dir, SET);
    const log = dir.file("data/current/appendonly.aof.1.incr.aof");
    appendFileSync(log, SET);
    {
      using db = new Database(dir.file("data/replica.db"));
      db.run("UPDATE boot SET boot_id = 'another'");
    }
    const bytes = readFileSync(log);
    const offline = await serving(dir);
    expect(offline.replica.stream!.writtenOffset).toBe(marked);
    await offline[Symbol.asyncDispose]();
    expect(readFileSync(log)).toEqual(bytes);
  });

  test("WAIT and INFO include the PINGs that were sent", async () => {
    using dir = tempDir("offline");
    const end = await keptWith(dir, SET);
    await using offline = await serving(dir);
    await using downstream = await offline.connect();
    downstream.say("PSYNC", "?", -1);
    await until(() => downstream.came.endsWith(`${SET}${PING}`), { what: "a PING" });
    await using client = await offline.connect();
    client.say("WAIT", 1, 0);
    downstream.say("REPLCONF", "ACK", offline.replica.stream!.endOffset + 10_000);
    await client.has(":1\r\n");
    expect(offline.replica.stream!.endOffset).toBeGreaterThan(end);
    expect(offline.replica.relay.lagBytes).toBeLessThanOrEqual(PING.length);
  });

  test("retries a disk that can't be read", async () => {
    using dir = tempDir("offline");
    await keptWith(dir, SET);
    const disk = new FaultyDisk({ operation: "read", code: "EIO" });
    const starting = follow("redis://127.0.0.1:1", disk, dir, SOON, { until: undefined });
    await using offline = starting;
    await until(() => offline.replica.links.last?.error.code === "DISK_FAILED", {
      what: "the failure",
    });
    await using asking = await Downstream.connect(offline.port);
    expect(await asking.ask("PSYNC", "?", -1)).toMatch(/^-NOMASTERLINK/);
    disk.heal();
    await until(() => offline.replica.stream !== undefined, { what: "it to serve" });
    expect(await asking.ask("PSYNC", "?", -1)).toMatch(/^\+FULLRESYNC/);
  });
});

describe("REPLICAOF NO ONE", () => {
  test("ends the links, and replicas that reconnect continue in the new history", async () => {
    const goOn: Script = (peer) =>
      void standardHandshake(peer, { replid: REPLID, offset: 0, psyncReply: "+CONTINUE" });
    await using relay = await relaying(SOON, [fullSync, goOn]);
    await relay.stream(SET);
    await using downstream = await relay.connect();
    downstream.say("PSYNC", "?", -1);
    await until(() => downstream.came.endsWith(SET), { what: "the stream" });
    await using client = await relay.connect();
    expect(await client.ask("REPLICAOF", "NO", "ONE")).toBe("+OK");
    await downstream.closed();
    // Until then a replica that reconnects gets -NOMASTERLINK, and tries again.
    await until(() => relay.replica.stream !== undefined, { what: "it to serve" });
    await using again = await relay.connect();
    await again.ask("REPLCONF", "capa", "psync2");
    const reply = await again.ask("PSYNC", REPLID, 100 + SET.length + 1);
    expect(reply).toMatch(/^\+CONTINUE [0-9a-f]{40}$/);
    expect(reply).not.toContain(REPLID);
    await until(() => again.came.endsWith(PING), { what: "a PING" });
    const replid = reply.slice("+CONTINUE ".length);
    // The primary's stream from there on is another history, unknown until the primary is connected.
    expect(await client.ask("REPLICAOF", "127.0.0.1", 1)).toBe("+OK");
    await again.closed();
    await using past = await relay.connect();
    const asked = ["PSYNC", replid, 100 + SET.length + 1 + PING.length] as const;
    expect(await past.ask(...asked)).toMatch(/^-NOMASTERLINK/);
    await using before = await relay.connect();
    expect(await before.ask("PSYNC", replid, 100 + SET.length + 1)).toBe("+CONTINUE");
    expect(await client.ask("REPLICAOF", "127.0.0.1", relay.primary.port)).toBe("+OK");
    await until(() => relay.replica.state.at === "connected", { what: "the link" });
    expect(await past.ask(...asked)).toBe(`+FULLRESYNC ${REPLID} 100`);
  });

  test("serves nothing where nothing is kept", async () => {
    using dir = tempDir("offline");
    await using primary = fakePrimary({ connections: [[{ untilClosed: true }]] });
    await using following = follow(primary.url, realDisk, dir);
    await using client = await Downstream.connect(following.port);
    expect(await client.ask("REPLICAOF", "NO", "ONE")).toBe("+OK");
    expect(await client.ask("PSYNC", "?", -1)).toMatch(/^-NOMASTERLINK/);
  });

  test("does not serve a damaged log, and goes on running", async () => {
    await using relay = await relaying(SOON);
    await relay.stream(SET);
    await until(() => relay.replica.log!.durableOffset === 100 + SET.length, { what: "a mark" });
    await using downstream = await relay.connect();
    downstream.say("PSYNC", "?", -1);
    await until(() => downstream.came.endsWith(SET), { what: "the stream" });
    const log = join(relay.path, "current/appendonly.aof.1.incr.aof");
    const bytes = readFileSync(log);
    bytes[bytes.length - 4]! ^= 1;
    writeFileSync(log, bytes);
    await using client = await relay.connect();
    expect(await client.ask("REPLICAOF", "NO", "ONE")).toBe("+OK");
    await downstream.closed();
    await until(() => relay.replica.links.last?.error.code === "DIRECTORY_DAMAGED", { what: "it" });
    expect(await client.ask("PSYNC", "?", -1)).toMatch(/^-NOMASTERLINK/);
    // While nothing is served, no replica counts.
    expect(await client.ask("WAIT", 1, 10)).toBe(":0");
    expect(await client.ask("PING")).toBe("+PONG");
  });
});

describe("the command line", () => {
  test("--at and --offset need --offline and a moment that is kept", async () => {
    using dir = tempDir("offline");
    const end = await keptWith(dir, SET);
    const run = async (...args: string[]) => {
      const { exitCode, stderr } = await runReplica(["follow", "--port", "0", ...args]);
      return { exitCode, stderr };
    };
    const data = ["--dir", dir.file("data")];
    for (const [args, told] of [
      [[...data, "--at", "1"], "--at needs --offline"],
      [[...data, "--offset", "1"], "--offset needs --offline"],
      [[...data, "--offline", "--at", "1"], "is not kept: the kept times are from"],
      [[...data, "--offline", "--at", "noon"], "--at is"],
      [[...data, "--offline", "--at", "1", "--offset", "1"], "give --at or --offset, not both"],
      [[...data, "--offline", "--offset", String(end + 1)], "is not kept"],
      [[...data, "--offline", "--generation", "7"], "keeps no generation 7"],
      [["--dir", dir.file("none"), "--offline"], "isn't a replica data directory"],
    ] as const) {
      const { exitCode, stderr } = await run(...args);
      expect([args, exitCode, stderr]).toEqual([args, 2, expect.stringContaining(told)]);
    }
    expect(await Bun.file(dir.file("none")).exists()).toBe(false);
  });

  test("refuses to serve damage, and names the last offset before it", async () => {
    using dir = tempDir("offline");
    await keptWith(dir, SET, SET);
    const log = dir.file("data/current/appendonly.aof.1.incr.aof");
    const bytes = readFileSync(log);
    bytes[bytes.length - 4]! ^= 1;
    writeFileSync(log, bytes);
    const argv = ["--offline", "--port", "0", "--dir", dir.file("data")];
    const { exitCode, stderr } = await runReplica(argv);
    expect([exitCode, stderr]).toEqual([3, expect.stringMatching(/checksum .*--offset \d+/)]);
  });
});
