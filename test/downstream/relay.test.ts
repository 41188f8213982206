import { describe, expect, test } from "bun:test";
import { realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import {
  bulkPayload,
  fakePrimary,
  type Script,
  standardHandshake,
  untilSync,
} from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { Downstream, fullSync, relaying } from "../support/relaying.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const OTHER = "b".repeat(40);
const RDB = smallRdb("a value");
const FULL = `+FULLRESYNC ${REPLID} 100\r\n$${RDB.length}\r\n${RDB.toString("latin1")}`;

describe("a full resync", () => {
  test("sends the snapshot, the log after its SELECT, then new bytes", async () => {
    await using relay = await relaying();
    await relay.stream("*1\r\n$4\r\nPING\r\n");
    await using downstream = await relay.connect();
    downstream.say("PSYNC", "?", -1);
    await downstream.has(`${FULL}*1\r\n$4\r\nPING\r\n`);
    await relay.stream("one");
    await relay.stream("two");
    await downstream.has(`${FULL}*1\r\n$4\r\nPING\r\nonetwo`);
  });

  test("SYNC gets no reply line, and never times out", async () => {
    // The primary is silent too, and its link is given up.
    const again = Array.from({ length: 100 }, (): Script => [{ close: true }]);
    await using relay = await relaying({ timeout: "1s" }, [fullSync, ...again]);
    await relay.stream("abc");
    await using quiet = await relay.connect();
    quiet.say("SYNC");
    await using mute = await relay.connect();
    mute.say("PSYNC", "?", -1);
    await quiet.has(`${FULL.slice(FULL.indexOf("$"))}abc`);
    // Of the two silent replicas, only the one that must acknowledge is disconnected.
    await mute.closed();
    expect(quiet.isClosed).toBe(false);
  });

  test("rdb-only sends the snapshot and nothing else", async () => {
    await using relay = await relaying();
    await relay.stream("abc");
    await using downstream = await relay.connect();
    expect(await downstream.ask("REPLCONF", "rdb-only", 1)).toBe("+OK");
    downstream.say("SYNC");
    await until(() => relay.replica.relay.countByState().rdb_transmitted === 1, {
      what: "its end",
    });
    await relay.stream("def");
    await downstream.has(`+OK\r\n${FULL.slice(FULL.indexOf("$"))}`);
  });

  test("is refused while nothing is kept, with an error that makes replicas retry", async () => {
    using dir = tempDir("relay");
    await using primary = fakePrimary({ connections: [[{ untilClosed: true }]] });
    await using following = follow(primary.url, realDisk, dir);
    await using downstream = await Downstream.connect(following.port);
    const refusal = "-NOMASTERLINK Can't SYNC while not connected with my master";
    expect(await downstream.ask("PSYNC", "?", -1)).toBe(refusal);
    expect(await downstream.ask("SYNC")).toBe(refusal);
  });

  test("is granted to SYNC alone where the primary knows no PSYNC", async () => {
    const rdb = RDB.toString("latin1");
    await using relay = await relaying({}, [
      async (peer) => {
        const replies = { PSYNC: "-ERR unknown command 'PSYNC'" };
        await standardHandshake(peer, { replid: REPLID, offset: 0, replies });
        await untilSync(peer);
        await peer.send(bulkPayload(RDB));
      },
    ]);
    await using downstream = await relay.connect();
    expect(await downstream.ask("PSYNC", "?", -1)).toMatch(/^-ERR unknown command 'PSYNC'/);
    const before = downstream.came;
    downstream.say("SYNC");
    await downstream.has(`${before}$${rdb.length}\r\n${rdb}`);
  });
});

describe("a partial resync", () => {
  test.each([
    ["from the base on", 101, "abcdef"],
    ["from the middle of what there is", 104, "def"],
    ["from the end on", 107, ""],
  ])("%s", async (_name, offset, rest) => {
    await using relay = await relaying();
    await relay.stream("abcdef");
    await using downstream = await relay.connect();
    await downstream.ask("REPLCONF", "capa", "eof", "capa", "psync2");
    downstream.say("PSYNC", REPLID, offset);
    await downstream.has(`+OK\r\n+CONTINUE ${REPLID}\r\n${rest}`);
    await relay.stream("ghi");
    await downstream.has(`+OK\r\n+CONTINUE ${REPLID}\r\n${rest}ghi`);
  });

  test("names no id to a replica without psync2", async () => {
    await using relay = await relaying();
    await using downstream = await relay.connect();
    downstream.say("PSYNC", REPLID, 101);
    await downstream.has("+CONTINUE\r\n");
  });

  test.each([
    ["before the base", REPLID, 100],
    ["past the end", REPLID, 108],
    ["far past the end", REPLID, Number.MAX_SAFE_INTEGER],
    ["negative", REPLID, -5],
    ["of another history", OTHER, 104],
    ["of an id in the other case", REPLID.toUpperCase(), 104],
    ["of an invalid id", "x", 104],
  ])("%s: grants a full resync", async (_name, replid, offset) => {
    await using relay = await relaying();
    await relay.stream("abcdef");
    await using downstream = await relay.connect();
    downstream.say("PSYNC", replid, offset);
    await downstream.has(`${FULL}abcdef`);
    expect(relay.replica.relay.counts).toMatchObject({ full: 1, partial: 0, refused: 1 });
  });

  /** Waits until that many clients of the port are blocked. */
  const blocked = async (client: RespClient, count: number) => {
    await until(
      async () =>
        String(await client.send("INFO", "clients")).includes(`blocked_clients:${count}\r`),
      { what: `${count} to wait` },
    );
  };

  test("waits for a replica that is ahead until its offset arrives", async () => {
    await using relay = await relaying();
    await relay.stream("abc");
    await using client = await RespClient.connect({ port: relay.port });
    await using downstream = await relay.connect();
    await downstream.ask("REPLCONF", "capa", "psync2");
    // It has followed the primary directly, and received three bytes more.
    downstream.say("PSYNC", REPLID, 107);
    await blocked(client, 1);
    await relay.stream("defgh");
    await downstream.has(`+OK\r\n+CONTINUE ${REPLID}\r\ngh`);
    await blocked(client, 0);
    expect(relay.replica.relay.counts).toMatchObject({ full: 0, partial: 1, refused: 0 });
  });

  test("forgets a replica that is ahead and disconnects", async () => {
    await using relay = await relaying();
    await relay.stream("abc");
    await using client = await RespClient.connect({ port: relay.port });
    {
      await using downstream = await relay.connect();
      downstream.say("PSYNC", REPLID, 107);
      await blocked(client, 1);
    }
    await blocked(client, 0);
    await relay.stream("defgh");
    expect(relay.replica.relay.counts).toMatchObject({ full: 0, partial: 0 });
  });

  test("makes a replica that is ahead retry while the primary is away", async () => {
    const go = Promise.withResolvers<void>();
    await using relay = await relaying({}, [
      async (peer) => {
        await fullSync(peer);
        await go.promise;
        await peer.close();
      },
      ...Array.from({ length: 1_000 }, (): Script => [{ close: true }]),
    ]);
    go.resolve();
    await until(() => relay.replica.state.at !== "connected", { what: "the primary to be away" });
    await using downstream = await relay.connect();
    expect(await downstream.ask("PSYNC", REPLID, 102)).toMatch(/^-NOMASTERLINK/);
    expect(await downstream.ask("PSYNC", REPLID, 101)).toBe("+CONTINUE");
  });
});

describe("a new id of the primary's", () => {
  test("ends the links, and replicas that reconnect continue under either id", async () => {
    await using relay = await relaying({}, [
      async (peer) => {
        await fullSync(peer);
        await peer.send("abc");
        await peer.readAck(103);
        await peer.close();
      },
      async (peer) => {
        await standardHandshake(peer, {
          replid: OTHER,
          offset: 103,
          psyncReply: `+CONTINUE ${OTHER}`,
        });
        await peer.send("def");
      },
    ]);
    await until(() => relay.replica.log?.writtenOffset === 106, { what: "the new history" });
    await using first = await relay.connect();
    first.say("PSYNC", REPLID, 102);
    await first.has("+CONTINUE\r\nbcdef");
    // One byte past the end of the old history takes a full resync, under the new id.
    await using second = await relay.connect();
    second.say("PSYNC", REPLID, 105);
    const full = FULL.replace(REPLID, OTHER);
    await second.has(`${full}abcdef`);
    // A replica that got the new id with its snapshot may disconnect before the offset where that id began.
    await using third = await relay.connect();
    third.say("PSYNC", OTHER, 102);
    await third.has("+CONTINUE\r\nbcdef");
  });

  test("closes the link of an attached replica", async () => {
    const go = Promise.withResolvers<void>();
    await using relay = await relaying({}, [
      async (peer) => {
        await fullSync(peer);
        await go.promise;
        await peer.close();
      },
      async (peer) => {
        await standardHandshake(peer, {
          replid: OTHER,
          offset: 100,
          psyncReply: `+CONTINUE ${OTHER}`,
        });
      },
    ]);
    await using downstream = await relay.connect();
    downstream.say("PSYNC", REPLID, 101);
    await downstream.has("+CONTINUE\r\n");
    go.resolve();
    await downstream.closed();
    expect(relay.replica.directory.replid as string).toBe(OTHER);
  });

  test("a full resync ends the links, and the generation before it no longer counts", async () => {
    const go = Promise.withResolvers<void>();
    await using relay = await relaying({}, [
      async (peer) => {
        await fullSync(peer);
        await go.promise;
        await peer.close();
      },
      async (peer) => {
        await standardHandshake(peer, { replid: OTHER, offset: 500 });
        await peer.send(bulkPayload(RDB));
      },
    ]);
    await relay.stream("abc");
    await using before = await relay.connect();
    before.say("PSYNC", REPLID, 101);
    await before.has("+CONTINUE\r\nabc");
    go.resolve();
    await before.closed();
    await using after = await relay.connect();
    after.say("PSYNC", REPLID, 102);
    await after.has(FULL.replace(`${REPLID} 100`, `${OTHER} 500`));
  });
});
