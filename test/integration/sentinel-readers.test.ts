import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Redis } from "ioredis";
import { sentinelUrl } from "../support/fake-sentinel.ts";
import { Random } from "../support/fill.ts";
import { startReplica } from "../support/replica-process.ts";
import { FILTERS, SentinelReader } from "../support/sentinel-reader.ts";
import { MASTER, type Sentinels, startSentinels } from "../support/sentinels.ts";
import {
  availableServers,
  bootCopy,
  type RealServer,
  type ServerKind,
  startServer,
} from "../support/servers.ts";
import { amount, IS_FULL, seedOf } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const PASSWORD = "known-to-the-sentinels";
const KEY = "key";

const random = new Random(seedOf("SENTINEL_READERS_SEED"));
const kinds = availableServers();
/** Whose sentinels. */
const tried = IS_FULL ? kinds : [kinds[random.below(kinds.length)]!];
const failovers = amount("SENTINEL_FAILOVERS", { sample: 1, full: 10 });
/** Through each way of reading. */
const reads = amount("SENTINEL_READS", { sample: 100, full: 1000 });

/** Reads through ioredis's own replica role, over a new connection each time. */
async function readByIoredis(sentinels: readonly number[]): Promise<unknown> {
  const client = new Redis({
    sentinels: sentinels.map((port) => ({ host: "127.0.0.1", port })),
    name: MASTER,
    role: "slave",
    password: PASSWORD,
    retryStrategy: () => 20,
    sentinelRetryStrategy: () => 20,
    maxRetriesPerRequest: null,
  });
  // It tells of each attempt; what counts is whether the read fails.
  client.on("error", () => undefined);
  try {
    return await client.get(KEY);
  } finally {
    client.disconnect();
  }
}

/** Reads all the time, in three ways, until it is stopped. */
class Readers {
  /** How many reads were answered, by the way of reading. */
  readonly answered: Record<string, number> = {};
  /** The error replies. */
  readonly failures: string[] = [];
  readonly #loops: Promise<void>[];
  #isOver = false;

  constructor(sentinels: readonly number[]) {
    const below = (limit: number) => random.below(limit);
    const options = { sentinels, below, password: PASSWORD };
    this.#loops = [
      ...Object.entries(FILTERS).map(([way, filter]) => {
        const reader = new SentinelReader({ ...options, filter });
        return this.#loop(way, async () => {
          const read = await reader.read(KEY);
          if (read?.error !== undefined) throw new Error(`${read.error} (port ${read.port})`);
          return read !== undefined;
        });
      }),
      this.#loop("ioredis", async () => (await readByIoredis(sentinels)) !== undefined),
    ];
  }

  async #loop(way: string, read: () => Promise<boolean>): Promise<void> {
    this.answered[way] = 0;
    while (!this.#isOver) {
      try {
        if (await read()) this.answered[way]++;
      } catch (error) {
        this.failures.push(`${way}: ${String(error)}`);
      }
      await Bun.sleep(5);
    }
  }

  /** Waits until so many more reads were answered, in each way of reading. */
  async more(count: number): Promise<void> {
    const before = { ...this.answered };
    const isEnough = () =>
      Object.entries(this.answered).every(([way, now]) => now - before[way]! >= count);
    await until(isEnough, { what: `${count} reads in each way`, timeoutMs: 300_000 });
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#loops);
  }
}

/** A primary, and a real replica that can be promoted. */
async function startPair(kind: ServerKind): Promise<[RealServer, RealServer]> {
  const primary = await startServer(kind, { password: PASSWORD });
  const args = ["--replicaof", "127.0.0.1", String(primary.port)];
  return [primary, await startServer(kind, { password: PASSWORD, args })];
}

/** Kills the primary, or asks the sentinels for a failover; returns once the other server is promoted. */
async function failOver(
  isKill: boolean,
  primary: RealServer,
  other: RealServer,
  sentinels: Sentinels,
): Promise<void> {
  if (isKill) await primary.kill9();
  else {
    // For a while after a failover they refuse the next one.
    await until(async () => await sentinels.failOver().catch(() => undefined), {
      what: "the sentinels to begin a failover",
      timeoutMs: 120_000,
    });
  }
  await until(async () => (await other.info("replication"))["role"] === "master", {
    what: "the real replica to be promoted",
    timeoutMs: 120_000,
  });
  if (isKill) {
    await primary.restart({ args: ["--replicaof", "127.0.0.1", String(other.port)] });
  }
}

/** Through the sentinels: one whom only their REPLICAOF names gets no login. */
function follow(dir: TempDir, sentinels: Sentinels, port: string, announce: "yes" | "no") {
  writeFileSync(dir.file("password"), PASSWORD);
  const files = ["--password-file", "--requirepass-file"].flatMap((flag) => [
    flag,
    dir.file("password"),
  ]);
  return startReplica([
    "follow",
    sentinelUrl(
      sentinels.ports.map((one) => ({ port: one })),
      { master: MASTER },
    ),
    "--dir",
    dir.file("data"),
    "--port",
    port,
    "--retry-max",
    "200ms",
    "--announce",
    announce,
    ...files,
  ]);
}

test.concurrent.each(tried)(
  "no reader through the sentinels of %s is sent to it, and it follows each failover",
  async (kind) => {
    using dir = tempDir("sentinel-readers");
    let [primary, other] = await startPair(kind);
    await using stack = new AsyncDisposableStack();
    stack.use(primary);
    stack.use(other);
    const sentinels = stack.use(
      await startSentinels(dir, primary.port, { kind, authPass: PASSWORD }),
    );
    const replica = stack.use(follow(dir, sentinels, "0", "no"));
    const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    await replica.waitForLine(/connected by full resync/);
    await primary.send("SET", KEY, "value");
    await primary.acknowledgedBy(2);
    const onlyOther = () => Array.from(sentinels.ports, () => [String(other.port)]);

    await sentinels.knowing([port, other.port]);
    expect(await sentinels.listed()).toEqual(onlyOther());
    expect((await sentinels.infoOf(port))?.get("slave_priority")).toBe("0");
    const readers = new Readers(sentinels.ports);
    for (let at = 0; at < failovers; at++) {
      await readers.more(Math.ceil(reads / (failovers + 1)));
      await failOver(at % 2 === 0, primary, other, sentinels);
      [primary, other] = [other, primary];
      await sentinels.knowing([port, other.port]);
      expect(await sentinels.listed()).toEqual(onlyOther());
      await primary.send("SET", `after ${at}`, "value");
      await primary.acknowledgedBy(2);
    }
    await readers.more(Math.ceil(reads / (failovers + 1)));
    await readers.stop();
    expect(readers.failures).toEqual([]);
    expect((await replica.stop()).exitCode).toBe(0);
    {
      await using copy = await bootCopy(kind, dir.file("data", "current"));
      expect(await copy.keysPerDatabase()).toEqual({ 0: 1 + failovers });
    }
    if (!IS_FULL) return;
    await using shown = follow(dir, sentinels, port, "yes");
    await shown.waitForLine(/connected by/);
    await until(async () => (await sentinels.listed()).every((ports) => ports.includes(port)), {
      what: "each sentinel to list what is announced",
      timeoutMs: 120_000,
    });
  },
  600_000,
);
