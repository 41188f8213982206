import { describe, expect, test } from "bun:test";
import { closeSync, existsSync, openSync, readdirSync, readSync, rmSync } from "node:fs";
import { fillAllTypes } from "../support/fill.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import {
  availableServers,
  bootCopyOfDir,
  type ServerKind,
  serverVersion,
  startServer,
} from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const here = availableServers();
const hasBoth = here.includes("valkey-9") && here.includes("valkey-8.1");
const hasRedis8 = hasBoth && here.includes("redis-8.0");

function start(dir: TempDir, url: string, ...more: string[]): ReplicaProcess {
  const words = ["follow", url, "--dir", dir.file("data"), "--port", "0", "--retry-max", "100ms"];
  return startReplica([...words, ...more]);
}

/** The first nine bytes of a file. */
function magicOf(path: string): string {
  const head = Buffer.alloc(9);
  const fd = openSync(path, "r");
  readSync(fd, head, 0, head.length, 0);
  closeSync(fd);
  return head.toString("latin1");
}

async function listed(dir: TempDir): Promise<Record<string, unknown>[]> {
  const { stdout } = await runReplica(["snapshots", dir.file("data"), "--json"]);
  return JSON.parse(stdout).generations;
}

/** Restores everything, and starts a server on it. */
async function check(dir: TempDir, kind: ServerKind, ...more: string[]) {
  const target = dir.file(`${kind}${more.join("")}`);
  const server = serverScript(dir, kind);
  const words = ["restore", dir.file("data"), target, "--check", "--digest", "--server", server];
  const ended = await runReplica([...words, "--json", ...more]);
  return { ...ended, target };
}

/** Nothing was written, not even beside the target. */
function expectUntouched(dir: TempDir, target: string): void {
  expect(existsSync(target)).toBe(false);
  expect(readdirSync(dir.path).filter((name) => name.includes("restor"))).toEqual([]);
}

