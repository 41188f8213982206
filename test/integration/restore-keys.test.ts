import { afterAll, beforeAll, expect, test } from "bun:test";
import * as fs from "node:fs";
import { clusterDatabase } from "../../src/cluster/ledger/cluster-schema.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { BASE_OFFSET, madeRdb, makeHistory } from "../inspect/chosen/made-history.ts";
import { compiledProgram } from "../support/compiled.ts";
import { follow } from "../support/following.ts";
import { programEnvironment, runReplica } from "../support/replica-process.ts";
import { bootCopyOfDir, startServer } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KIND = "redis-7.0";
const TIME_LIMIT_MS = 150_000;
/** A machine that has no server. */
const NO_SERVER = { env: { PATH: "/nowhere" } };

let made: TempDir;
let data: string;
let archive: string;
let server: string;
/** The offset at which somebody began to delete keys. */
let before: number;

/** Follows a primary, in whose history keys are deleted and changed. */
beforeAll(async () => {
  made = tempDir("restore-keys");
  archive = `file://${made.file("archive")}`;
  server = serverScript(made, KIND);
  await using primary = await startServer(KIND);
  const commands = Array.from({ length: 50 }, (_, n) => ["SET", `user:42:${n}`, `value ${n}`]);
  await primary.sendAll([...commands, ["HSET", "user:7", "field", "value"], ["SET", "other", 1]]);
  await using replica = follow(primary.url(), realDisk, made, { archive });
  await replica.connected();
  await primary.send("SET", "other", 2);
  before = await primary.offset();
  for (let n = 0; n < 20; n++) await primary.send("DEL", `user:42:${n}`);
  await primary.send("RENAME", "other", "user:42:renamed");
  await primary.send("PEXPIRE", "user:42:30", 10_000_000);
  const end = await primary.offset();
  await until(() => (replica.status.archive?.archivedOffset ?? 0) >= end, { what: "the archive" });
  await replica.stop();
  data = replica.path;
});

afterAll(() => made[Symbol.dispose]());

test(
  "writes a folder with keys alone, as they were before somebody deleted them, on a machine without a server",
  async () => {
    using dir = tempDir("restore-keys");
    const target = dir.file("target");
    const argv = ["restore", data, target, "--keys", "user:42:*", "--keys", "no:*"];
    const { exitCode, stdout, stderr } = await runReplica(
      [...argv, "--offset", String(before)],
      NO_SERVER,
    );
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stdout).toContain(`${target}: 50 keys of generation 1 up to offset ${before}`);
    expect(stdout).toContain("as they stand in the snapshot");
    expect(stderr).toContain('no key matches "no:*"');
    await using booted = await bootCopyOfDir(KIND, target, { args: ["--appendonly", "yes"] });
    expect(await booted.keysPerDatabase()).toEqual({ 0: 50 });
    expect(await booted.send("GET", "user:42:7")).toBe("value 7");
  },
  TIME_LIMIT_MS,
);

test(
  "replays what came since, from a directory and from an archive alike, and checks it",
  async () => {
    using dir = tempDir("restore-keys");
    const found: unknown[] = [];
    for (const [n, source] of [data, archive].entries()) {
      const target = dir.file(String(n));
      const argv = ["restore", source, target, "--keys", "user:*", "--db", "0", "--json"];
      argv.push("--layout", "single", "--check", "--server", server);
      const { exitCode, stdout, stderr } = await runReplica(argv);
      expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
      const { dir: _, generation, ...told } = JSON.parse(stdout);
      expect(String(generation)).toMatch(n === 0 ? /^1$/ : /^\d{8}T/);
      found.push(told);
      expect(fs.readdirSync(target)).toEqual(["appendonly.aof"]);
    }
    expect(found[0]).toMatchObject({
      keys: 32,
      expired_keys: 0,
      databases: { db0: 32 },
      found_by: "replayed",
      replayed_commands: 23,
      other_keys: 1,
      unmatched: [],
      check: { keys: { db0: 32 } },
    });
    expect(found[1]).toEqual(found[0]);
  },
  TIME_LIMIT_MS,
);

