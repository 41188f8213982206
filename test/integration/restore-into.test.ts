import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { endingWithParent } from "../support/children.ts";
import { compiledProgram } from "../support/compiled.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { fillAllTypes } from "../support/fill.ts";
import {
  programEnvironment,
  type ReplicaProcess,
  runReplica,
  startReplica,
} from "../support/replica-process.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { outermost } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const TIME_LIMIT_MS = 300_000;
const USERS = 1_000;

/** A live primary that is followed, and whose users are deleted. */
interface Accident {
  readonly dir: TempDir;
  readonly primary: RealServer;
  readonly replica: ReplicaProcess;
  /** The offset before they were deleted. */
  readonly before: number;
  /** DEBUG DIGEST of then. */
  readonly digest: string;
  readonly server: string;
  readonly data: string;
  readonly archive: string;
}

let accident: Accident;

beforeAll(async () => {
  const dir = tempDir("into");
  const primary = await startServer("redis-7.0");
  await fillAllTypes(primary, { keys: 600, seed: 5, databases: [0, 3] });
  const data = dir.file("data");
  const archive = `file://${dir.file("archive")}`;
  const archiving = ["--archive", archive, "--archive-every", "100ms"];
  const words = ["follow", primary.url(), "--dir", data, "--port", "0"];
  const replica = startReplica([...words, ...archiving]);
  await replica.waitForLine(/connected by full resync/);
  const users = Array.from({ length: USERS }, (_, at) => `user:42:${at}`);
  await primary.send("SELECT", 0);
  await primary.sendAll(users.map((user, at) => ["HSET", user, "name", `n${at}`, "seen", at]));
  await primary.sendAll(
    users.slice(0, 50).map((user, at) => ["PEXPIREAT", user, 4_000_000_000_000 + at]),
  );
  const before = await primary.offset();
  const digest = await primary.digest();
  await primary.sendAll(users.map((user) => ["DEL", user]));
  await primary.acknowledgedBy(1);
  accident = {
    dir,
    primary,
    replica,
    before,
    digest,
    server: serverScript(dir, "redis-7.0"),
    data,
    archive,
  };
  await until(async () => (await into(["--dry-run"], primary.url())).exitCode === 0, {
    what: "the deletes to be durable",
  });
}, TIME_LIMIT_MS);

afterAll(async () => {
  await accident.replica.stop();
  await accident.primary.stop();
  accident.dir.remove();
});

/** Brings the users of the moment before into a server. */
async function into(more: readonly string[], url: string) {
  const { data, before, server } = accident;
  const keys = ["--keys", "user:42:*", "--offset", String(before), "--server", server];
  return await runReplica(["restore", data, ...keys, "--into", url, ...more]);
}

const lastLine = (text: string) =>
  JSON.parse(text.trimEnd().split("\n").at(-1)!) as Record<string, unknown>;

describe("into the primary that is followed", () => {
  test(
    "is refused unless it is named once more, and then brings back what was deleted, to the byte",
    async () => {
      const { primary, before, digest, data } = accident;
      const name = `127.0.0.1:${primary.port}`;
      const plain = await into([], primary.url());
      expect(plain).toMatchObject({ exitCode: 2, stdout: "" });
      expect(plain.stderr).toContain(`--confirm ${name}`);
      const replacing = await into(["--replace"], primary.url());
      expect(replacing).toMatchObject({ exitCode: 2, stdout: "" });
      expect(replacing.stderr).toContain("overwrites what was written there since");
      // Another name for the same server changes nothing: its replication id tells.
      const alias = await into([], `redis://localhost:${primary.port}`);
      expect(alias).toMatchObject({ exitCode: 2 });
      const wrong = await into(["--confirm", "127.0.0.1:1"], primary.url());
      expect(wrong.stderr).toContain(`but --into leads to ${name}`);
      expect(await primary.digest()).not.toBe(digest);

      const { exitCode, stdout, stderr } = await into(["--confirm", name, "--json"], primary.url());
      expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
      expect(lastLine(stdout)).toMatchObject({
        target: `redis://${name}`,
        source: data,
        offset: before,
        dry_run: false,
        replace: false,
        found: USERS,
        restored: USERS,
        replaced: 0,
        existed: 0,
        expired: 0,
        failed: 0,
        left: 0,
        left_uncertain: 0,
        error: null,
      });
      expect(await primary.digest()).toBe(digest);
      const again = await into(["--confirm", name], primary.url());
      expect(again.exitCode).toBe(0);
      expect(again.stdout).toContain(`${USERS} exist there and stayed (--replace replaces them)`);
      expect(again.stdout).toContain("and 980 more (--json lists all)");
      expect(await primary.digest()).toBe(digest);
    },
    TIME_LIMIT_MS,
  );
});