describe.skipIf(!hasBoth)("a Valkey 9 that is followed with --rdb-for 8.1", () => {
  test("gives bases that Valkey 8.1 and Redis load; so does a new generation, a backup too", async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("valkey-9");
    await fillAllTypes(primary, { keys: 1_000, seed: 3, fieldExpiries: false });
    {
      await using replica = start(dir, primary.url(), "--rdb-for", "8.1");
      await replica.waitForLine(/connected by full resync/);
      replica.signal("SIGUSR1");
      await replica.waitForLine(/generation 2 replaces generation 1/);
      await primary.send("SET", "after", "it");
      await primary.acknowledgedBy(1);
      await replica.stop();
      expect(replica.stderr).not.toMatch(/ (warn|error) /);
    }
    const digest = await primary.digest();
    for (const one of await listed(dir)) {
      expect(one).toMatchObject({ rdb_format: "REDIS0011", rdb_version: 11 });
      expect(one["primary_version"]).toMatch(/^valkey 9\./);
    }
    for (const kind of here.filter((one) => one !== "redis-7.0")) {
      const { exitCode, stdout, stderr } = await check(dir, kind);
      expect([kind, exitCode, stderr]).toEqual([kind, 0, ""]);
      expect([kind, JSON.parse(stdout).check.digest]).toEqual([kind, digest]);
    }
    for (const [more, magic] of [
      [["--rdb-for", "redis-7.2"], "REDIS0011"],
      [["--rdb-for", "valkey-9.1"], "VALKEY080"],
      [[], "VALKEY080"],
    ] as const) {
      const out = dir.file(`${more.join("")}.rdb`);
      const ended = await runReplica(["backup", primary.url(), out, ...more]);
      expect(ended.exitCode, ended.stderr).toBe(0);
      expect(magicOf(out)).toBe(magic);
    }
  });

  test("without it, its base is refused for an older server before anything is written, with what to do", async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("valkey-9");
    await primary.send("SET", "a", "b");
    {
      await using replica = start(dir, primary.url(), "--rdb-for", "valkey-8.1");
      await replica.waitForLine(/connected by full resync/);
      await replica.stop();
    }
    {
      await using replica = start(dir, primary.url());
      await replica.waitForLine(/connected by partial resync/);
      replica.signal("SIGUSR1");
      await replica.waitForLine(/generation 2 replaces generation 1/);
      await replica.stop();
    }
    const [older, newer] = await listed(dir);
    expect([older!["rdb_format"], newer!["rdb_format"]]).toEqual(["REDIS0011", "VALKEY080"]);
    const hints =
      "it can load the snapshot of generation 1 (--generation 1); a new snapshot is one that it can read if the replica, or a backup, takes it with --rdb-for valkey-8.1";
    const target = dir.file("for");
    const wanted = ["restore", dir.file("data"), target, "--for", "valkey-8.1"];
    const refused = await runReplica(wanted);
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toBe(
      `replica: Valkey 8.1 can't load the snapshot, which is an RDB of Valkey's own version 80: Valkey 9.0 and later can; ${hints}\n`,
    );
    expectUntouched(dir, target);
    const checked = await check(dir, "valkey-8.1");
    expect(checked.exitCode).toBe(3);
    expect(checked.stderr).toBe(
      `replica: Valkey 8.1 can't read the snapshot's format (VALKEY080): Valkey 9.0 and later can; give a newer one with --server; ${hints}\n`,
    );
    expectUntouched(dir, checked.target);
    expect((await check(dir, "valkey-8.1", "--generation", "1")).exitCode).toBe(0);
  });

  test("hash fields with an expiry: it is asked for no snapshot, which would cost it a fork, until they are gone", async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("valkey-9");
    await primary.send("SET", "a", "b");
    await primary.send("HSETEX", "h", "EX", "1000", "FIELDS", "1", "f", "v");
    const why =
      "it can't write its data in the form that --rdb-for 8.1 asks for: 1 key there has hash fields with an expiry, which only the form of Valkey 9.0 and later holds: leave out --rdb-for, or remove those expiries (HPERSIST)";
    const out = dir.file("dump.rdb");
    const backup = await runReplica(["backup", primary.url(), out, "--rdb-for", "8.1"]);
    expect(backup.exitCode).toBe(1);
    expect(backup.stderr.trim().split("\n").at(-1)).toBe(
      `replica: ${primary.url()}: the primary is asked for no snapshot: ${why}`,
    );
    expect(existsSync(out)).toBe(false);
    await using replica = start(dir, primary.url(), "--rdb-for", "8.1");
    const [line] = await replica.waitForLine(/.* the primary is asked for no snapshot: .*/);
    expect(line).toContain(`: ${why}; next attempt in `);
    // Neither cost it a fork.
    expect((await primary.info("stats"))["sync_full"]).toBe("0");
    expect(await primary.send("HPERSIST", "h", "FIELDS", "1", "f")).toEqual([1]);
    await replica.waitForLine(/connected by full resync/);
  });

  test("hash fields with an expiry: a primary that can't be asked leaves it at a doubt", async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("valkey-9");
    await primary.send("HSETEX", "h", "EX", "1000", "FIELDS", "1", "f", "v");
    await using replica = start(dir, primary.url(), "--rdb-for", "8.1", "--ask-primary", "no");
    const doubt =
      "with --rdb-for 8.1 a Valkey breaks off like this if hash fields there have an expiry";
    const words = ["--rdb-for", "8.1", "--ask-primary", "no"];
    const backup = await runReplica(["backup", primary.url(), dir.file("dump.rdb"), ...words]);
    expect(backup.exitCode).toBe(1);
    expect(backup.stderr).toContain(`the primary closed the link; ${doubt}`);
    await replica.waitForLine(
      /the primary's log may say why .*; with --rdb-for 8\.1 a Valkey breaks off like this if hash fields there have an expiry/,
    );
  });

  test("commands of the log that an older server doesn't know are told before anything is written", async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("valkey-9");
    await primary.send("SET", "a", "old");
    await using replica = start(dir, primary.url(), "--rdb-for", "8.1");
    await replica.waitForLine(/connected by full resync/);
    await primary.send("SET", "last", "known");
    const digest = await primary.digest();
    // The primary's SELECT comes first.
    const offset = await primary.offset();
    await primary.send("HSETEX", "h", "EX", "1000", "FIELDS", "1", "f", "v");
    await primary.send("HSETEX", "h", "EX", "1000", "FIELDS", "1", "g", "v");
    await primary.send("SET", "a", "new", "IFEQ", "old");
    await primary.acknowledgedBy(1);
    await replica.stop();
    const end = Number((await listed(dir))[0]!["to_offset"]);
    const target = dir.file("for");
    const wanted = ["restore", dir.file("data"), target, "--offset", String(end)];
    const refused = await runReplica([...wanted, "--for", "valkey-8.1"]);
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toBe(
      `replica: Valkey 8.1 can't load the log up to offset ${end}, since it doesn't know HSETEX (2 times, first after offset ${offset}; Redis 8.0 and later, Valkey 9.0 and later do): name another one, or restore what came before (--generation 1 --offset ${offset})\n`,
    );
    expectUntouched(dir, target);
    const checked = await check(dir, "valkey-8.1", "--offset", String(end));
    expect(checked.exitCode).toBe(3);
    expect(checked.stderr).toContain("HSETEX (2 times");
    expectUntouched(dir, checked.target);
    // An option that it doesn't know is no error to a server that loads it: the key would stay as it was.
    const redis = await runReplica([...wanted, "--for", "redis-8.0"]);
    expect(redis.exitCode).toBe(2);
    expect(redis.stderr).toContain(
      "Redis 8.0 can't load the log up to offset " +
        `${end}, since it doesn't know SET … IFEQ (1 time, `,
    );
    const before = await check(dir, "valkey-8.1", "--offset", String(offset));
    expect(before.exitCode, before.stderr).toBe(0);
    expect(JSON.parse(before.stdout).check.digest).toBe(digest);
    const whole = await check(dir, "valkey-9", "--for", "valkey-9.1");
    expect(whole.exitCode, whole.stderr).toBe(0);
  });
});

