import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runIdCapability } from "../../src/base/capabilities.ts";
import { type Direction, DIRECTIONS, type Effect, type Plan } from "../support/fault-plan.ts";
import { type FaultRoute, startFaultProxy } from "../support/fault-proxy.ts";
import { Random } from "../support/fill.ts";
import { encodeCommand } from "../support/resp.ts";
import { bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { cpuTime, socketsOf } from "../support/sockets.ts";
import { amount, seedOf, swept } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { certificates } from "../support/tls.ts";
import { until } from "../support/wait.ts";
import { caughtUp, eventsOf, expectWhole, followAgain, type Following } from "./network-rig.ts";
import { SeededLoad } from "./seeded-load.ts";

/** Random cuts in each test. More: `NETWORK_CUTS=500 bun test test/faults/network.test.ts`. */
const CUTS = amount("NETWORK_CUTS", { sample: 5, full: 30 });
/** A TLS handshake has thousands of bytes; `NETWORK_TLS_STRIDE=1` cuts the link at each of them. */
const TLS_STRIDE = amount("NETWORK_TLS_STRIDE", { sample: 421, full: 29 });
/** `npm test` cuts a plain handshake at one byte in so many. */
const ONE_BYTE_IN = 16;
const SEED = seedOf("NETWORK_SEED");

/** No connection takes this long, not even on a busy machine. */
const STUCK_MS = 90_000;

// A whole test has hundreds of connections, one after the other, and each takes as long as the machine is busy: 10 ms
// on a quiet one, half a second beside thirty busy processes. What hangs is found by the limit of one connection.
setDefaultTimeout(10 * STUCK_MS);

type CutKind = "reset" | "half-close";
const CUT_KINDS: readonly CutKind[] = ["reset", "half-close"];
/** Each byte is cut at in one of the ways, and its neighbours in the other. */
const shards = DIRECTIONS.flatMap((direction) =>
  CUT_KINDS.map((kind, first) => ({ direction, kind, first })),
);

/** Large, so that every resume is granted. */
const BACKLOG = ["--repl-backlog-size", "64mb"];
const PAYLOAD_KEYS = 20;
const PAYLOAD_VALUE_BYTES = 60_000;
const PAYLOAD_BYTES = PAYLOAD_KEYS * PAYLOAD_VALUE_BYTES;
/** More than a primary sends before the payload. */
const BEFORE_PAYLOAD_BYTES = 300;

const proxy = startFaultProxy();
let server: RealServer;
/** A primary that sends a PING each second and soon drops replicas that don't acknowledge. */
let watchful: RealServer;
/** One that sends a PING each second, and waits long. */
let patient: RealServer;

beforeAll(async () => {
  const often = ["--repl-ping-replica-period", "1"];
  [server, watchful, patient] = await Promise.all([
    startPrimary(),
    startPrimary(...often, "--repl-timeout", "3"),
    startPrimary(...often),
  ]);
});

afterAll(async () => {
  await Promise.all([server, watchful, patient].map((one) => one[Symbol.asyncDispose]()));
  await proxy[Symbol.asyncDispose]();
});

/** Starts a primary whose payload takes many packets. */
async function startPrimary(...more: string[]): Promise<RealServer> {
  const args = [...BACKLOG, "--rdbcompression", "no", "--hz", "100", ...more];
  const primary = await startServer("redis-7.0", { args, tls: { clients: "no" } });
  await primary.send("DEBUG", "POPULATE", PAYLOAD_KEYS, "large", PAYLOAD_VALUE_BYTES);
  return primary;
}

/** How a replica connects through a route. */
const ways = {
  plain: { url: (route: FaultRoute) => `redis://127.0.0.1:${route.port}`, flags: {} },
  TLS: {
    url: (route: FaultRoute) => `rediss://127.0.0.1:${route.port}`,
    flags: { "tls-ca": certificates.ca },
  },
} as const;
type Way = keyof typeof ways;

async function routeTo(primary: RealServer, way: Way): Promise<FaultRoute> {
  return await proxy.route(way === "TLS" ? primary.tlsPort! : primary.port);
}

const cut = (direction: Direction, kind: CutKind, afterBytes: number): Plan => [
  { direction, afterBytes, effect: { kind } },
];

/** Resets all open connections. */
const breakAll = async (route: FaultRoute) => await route.inject("to-primary", { kind: "reset" });

/**
 * Waits until at most `left` plans are without a connection.
 * @throws Error with the state of the replica, of its last connection and of its sockets if no plan is taken for 90 s.
 */
async function used(route: FaultRoute, { replica }: Following, left = 0): Promise<void> {
  const waiting = async () => (await route.count()).waiting;
  for (let before = await waiting(); before > left; before = await waiting()) {
    await until(async () => (await waiting()) < before, {
      timeoutMs: STUCK_MS,
      everyMs: 20,
      what: "the next connection",
    }).catch(async (error: unknown) => {
      const { connections, passed } = await route.count();
      const at = { state: replica.state.at, silentMs: replica.silentMs, connections };
      const sockets = socketsOf([route.port, server.port]);
      const seen = JSON.stringify({
        ...at,
        waiting: before,
        passed: passed.at(-1),
        sockets,
        cpu: cpuTime(),
      });
      throw new Error(`${String(error)}: ${seen}; ${replica.links.lastCause}`, { cause: error });
    });
  }
}

/** Keeps writing while `work` runs, so that there is a stream. */
async function writingWhile(primary: RealServer, work: Promise<void>): Promise<void> {
  let isOver = false;
  const over = work.finally(() => {
    isOver = true;
  });
  over.catch(() => undefined);
  for (let n = 0; !isOver; n++) {
    await primary.send("SET", `written:${n % 100}`, `${n}:`.repeat(10));
    await Bun.sleep(10);
  }
  await over;
}

/** Length of the primary's answers up to +CONTINUE, in bytes. */
const ANSWERED_BYTES = ["+PONG", "+OK", "+OK", "+OK", `+CONTINUE ${"0".repeat(40)}`]
  .map((line) => `${line}\r\n`.length)
  .reduce((sum, bytes) => sum + bytes);
/** How far the cuts reach into the stream after the handshake. */
const STREAM_BYTES = 40;
/** More than a TLS handshake and the replication handshake in it. */
const TLS_BYTES = 2_300;

/** Length of the replica's handshake up to its PSYNC, in bytes. */
function askedBytes({ replica, port }: Following): number {
  const commands = [
    ["PING"],
    ["REPLCONF", "listening-port", port],
    "REPLCONF capa eof capa psync2 capa rdb-channel-repl capa dual-channel capa"
      .split(" ")
      .concat(runIdCapability(replica.runId)),
    ["REPLCONF", "version", "255.255.255"],
    ["PSYNC", replica.directory.replid!, replica.log!.writtenOffset + 1],
  ];
  return commands.reduce((bytes, words) => bytes + encodeCommand(words).length, 0);
}

async function passedLast(route: FaultRoute): Promise<Readonly<Record<Direction, number>>> {
  return (await route.count()).passed.at(-1)!;
}

const upTo = (bytes: number, stride = 1, first = 0): number[] =>
  Array.from({ length: Math.floor((bytes - first) / stride) + 1 }, (_, n) => first + n * stride);

const gone = /^the primary (reset the connection|closed the link)/;

/** Expects the reasons of all breaks to match, in printable characters. */
function expectBreaks(path: string, says: RegExp): void {
  const breaks = eventsOf(path, "break");
  expect(breaks.length).toBeGreaterThan(0);
  for (const reason of breaks) {
    expect(reason).toMatch(/^[\x20-\x7e]+$/);
    expect(reason).toMatch(says);
  }
}

/** Expects no full resync after anything was kept. */
function expectNoneAgain(path: string): void {
  for (const reason of eventsOf(path, "full-resync")) {
    expect(reason).toEndWith("nothing was kept to resume from");
  }
}

function countKept(path: string): number {
  using db = new Database(join(path, "replica.db"), { readonly: true });
  const counted = db.query<{ kept: number }, []>(
    "SELECT count(*) AS kept FROM generations WHERE state != 'receiving'",
  );
  return counted.get()!.kept;
}

describe("a link cut at every byte of the handshake", () => {
  test.concurrent.each(shards)(
    "resumes at once: partial resync, $direction, $kind",
    async ({ direction, kind, first }) => {
      using dir = tempDir("cuts");
      await using route = await routeTo(server, "plain");
      await using following = followAgain(ways.plain.url(route), dir);
      await following.connected();
      const { replica, path } = following;
      const base = readFileSync(replica.directory.basePath(1));
      await breakAll(route);
      await until(() => replica.resyncs.partial === 1, { what: "a partial resync" });
      // Not what has passed by now: on a busy machine that includes a lot of the stream.
      const bytes = {
        "to-primary": askedBytes(following),
        "to-replica": ANSWERED_BYTES + STREAM_BYTES,
      };
      // After each cut connection comes one that is cut only in its first ACK. By then the offset in PSYNC
      // may have a few more digits.
      const followed = cut("to-primary", "reset", bytes["to-primary"] + 8);
      const offsets = swept(
        upTo(bytes[direction], CUT_KINDS.length, first),
        ONE_BYTE_IN,
        new Random(SEED),
      );
      await route.plan(offsets.flatMap((at) => [cut(direction, kind, at), followed]));
      await breakAll(route);
      await writingWhile(server, used(route, following));
      await following.connected();
      expect(replica.resyncs.full).toBe(1);
      expect(replica.resyncs.partial).toBeGreaterThanOrEqual(offsets.length);
      await expectWhole(following, server);
      expectBreaks(path, gone);
      expect(readFileSync(replica.directory.basePath(1)).equals(base)).toBe(true);
      expect(await following.stop()).toBeUndefined();
    },
  );

  test.concurrent.each(shards)(
    "leaves the kept generation unchanged: full resync, $direction, $kind",
    async ({ direction, kind, first }) => {
      using dir = tempDir("cuts");
      // Without PINGs in its stream: one of them before the cuts would lengthen the kept log.
      const args = [...BACKLOG, "--hz", "100", "--repl-ping-replica-period", "3600"];
      await using primary = await startServer("redis-7.0", { args });
      await using route = await routeTo(primary, "plain");
      await using following = followAgain(ways.plain.url(route), dir);
      await following.connected();
      const { replica, path } = following;
      const { directory } = replica;
      const mark = 40;
      const bytes = {
        "to-primary": askedBytes(following),
        "to-replica": (await passedLast(route))["to-replica"] - directory.current!.rdbBytes - mark,
      };
      await primary.send("SET", "key", "of the first history");
      await caughtUp(following, primary);
      const kept = () => [directory.basePath(1), directory.logPath(1)].map((p) => readFileSync(p));
      const before = kept();
      await primary.send("DEBUG", "CHANGE-REPL-ID");
      // Without the last byte: a whole PSYNC would be granted.
      const last = bytes[direction] - (direction === "to-primary" ? 1 : 0);
      const offsets = swept(upTo(last, CUT_KINDS.length, first), ONE_BYTE_IN, new Random(SEED));
      await route.plan(offsets.map((at) => cut(direction, kind, at)));
      await breakAll(route);
      await used(route, following);
      await until(() => replica.state.at === "connected" && directory.current!.id > 1, {
        what: "a full resync",
      });
      await primary.send("SET", "key", "of the second history");
      await expectWhole(following, primary);
      expectBreaks(path, gone);
      expect(kept()).toEqual(before);
      expect(countKept(path)).toBe(2);
      expect(await following.stop()).toBeUndefined();
    },
  );

  test.concurrent.each(shards.map((shard, first) => ({ ...shard, first })))(
    "resumes at once: over TLS, at a stride, $direction, $kind",
    async ({ direction, kind, first }) => {
      using dir = tempDir("cuts");
      await using route = await routeTo(server, "TLS");
      await using following = followAgain(ways.TLS.url(route), dir, ways.TLS.flags);
      await following.connected();
      const { replica, path } = following;
      await breakAll(route);
      await until(() => replica.resyncs.partial === 1, { what: "a partial resync" });
      const bytes = Math.min(TLS_BYTES, (await passedLast(route))[direction]);
      const offsets = upTo(bytes, TLS_STRIDE, first % TLS_STRIDE);
      await route.plan(offsets.map((at) => cut(direction, kind, at)));
      await breakAll(route);
      await writingWhile(server, used(route, following));
      await following.connected();
      await expectWhole(following, server);
      expectBreaks(path, gone);
      expectNoneAgain(path);
      expect(await following.stop()).toBeUndefined();
    },
  );
});

function oneOf<T>(values: readonly T[], random: Random): T {
  return values[random.below(values.length)]!;
}

/** Makes `count` random cuts, each inside the payload. */
function cutsOfPayload(count: number, way: Way, random: Random): Plan[] {
  const least = way === "TLS" ? 4_000 : BEFORE_PAYLOAD_BYTES;
  return Array.from({ length: count }, () =>
    cut("to-replica", oneOf(CUT_KINDS, random), least + random.below(PAYLOAD_BYTES)),
  );
}

/** Makes `count` random cuts after a partial resync, of the stream and of the ACKs. */
function cutsOfStream(count: number, random: Random): Plan[] {
  return Array.from({ length: count }, () => {
    const kind = oneOf(CUT_KINDS, random);
    return random.below(4) === 0
      ? cut("to-primary", kind, 200 + random.below(200))
      : cut("to-replica", kind, random.below(40_000));
  });
}

describe("cuts at random bytes", () => {
  const rounds = [
    { way: "plain", diskless: "yes", what: "diskless" },
    { way: "plain", diskless: "no", what: "disk-based" },
    { way: "TLS", diskless: "yes", what: "over TLS" },
  ] as const;

  test.concurrent.each(rounds)(
    "lose nothing in the payload ($what) and in the stream after it",
    async ({ way, diskless }) => {
      const random = new Random(SEED);
      using dir = tempDir("random-cuts");
      await using primary = await startPrimary("--repl-diskless-sync", diskless);
      await using load = await SeededLoad.start(primary, SEED);
      await using route = await routeTo(primary, way);
      const inPayload = cutsOfPayload(Math.ceil(CUTS / 2), way, random);
      // The whole payload, and some of the stream.
      const whole = cut("to-replica", "reset", PAYLOAD_BYTES * 1.5);
      await route.plan([...inPayload, whole, ...cutsOfStream(CUTS, random)]);
      const { url, flags } = ways[way];
      await using following = followAgain(url(route), dir, flags);
      const { replica, path } = following;
      await used(route, following);
      await following.connected();
      await load.stop();
      await expectWhole(following, primary);
      expectNoneAgain(path);
      expect(replica.resyncs.full).toBe(inPayload.length + 1);
      expectBreaks(path, gone);
      expect(countKept(path)).toBe(1);
      expect(await following.stop()).toBeUndefined();
      await using copy = await bootCopy("redis-7.0", join(path, "current"));
      expect(await copy.digest()).toBe(await primary.digest());
    },
  );

  test.concurrent("lose nothing on either side of a replica that feeds another", async () => {
    const random = new Random(SEED);
    using dir = tempDir("random-cuts");
    using lastDir = tempDir("random-cuts");
    await using primary = await startPrimary();
    await using load = await SeededLoad.start(primary, SEED);
    await using before = await routeTo(primary, "plain");
    await using middle = followAgain(ways.plain.url(before), dir);
    await middle.connected();
    await using behind = await proxy.route(middle.port);
    await before.plan(cutsOfStream(CUTS, random));
    await breakAll(before);
    const inPayload = cutsOfPayload(Math.ceil(CUTS / 4), "plain", random);
    await behind.plan([...inPayload, [], ...cutsOfStream(CUTS, random)]);
    await using last = followAgain(ways.plain.url(behind), lastDir);
    // The remaining plans are used once it follows.
    await used(behind, last, CUTS);
    await last.connected();
    await breakAll(behind);
    await Promise.all([used(before, middle), used(behind, last)]);
    await load.stop();
    for (const following of [middle, last]) {
      await following.connected();
      await expectWhole(following, primary);
      expectNoneAgain(following.path);
      expectBreaks(following.path, gone);
      expect(countKept(following.path)).toBe(1);
    }
  });
});

type Phase = "handshake" | "transfer" | "stream";

interface FaultCase {
  readonly direction: Direction;
  readonly phase: Phase;
  readonly effect: Effect;
  /** Bytes that the fault lasts. Default: to the end of the connection. */
  readonly lastsBytes?: number;
  /** Why the link breaks; undefined where it must not. */
  readonly says?: RegExp;
  readonly flags?: Record<string, string>;
}

const PHASES: readonly Phase[] = ["handshake", "transfer", "stream"];
const places = PHASES.flatMap((phase) => DIRECTIONS.map((direction) => ({ phase, direction })));

/** Bytes of the direction before the fault begins; without a number it is injected in that phase. */
const BEGINS: Partial<Record<`${Phase} ${Direction}`, number>> = {
  "handshake to-replica": 9,
  "handshake to-primary": 30,
  "transfer to-replica": 200_000,
};
/** Bytes of the payload that are slowed down, so that the transfer can be observed. */
const SLOW_BYTES = 400_000;

function gentle({ phase, direction }: (typeof places)[number]): FaultCase[] {
  const isPayload = phase === "transfer" && direction === "to-replica";
  const lastsBytes = isPayload ? 500_000 : 300;
  return [
    { phase, direction, effect: { kind: "delay", ms: 60 }, lastsBytes },
    {
      phase,
      direction,
      effect: { kind: "rate", bytesPerSecond: lastsBytes * 2 },
      lastsBytes,
    },
    { phase, direction, effect: { kind: "single-bytes" }, lastsBytes: isPayload ? 3_000 : 300 },
  ];
}

function harsh({ phase, direction }: (typeof places)[number]): FaultCase[] {
  return [
    // A write that comes between takes the reset from the socket: link.test.ts tells the two apart.
    { phase, direction, effect: { kind: "reset" }, says: gone },
    { phase, direction, effect: { kind: "half-close" }, says: gone },
    { phase, direction, effect: { kind: "black-hole" }, ...givenUp(phase, direction) },
  ];
}

/** The timeout that ends a link on which one direction is dead, and its message. */
function givenUp(phase: Phase, direction: Direction): Pick<FaultCase, "says" | "flags"> {
  if (phase === "handshake") {
    const says = /^the primary was silent for 700 ms in state receive-\w+ \(--sync-timeout/;
    return { flags: { "sync-timeout": "700ms" }, says };
  }
  const flags = { timeout: "2500ms" };
  const silent = "the primary was silent for 2500 ms in state";
  if (direction === "to-replica") {
    const state = phase === "transfer" ? "transfer" : "connected";
    return { flags, says: new RegExp(`^${silent} ${state} \\(--timeout\\)`) };
  }
  // The primary gets no ACK: it closes the link, or stops sending.
  return { flags, says: new RegExp(`${gone.source}|^${silent} connected \\(--timeout\\)`) };
}

async function suffer(fault: FaultCase, way: Way): Promise<void> {
  const { direction, effect, phase, lastsBytes } = fault;
  using dir = tempDir("faults");
  const primary = effect.kind === "black-hole" ? watchful : server;
  await using route = await routeTo(primary, way);
  const lasts = lastsBytes === undefined ? {} : { lastsBytes };
  // The TLS handshake is longer.
  const afterBytes = way === "TLS" && phase !== "transfer" ? 100 : BEGINS[`${phase} ${direction}`];
  const isPlanned = phase !== "stream" && afterBytes !== undefined;
  const slow: Plan = [
    {
      direction: "to-replica",
      afterBytes: 100_000,
      lastsBytes: SLOW_BYTES,
      effect: { kind: "rate", bytesPerSecond: 2_000_000 },
    },
  ];
  await route.plan([isPlanned ? [{ direction, effect, afterBytes, ...lasts }] : slow]);
  const { url, flags } = ways[way];
  await using following = followAgain(url(route), dir, { ...flags, ...fault.flags });
  const { replica, path } = following;
  if (!isPlanned) {
    const state = phase === "stream" ? "connected" : phase;
    await until(() => replica.state.at === state, { what: `the state ${state}`, everyMs: 1 });
    await route.inject(direction, effect, lastsBytes);
  }
  const write = async () => {
    for (let n = 0; n < 10; n++) await primary.send("APPEND", "appended", "x".repeat(50));
  };
  await write();
  if (fault.says !== undefined) {
    await until(() => replica.links.last, { what: "the link to break" });
    expectBreaks(path, fault.says);
    await write();
  }
  await following.connected();
  await expectWhole(following, primary);
  expectNoneAgain(path);
  expect(countKept(path)).toBe(1);
  if (fault.says === undefined) expect(replica.links.lastCause).toBe("");
  expect(await following.stop()).toBeUndefined();
}

describe("a slow or fragmented link loses nothing:", () => {
  test.concurrent.each(places.flatMap(gentle))(
    "$effect.kind $direction, in the $phase",
    async (fault) => await suffer(fault, "plain"),
  );
  test.concurrent.each(places.flatMap(gentle))(
    "$effect.kind $direction, in the $phase, over TLS",
    async (fault) => await suffer(fault, "TLS"),
  );
});

describe("a broken link is reported and resumed:", () => {
  test.concurrent.each(places.flatMap(harsh))(
    "$effect.kind $direction, in the $phase",
    async (fault) => await suffer(fault, "plain"),
  );
  const overTls = places.flatMap(harsh).map((fault) => {
    const stuck = fault.effect.kind === "black-hole" && fault.phase === "handshake";
    return stuck ? { ...fault, says: /^no connection within 700 ms \(--sync-timeout\)/ } : fault;
  });
  test.concurrent.each(overTls)(
    "$effect.kind $direction, in the $phase, over TLS",
    async (fault) => await suffer(fault, "TLS"),
  );
});

test.concurrent.each(["plain", "TLS"] as const)(
  "after a partition in which neither side sees the other close, nothing is lost (%s)",
  async (way) => {
    using dir = tempDir("partition");
    await using route = await routeTo(patient, way);
    const { url, flags } = ways[way];
    await using following = followAgain(url(route), dir, { ...flags, timeout: "2500ms" });
    const { replica, path } = following;
    await following.connected();
    for (const direction of DIRECTIONS) await route.inject(direction, { kind: "black-hole" });
    await patient.send("APPEND", "appended", "while nobody hears");
    await until(() => replica.links.last, { what: "the link to be given up" });
    expectBreaks(path, /^the primary was silent for 2500 ms in state connected \(--timeout\)/);
    await expectWhole(following, patient);
    expectNoneAgain(path);
    expect(await following.stop()).toBeUndefined();
  },
);
