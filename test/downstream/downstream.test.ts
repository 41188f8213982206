import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { thrownBy } from "../support/error-of.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { type Disk, realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { type Script } from "../support/fake-primary.ts";
import { type Downstream, fullSync, relaying } from "../support/relaying.ts";
import { SkippingClock } from "../support/skipping-clock.ts";
import { RespClient } from "../support/resp-client.ts";
import { until } from "../support/wait.ts";
import { amount } from "../support/sweep.ts";

/** Those that are fed the same. */
const REPLICAS = amount("DOWNSTREAM_REPLICAS", { sample: 10, full: 50 });
const LARGE_BYTES = 24 * 1024 * 1024;
/** More than a socket buffers, so a replica that doesn't read it stalls. */
const LARGE = smallRdb("0123456789abcdef", LARGE_BYTES);
const large: Script = (peer: FakePeer) => fullSync(peer, LARGE);

/** The snapshots in the data directory that this process has open, one entry for each descriptor. */
function openFiles(path: string): string[] {
  return readdirSync("/proc/self/fd")
    .flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return []; // The descriptor of the listing itself.
      }
    })
    .filter((file) => file.startsWith(path) && file.endsWith(".rdb"));
}

type Relaying = Awaited<ReturnType<typeof relaying>>;

async function attached(relay: Relaying, count: number): Promise<void> {
  await until(() => relay.replica.relay.downstreams.size === count, { what: `${count} attached` });
}

/** Attaches a replica that has announced its port, by partial resync. */
async function online(relay: Relaying): Promise<Downstream> {
  const downstream = await relay.connect();
  await downstream.ask("REPLCONF", "listening-port", 7001, "capa", "psync2");
  await downstream.ask("PSYNC", REPLID, relay.replica.log!.writtenOffset + 1);
  return downstream;
}

describe("reports", () => {
  test("INFO, ROLE, CLIENT LIST and the metrics show attached replicas", async () => {
    await using relay = await relaying();
    await relay.stream("abcdef");
    await using client = await RespClient.connect({ port: relay.port });
    await using one = await online(relay);
    one.say("REPLCONF", "ACK", 104, "FACK", 103);
    await using two = await relay.connect();
    await two.ask("REPLCONF", "ip-address", "replica.example", "listening-port", 7002);
    await two.ask("PSYNC", REPLID, 101);
    await until(() => relay.replica.relay.lagBytes === 106, { what: "the ACK" });
    const info = String(await client.send("INFO", "replication"));
    expect(info).toContain("connected_slaves:2\r\n");
    expect(info).toMatch(/slave0:ip=127\.0\.0\.1,port=7001,state=online,offset=104,lag=\d\r\n/);
    expect(info).toMatch(/slave1:ip=replica\.example,port=7002,state=online,offset=0,lag=\d\r\n/);
    expect(await client.send("ROLE")).toEqual([
      "slave",
      "127.0.0.1",
      relay.primary.port,
      "connected",
      106,
    ]);
    const listed = String(await client.send("CLIENT", "LIST", "TYPE", "replica"))
      .trim()
      .split("\n");
    expect(listed.map((line) => / flags=(\S+) /.exec(line)?.[1])).toEqual(["S", "S"]);
    const metrics = new Metrics();
    metrics.of(relay.status, "0");
    const sent = 'replica_downstream_sent_bytes_total{phase="stream"} 6\n';
    await until(async () => (await metrics.text()).includes(sent), { what: "the stream sent" });
    const text = await metrics.text();
    expect(text).toContain('replica_downstreams{state="online"} 2\n');
    expect(text).toContain("replica_downstream_lag_bytes 106\n");
    expect(text).toContain('replica_downstream_syncs_total{kind="partial"} 2\n');
    expect(await client.send("CLIENT", "KILL", "TYPE", "slave")).toBe(2);
    await attached(relay, 0);
  });

  test("an ACK counts for at most what was sent, and never goes back", async () => {
    await using relay = await relaying();
    await relay.stream("abc");
    await using one = await online(relay);
    await using client = await RespClient.connect({ port: relay.port });
    const answered = async () => {
      const stats = String(await client.send("INFO", "stats"));
      return Number(/^total_commands_processed:(\d+)/m.exec(stats)?.[1]);
    };
    const before = await answered();
    let [said, asked] = [0, 0];
    const say = (offset: number) => {
      said++;
      one.say("REPLCONF", "ACK", offset);
    };
    const acked = async (offset: number, counted: number) => {
      const [downstream] = relay.replica.relay.downstreams;
      const isCounted = () => {
        // Said again and again, as replicas do: what it acknowledges may not have been sent yet.
        say(offset);
        return downstream!.ackedOffset === counted;
      };
      await until(isCounted, { what: `an ACK of ${counted}` });
    };
    await acked(102, 102);
    await acked(Number.MAX_SAFE_INTEGER, 103);
    say(101);
    await until(async () => (await answered()) - before >= said + ++asked, {
      what: "all that was said to be read",
    });
    expect([...relay.replica.relay.downstreams][0]!.ackedOffset).toBe(103);
    await relay.stream("def");
    await acked(106, 106);
  });
});

