import { describe, expect, test } from "bun:test";
import type { Socket } from "bun";
import { ReplicaError } from "../../src/base/errors.ts";
import { parseReplicationId, type Position } from "../../src/base/history.ts";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { PrimaryLogin } from "../../src/upstream/link/primary-login.ts";
import { Driver } from "../../src/upstream/driver.ts";
import type { SnapshotKeeper, StreamKeeper } from "../../src/upstream/driver-options.ts";
import { until } from "../support/wait.ts";

const REPLID = parseReplicationId("a".repeat(40));
const HANDSHAKE = "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n";
const FULL = `${HANDSHAKE}+FULLRESYNC ${REPLID} 1000\r\n`;

/** A primary that says nothing by itself: the test speaks for it. */
function fakePeer() {
  const sockets: Socket[] = [];
  const heard: string[] = [];
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => {
        sockets.push(socket);
        heard.push("");
      },
      data: (socket, bytes) => {
        heard[sockets.indexOf(socket)] += bytes.toString("latin1");
      },
    },
  });
  return {
    port: server.port,
    /** What came over each connection. */
    heard,
    socket: (n: number) => until(() => sockets[n], { what: `connection ${n}` }),
    [Symbol.dispose]: () => server.stop(true),
  };
}

/** A keeper whose answers the test gives, and that writes down what it was told. */
class FakeKeeper implements SnapshotKeeper, StreamKeeper {
  readonly told: string[] = [];
  readonly opening: PromiseWithResolvers<string>[] = [];
  readonly finishing: PromiseWithResolvers<{ replid: typeof REPLID; receivedOffset: number }>[] =
    [];
  congested = false;
  streamCongested = false;

  open(): Promise<string> {
    this.told.push("open");
    const answer = Promise.withResolvers<string>();
    this.opening.push(answer);
    return answer.promise;
  }
  payload(bytes: Uint8Array): void {
    this.told.push(`payload ${Buffer.from(bytes).toString()}`);
  }
  finish(): Promise<{ replid: typeof REPLID; receivedOffset: number }> {
    this.told.push("finish");
    const answer = Promise.withResolvers<{ replid: typeof REPLID; receivedOffset: number }>();
    this.finishing.push(answer);
    return answer.promise;
  }
  discard(): void {
    this.told.push("discard");
  }
  continued(): void {
    this.told.push("continued");
  }
  stream(bytes: Uint8Array): void {
    this.told.push(`stream ${Buffer.from(bytes).toString()}`);
  }
  acknowledge(offset: number): void {
    if (offset > 0) this.told.push(`acknowledge ${offset}`);
  }
}

function drive(port: number, clock: Clock = realClock) {
  const keeper = new FakeKeeper();
  const failed: ReplicaError[] = [];
  const awaited = { is: false };
  const target = {
    kind: "tcp",
    host: "127.0.0.1",
    port,
    username: undefined,
    password: undefined,
  } as const;
  const driver = new Driver(
    {
      purpose: "follow",
      syncLinks: 2,
      login: new PrimaryLogin(target, { username: undefined, password: undefined }),
      listeningPort: 6380,
      announceIp: undefined,
      syncTimeoutMs: 5000,
      timeoutMs: 60_000,
      maxLineBytes: 1024,
      peerTerms: () => ({
        address: undefined,
        isTls: false,
        commands: { psync: "PSYNC", sync: "SYNC" },
        asksInfo: false,
      }),
      tls: {
        caFile: undefined,
        certFile: undefined,
        keyFile: undefined,
        serverName: undefined,
        insecure: false,
      },
    },
    clock,
    {
      failed: (error) => failed.push(error),
      failedUnlinked: (error) => failed.push(error),
      note: () => undefined,
      moved: () => undefined,
      isAwaited: () => awaited.is,
    },
  );
  const reach = (at: string) => until(() => driver.state.at === at, { what: `the state ${at}` });
  // Whoever names the primary makes a new object each time.
  const attempt = (resume?: Position) => driver.attempt({ ...target }, keeper, keeper, resume);
  return {
    driver,
    attempt,
    keeper,
    failed,
    awaited,
    reach,
    [Symbol.dispose]: () => driver.leave(),
  };
}

