import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, truncateSync } from "node:fs";
import { thrownBy } from "../support/error-of.ts";
import { Random } from "../support/fill.ts";
import { generationFiles } from "../support/generation-files.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { serverScript } from "../support/stock.ts";
import {
  availableServers,
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
  startServer,
  tool,
} from "../support/servers.ts";
import { amount, outermost, seedOf } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** How long keys are written, and how many of these moments are restored. */
const SECONDS = amount("RESTORE_SECONDS", { sample: 6, full: 60 });
const POINTS = amount("RESTORE_POINTS", { sample: 4, full: 20 });
const SEED = seedOf("RESTORE_SEED");
/** Marks are at most a second apart, plus the time of their sync. */
const MARK_MS = 1_500;

/** One write, and the primary's offset after it. */
interface Written {
  readonly sentMs: number;
  readonly doneMs: number;
  readonly offset: number;
}

/** The longest time between two writes: what a busy machine costs the replica, too. */
function longestPauseMs(written: readonly Written[]): number {
  return Math.max(...written.slice(1).map(({ doneMs }, n) => doneMs - written[n]!.doneMs));
}

/** Writes numbered keys, each with a list entry in the same transaction, to two databases in turn. */
async function writeNumbered(primary: RealServer, until: () => boolean): Promise<Written[]> {
  const written: Written[] = [];
  await using client = await primary.connect();
  while (!until()) {
    const n = written.length;
    const sentMs = Date.now();
    const replies = await client.exchange([
      ["SELECT", n % 2],
      ["MULTI"],
      ["SET", `key:${n}`, n],
      ["RPUSH", "list", n],
      ["EXEC"],
      ["INFO", "replication"],
    ]);
    const offset = Number(/master_repl_offset:(\d+)/.exec(String(replies.at(-1)))?.[1]);
    written.push({ sentMs, doneMs: Date.now(), offset });
    await Bun.sleep(4);
  }
  return written;
}

/** Returns how many numbered keys a server holds; expects the first so many, each with its list entry. */
async function numbered(server: RealServer): Promise<number> {
  const found: number[] = [];
  for (const db of [0, 1]) {
    await server.send("SELECT", db);
    const keys = (await server.send("KEYS", "key:*")) as string[];
    const list = ((await server.send("LRANGE", "list", 0, -1)) as string[]).map(Number);
    const numbers = keys.map((key) => Number(key.slice(4))).toSorted((a, b) => a - b);
    expect(list).toEqual(numbers);
    found.push(...numbers);
  }
  expect(found.toSorted((a, b) => a - b)).toEqual(found.map((_, n) => n));
  return found.length;
}

async function restoreTo(dir: TempDir, name: string, args: readonly string[]) {
  const target = dir.file(name);
  const { exitCode, stdout, stderr } = await runReplica([
    "restore",
    dir.file("data"),
    target,
    "--json",
    ...args,
  ]);
  if (exitCode !== 0) throw new Error(stderr);
  const told = JSON.parse(stdout) as { offset: number; time: string; generation: number };
  return { target, ...told };
}

/** Boots a stock server on a copy of a restored folder. */
async function boot(kind: ServerKind, target: string): Promise<RealServer> {
  return await bootCopyOfDir(kind, target, {
    args: ["--appendonly", "yes", "--aof-load-truncated", "no"],
  });
}

test(
  "restores exactly the keys of any moment and any offset, across three generations",
  async () => {
    using dir = tempDir("restore");
    const random = new Random(SEED);
    await using primary = await startServer("redis-7.0");
    const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
    await using replica = startReplica([...argv, "--keep", "5"]);
    await replica.waitForLine(/connected by full resync/);
    const beganMs = Date.now();
    const elapsed = () => (Date.now() - beganMs) / 1000;
    const writing = writeNumbered(primary, () => elapsed() > SECONDS);
    for (const [share, generation] of [
      [1 / 3, 2],
      [2 / 3, 3],
    ] as const) {
      await until(() => elapsed() > SECONDS * share, { what: "time" });
      replica.signal("SIGUSR1");
      await replica.waitForLine(new RegExp(`generation ${generation} replaces generation`));
    }
    const written = await writing;
    await primary.acknowledgedBy(1);
    // The stop marks everything.
    expect((await replica.stop()).exitCode).toBe(0);
    const kinds = availableServers();
    const generations = new Set<number>();
    for (let point = 0; point < POINTS; point++) {
      // One in each stretch of the whole, so that a few points meet more than one generation too.
      const stretch = Math.floor((written.length - 1) / POINTS);
      const n = point * stretch + random.below(stretch);
      const { doneMs, offset } = written[n]!;
      const between = offset + random.below(written[n + 1]!.offset - offset);
      const isByTime = point % 2 === 0;
      const layout = point % 4 < 2 ? "multipart" : "single";
      const where = isByTime ? ["--at", String(doneMs / 1000)] : ["--offset", String(between)];
      const label = `RESTORE_SEED=${SEED} point ${point}: ${where.join(" ")} ${layout}`;
      const restored = await restoreTo(dir, `point-${point}`, [...where, "--layout", layout]);
      generations.add(restored.generation);
      // All of them can read this version of the snapshot.
      await using server = await boot(kinds[point % kinds.length]!, restored.target);
      const count = await numbered(server);
      if (isByTime) {
        const markMs = MARK_MS + 5 * longestPauseMs(written);
        const earliest = written.filter((one) => one.doneMs < doneMs - markMs).length;
        expect(count, label).toBeGreaterThanOrEqual(earliest);
        expect(count, label).toBeLessThanOrEqual(n + 1);
      } else {
        expect(count, label).toBe(n + 1);
      }
      expect(restored.offset, label).toBeLessThanOrEqual(between);
    }
    expect(generations.size).toBeGreaterThan(1);
    const all = await restoreTo(dir, "all", []);
    await using server = await boot("redis-7.0", all.target);
    expect(await numbered(server)).toBe(written.length);
    expect(await server.digest()).toBe(await primary.digest());
  },
  (SECONDS + 120) * 1000,
);