describe("WAIT", () => {
  test("counts the replicas that acknowledged everything written by then", async () => {
    await using relay = await relaying();
    await relay.stream("abc");
    await using client = await RespClient.connect({ port: relay.port });
    expect(await client.send("WAIT", 0, 0)).toBe(0);
    await using one = await online(relay);
    expect(await client.send("WAIT", 1, 20)).toBe(0);
    const waiting = client.send("WAIT", 1, 0);
    // Later commands of the client are answered after it. Others are not held up.
    const next = client.send("PING");
    await using other = await RespClient.connect({ port: relay.port });
    await until(
      async () => String(await other.send("INFO", "clients")).includes("blocked_clients:1"),
      {
        what: "the client to wait",
      },
    );
    one.say("REPLCONF", "ACK", 103);
    expect([await waiting, await next]).toEqual([1, "PONG"]);
    expect(await client.send("WAIT", 1, 0)).toBe(1);
    expect(await client.send("WAIT", 2, 20)).toBe(1);
    await relay.stream("def");
    expect(await client.send("WAIT", 1, 20)).toBe(0);
  });

  test("is tried once in a turn of the event loop, however much is acknowledged in it", async () => {
    await using rig = await relaying();
    const { relay } = rig.replica;
    const tried: string[] = [];
    let isMet = false;
    const end = relay.when(
      () => tried.push("never") < 0,
      () => undefined,
    );
    const met = Promise.withResolvers<void>();
    relay.when(() => tried.push("once met") > 0 && isMet, met.resolve);
    for (let time = 0; time < 100; time++) relay.moved();
    await new Promise(setImmediate);
    expect(tried).toEqual(["never", "once met"]);
    isMet = true;
    relay.moved();
    await met.promise;
    end();
    relay.moved();
    await new Promise(setImmediate);
    expect(tried).toHaveLength(4);
  });

  test("ends when its client disconnects, or sends too much meanwhile", async () => {
    await using relay = await relaying();
    await using other = await RespClient.connect({ port: relay.port });
    await using one = await relay.connect();
    one.say("WAIT", 1, 0);
    await using two = await relay.connect();
    two.say("WAIT", 1, 0);
    const blocked = (count: number) =>
      until(
        async () =>
          String(await other.send("INFO", "clients")).includes(`blocked_clients:${count}\r`),
        { what: `${count} that wait` },
      );
    await blocked(2);
    one.reset();
    await blocked(1);
    two.write("x".repeat(2 * 1024 * 1024));
    await two.closed();
    await blocked(0);
  });

  test.each([
    [["x", 0], "ERR value is not an integer or out of range"],
    [[1, "x"], "ERR timeout is not an integer or out of range"],
    [[1, -1], "ERR timeout is negative"],
    [[1], "ERR wrong number of arguments for 'wait' command"],
  ])("%p is refused", async (args, message) => {
    await using relay = await relaying();
    await using client = await RespClient.connect({ port: relay.port });
    expect(await thrownBy(client.send("WAIT", ...args))).toThrow(message);
  });
});