describe("Driver", () => {
  test("does what the session decides, in order", async () => {
    using peer = fakePeer();
    using replica = drive(peer.port);
    replica.attempt();
    (await peer.socket(0)).write(`${FULL}$3\r\nrdbSTREAM`);
    await until(() => replica.keeper.opening.length === 1, { what: "the snapshot" });
    replica.keeper.opening[0]!.resolve("temp");
    await until(() => replica.keeper.finishing.length === 1, { what: "the end" });
    replica.keeper.finishing[0]!.resolve({ replid: REPLID, receivedOffset: 1006 });
    await replica.reach("connected");
    expect(replica.keeper.told).toEqual([
      "open",
      "payload rdb",
      "finish",
      "stream STREAM",
      "acknowledge 1006",
    ]);
  });

  test("drops what a dead link still says", async () => {
    using peer = fakePeer();
    using replica = drive(peer.port);
    replica.attempt();
    const first = await peer.socket(0);
    await replica.reach("receive-pong");
    replica.driver.leave();
    replica.attempt();
    await peer.socket(1);
    await replica.reach("receive-pong");
    first.write(FULL);
    first.end();
    await Bun.sleep(50);
    expect(replica.driver.state.at).toBe("receive-pong");
    expect(replica.failed).toEqual([]);
  });

  test("a file that opens too late counts for no later attempt", async () => {
    using peer = fakePeer();
    using replica = drive(peer.port);
    for (let n = 0; n < 2; n++) {
      replica.attempt();
      (await peer.socket(n)).write(`${FULL}$3\r\n`);
      await until(() => replica.keeper.opening.length === n + 1, { what: "the snapshot" });
      if (n === 0) replica.driver.leave();
    }
    replica.keeper.opening[0]!.reject(new ReplicaError("STOPPED", { message: "given up" }));
    await Bun.sleep(20);
    expect(replica.driver.state).toMatchObject({ waits: "file" });
    expect(replica.failed).toEqual([]);
  });

  test.each(["resolves", "rejects"])(
    "a snapshot of an attempt that is over %s: nothing happens to the next one's",
    async (how) => {
      using peer = fakePeer();
      using replica = drive(peer.port);
      for (let n = 0; n < 2; n++) {
        replica.attempt();
        (await peer.socket(n)).write(`${FULL}$3\r\n${n === 0 ? "rdb" : "r"}`);
        await until(() => replica.keeper.opening.length === n + 1, { what: "the snapshot" });
        replica.keeper.opening[n]!.resolve(`temp ${n}`);
        await replica.reach("transfer");
        if (n > 0) break;
        await until(() => replica.keeper.finishing.length === 1, { what: "the end" });
        replica.driver.leave();
      }
      const late = replica.keeper.finishing[0]!;
      if (how === "resolves") late.resolve({ replid: REPLID, receivedOffset: 1000 });
      else late.reject(new ReplicaError("STOPPED", { message: "given up" }));
      await Bun.sleep(20);
      expect(replica.driver.state).toMatchObject({ at: "transfer", file: "temp 1" });
      expect(replica.failed).toEqual([]);
    },
  );

  test("reports a primary that closes as one failure", async () => {
    using peer = fakePeer();
    using replica = drive(peer.port);
    replica.attempt();
    (await peer.socket(0)).end();
    await replica.reach("connect");
    await Bun.sleep(20);
    expect(replica.failed.map((error) => error.code)).toEqual(["LINK_LOST"]);
  });

  test("nobody listens: CONNECT_FAILED", async () => {
    let port: number;
    {
      using peer = fakePeer();
      ({ port } = peer);
    }
    using replica = drive(port);
    replica.attempt();
    await replica.reach("connect");
    expect(replica.failed.map((error) => error.code)).toEqual(["CONNECT_FAILED"]);
  });

  test("makes do with one link after two failed, though Sentinel or the cluster names the primary anew", async () => {
    using peer = fakePeer();
    using replica = drive(peer.port);
    replica.attempt();
    (await peer.socket(0)).write(`${HANDSHAKE}+RDBCHANNELSYNC 7\r\n`);
    (await peer.socket(1)).write("-ERR no second link here\r\n");
    await replica.reach("connect");
    replica.attempt();
    (await peer.socket(2)).write(FULL);
    await replica.reach("receive-bulk-header");
    const asksTwo = peer.heard.map((said) => said.includes("rdb-channel-repl"));
    expect([asksTwo[0], asksTwo[2]]).toEqual([true, false]);
  });

  test("while the keeper is congested the link is not read; then it goes on", async () => {
    using peer = fakePeer();
    using replica = drive(peer.port);
    replica.attempt({ replid: REPLID, offset: 10 });
    const socket = await peer.socket(0);
    socket.write(`${HANDSHAKE}+CONTINUE\r\n`);
    await replica.reach("connected");
    replica.keeper.congested = true;
    socket.write("first");
    await until(() => replica.keeper.told.includes("stream first"), { what: "the first bytes" });
    socket.write("stream");
    await Bun.sleep(30);
    expect(replica.keeper.told).not.toContain("stream stream");
    replica.keeper.congested = false;
    replica.driver.hasRoom();
    await until(() => replica.keeper.told.includes("stream stream"), { what: "the stream" });
  });

  test("rests between small chunks, and gathers what comes meanwhile, while nobody waits for an answer", async () => {
    let nowMs = 0;
    const rests: { ms: number; end: () => void }[] = [];
    const clock = {
      ...realClock,
      monotonicMs: () => nowMs,
      sleep: (ms: number) => new Promise<void>((end) => void rests.push({ ms, end })),
    };
    using peer = fakePeer();
    using replica = drive(peer.port, clock);
    replica.attempt({ replid: REPLID, offset: 10 });
    const socket = await peer.socket(0);
    socket.write(`${HANDSHAKE}+CONTINUE\r\n`);
    await replica.reach("connected");
    const { told } = replica.keeper;
    const kept = (text: string) =>
      until(() => told.includes(`stream ${text}`), { what: `${text} to be kept` });
    const send = async (text: string) => {
      nowMs += 10;
      socket.write(text);
      await kept(text);
    };
    await send("first");
    expect(rests.map(({ ms }) => ms)).toEqual([50]);
    socket.write("gath");
    await Bun.sleep(10);
    socket.write("ered");
    await Bun.sleep(10);
    expect(told.at(-1)).toBe("stream first");
    // Room on the disk doesn't end a rest.
    replica.keeper.congested = true;
    replica.driver.hasRoom();
    replica.keeper.congested = false;
    replica.driver.hasRoom();
    nowMs += 50;
    rests.pop()!.end();
    await kept("gathered");
    expect(replica.driver.endRest()).toBeUndefined();
    await send("close");
    await until(() => rests.length > 0, { what: "the next rest" });
    // What ends the following reads first what has come.
    socket.write("unread");
    await Bun.sleep(10);
    expect(told.at(-1)).toBe("stream close");
    void replica.driver.endRest();
    await kept("unread");
    for (const { end } of rests.splice(0)) end();

    replica.awaited.is = true;
    await send("awaited");
    expect(rests).toEqual([]);
    replica.awaited.is = false;
    await send("*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n");
    await send("after a GETACK");
    expect(rests).toEqual([]);
    socket.end();
    await replica.reach("connect");
  });

  test("doesn't count its own stall as the primary's silence", async () => {
    let stoodStillMs = 0;
    const monotonicMs = () => realClock.monotonicMs() + stoodStillMs;
    using peer = fakePeer();
    using replica = drive(peer.port, { ...realClock, monotonicMs });
    replica.attempt({ replid: REPLID, offset: 10 });
    (await peer.socket(0)).write(`${HANDSHAKE}+CONTINUE\r\n`);
    await replica.reach("connected");
    stoodStillMs = 3_600_000;
    replica.driver.everySecond();
    expect(replica.driver.state.at).toBe("connected");
    expect(replica.failed).toEqual([]);
    // Seen every second, the silence is the primary's.
    for (let second = 0; second < 61; second++) {
      stoodStillMs += 1_000;
      replica.driver.everySecond();
    }
    expect(replica.failed.map(({ code }) => code)).toEqual(["TIMED_OUT"]);
  });
});
