import { describe, expect, test } from "bun:test";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { type FakePeer } from "../support/fake-peer.ts";
import { Random } from "../support/fill.ts";
import { bulkPayload, eofPayload, type FakePrimary, fakePrimary } from "../support/fake-primary.ts";
import { freePort } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { encodeCommand } from "../support/resp.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import {
  behave,
  currentBase,
  currentLog,
  filesIn,
  followArgs,
  grantFullSync,
  MARK,
  onlyLine,
  smallRdb,
} from "./bad-input-rig.ts";
import { seedOf, swept } from "../support/sweep.ts";

const first = smallRdb("first");
const second = smallRdb("second");
const large = smallRdb("large", 300_000);

function changedInTheMiddle(rdb: Buffer): Buffer {
  const changed = Buffer.from(rdb);
  const at = rdb.length >> 1;
  changed[at] = changed[at]! ^ 1;
  return changed;
}

interface Fault {
  readonly name: string;
  readonly play: (peer: FakePeer) => Promise<void>;
  /** The message. */
  readonly says: RegExp;
  /** The message of a backup to a pipe, if it is different. */
  readonly saysToPipe?: RegExp;
  readonly flags?: readonly string[];
}

/** A fault in place of the reply to PING. */
const atOnce = (name: string, answer: string | Uint8Array, says: RegExp): Fault => ({
  name,
  play: async (peer) => await peer.send(answer),
  says,
});

const close = async (peer: FakePeer) => await peer.close();
const reset = async (peer: FakePeer) => await peer.reset();

/** A fault in place of the reply to PSYNC. */
const toPsync = (
  psyncReply: string,
  says: RegExp,
  end: (peer: FakePeer) => Promise<void> = async () => undefined,
): Fault => ({
  name: `"${psyncReply.slice(0, 40)}" in place of +FULLRESYNC`,
  play: async (peer) => {
    await grantFullSync(peer, { psyncReply });
    await end(peer);
  },
  says,
});

/** A fault after +FULLRESYNC. */
const afterGrant = (
  name: string,
  sent: string | Uint8Array,
  says: RegExp,
  end: (peer: FakePeer) => Promise<void> = async () => undefined,
): Fault => ({
  name,
  play: async (peer) => {
    await grantFullSync(peer);
    await peer.send(sent);
    await end(peer);
  },
  says,
});

/** A fault in place of the line `$<length>`. */
const header = (line: string, says: RegExp): Fault =>
  afterGrant(`"${line}" in place of $<length>`, `${line}\r\n`, says);

// Which of the two depends on whether bytes were still unread.
const gone = /the primary (reset the connection|closed the link)/;
const isNoLength = /a snapshot's length is a whole number up to 2\^53, not '\$/;