describe("bad input", () => {
  test.each([
    [["REPLCONF", "listening-port"], "-ERR syntax error"],
    [["REPLCONF", "listening-port", "x"], "-ERR value is not an integer or out of range"],
    [["REPLCONF", "ip-address", "x".repeat(256)], "-ERR REPLCONF ip-address provided"],
    [["REPLCONF", "ip-address", "1.2.3.4,state=online"], "-ERR REPLCONF ip-address provided"],
    [["REPLCONF", "ip-address", "a\r\nb"], "-ERR REPLCONF ip-address provided"],
    [["REPLCONF", "rdb-only", "2"], "-ERR value is out of range"],
    [["REPLCONF", "rdb-filter-only", "functions"], "-ERR Unrecognized REPLCONF option: rdb-filter"],
    [["REPLCONF", "capa", "anything", "version", "9.0.0"], "+OK"],
    [["REPLCONF"], "+OK"],
    [["PSYNC"], "-ERR wrong number of arguments for 'psync' command"],
    [["PSYNC", REPLID, "x"], "-ERR value is not an integer or out of range"],
    [["PSYNC", REPLID, "9".repeat(30)], "-ERR value is not an integer or out of range"],
    [["PSYNC", REPLID, "101", "FAILOVER"], "-ERR this replica keeps its data on disk and can't"],
    [["SYNC", "now"], "-ERR wrong number of arguments for 'sync' command"],
  ])("%p", async (words, reply) => {
    await using relay = await relaying();
    await using downstream = await relay.connect();
    expect(await downstream.ask(...words)).toStartWith(reply);
    expect(await downstream.ask("PING")).toBe("+PONG");
    expect(relay.replica.relay.downstreams.size).toBe(0);
  });

  test("ignores an ACK of a client that is not attached", async () => {
    await using relay = await relaying();
    await using downstream = await relay.connect();
    downstream.say("REPLCONF", "ACK", 100);
    downstream.say("REPLCONF", "GETACK", "*");
    expect(await downstream.ask("PING")).toBe("+PONG");
    expect(downstream.came).toBe("+PONG\r\n");
  });

  test("refuses PSYNC while a reply is unsent, as Redis does", async () => {
    await using relay = await relaying();
    const isRefused = async () => {
      await using downstream = await relay.connect();
      downstream.write(`PING\r\nPSYNC ? -1\r\n`);
      await until(() => downstream.came.split("\r\n").length > 2, { what: "two replies" });
      return downstream.came === "+PONG\r\n-ERR SYNC and PSYNC are invalid with pending output\r\n";
    };
    // A turn may end between the two commands on a busy machine; then the reply is sent before the second.
    await until(isRefused, { what: "the refusal" });
  });

  test.each([
    ["a command", "PING\r\n"],
    ["a malformed command", "*1\r\n!3\r\n"],
    ["a command on keys", "GET key\r\n"],
  ])("%s after PSYNC ends the link, and no reply lands in the stream", async (_name, text) => {
    await using relay = await relaying();
    await using downstream = await relay.connect();
    downstream.write(`PSYNC ${REPLID} 101\r\n`);
    await downstream.has("+CONTINUE\r\n");
    downstream.write(`\r\n\nPSYNC ? -1\r\nREPLCONF capa eof\r\nREPLCONF x\r\n`);
    await relay.stream("abc");
    await downstream.has("+CONTINUE\r\nabc");
    downstream.write(text);
    await downstream.closed();
    expect(downstream.came).toBe("+CONTINUE\r\nabc");
    await attached(relay, 0);
  });

  test("sends no published message into the stream of a former subscriber", async () => {
    await using relay = await relaying();
    await using client = await RespClient.connect({ port: relay.port });
    await using downstream = await relay.connect();
    await downstream.ask("HELLO", 3);
    await downstream.ask("SUBSCRIBE", "news");
    await until(() => downstream.came.endsWith(":1\r\n"), { what: "the subscription" });
    const before = downstream.came;
    downstream.say("PSYNC", REPLID, 101);
    await downstream.has(`${before}+CONTINUE\r\n`);
    expect(await client.send("PUBLISH", "news", "x")).toBe(0);
    await relay.stream("abc");
    await downstream.has(`${before}+CONTINUE\r\nabc`);
  });
});