/** Expects the server's own tool to accept the files. */
function checkAof(kind: ServerKind, target: string, layout: string): void {
  let file = layout === "multipart" ? "appendonlydir/appendonly.aof.manifest" : "appendonly.aof";
  if (kind === "valkey-9") {
    // Valkey 9's tool reports an RDB of its own version, which begins with "VALKEY", as damaged.
    if (layout === "single") return;
    file = "appendonlydir/appendonly.aof.1.incr.aof";
  }
  const check = Bun.spawnSync([...tool(kind, "redis-check-aof"), `${target}/${file}`]);
  expect(check.stdout.toString()).toMatch(/valid/);
  expect(check.exitCode).toBe(0);
}

describe.each(outermost(availableServers()))("of %s", (kind) => {
  test("loads both layouts with the primary's digest, and redis-check-aof accepts them", async () => {
    using dir = tempDir("restore");
    await using primary = await startServer(kind);
    const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
    await using replica = startReplica(argv);
    await replica.waitForLine(/connected by full resync/);
    await primary.send("SET", "before", "1");
    await primary.send("SET", "expires", "1", "EX", 1000);
    await primary.send("EVAL", "redis.call('SET', KEYS[1], 'by script')", 1, "scripted");
    await primary.cli("-n", "9", "set", "elsewhere", "2");
    await primary.acknowledgedBy(1);
    expect((await replica.stop()).exitCode).toBe(0);
    for (const layout of ["multipart", "single"]) {
      const { target } = await restoreTo(dir, layout, ["--layout", layout]);
      checkAof(kind, target, layout);
      await using server = await boot(kind, target);
      expect(await server.digest()).toBe(await primary.digest());
      expect(await server.keysPerDatabase()).toEqual({ 0: 3, 9: 1 });
    }
  });
});

test("verifies and restores while the replica runs", async () => {
  using dir = tempDir("restore");
  await using primary = await startServer("redis-7.0");
  const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
  await using replica = startReplica(argv);
  await replica.waitForLine(/connected by full resync/);
  const writing = writeNumbered(primary, () => !replica.isRunning);
  for (let turn = 0; turn < 3; turn++) {
    replica.signal("SIGUSR1");
    await replica.waitForLine(new RegExp(`generation ${turn + 2} replaces generation`));
    const verified = await runReplica(["verify", dir.file("data"), "--json"]);
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, damages: [] });
    const { target } = await restoreTo(dir, `turn-${turn}`, []);
    await using server = await boot("redis-7.0", target);
    await numbered(server);
  }
  await replica.stop();
  await writing;
  expect(readdirSync(dir.path).filter((name) => name.includes("restoring"))).toEqual([]);
});