describe.skipIf(process.platform !== "linux")("on a terminal", () => {
  /** Runs it with --replace into the primary, and types what `answer` says once it is asked. */
  async function typing(answer: string) {
    const { data, before, server, primary } = accident;
    const keys = ["--keys", "user:42:*", "--offset", String(before), "--server", server];
    const words = ["restore", data, ...keys, "--into", primary.url(), "--replace"];
    let seen = "";
    const child = Bun.spawn(endingWithParent([compiledProgram(), ...words]), {
      env: programEnvironment(),
      terminal: {
        cols: 200,
        rows: 30,
        data: (_terminal, bytes) => (seen += Buffer.from(bytes).toString()),
      },
    });
    const question = `Type 127.0.0.1:${primary.port} to go on: `;
    await until(() => seen.includes(question), { what: "the question" });
    child.terminal!.write(answer);
    const exitCode = await child.exited;
    return { exitCode, seen };
  }

  test(
    "--replace into the primary that is followed asks for its address",
    async () => {
      const { primary, digest } = accident;
      await primary.send("HSET", "user:42:700", "name", "changed since");
      const changed = await primary.digest();
      const wrong = await typing("yes\r");
      expect(wrong.exitCode).toBe(2);
      expect(wrong.seen).toContain("overwrites what was written there since");
      expect(wrong.seen).toContain("nothing was written");
      const stopped = await typing("\x03");
      expect(stopped.exitCode).toBe(1);
      expect(stopped.seen).toContain("stopped by SIGINT");
      expect((await typing("\x04")).exitCode).toBe(2);
      expect(await primary.digest()).toBe(changed);
      const right = await typing(`127.0.0.1:${primary.port}\r`);
      expect(right.exitCode).toBe(0);
      expect(right.seen).toContain("1000 keys restored");
      expect(right.seen).toMatch(/\d+ of them in place of others/);
      expect(await primary.digest()).toBe(digest);
    },
    TIME_LIMIT_MS,
  );
});