describe("many, slow and vanishing", () => {
  test("feeds many replicas the same bytes over one descriptor", async () => {
    await using relay = await relaying({}, [large]);
    const all = await Promise.all(Array.from({ length: REPLICAS }, () => relay.connect()));
    for (const downstream of all) {
      downstream.pause();
      downstream.say("SYNC");
    }
    await attached(relay, REPLICAS);
    expect(openFiles(relay.path)).toHaveLength(1);
    await relay.stream("abc");
    const header = Buffer.from(`$${LARGE.length}\r\n`);
    const expected = Buffer.concat([header, LARGE, Buffer.from("abc")]);
    for (const downstream of all) {
      downstream.resume();
      await until(() => downstream.cameLength === expected.length, {
        what: "all of it",
      });
      expect(downstream.cameBytes.equals(expected)).toBe(true);
      downstream.reset();
    }
    await attached(relay, 0);
    await until(() => openFiles(relay.path).length === 0, {
      what: "the descriptor to be given back",
    });
  });

  test("a replica that doesn't read holds up nobody, and its ACKs are read", async () => {
    await using relay = await relaying({ timeout: "2s" }, [large, ...again]);
    await using slow = await relay.connect();
    slow.pause();
    slow.say("PSYNC", "?", -1);
    await attached(relay, 1);
    await using fast = await relay.connect();
    fast.say("PSYNC", REPLID, 101);
    for (const text of ["one", "two", "three"]) await relay.stream(text);
    await fast.has("+CONTINUE\r\nonetwothree");
    expect(relay.replica.relay.countByState()).toMatchObject({ send_bulk: 1, online: 1 });
    slow.resume();
    await until(() => slow.came.endsWith("onetwothree"), { what: "all of it" });
    expect(slow.came).toBe(
      `+FULLRESYNC ${REPLID} 100\r\n$${LARGE.length}\r\n${LARGE.toString("latin1")}onetwothree`,
    );
    // Also one that is online, and reads no more of the stream than the kernel takes for it.
    await using other = await relaying();
    await using deaf = await online(other);
    deaf.pause();
    await other.stream("x".repeat(LARGE_BYTES));
    const [downstream] = other.replica.relay.downstreams;
    const isAcked = () => {
      deaf.say("REPLCONF", "ACK", 103);
      return downstream!.ackedOffset === 103;
    };
    await until(isAcked, { what: "its ACK" });
    expect(deaf.cameLength).toBeLessThan(LARGE_BYTES);
  });

  /** Whether the first generation is there, after everything was removed that may be. */
  const isKept = async ({ replica: { directory } }: Relaying) => {
    await directory.keeping.retain(0, undefined);
    return existsSync(directory.generationDir(1));
  };

  test("a slow replica pins the generation that it reads, then continues in the next", async () => {
    const renewed: Script = (peer) => fullSync(peer, smallRdb("another value", LARGE.length), 103);
    await using relay = await relaying({ keep: "0", "keep-for": "off" }, [large, renewed]);
    await relay.stream("abc");
    await using slow = await relay.connect();
    slow.pause();
    slow.say("PSYNC", "?", -1);
    await attached(relay, 1);
    await relay.stream("def");
    const { replica } = relay;
    replica.renewal.begin("the test");
    await until(() => replica.directory.current?.id === 2, { what: "the new generation" });
    await relay.streamOn(0, "ghi");
    expect(await isKept(relay)).toBe(true);
    slow.resume();
    const start = `+FULLRESYNC ${REPLID} 100\r\n$${LARGE.length}\r\n`;
    await slow.has(`${start}${LARGE.toString("latin1")}abcdefghi`);
    // It goes on to the next one in a turn of its own, and the replica removes what may go as well.
    await until(async () => !(await isKept(relay)), { what: "the generation to be let go" });
    expect(existsSync(replica.directory.generationDir(2))).toBe(true);
    await relay.streamOn(0, "jkl");
    await slow.has(`${start}${LARGE.toString("latin1")}abcdefghijkl`);
  });

  const TIMEOUT_MS = 60_000;
  const renewedAt = (offset: number, rdbBytes?: number): Script => {
    return (peer) => fullSync(peer, smallRdb("another value", rdbBytes), offset);
  };
  test("a replica that takes nothing of its snapshot pins no generation after --timeout", async () => {
    const clock = new SkippingClock();
    // After a small one, the one before it would be guarded.
    const scripts = [large, renewedAt(103, LARGE_BYTES)];
    await using relay = await relaying({ keep: "0", "keep-for": "off" }, scripts, realDisk, clock);
    const { replica } = relay;
    await relay.stream("abc");
    const all = [await relay.connect(), await relay.connect()] as const;
    for (const [n, stuck] of all.entries()) {
      stuck.pause();
      stuck.say(...(n === 0 ? ["SYNC"] : ["PSYNC", "?", -1]));
    }
    await attached(relay, 2);
    await until(() => openFiles(relay.path).length === 1, { what: "the snapshot to be read" });
    const isLetGo = () => {
      clock.skip(TIMEOUT_MS / 50);
      return openFiles(relay.path).length === 0;
    };
    await until(isLetGo, { what: "the snapshot to be let go", everyMs: 50 });
    await attached(relay, 2);
    // As long as it is there, who reads on gets all of it.
    all[0].resume();
    const expected = `$${LARGE.length}\r\n${LARGE.toString("latin1")}abc`;
    await until(() => all[0].cameLength === expected.length, { what: "all of it" });
    expect(all[0].came === expected).toBe(true);
    all[0].reset();
    await attached(relay, 1);
    replica.renewal.begin("the test");
    await until(() => replica.directory.current?.id === 2, { what: "the new generation" });
    expect(await isKept(relay)).toBe(false);
    expect(replica.relay.downstreams.size).toBe(1);
    all[1].resume();
    await all[1].closed();
    for (const one of all) one.reset();
  });

  test.each([
    ["SYNC", "a newline a second"],
    ["PSYNC", "an ACK a second"],
  ])(
    "a replica by %s that takes nothing of the stream, for all %s, pins no generation",
    async (by) => {
      const clock = new SkippingClock();
      const flags = { keep: "0", "keep-for": "off" };
      const end = 103 + LARGE_BYTES;
      const scripts = [fullSync, renewedAt(end)];
      await using relay = await relaying(flags, scripts, realDisk, clock);
      const { replica } = relay;
      await using stuck = await relay.connect();
      stuck.say(...(by === "SYNC" ? ["SYNC"] : ["PSYNC", REPLID, 101]));
      await until(() => [...replica.relay.downstreams][0]?.state === "online", {
        what: "its turn",
      });
      await relay.stream("abc");
      await until(() => stuck.came.endsWith("abc"), { what: "the first bytes" });
      stuck.pause();
      await relay.stream("x".repeat(LARGE_BYTES));
      const [downstream] = replica.relay.downstreams;
      replica.renewal.begin("the test");
      await until(() => replica.directory.current?.id === 2, { what: "the new generation" });
      expect(await isKept(relay)).toBe(true);
      const isUnpinned = async () => {
        clock.skip(TIMEOUT_MS / 25);
        if (by === "SYNC") stuck.write("\n");
        else stuck.say("REPLCONF", "ACK", 103);
        await until(() => downstream!.lagSeconds === 0, { what: "it to be heard" });
        return !(await isKept(relay));
      };
      await until(isUnpinned, { what: "the old one to go", everyMs: 100 });
      expect(stuck.isClosed).toBe(false);
      if (by === "SYNC") {
        // It can't say that it is at work.
        clock.skip(4 * TIMEOUT_MS);
        await attached(relay, 0);
      } else {
        stuck.resume();
        await stuck.closed();
      }
    },
  );

  test("a replica that vanishes during its snapshot releases what it held", async () => {
    await using relay = await relaying({}, [large]);
    for (let round = 0; round < 5; round++) {
      const downstream = await relay.connect();
      downstream.pause();
      downstream.say("SYNC");
      await attached(relay, 1);
      downstream.reset();
      await attached(relay, 0);
    }
    await until(() => openFiles(relay.path).length === 0, { what: "the descriptors to be closed" });
  });

  test("disconnects a replica that takes no byte of its snapshot, and closes the file", async () => {
    await using relay = await relaying({ timeout: "1s" }, [large, ...again]);
    await using stuck = await relay.connect();
    stuck.pause();
    stuck.say("SYNC");
    await attached(relay, 1);
    await attached(relay, 0);
    expect(openFiles(relay.path)).toEqual([]);
  });

  test("disconnects a replica that acknowledges nothing, but not one that sends newlines", async () => {
    await using relay = await relaying({ timeout: "1s" }, [fullSync, ...again]);
    await using mute = await relay.connect();
    mute.say("PSYNC", REPLID, 101);
    await using loading = await relay.connect();
    loading.say("PSYNC", "?", -1);
    const newlines = setInterval(() => loading.write("\n"), 100);
    try {
      await mute.closed();
      expect(loading.isClosed).toBe(false);
    } finally {
      clearInterval(newlines);
    }
    await loading.closed();
  });
});