const faults: readonly Fault[] = [
  {
    name: "a connection closed at once",
    play: async (peer) => await peer.close(),
    says: gone,
  },
  {
    name: "a connection reset at once",
    play: async (peer) => await peer.reset(),
    says: gone,
  },
  {
    name: "a connection reset after PONG",
    play: async (peer) => {
      await peer.readCommand();
      await peer.send("+PONG\r\n");
      await peer.readCommand();
      await peer.reset();
    },
    says: gone,
  },
  {
    name: "a silent primary",
    play: async (peer) => await peer.untilClosed(),
    says: /the primary was silent for 1000 ms in state receive-pong \(--sync-timeout\)/,
    flags: ["--sync-timeout", "1s"],
  },
  {
    name: "a primary that falls silent after PONG",
    play: async (peer) => {
      await peer.readCommand();
      await peer.send("+PONG\r\n");
      await peer.untilClosed();
    },
    says: /the primary was silent for 1000 ms in state receive-(port|capa) \(--sync-timeout\)/,
    flags: ["--sync-timeout", "1s"],
  },
  {
    ...afterGrant(
      "a primary that falls silent during the payload",
      bulkPayload(large).subarray(0, 100_000),
      /the primary was silent for 1000 ms in state transfer \(--timeout\)/,
      async (peer) => await peer.untilClosed(),
    ),
    flags: ["--timeout", "1s"],
  },
  atOnce(
    "another protocol",
    "220 mail.example ESMTP\r\n",
    /this isn't a Redis server: .* "220 mail\.example/,
  ),
  atOnce("an empty line", "\r\n", /this isn't a Redis server: it answers PING with ""/),
  atOnce("TLS", new Uint8Array([0x15, 3, 1, 0, 2, 2, 0x46, 0x0a]), /speaks TLS: use rediss:\/\//),
  atOnce(
    "an endless line",
    Buffer.alloc(300_000, "x"),
    /got a line longer than 65536 bytes: is this a Redis port\?/,
  ),
  atOnce(
    "a primary with too many clients",
    "-ERR max number of clients reached\r\n",
    /answers PING with -ERR max number of clients reached/,
  ),
  // These two are then asked with INFO what they are; what they said stays the error, whatever they answer to that.
  toPsync(
    "-LOADING Redis is loading",
    /still loading its data \(-LOADING Redis is loading\)/,
    close,
  ),
  toPsync(
    "-NOMASTERLINK Can't SYNC",
    /is itself a replica, .* \(-NOMASTERLINK Can't SYNC\):/,
    reset,
  ),
  toPsync("-BUSY running a script", /can't serve a sync now: -BUSY running a script/),
  toPsync("-NOPERM this user has no permissions", /send it ACL SETUSER default \+psync, or/),
  toPsync(
    "-ERR Command disallowed",
    /\(Azure [^)]*\) offers no PSYNC \(-ERR Command disall/,
    close,
  ),
  toPsync("-ERR not for you", /the primary refuses PSYNC: -ERR not for you/),
  toPsync("+FULLRESYNC short 5", /a replication id has 40 letters and digits, this one is "short"/),
  toPsync(`+FULLRESYNC ${MARK} -1`, /a replication offset is a whole number up to 2\^52/),
  toPsync(`+FULLRESYNC ${MARK}`, /a replication offset is a whole number up to 2\^52/),
  toPsync("+HELLO", /the primary answers PSYNC with "\+HELLO"/),
  header("-ERR Unable to fork", /the primary gave up the full resync: -ERR Unable to fork/),
  header("+OK", /a snapshot begins with \$<length> or \$EOF:<delimiter>, not '\+OK'/),
  header("$", isNoLength),
  header("$12x", isNoLength),
  header("$1e3", isNoLength),
  header("$-5", isNoLength),
  header("$9007199254740992", isNoLength),
  header("$99999999999999999999999999", isNoLength),
  {
    ...header("$9007199254740991", /the snapshot has 9007199254740991 bytes, .* has room for \d+/),
    // The room of a pipe is unknown.
    saysToPipe: /the primary was silent for 1000 ms in state transfer/,
    flags: ["--timeout", "1s"],
  },
  header("$EOF:short", /a snapshot's EOF delimiter has 40 bytes, not/),
  header("$0", /the snapshot ends after 0 bytes, inside its header/),
  afterGrant(
    "an endless line in place of $<length>",
    Buffer.alloc(300_000, "$"),
    /got a line longer than 65536 bytes/,
  ),
  afterGrant("a reset in place of $<length>", "", gone, reset),
  afterGrant("a disk-based payload cut short", bulkPayload(large).subarray(0, -1), gone, close),
  afterGrant("a diskless payload cut short", eofPayload(large, MARK).subarray(0, -1), gone, close),
  afterGrant(
    "a connection reset during the payload",
    bulkPayload(large).subarray(0, 100_000),
    gone,
    async (peer) => {
      await Bun.sleep(50);
      await peer.reset();
    },
  ),
  afterGrant(
    "a length shorter than the snapshot",
    bulkPayload(large.subarray(0, 1000)),
    /the snapshot ends after 1000 bytes, without its last opcode/,
  ),
  afterGrant(
    "an EOF mark inside the snapshot",
    eofPayload(large.subarray(0, 1000), MARK),
    /the snapshot ends after 1000 bytes, without its last opcode/,
  ),
  afterGrant(
    "a wrong checksum",
    bulkPayload(changedInTheMiddle(large)),
    /states the checksum [0-9a-f]{16}, but has [0-9a-f]{16}/,
  ),
  afterGrant(
    "a wrong checksum in a diskless payload",
    eofPayload(changedInTheMiddle(first), MARK),
    /states the checksum [0-9a-f]{16}, but has [0-9a-f]{16}/,
  ),
  afterGrant(
    "a payload that isn't an RDB",
    bulkPayload(Buffer.alloc(5000, "GIF89a")),
    /no RDB|RDB.*GIF89/,
  ),
];

const noFault: Fault = { name: "", play: async () => undefined, says: /^/ };

/** Follows through a full resync, a fault, and another full resync; checks the files in between. */
async function followThrough(fault: Fault): Promise<void> {
  using temp = tempDir();
  const dir = temp.file("data");
  const behaveAgain = Promise.withResolvers<void>();
  await using primary = fakePrimary(async (peer) => {
    if (peer.index === 0) {
      await behave(peer, first);
      await peer.close();
    } else if (peer.index === 1) {
      await fault.play(peer);
      await peer.untilClosed();
    } else {
      await behaveAgain.promise;
      if (!peer.isClosed) await behave(peer, second);
    }
  });
  await using replica = startReplica(followArgs(primary.url, dir, ...(fault.flags ?? [])));
  await replica.waitForLine(/connected by full resync/);
  await until(() => primary.peers[0]?.isClosed, { what: "the first link to end" });
  const kept = filesIn(dir);
  expect(kept["current"]).toBe("-> generations/0000000001");

  await until(() => primary.peers[1]?.isClosed, { what: "the fault to end its link" });
  await until(() => primary.peers.length > 2, { what: "the next attempt" });
  expect(filesIn(dir)).toEqual(kept);
  const said = replica.stderr.split("\n").filter((line) => fault.says.test(line));
  expect(said.length, replica.output()).toBeGreaterThan(0);
  expect(said.at(-1)).toMatch(/ warn {2}.*; next attempt in \d+ ms code=[A-Z_]+ primary=redis:/);

  behaveAgain.resolve();
  await until(() => currentBase(dir).equals(second), { what: "the second snapshot" });
  expect(Object.keys(filesIn(dir)).filter((name) => /temp-|\.tmp/.test(name))).toEqual([]);
  expect(readdirSync(temp.file("data", "generations"))).toHaveLength(2);
  expect(readFileSync(temp.file("data/generations/0000000001/appendonly.aof.1.base.rdb"))).toEqual(
    first,
  );
  expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
  expect(replica.stdout).toBe("");
}

/** Takes a backup from a faulty primary to an existing file, and to standard output. */
async function backupThrough(fault: Fault): Promise<void> {
  using temp = tempDir();
  const out = temp.file("dump.rdb");
  writeFileSync(out, "an earlier backup");
  await using primary = fakePrimary(async (peer) => {
    await fault.play(peer);
    await peer.untilClosed();
  });
  const flags = fault.flags ?? [];
  for (const target of [out, "-"]) {
    const ended = await runReplica(["backup", primary.url, target, "--force", ...flags]);
    expect(ended).toMatchObject({ exitCode: 1, signal: null });
    expect(onlyLine(ended)).toMatch(/^replica: \S/);
    expect(onlyLine(ended)).toMatch(target === "-" ? (fault.saysToPipe ?? fault.says) : fault.says);
    expect(readFileSync(out, "utf8")).toBe("an earlier backup");
    expect(readdirSync(temp.path)).toEqual(["dump.rdb"]);
  }
  expect(primary.failures).toEqual([]);
}

/** `npm test` plays about one in three, and always those that a promise of SECURITY.md rests on. */
const some = new Set(swept(faults, 3, new Random(seedOf("BAD_INPUT_SEED"))));
const played = faults.filter((fault) => some.has(fault) || fault.name.includes("wrong checksum"));

describe.each(played.map((fault) => [fault.name, fault] as const))("%s", (_name, fault) => {
  test.concurrent("follow goes on to the next attempt", async () => await followThrough(fault));
  test.concurrent("backup ends with 1", async () => await backupThrough(fault));
});

describe("a port used by", () => {
  const strangers: readonly (readonly [
    string,
    RegExp,
    (port: number) => AsyncDisposable | undefined,
  ])[] = [
    ["nobody", /connection refused: nothing listens there/, () => undefined],
    [
      "an HTTP server",
      /this isn't a Redis server: it answers PING with "HTTP\/1\.1 400 Bad Request"; that is an HTTP server: give Redis's own port/,
      (port) => {
        const server = Bun.serve({ port, hostname: "127.0.0.1", fetch: () => new Response("hi") });
        return { [Symbol.asyncDispose]: async () => await server.stop(true) };
      },
    ],
  ];

  test.concurrent.each(strangers)(
    "%s: follow waits for the primary",
    async (_who, says, listen) => {
      using temp = tempDir();
      const dir = temp.file("data");
      const port = freePort();
      const good = (): FakePrimary =>
        fakePrimary(async (peer) => await behave(peer, first), { port });
      {
        await using stranger = listen(port);
        const args = followArgs(`redis://127.0.0.1:${port}`, dir, "--log-level", "debug");
        await using replica = startReplica(args);
        await replica.waitForLine(says);
        expect(filesIn(dir)).toEqual({ "generations/": "" });
        await until(() => replica.stderr.split("\n").filter((line) => says.test(line)).length > 2, {
          what: "further attempts",
        });
        // Each attempt is there for debugging; the first one alone is a warning.
        const said = replica.stderr.split("\n").filter((line) => says.test(line));
        expect(said.map((line) => line.includes(" warn "))).toEqual(said.map((_, n) => n === 0));
        await stranger?.[Symbol.asyncDispose]();
        // A stopped HTTP server may give back its port a moment later.
        await using primary = await until(good, { what: "the port to be free" });
        await replica.waitForLine(/connected by full resync/);
        expect(currentBase(dir)).toEqual(first);
        expect(primary.failures).toEqual([]);
      }
    },
  );

  test.concurrent.each(strangers)("%s: backup ends with 1", async (who, says, listen) => {
    using temp = tempDir();
    const port = freePort();
    await using stranger = listen(port);
    const url = `redis://127.0.0.1:${port}`;
    expect(stranger === undefined).toBe(who === "nobody");
    for (const out of [temp.file("dump.rdb"), "-"]) {
      const ended = await runReplica(["backup", url, out]);
      expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
      expect(onlyLine(ended)).toMatch(says);
    }
    expect(readdirSync(temp.path)).toEqual([]);
  });

  test.concurrent("a missing unix socket, and a path that isn't one, end with 1", async () => {
    using temp = tempDir();
    writeFileSync(temp.file("dump.rdb"), "an earlier backup");
    for (const [path, says] of [
      [temp.file("none.sock"), /there is no such socket/],
      [temp.file("dump.rdb"), /refused|no such socket|not a socket/],
    ] as const) {
      const backup = ["backup", `unix://${path}`, temp.file("dump.rdb"), "--force"];
      const ended = await runReplica(backup);
      expect(ended.exitCode).toBe(1);
      expect(onlyLine(ended)).toMatch(says);
    }
    expect(readFileSync(temp.file("dump.rdb"), "utf8")).toBe("an earlier backup");
  });

  test.concurrent("an unknown host name ends with 1", async () => {
    using temp = tempDir();
    const args = ["backup", "redis://no-such-host.invalid:6379", temp.file("dump.rdb")];
    const ended = await runReplica(args);
    expect(ended.exitCode).toBe(1);
    // The machine may be without a name server.
    expect(onlyLine(ended)).toMatch(
      /the host's name (is not known|can't be looked up: no name server answers)/,
    );
    expect(readdirSync(temp.path)).toEqual([]);
  });
});

describe("an EOF mark in two pieces", () => {
  // The snapshot ends with the beginning of the mark, and contains nearly all of it.
  const rdb = smallRdb(`${MARK.slice(0, 39)}-${MARK.slice(0, 20)}`);
  const whole = eofPayload(rdb, MARK);
  const cuts = Array.from({ length: MARK.length + 1 }, (_, cut) => cut);

  async function sendCut(peer: FakePeer, cut: number): Promise<void> {
    const at = whole.length - MARK.length + cut;
    await peer.send(whole.subarray(0, at));
    await Bun.sleep(10);
    await peer.send(whole.subarray(at));
  }

  test.concurrent("is found by follow, wherever it is cut", async () => {
    using temp = tempDir();
    const dir = temp.file("data");
    await using primary = fakePrimary(async (peer) => {
      await grantFullSync(peer, { offset: 1000 * peer.index });
      await sendCut(peer, peer.index);
      await peer.readAck(1000 * peer.index);
      await peer.sendCommand("PUBLISH", "cut", peer.index);
      await peer.sendCommand("REPLCONF", "GETACK", "*");
      await peer.readAck(1000 * peer.index + 1);
      expect(currentBase(dir).equals(rdb)).toBe(true);
      expect(currentLog(dir)).toContain(encodeCommand(["PUBLISH", "cut", peer.index]).toString());
      if (peer.index < MARK.length) await peer.close();
    });
    await using replica = startReplica(followArgs(primary.url, dir));
    await until(() => primary.peers.length === cuts.length || primary.failures.length > 0, {
      what: "all connections",
    });
    await primary.finished();
    expect(replica.stderr).not.toContain("checksum");
  });

  test.concurrent("is found by backup, byte by byte", async () => {
    using temp = tempDir();
    await using primary = fakePrimary(async (peer) => {
      await grantFullSync(peer);
      await peer.sendInChunks(whole, 1);
      await peer.untilClosed();
    });
    const ended = await runReplica(["backup", primary.url, temp.file("dump.rdb")]);
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(readFileSync(temp.file("dump.rdb"))).toEqual(rdb);
    const piped = await runReplica(["backup", primary.url, "-"]);
    expect(piped.exitCode).toBe(0);
    expect(piped.stdout).toBe(new TextDecoder().decode(rdb));
  });

  test.concurrent("doesn't hide the stream after it in the same chunk", async () => {
    using temp = tempDir();
    await using primary = fakePrimary(async (peer) => {
      await grantFullSync(peer);
      await peer.send(Buffer.concat([whole, Buffer.from("PING\r\n")]));
      await peer.readAck(106);
    });
    await using replica = startReplica(followArgs(primary.url, temp.file("data")));
    await replica.waitForLine(/connected by full resync/);
    await primary.finished();
    expect(currentLog(temp.file("data"))).toEndWith("PING\r\n");
  });
});

test("without a fault the same script passes", async () => {
  await followThrough({ ...noFault, play: close, says: gone });
});