test.skipIf(!hasBoth)(
  "an archive says what its snapshots are, so a server that can't load them is refused before any is fetched",
  async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("valkey-9");
    await primary.send("SET", "a", "b");
    const url = `file://${dir.file("archive")}`;
    await using replica = start(dir, primary.url(), "--archive", url, "--archive-every", "100ms");
    await replica.waitForLine(/connected by full resync/);
    const generations = async () => {
      const { stdout } = await runReplica(["snapshots", url, "--json"]);
      return stdout === "" ? [] : JSON.parse(stdout).generations;
    };
    await until(async () => (await generations()).length === 1, { what: "an archived generation" });
    await replica.stop();
    const [{ id, ...one }] = await generations();
    expect(one).toMatchObject({
      primary: primary.url(),
      primary_version: `valkey ${serverVersion("valkey-9")}`,
      rdb_format: "VALKEY080",
      rdb_version: 80,
    });
    const table = (await runReplica(["snapshots", url])).stdout;
    expect(table).toMatch(/\n\nid +primary +server +rdb\n/);
    expect(table).toContain(`${primary.url()}  valkey ${serverVersion("valkey-9")}  VALKEY080`);
    rmSync(dir.file("archive", "generations", id, "base"), { recursive: true });
    const target = dir.file("restored");
    const refused = await runReplica(["restore", url, target, "--for", "valkey-8.1"]);
    expect([refused.exitCode, existsSync(target)]).toEqual([2, false]);
    expect(refused.stderr).toContain(
      "Valkey 8.1 can't load the snapshot, which is an RDB of Valkey's own version 80: Valkey 9.0 and later can; a new snapshot",
    );
    // Only what it can load is fetched.
    expect((await runReplica(["restore", url, target, "--for", "valkey-9.1"])).exitCode).toBe(3);
  },
);

test.skipIf(!hasRedis8)(
  "a Redis 8 writes its own form whatever it is told: the base is kept as it came, and that is a warning",
  async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("redis-8.0");
    await primary.send("SET", "a", "b");
    const says =
      /the snapshot is REDIS0012, which Valkey 8\.1 can't load \(Redis 7\.4 and later can\): redis 8\.0\.\d+ doesn't write the form that --rdb-for 8\.1 asks for; it is kept as it came/;
    await using replica = start(dir, primary.url(), "--rdb-for", "8.1");
    await replica.waitForLine(says);
    const out = dir.file("dump.rdb");
    const backup = await runReplica(["backup", primary.url(), out, "--rdb-for", "8.1"]);
    expect(backup.exitCode).toBe(0);
    expect(backup.stderr).toMatch(says);
    expect(magicOf(out)).toBe("REDIS0012");
    await replica.stop();
    const { exitCode, stderr } = await runReplica([
      "restore",
      dir.file("data"),
      dir.file("target"),
      "--for",
      "valkey-8.1",
    ]);
    expect(exitCode).toBe(2);
    expect(stderr).not.toContain("--rdb-for");
  },
);

test.skipIf(!hasRedis8)(
  "Redis 8 passes over SET … IFEQ as it starts, so what --check would find is told before",
  async () => {
    using dir = tempDir("rdb-for");
    await using primary = await startServer("valkey-8.1");
    await primary.send("SET", "a", "old");
    await using replica = start(dir, primary.url());
    await replica.waitForLine(/connected by full resync/);
    await primary.send("SET", "a", "new", "IFEQ", "old");
    await primary.acknowledgedBy(1);
    await replica.stop();
    const target = dir.file("plain");
    expect((await runReplica(["restore", dir.file("data"), target])).exitCode).toBe(0);
    await using wrong = await bootCopyOfDir("redis-8.0", target, { args: ["--appendonly", "yes"] });
    expect(await wrong.send("GET", "a")).toBe("old");
    const checked = await check(dir, "redis-8.0");
    expect(checked.exitCode).toBe(3);
    expect(checked.stderr).toContain("since it doesn't know SET … IFEQ (1 time, ");
    expect((await check(dir, "valkey-8.1")).exitCode).toBe(0);
  },
);
