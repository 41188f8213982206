import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { Random } from "../support/fill.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { ReplyError } from "../support/resp.ts";
import {
  availableServers,
  bootCopyOfDir,
  type RealServer,
  startServer,
} from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KEYS = amount("UNDELETE_KEYS", { sample: 3_000, full: 30_000 });
const VALUE_BYTES = amount("UNDELETE_VALUE_BYTES", { sample: 100, full: 800 });
const COMMANDS = amount("UNDELETE_COMMANDS", { sample: 20_000, full: 300_000 });
const MOMENTS = amount("UNDELETE_MOMENTS", { sample: 1, full: 4 });
const PATTERNS = amount("UNDELETE_PATTERNS", { sample: 3, full: 5 });
const MAX_BYTES = 200 * 1024 * 1024;
const BATCH = 1_000;
/** So many keys are made from each other. */
const GROUP = 10;
const TIME_LIMIT_MS = 7_200_000;
const KINDS = ["str", "hash", "set", "list", "zset"] as const;

type Command = readonly (string | number)[];

const nameOf = (random: Random) =>
  `${KINDS[random.below(KINDS.length)]!}:${random.below(KEYS / KINDS.length)}`;

function filling(name: string, value: string): Command {
  const [kind] = name.split(":");
  switch (kind) {
    case "hash":
      return ["HSET", name, "name", value, "count", 1];
    case "set":
      return ["SADD", name, value, 1, 2, 3];
    case "list":
      return ["RPUSH", name, value, 1, 2, 3];
    case "zset":
      return ["ZADD", name, 1, value, 2, "two"];
    default:
      return ["SET", name, value];
  }
}

/** One of what a living store sees: changes, deletes, renames, expiries, and keys that are made from others. */
function drawn(random: Random): Command {
  const name = nameOf(random);
  const [kind = "", number = ""] = name.split(":");
  // Keys are made from their like: among all keys, a few commands a key would make each depend on most others.
  const other = `${kind}:${Number(number) - (Number(number) % GROUP) + random.below(GROUP)}`;
  switch (random.below(12)) {
    case 0:
      return ["DEL", name, nameOf(random)];
    case 1:
      return ["RENAME", name, other];
    case 2:
      return ["PEXPIRE", name, 1 + random.below(3_600_000)];
    case 3:
      return ["PERSIST", name];
    case 4:
      return kind === "set"
        ? ["SUNIONSTORE", name, other, `set:${random.below(9)}`]
        : ["COPY", name, other, "REPLACE"];
    case 5:
      return kind === "list" ? ["LMOVE", name, other, "LEFT", "RIGHT"] : ["UNLINK", name];
    default:
      return filling(name, `${number} is ${random.below(1_000_000)}`);
  }
}

/** Sends commands of which some may fail, such as a RENAME of what is gone. */
async function send(server: RealServer, count: number, draw: (n: number) => Command) {
  await using client = await server.connect();
  for (let n = 0; n < count; n += BATCH) {
    const batch = Array.from({ length: Math.min(BATCH, count - n) }, (_, at) => draw(n + at));
    for (const reply of await client.exchange(batch)) {
      if (!(reply instanceof ReplyError)) continue;
      if (!/^(?:ERR no such key|ERR source and destination|WRONGTYPE)/.test(reply.message))
        throw reply;
    }
  }
}

/** Digest and expiry of each key that the pattern matches. */
async function keysOf(
  server: RealServer,
  pattern: string,
): Promise<Map<string, readonly unknown[]>> {
  await using client = await server.connect();
  const names = (await client.send("KEYS", pattern)) as string[];
  const found = new Map<string, readonly unknown[]>();
  for (let at = 0; at < names.length; at += BATCH) {
    const some = names.slice(at, at + BATCH);
    const replies = await client.exchange(
      some.flatMap((name) => [
        ["DEBUG", "DIGEST-VALUE", name],
        ["PEXPIRETIME", name],
      ]),
    );
    some.forEach((name, index) => {
      const [digest, expiresAt] = replies.slice(2 * index, 2 * index + 2);
      found.set(name, [String(digest), Number(expiresAt)]);
    });
  }
  return found;
}

/** What hasn't expired by `nowMs`, sorted by name. */
const living = (keys: Map<string, readonly unknown[]>, nowMs: number) =>
  [...keys]
    .filter(([, [, expiresAt]]) => expiresAt === -1 || Number(expiresAt) > nowMs)
    .toSorted(([one], [other]) => (one < other ? -1 : 1));