/** Connections of a primary that closes each at once. */
const again = Array.from({ length: 100 }, (): Script => [{ close: true }]);

describe("a disk that fails", () => {
  test("a snapshot that can't be read ends that link only", async () => {
    const disk: Disk = {
      ...realDisk,
      read: (fd, buffer, position) =>
        readlinkSync(`/proc/self/fd/${fd}`).endsWith(".rdb")
          ? Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" }))
          : realDisk.read(fd, buffer, position),
    };
    await using relay = await relaying({}, [fullSync], disk);
    await using downstream = await relay.connect();
    downstream.say("SYNC");
    await downstream.closed();
    expect(openFiles(relay.path)).toEqual([]);
    await using other = await relay.connect();
    other.say("PSYNC", REPLID, 101);
    await relay.stream("abc");
    await other.has("+CONTINUE\r\nabc");
  });

  test("a log that fails ends the links, and a replica that is ahead of what is left must retry", async () => {
    let fails = false;
    const disk: Disk = {
      ...realDisk,
      syncData: (fd) =>
        fails
          ? Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" }))
          : realDisk.syncData(fd),
    };
    await using relay = await relaying({}, [fullSync, ...again], disk);
    await using downstream = await online(relay);
    fails = true;
    await relay.stream("abc");
    await downstream.closed();
    expect(downstream.came).toEndWith("abc");
    await using back = await relay.connect();
    expect(await back.ask("PSYNC", REPLID, 104)).toMatch(/^-NOMASTERLINK/);
    fails = false;
    await until(() => relay.replica.log?.writtenOffset === 100, { what: "the log to be cut back" });
    expect(await back.ask("PSYNC", REPLID, 104)).toMatch(/^-NOMASTERLINK/);
    expect(await back.ask("PSYNC", REPLID, 101)).toBe("+CONTINUE");
  });
});
