import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { bulkPayload, fakePrimary } from "../support/fake-primary.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { type RealServer, availableServers, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { behave, followArgs, grantFullSync, smallRdb } from "./bad-input-rig.ts";

/** WAITAOF came with Redis 7.2. */
const withWaitaof = availableServers().filter((kind) => kind !== "redis-7.0");

/** Starts a replica, and waits until the primary sees it online. */
async function attach(
  server: RealServer,
  dir: string,
  ...flags: string[]
): Promise<ReplicaProcess> {
  const replica = startReplica(["follow", server.url(), "--dir", dir, "--port", "0", ...flags]);
  await replica.waitForLine(/connected by full resync/);
  await until(
    async () => {
      const { connected_slaves, slave0 } = await server.info("replication");
      return connected_slaves === "1" && slave0?.includes("state=online");
    },
    { what: "the primary to see the replica online" },
  );
  return replica;
}

describe("WAIT 1 succeeds with this replica alone", () => {
  for (const kind of availableServers()) {
    for (const ack of ["written", "durable"]) {
      test(`${kind}, --ack ${ack}`, async () => {
        await using server = await startServer(kind);
        using folder = tempDir("wait");
        await using replica = await attach(server, folder.file("data"), "--ack", ack);
        for (let i = 0; i < 5; i++) {
          await server.send("SET", "key", i);
          expect(await server.send("WAIT", 1, 30_000)).toBe(1);
        }
        expect((await replica.stop()).exitCode).toBe(0);
      });
    }
  }

  test("--ack durable --fsync no: GETACK causes the sync", async () => {
    await using server = await startServer("redis-7.0");
    using folder = tempDir("wait-no");
    const flags = ["--ack", "durable", "--fsync", "no"];
    await using replica = await attach(server, folder.file("data"), ...flags);
    for (let i = 0; i < 5; i++) {
      await server.send("SET", "key", i);
      expect(await server.send("WAIT", 1, 30_000)).toBe(1);
    }
    expect((await replica.stop()).exitCode).toBe(0);
  });
});

describe("WAITAOF 0 1 with this replica alone", () => {
  for (const kind of withWaitaof) {
    for (const fsync of ["everysec", "always"]) {
      test(`succeeds: ${kind}, --fsync ${fsync}`, async () => {
        await using server = await startServer(kind);
        using folder = tempDir("waitaof");
        await using replica = await attach(server, folder.file("data"), "--fsync", fsync);
        for (let i = 0; i < 2; i++) {
          await server.send("SET", "key", i);
          expect(await server.send("WAITAOF", 0, 1, 30_000)).toEqual([0, 1]);
        }
        expect((await replica.stop()).exitCode).toBe(0);
      });
    }

    test(`fails, unlike WAIT: ${kind}, --fsync no`, async () => {
      await using server = await startServer(kind);
      using folder = tempDir("waitaof-no");
      await using replica = await attach(server, folder.file("data"), "--fsync", "no");
      await server.send("SET", "key", 1);
      expect(await server.send("WAITAOF", 0, 1, 300)).toEqual([0, 0]);
      expect(await server.send("WAIT", 1, 30_000)).toBe(1);
      expect((await replica.stop()).exitCode).toBe(0);
    });
  }
});

const SET = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n";
const GETACK = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/** The durable offset of the last mark in `replica.db`. */
function markedOffset(dir: string): number {
  using db = new Database(join(dir, "replica.db"), { readonly: true });
  return db
    .query<{ offset: number }, []>(
      "SELECT durable_offset AS offset FROM marks ORDER BY id DESC LIMIT 1",
    )
    .get()!.offset;
}

describe("acknowledgements", () => {
  for (const ack of ["written", "durable"] as const) {
    test(`--ack ${ack}: never go back, and FACK never exceeds the last mark`, async () => {
      using folder = tempDir("acks");
      const dir = folder.file("data");
      let acks = 0;
      await using primary = fakePrimary(async (peer) => {
        await grantFullSync(peer, { offset: 100 });
        await peer.send(bulkPayload(smallRdb("value")));
        let sent = 100;
        let last = { ack: 0, fack: 0 };
        for (let round = 0; round < 40; round++) {
          const piece = SET.repeat(1 + (round % 7) * 50) + GETACK;
          const [answered] = await Promise.all([
            peer.readAck(sent + piece.length),
            peer.send(piece),
          ]);
          sent += piece.length;
          const marked = markedOffset(dir);
          const now = { ack: answered.ack, fack: answered.fack ?? -1 };
          expect(now.ack).toBe(sent);
          expect(now.ack).toBeGreaterThanOrEqual(last.ack);
          expect(now.fack).toBeGreaterThanOrEqual(last.fack);
          expect(now.fack).toBeLessThanOrEqual(marked);
          expect(now.fack).toBeLessThanOrEqual(now.ack);
          if (ack === "durable") expect(now.ack).toBe(now.fack);
          last = now;
          acks++;
        }
      });
      await using replica = startReplica(followArgs(primary.url, dir, "--ack", ack));
      await until(() => acks === 40 || primary.failures.length > 0, {
        what: "40 acknowledgements",
      });
      await primary.finished();
      expect((await replica.stop()).exitCode).toBe(0);
    });
  }

  test("--ack durable, without GETACK: never exceed the last mark", async () => {
    using folder = tempDir("unasked");
    const dir = folder.file("data");
    const seen: number[] = [];
    await using primary = fakePrimary(async (peer) => {
      await behave(peer, smallRdb("value"));
      for (let sent = 0; sent < 3; sent++) {
        await peer.send(SET);
        const wanted = 100 + (sent + 1) * SET.length;
        for (let ack = 0; ack < wanted;) {
          const words = await peer.expectCommand("REPLCONF", "ACK");
          const marked = markedOffset(dir);
          ack = Number(words[2]);
          seen.push(ack);
          expect(words[3]).toBe("FACK");
          expect(words[4]).toBe(words[2]);
          expect(ack).toBeLessThanOrEqual(marked);
        }
      }
    });
    await using replica = startReplica(followArgs(primary.url, dir, "--ack", "durable"));
    await until(() => seen.at(-1) === 100 + 3 * SET.length || primary.failures.length > 0, {
      what: "everything to be acknowledged",
    });
    await primary.finished();
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect((await replica.stop()).exitCode).toBe(0);
  });
});