test("a refused restore leaves nothing", async () => {
  using dir = tempDir("restore");
  await using primary = await startServer("redis-7.0");
  const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
  await using replica = startReplica(argv);
  await replica.waitForLine(/connected by full resync/);
  await replica.stop();
  const bad: [string[], RegExp][] = [
    [["--offset", "99999999"], /offset 99999999 is not kept: the kept offsets are from/],
    [["--at", "2020-01-01"], /2020-01-01T.* is not kept: the kept times are from/],
    [["--at", "99999999999"], /is not kept/],
    [["--at", "yesterday"], /--at is "yesterday": it takes ISO 8601 .*; the kept times are from/],
    [["--at", "1", "--offset", "1"], /not both/],
    [["--offset", "-1"], /needs a value/],
    [["--generation", "7"], /keeps no generation 7: it keeps 1/],
    [["--layout", "dual"], /multipart or single/],
  ];
  for (const [args, why] of bad) {
    const target = dir.file("target");
    const { exitCode, stderr } = await runReplica(["restore", dir.file("data"), target, ...args]);
    expect([args, exitCode]).toEqual([args, 2]);
    expect(stderr).toMatch(why);
    expect(existsSync(target)).toBe(false);
  }
  const full = await runReplica(["restore", dir.file("data"), dir.file("data")]);
  expect([full.exitCode, full.stderr]).toEqual([
    2,
    expect.stringContaining("lies in the data directory"),
  ]);
  const none = await runReplica(["restore", dir.path, dir.file("target")]);
  expect([none.exitCode, none.stderr]).toEqual([
    2,
    expect.stringContaining("isn't a replica data directory"),
  ]);
});

test("reports damage with the generations that can be restored instead", async () => {
  using dir = tempDir("restore");
  await using primary = await startServer("redis-7.0");
  const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
  await using replica = startReplica(argv);
  await replica.waitForLine(/connected by full resync/);
  replica.signal("SIGUSR1");
  await replica.waitForLine(/generation 2 replaces generation 1/);
  await primary.cli("set", "key", "value");
  await primary.acknowledgedBy(1);
  await replica.stop();
  const { stdout } = await runReplica(["snapshots", dir.file("data"), "--json"]);
  const [first, second] = JSON.parse(stdout).generations;
  const { base } = generationFiles(dir.file("data"), 2);
  truncateSync(base, 20);
  const offsets = ["--offset", String(second.from_offset)];
  const told: [string[], string][] = [
    [[], `; generation 1 goes up to offset ${first.to_offset} (--generation 1)\n`],
    [offsets, "; generation 1 covers it too (--generation 1)\n"],
    [["--offset", String(second.to_offset)], "nothing of this generation can be restored\n"],
  ];
  for (const [args, end] of told) {
    const from = ["restore", dir.file("data"), dir.file("target"), ...args];
    const { exitCode, stderr } = await runReplica([...from, "--json"]);
    expect([args, exitCode, stderr]).toEqual([args, 3, expect.stringMatching(/ends at byte 20/)]);
    expect(stderr).toEndWith(end);
  }
  const other = ["restore", dir.file("data"), dir.file("target"), ...offsets, "--generation", "1"];
  expect((await runReplica(other)).exitCode).toBe(0);
});

test("--check and --digest report what a real server finds; --serve keeps it running", async () => {
  using dir = tempDir("restore");
  await using primary = await startServer("redis-7.0");
  const argv = ["follow", primary.url(), "--dir", dir.file("data"), "--port", "0"];
  await using replica = startReplica(argv);
  await replica.waitForLine(/connected by full resync/);
  await primary.cli("set", "key", "value");
  await primary.cli("-n", "3", "set", "elsewhere", "2");
  await primary.acknowledgedBy(1);
  expect((await replica.stop()).exitCode).toBe(0);
  const server = serverScript(dir, "redis-7.0");
  const from = ["restore", dir.file("data")];
  const checked = await runReplica([
    ...from,
    dir.file("checked"),
    "--check",
    "--digest",
    "--server",
    server,
    "--json",
  ]);
  expect(checked.exitCode).toBe(0);
  expect(JSON.parse(checked.stdout)).toMatchObject({
    commands: expect.any(Number),
    check: { keys: { db0: 1, db3: 1 }, digest: await primary.digest() },
  });
  const none = await runReplica([...from, dir.file("none"), "--check", "--server", dir.file("no")]);
  expect(none.exitCode).toBe(2);
  expect(existsSync(dir.file("none"))).toBe(false);
  const old = serverScript(dir, "redis-7.0", { name: "old", version: "6.2.14" });
  for (const how of [["--check"], ["--serve", "0"]]) {
    const tooOld = await runReplica([...from, dir.file("none"), ...how, "--server", old]);
    expect([tooOld.exitCode, tooOld.stderr]).toEqual([
      2,
      expect.stringContaining("--layout single"),
    ]);
    expect(existsSync(dir.file("none"))).toBe(false);
  }
  await using serving = startReplica([
    ...from,
    dir.file("served"),
    "--serve",
    "0",
    "--server",
    server,
  ]);
  const [, port = ""] = await serving.waitForLine(/serves it at 127\.0\.0\.1:(\d+) as of /);
  await using client = await RespClient.connect({ port: Number(port) });
  expect(await client.send("GET", "key")).toBe("value");
  expect(await thrownBy(client.send("SET", "key", "other"))).toThrow(/READONLY|NOPERM/);
  serving.signal("SIGINT");
  expect(await serving.ended()).toEqual({ exitCode: 0, signal: null });
});