/** Patterns that match about one key in a few thousand, or a few keys. */
function drawPattern(random: Random): string {
  const kind = KINDS[random.below(KINDS.length)]!;
  const digits = String(random.below(KEYS / KINDS.length));
  return [
    `${kind}:${digits}`,
    `*:${digits}`,
    `${kind}:${digits.slice(0, -1)}?`,
    `${kind}:${digits.slice(0, -2)}*7`,
  ][random.below(4)]!;
}

/** Runs the program, which is to succeed; returns the most memory that it took while it was looked at. */
async function runMeasured(args: readonly string[]): Promise<number> {
  await using running = startReplica(args);
  let peakBytes = 0;
  await until(
    () => {
      if (running.isRunning) peakBytes = Math.max(peakBytes, running.rssPeakBytes());
      return !running.isRunning;
    },
    { what: "the keys to be brought", timeoutMs: TIME_LIMIT_MS, everyMs: 10 },
  );
  expect(await running.ended(), running.stderr).toMatchObject({ exitCode: 0 });
  return peakBytes;
}

const KIND = availableServers().at(-1)!;

test(
  `${KIND}: any keys of any moment are brought into a server as a whole restore has them`,
  async () => {
    using dir = tempDir("undelete");
    const random = new Random(seedOf("UNDELETE_SEED"));
    await using primary = await startServer(KIND, {
      // However far behind the replica falls, its link isn't what is tested.
      args: ["--repl-backlog-size", "64mb", "--client-output-buffer-limit", "replica 0 0 0"],
    });
    await send(primary, KEYS, (n) => {
      const name = `${KINDS[n % KINDS.length]!}:${Math.floor(n / KINDS.length)}`;
      return filling(name, random.text(VALUE_BYTES));
    });
    await using replica = startReplica([
      "follow",
      primary.url(),
      "--dir",
      dir.file("data"),
      "--port",
      "0",
    ]);
    await replica.waitForLine(/connected by full resync/);
    const fromOffset = await primary.offset();
    await send(primary, COMMANDS, () => drawn(random));
    await primary.acknowledgedBy(1);
    const toOffset = await primary.offset();
    expect((await replica.stop()).exitCode).toBe(0);
    const server = serverScript(dir, KIND);
    await using target = await startServer(KIND, { args: ["--enable-debug-command", "yes"] });
    let [compared, peakBytes] = [0, 0];
    for (let moment = 0; moment < MOMENTS; moment++) {
      const offset = String(fromOffset + random.below(toOffset - fromOffset));
      const folder = dir.file(`whole-${moment}`);
      const wanted = [dir.file("data"), folder, "--offset", offset];
      expect(await runReplica(["restore", ...wanted])).toMatchObject({ exitCode: 0 });
      const unexpiring = ["--appendonly", "yes", "--replicaof", "127.0.0.1", "0"];
      await using whole = await bootCopyOfDir(KIND, folder, {
        args: [...unexpiring, "--enable-debug-command", "yes"],
      });
      rmSync(folder, { recursive: true });
      for (let draw = 0; draw < PATTERNS; draw++) {
        const pattern = drawPattern(random);
        const args = ["restore", dir.file("data"), "--offset", offset, "--keys", pattern];
        const had = await keysOf(whole, pattern);
        if (living(had, Date.now()).length === 0) {
          const none = await runReplica([...args, "--into", target.url(), "--server", server]);
          // Expired keys are found, and not brought back.
          expect(none.exitCode ?? -1).toBeOneOf([0, 1]);
          expect(await target.send("DBSIZE")).toBe(0);
          continue;
        }
        const bytes = await runMeasured([...args, "--into", target.url(), "--server", server]);
        const brought = await keysOf(target, "*");
        const nowMs = Date.now() + 1_000;
        const told = { pattern, offset, keys: living(had, nowMs) };
        expect({ pattern, offset, keys: living(brought, nowMs) }).toEqual(told);
        compared += told.keys.length;
        peakBytes = Math.max(peakBytes, bytes);
        await target.send("FLUSHALL");
      }
    }
    console.log(
      `${MOMENTS * PATTERNS} pairs, ${compared} keys, log of ${toOffset - fromOffset} bytes, at most ${Math.round(peakBytes / 1024 / 1024)} MiB`,
    );
    expect(compared).toBeGreaterThan(0);
    expect(peakBytes).toBeLessThan(MAX_BYTES);
  },
  TIME_LIMIT_MS,
);
