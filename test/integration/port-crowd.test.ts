import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { limits } from "../../src/config/limits.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { fakePrimary } from "../support/fake-primary.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { encodeCommand } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { behave, followArgs, smallRdb } from "./bad-input-rig.ts";

const MIB = 2 ** 20;
const dir = tempDir("port-crowd");
const port = freePort();
const links: FakePeer[] = [];
const primary = fakePrimary(async (peer) => {
  links.push(peer);
  await behave(peer, smallRdb("a value"));
});
let replica: ReplicaProcess;

beforeAll(async () => {
  replica = startReplica([...followArgs(primary.url, dir.file("data")), "--port", String(port)]);
  await replica.waitForLine(/connected by full resync/);
});

afterAll(async () => {
  await replica.stop();
  await primary.stop();
  dir.remove();
});

/** Clients of a crowd: they count what they receive. */
class Crowd implements AsyncDisposable {
  readonly sockets: Socket[];
  heardBytes = 0;
  closed = 0;

  constructor(size: number) {
    this.sockets = Array.from({ length: size }, () => {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.on("close", () => this.closed++);
      socket.on("data", ({ length }) => (this.heardBytes += length));
      return socket;
    });
  }

  async connected(): Promise<void> {
    await until(() => this.sockets.every(({ connecting }) => !connecting), { what: "the links" });
  }

  /** Resolves once the kernel has taken all of it, or the connection is closed. */
  async say(bytes: string | Uint8Array): Promise<void> {
    const written = this.sockets.map(
      (socket) => new Promise<void>((resolve) => socket.write(bytes, () => resolve())),
    );
    await Promise.all(written);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await until(() => this.closed === this.sockets.length, { what: "them to be gone" });
  }
}

test("the primary is acknowledged before hundreds of clients that list each other", async () => {
  await using client = await RespClient.connect({ port });
  await using crowd = new Crowd(300);
  await crowd.connected();
  const list = async () => Buffer.byteLength(String(await client.send("CLIENT", "LIST")));
  await until(async () => /connected_clients:301\r/.test(String(await client.send("INFO"))), {
    what: "all of them",
  });
  const all = 4 * crowd.sockets.length * (await list());
  const [link] = links;
  const getAck = encodeCommand(["REPLCONF", "GETACK", "*"]);
  replica.signal("SIGSTOP");
  try {
    // They come first, and the kernel takes it all.
    await crowd.say("CLIENT LIST\r\n".repeat(4));
    await link!.send(getAck);
  } finally {
    replica.signal("SIGCONT");
  }
  await link!.readAck(100 + getAck.length);
  expect(crowd.heardBytes).toBeLessThan(all / 2);
  // Their lines grow with what is shown of them.
  await until(() => crowd.heardBytes > all * 0.9, { what: "their answers" });
});

test("all clients together hold no more than 64 MiB, and leave none of it behind", async () => {
  await using client = await RespClient.connect({ port });
  const evicted = async () =>
    Number(/evicted_clients:(\d+)/.exec(String(await client.send("INFO", "stats")))?.[1]);
  const before = replica.rssBytes();
  const word = "x".repeat(60_000);
  // Nothing here is beyond what one client may queue.
  const queued = [["MULTI"], ...Array.from({ length: 16 }, () => ["PING", word])];
  const bytes = Buffer.concat(queued.map((words) => encodeCommand(words)));
  {
    const beganMs = performance.now();
    await using crowd = new Crowd(100);
    await crowd.say(bytes);
    const tooMany = (crowd.sockets.length * bytes.length - limits.clientsBytes) / bytes.length;
    // On a busy machine one that takes more than 10 s for a command is disconnected for that.
    await until(() => crowd.closed >= tooMany, { what: "some to be disconnected" });
    const nobodyWasLate = performance.now() - beganMs < limits.commandSeconds * 1_000;
    expect(await evicted()).toBeGreaterThanOrEqual(nobodyWasLate ? tooMany : 1);
    // Whoever holds little stays, and so do most.
    expect(crowd.closed).toBeLessThan(crowd.sockets.length / 2);
    expect(await client.send("PING")).toBe("PONG");
  }
  await until(() => replica.rssBytes() - before < 32 * MIB, {
    what: "the memory to come back",
    everyMs: 100,
  });
  expect(replica.stderr.match(/together they held more than 64\.0 MiB/g)).toHaveLength(1);
});