test(
  "refuses what it can't do before anything is made",
  async () => {
    using dir = tempDir("restore-keys");
    const target = dir.file("target");
    const run = async (argv: readonly string[], source = data) => {
      const { exitCode, stderr } = await runReplica(
        ["restore", source, target, ...argv],
        NO_SERVER,
      );
      expect(fs.existsSync(target)).toBe(false);
      return `${exitCode} ${stderr}`;
    };
    expect(await run(["--keys", "nobody:*"])).toMatch(/^1 .*no key matches "nobody:\*"/s);
    expect(await run(["--keys", "user:42:*"])).toMatch(
      /^1 .*the log up to that moment changes these keys.*--server PATH/s,
    );
    expect(await run(["--db", "0"])).toMatch(/^2 .*--db chooses among --keys/);
    expect(await run(["--keys", "a", "--db", "x"])).toMatch(/^2 .*--db .*whole number/);
    expect(await run(["--keys", "a", "--server", "/nowhere/x"])).toMatch(/^2 .*--server PATH/);
    expect(await run(["--keys", "a".repeat(70_000)])).toMatch(/^2 .*takes up to 65536/);
    expect(await run(["--keys", "a", "--addresses", "h:1"])).toMatch(/^2 .*--addresses/);
    const old = ["--keys", "user:7", "--for", "redis-6.2", "--layout", "single"];
    expect(await run(old)).toMatch(/^2 .*Redis 6\.2 can't load the snapshot/s);
    fs.mkdirSync(dir.file("cluster"));
    fs.writeFileSync(clusterDatabase(dir.file("cluster")), "");
    expect(await run(["--keys", "a"], dir.file("cluster"))).toMatch(/^2 .*shards\/0001/);
  },
  TIME_LIMIT_MS,
);

const MIB = 1024 * 1024;
/** The most that the program may take. */
const MOST_BYTES = 200 * MIB;
const MANY = 200_000;

/** Waits for the end of a program. @returns the most memory that it had. */
async function peakOf(child: Bun.Subprocess): Promise<number> {
  let peakKib = 0;
  while (child.exitCode === null) {
    try {
      const status = fs.readFileSync(`/proc/${child.pid}/status`, "utf8");
      peakKib = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? peakKib);
    } catch {
      // It has ended.
    }
    await Bun.sleep(10);
  }
  expect(child.exitCode).toBe(0);
  expect(peakKib).toBeGreaterThan(0);
  return peakKib * 1024;
}

test(
  "takes memory for the chosen keys, not for 200 MiB of data and what its log does to others",
  async () => {
    using dir = tempDir("restore-keys");
    const value = "v".repeat(1_000);
    const keys = Array.from({ length: MANY }, (_, n) => ({ key: `user:${n}`, value }));
    const commands = Array.from({ length: MANY }, (_, n) => {
      const [one, other] = [`user:${(n * 7) % MANY}`, `user:${(n * 11) % MANY}`];
      if (n % 3 === 0) return ["COPY", one, `copy:${n}`];
      return n % 3 === 1 ? ["SET", one, n] : ["RENAME", other, `name:${n}`];
    });
    await makeHistory(dir, madeRdb(keys), [["SELECT", 0], ...commands]);
    for (const [pattern, foundBy] of [
      ["user:1234?", "replayed"],
      ["copy:1234?", "replayed"],
      ["user:*", "base"],
    ] as const) {
      const argv = ["restore", dir.file("data"), dir.file(foundBy + pattern), "--keys", pattern];
      argv.push("--json", "--server", server, "--no-progress");
      if (foundBy === "base") argv.push("--offset", String(BASE_OFFSET));
      const child = Bun.spawn([compiledProgram(), ...argv], {
        env: programEnvironment(),
        stdin: "ignore",
        stdout: "pipe",
        stderr: "inherit",
      });
      const told = new Response(child.stdout).json();
      const bytes = await peakOf(child);
      expect(await told).toMatchObject({ found_by: foundBy });
      console.log(`--keys ${pattern}: ${(bytes / MIB).toFixed(0)} MiB at most`);
      expect([pattern, bytes <= MOST_BYTES]).toEqual([pattern, true]);
    }
  },
  TIME_LIMIT_MS,
);