describe("into another server", () => {
  test(
    "--dry-run lists the keys and writes nothing",
    async () => {
      await using target = await startServer("redis-7.0");
      await target.send("SET", "user:42:700", "theirs");
      const offset = await target.offset();
      const text = await into(["--dry-run"], target.url());
      expect(text.exitCode).toBe(0);
      expect(text.stdout).toContain("nothing was written");
      expect(text.stdout).toMatch(/^ +0 {2}hash {3}.* never .* keep +user:42:700$/m);
      expect(text.stdout).toMatch(/2096-10-02T.* \(in \d+ d .*\) .* restore +user:42:3$/m);
      const json = await into(["--dry-run", "--json", "--replace"], target.url());
      const rows = json.stdout.trimEnd().split("\n").slice(0, -1);
      const parsed = rows.map((row) => JSON.parse(row) as { key: string; would: string });
      expect(new Set(parsed.map(({ key }) => key)).size).toBe(USERS);
      expect(parsed.find(({ key }) => key === "user:42:700")).toMatchObject({
        db: 0,
        type: "hash",
        elements: 2,
        exists: true,
        would: "replace",
      });
      expect(lastLine(json.stdout)).toMatchObject({
        dry_run: true,
        restored: USERS - 1,
        replaced: 1,
      });
      expect(await target.offset()).toBe(offset);
      expect(await target.send("DBSIZE")).toBe(1);
    },
    TIME_LIMIT_MS,
  );

  test(
    "from an archive, and the primary is known from there too",
    async () => {
      await using target = await startServer("redis-7.0");
      const { archive, before, server, primary } = accident;
      const keys = ["--keys", "user:42:*", "--offset", String(before), "--server", server];
      const bring = async (url: string) =>
        await runReplica(["restore", archive, ...keys, "--into", url, "--json"]);
      const { stdout } = await until(
        async () => {
          const run = await bring(target.url());
          return run.exitCode === 0 ? run : undefined;
        },
        { what: "the keys in the archive" },
      );
      expect(lastLine(stdout)).toMatchObject({ source: archive, restored: USERS, offset: before });
      expect(await target.send("DBSIZE")).toBe(USERS);
      const refused = await bring(primary.url());
      expect(refused.exitCode).toBe(2);
      expect(refused.stderr).toContain(`--confirm 127.0.0.1:${primary.port}`);
    },
    TIME_LIMIT_MS,
  );

  test(
    "the password is in no error and no log, and leaves the process list",
    async () => {
      await using target = await startServer("redis-7.0", { password: "hunter2" });
      // Nothing comes back, so that it waits for the answer to AUTH.
      await using proxy = startFaultProxy();
      const route = await proxy.route(target.port);
      await route.plan(
        [],
        [{ direction: "to-replica", afterBytes: 0, effect: { kind: "black-hole" } }],
      );
      const { data, before, server } = accident;
      let tried = 0;
      for (const flag of [["--into", "URL"], ["--into=URL"]]) {
        const url = `redis://:hunter2@127.0.0.1:${route.port}`;
        const given = flag.map((word) => word.replace("URL", url));
        const keys = ["--keys", "*", "--offset", String(before), "--server", server];
        await using waiting = startReplica(["restore", data, ...keys, ...given]);
        const connections = tried++;
        await until(async () => (await route.count()).connections > connections, {
          what: "the connection",
        });
        const shown = readFileSync(`/proc/${waiting.pid}/cmdline`, "latin1");
        expect(shown).toContain(`redis://@127.0.0.1:${route.port}`);
        expect(shown).not.toContain("hunter2");
        await waiting.stop();
        expect(waiting.stderr).toContain("put it into a file, for --into-password-file");
        expect(waiting.output()).not.toContain("hunter2");
      }
      const wrong = await into([], `redis://:hunter3@127.0.0.1:${target.port}`);
      expect(wrong.exitCode).toBe(1);
      expect(wrong.stderr).toContain("the login in the URL of --into");
      expect(wrong.stderr).not.toContain("hunter3");
      const file = accident.dir.file("password");
      writeFileSync(file, "hunter2\n", { mode: 0o600 });
      const right = await into(["--into-password-file", file], `redis://127.0.0.1:${target.port}`);
      expect(right).toMatchObject({ exitCode: 0 });
      expect(right.stdout).toContain(`${USERS} keys restored`);
      // The primary's own password isn't sent to it.
      const env = { REPLICA_PASSWORD: "hunter2" };
      const url = `redis://127.0.0.1:${target.port}`;
      const words = ["restore", data, "--keys", "*", "--offset", String(before), "--into", url];
      const withheld = await runReplica([...words, "--server", server], { env });
      expect(withheld.exitCode).toBe(1);
      expect(withheld.stderr).toContain("NOAUTH");
    },
    TIME_LIMIT_MS,
  );

  test(
    "a stop in the middle says within two seconds what was done",
    async () => {
      await using target = await startServer("redis-7.0");
      await using proxy = startFaultProxy();
      const route = await proxy.route(target.port);
      // The answers stop after some keys: before them come as many bytes as in a dry run.
      const { exitCode: dry } = await into(["--dry-run"], `redis://127.0.0.1:${route.port}`);
      expect(dry).toBe(0);
      const [passed] = (await route.count()).passed;
      const effect = { kind: "black-hole" } as const;
      const afterBytes = passed!["to-replica"] + 2_000;
      await route.plan([], [{ direction: "to-replica", afterBytes, effect }]);
      const { data, before, server } = accident;
      const words = ["restore", data, "--keys", "user:42:*", "--offset", String(before)];
      const url = `redis://127.0.0.1:${route.port}`;
      await using running = startReplica([...words, "--server", server, "--into", url, "--json"]);
      await until(async () => (await target.send("DBSIZE")) === USERS, { what: "the keys" });
      const stoppedMs = performance.now();
      running.signal("SIGINT");
      const { exitCode } = await running.ended();
      expect(performance.now() - stoppedMs).toBeLessThan(2_000);
      expect(exitCode).toBe(1);
      const result = lastLine(running.stdout);
      expect(result).toMatchObject({ found: USERS, error: { code: "STOPPED" } });
      expect(Number(result["restored"]) + Number(result["left"])).toBe(USERS);
      expect(Number(result["left_uncertain"])).toBeGreaterThan(0);
    },
    TIME_LIMIT_MS,
  );

  test.each([
    [["--into", "redis://127.0.0.1:1"], "--into needs --keys PATTERN"],
    [["--keys", "*"], "replica restore SOURCE TARGET, or SOURCE --keys PATTERN --into URL"],
    [["--keys", "nobody:*", "--into", "TARGET"], "no key matches"],
  ] as const)("refuses %j", async (words, message) => {
    const { primary, data, server } = accident;
    const given = words.map((word) => word.replace("TARGET", primary.url()));
    const confirm = given.includes("--into") ? ["--confirm", `127.0.0.1:${primary.port}`] : [];
    const { exitCode, stderr } = await runReplica([
      "restore",
      data,
      ...given,
      ...confirm,
      "--server",
      server,
    ]);
    expect(exitCode).toBeGreaterThan(0);
    expect(stderr).toContain(message);
  });
});

describe.each(outermost(availableServers()))("a whole history of %s", (kind) => {
  test(
    "comes back key by key: the digest is the primary's",
    async () => {
      using dir = tempDir("into-whole");
      await using primary = await startServer(kind);
      await using target = await startServer(kind);
      const data = dir.file("data");
      await fillAllTypes(primary, { keys: 1_000, seed: 8 });
      await using replica = startReplica(["follow", primary.url(), "--dir", data, "--port", "0"]);
      await replica.waitForLine(/connected by full resync/);
      // Some of it comes by the log, and in other databases.
      await fillAllTypes(primary, { keys: 500, seed: 9, databases: [2, 4] });
      await primary.acknowledgedBy(1);
      expect((await replica.stop()).exitCode).toBe(0);
      const server = ["--server", serverScript(dir, kind)];
      const words = ["restore", data, "--keys", "*", "--into", target.url(), ...server, "--json"];
      const { exitCode, stdout, stderr } = await runReplica(words);
      expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
      const keys = Object.values(await primary.keysPerDatabase());
      const sum = keys.reduce((all, one) => all + one, 0);
      expect(lastLine(stdout)).toMatchObject({ found: sum, restored: sum });
      expect(await target.digest()).toBe(await primary.digest());
    },
    TIME_LIMIT_MS,
  );
});
