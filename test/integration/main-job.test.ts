import { afterAll, describe, expect, test } from "bun:test";
import {
  lstatSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { parseRdbHeader } from "../../src/rdb/header.ts";
import { fillAllTypes } from "../support/fill.ts";
import { programEnvironment, runReplica, startReplica } from "../support/replica-process.ts";
import {
  availableServers,
  bootCopy,
  type RealServer,
  type ServerKind,
  type ServerOptions,
  startServer,
  tool,
} from "../support/servers.ts";
import { amount } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { certificates } from "../support/tls.ts";
import { compiledProgram } from "../support/compiled.ts";
import { until } from "../support/wait.ts";

const folders: Disposable[] = [];
afterAll(() => {
  for (const folder of folders) folder[Symbol.dispose]();
});

function folder(purpose: string): string {
  const dir = tempDir(purpose);
  folders.push(dir);
  return dir.file("data");
}

interface Case {
  readonly name: string;
  readonly kind: ServerKind;
  readonly keys: number;
  readonly server: ServerOptions;
  readonly way: "tcp" | "tls" | "unix";
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Keys in the largest snapshot. */
const KEYS = amount("MAIN_JOB_KEYS", { sample: 20_000, full: 1_000_000 });

const diskless = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"];
const diskBased = ["--repl-diskless-sync", "no"];
const clientTls = [
  "--tls-ca",
  certificates.ca,
  "--tls-cert",
  certificates.client.cert,
  "--tls-key",
  certificates.client.key,
];
const plain = { way: "tcp", flags: [], env: {} } as const;

const cases: readonly Case[] = [
  {
    name: `${KEYS} keys, disk-based`,
    kind: "redis-7.0",
    keys: KEYS,
    server: { args: diskBased },
    ...plain,
  },
  {
    name: "diskless, password, TLS with a client certificate",
    kind: "redis-7.0",
    keys: KEYS / 5,
    server: { args: diskless, password: "a secret of the test", tls: { clients: "yes" } },
    way: "tls",
    flags: clientTls,
    env: { REPLICA_PASSWORD: "a secret of the test" },
  },
  {
    name: "disk-based, TLS",
    kind: "redis-7.0",
    keys: 20_000,
    server: { args: diskBased, tls: { clients: "no" } },
    way: "tls",
    flags: ["--tls-ca", certificates.ca],
    env: {},
  },
  {
    name: "diskless, password, unix socket",
    kind: "redis-7.0",
    keys: 20_000,
    server: { args: diskless, password: "a secret of the test", unixSocket: true },
    way: "unix",
    flags: [],
    env: { REPLICA_PASSWORD: "a secret of the test" },
  },
  ...availableServers()
    .filter((kind) => kind !== "redis-7.0")
    .map((kind): Case => ({
      name: "diskless",
      kind,
      keys: 20_000,
      server: { args: diskless },
      ...plain,
    })),
];

/** Starts a benchmark that writes until it is killed. */
function load(server: RealServer, way: Case["way"], password: string | undefined): Bun.Subprocess {
  const where = way === "unix" ? ["-s", server.socketPath!] : ["-p", String(server.port)];
  const login = password === undefined ? [] : ["-a", password];
  const argv = [...tool(server.kind, "redis-benchmark"), ...where, ...login];
  return Bun.spawn(
    [
      ...argv,
      "-t",
      "set,lpush,sadd,zadd,hset,incr",
      "-l",
      "-r",
      "5000",
      "-P",
      "4",
      "-c",
      "4",
      "-q",
    ],
    {
      stdout: "ignore",
      stderr: "ignore",
    },
  );
}

/** Waits until the replica has acknowledged everything. */
async function caughtUp(server: RealServer): Promise<void> {
  await until(
    async () => {
      const info = await server.info("replication");
      return info["slave0"]?.includes(`offset=${info["master_repl_offset"]},`) === true;
    },
    { what: "the primary to see everything acknowledged" },
  );
}

describe("follow against a real primary under load", () => {
  for (const { name, kind, keys, server: options, way, flags, env } of cases) {
    test(`${kind}: ${name}`, async () => {
      await using server = await startServer(kind, options);
      await fillAllTypes(server, { keys, databases: [0, 3, 9], seed: 7 });
      const writing = load(server, way, options.password);
      const dir = folder("main-job");
      await using replica = startReplica(
        [
          "follow",
          server.url(way).replace(/\/\/[^/@]*@/, "//"),
          "--dir",
          dir,
          "--port",
          "0",
          ...flags,
        ],
        { env },
      );
      await replica.waitForLine(/connected by full resync/);
      await until(
        async () => {
          const now = await server.info("replication");
          return /state=online,offset=\d+,lag=[01](,|$)/.test(now["slave0"] ?? "");
        },
        { what: "the primary to see the replica online, without lag" },
      );
      writing.kill();
      await writing.exited;
      await caughtUp(server);
      expect(await server.send("WAIT", 1, 30_000)).toBe(1);
      expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
      await using copy = await bootCopy(kind, join(dir, "current"));
      expect(await copy.digest()).toBe(await server.digest());
      const current = readlinkSync(join(dir, "current"));
      expect(current).toBe("generations/0000000001");
      expect(readdirSync(join(dir, current)).sort()).toEqual([
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
      ]);
      expect(readFileSync(join(dir, current, "appendonly.aof.manifest"), "utf8")).toBe(
        "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
      );
      expect(lstatSync(join(dir, current, "appendonly.aof.1.base.rdb")).mode & 0o777).toBe(0o644);
    }, 600_000);
  }

  test("resumes by partial resync after a restart, through several databases", async () => {
    await using server = await startServer("redis-7.0", { args: diskless });
    await fillAllTypes(server, { keys: 2_000, databases: [0, 3], seed: 8 });
    const dir = folder("resume");
    const args = ["follow", server.url(), "--dir", dir, "--port", "0"];
    {
      await using replica = startReplica(args);
      await replica.waitForLine(/connected by full resync/);
      await server.cli("-n", "3", "set", "before", "1");
      await caughtUp(server);
      expect((await replica.stop()).exitCode).toBe(0);
    }
    await server.cli("-n", "3", "set", "meanwhile", "2");
    await using replica = startReplica(args);
    await replica.waitForLine(/connected by partial resync/);
    await server.cli("-n", "3", "set", "after", "3");
    await caughtUp(server);
    expect((await server.info("stats"))["sync_partial_ok"]).toBe("1");
    expect((await replica.stop()).exitCode).toBe(0);
    await using copy = await bootCopy("redis-7.0", join(dir, "current"));
    expect(await copy.digest()).toBe(await server.digest());
  });

  test("resumes from the end of its log after a kill", async () => {
    await using server = await startServer("redis-7.0", { args: diskless });
    const dir = folder("killed");
    const args = ["follow", server.url(), "--dir", dir, "--port", "0"];
    {
      await using replica = startReplica(args);
      await replica.waitForLine(/connected by full resync/);
      for (let i = 0; i < 200; i++) await server.send("SET", `key:${i}`, i);
      await caughtUp(server);
      await replica.kill9();
    }
    await using replica = startReplica(args);
    await replica.waitForLine(/connected by partial resync/);
    await caughtUp(server);
    expect((await replica.stop()).exitCode).toBe(0);
    await using copy = await bootCopy("redis-7.0", join(dir, "current"));
    expect(await copy.digest()).toBe(await server.digest());
  });
});

/** An RDB without its header and its checksum. */
function data(rdb: Buffer): Buffer {
  return rdb.subarray(parseRdbHeader(rdb)!.headerBytes, -8);
}

describe("backup of a real primary", () => {
  for (const [name, args] of [
    ["diskless", diskless],
    ["disk-based", diskBased],
  ] as const) {
    test(`${name}: writes the same bytes to a file and to a pipe, and redis-check-rdb accepts them`, async () => {
      await using server = await startServer("redis-7.0", { args });
      await fillAllTypes(server, { keys: 20_000, databases: [0, 3], seed: 9 });
      const dir = tempDir("backup");
      folders.push(dir);
      const out = dir.file("dump.rdb");
      const toFile = await runReplica(["backup", server.url(), out]);
      expect(toFile.stderr).toMatch(/checksum verified/);
      expect(toFile.exitCode).toBe(0);
      const piped = Bun.spawn(
        [
          "sh",
          "-c",
          '"$0" backup "$1" - | cat > "$2"',
          compiledProgram(),
          server.url(),
          dir.file("piped.rdb"),
        ],
        { stderr: "pipe", env: programEnvironment() },
      );
      expect(await piped.exited).toBe(0);
      const check = (path: string) =>
        Bun.spawnSync([...tool("redis-7.0", "redis-check-rdb"), path]);
      for (const path of [out, dir.file("piped.rdb")]) {
        const checked = check(path);
        expect(checked.stdout.toString()).toContain("RDB looks OK");
        expect(checked.exitCode).toBe(0);
      }
      // Equal but for ctime and used-mem, which are in the header.
      expect(data(readFileSync(dir.file("piped.rdb")))).toEqual(data(readFileSync(out)));
      // After the payload nobody is attached.
      await until(async () => (await server.info("replication"))["connected_slaves"] === "0", {
        what: "the primary to have no replica",
      });
      expect(readdirSync(dir.path).sort()).toEqual(["dump.rdb", "piped.rdb"]);
    });
  }

  test("gives nobody more access than the file that it replaces", async () => {
    await using server = await startServer("redis-7.0", { args: diskless });
    const dir = tempDir("backup");
    folders.push(dir);
    const modeAfter = async (before: number | undefined, ...more: string[]) => {
      const out = dir.file("dump.rdb");
      rmSync(out, { force: true });
      if (before !== undefined) writeFileSync(out, "an earlier backup", { mode: before });
      const ended = await runReplica(["backup", server.url(), out, "--force", ...more]);
      expect(ended.exitCode).toBe(0);
      return statSync(out).mode & 0o777;
    };
    expect(await modeAfter(0o600)).toBe(0o600);
    expect(await modeAfter(0o640)).toBe(0o640);
    // A write-protected file stays writable for its owner: the temporary file is opened again.
    expect(await modeAfter(0o400)).toBe(0o600);
    expect(await modeAfter(0o440)).toBe(0o640);
    // Of a primary nobody knows who may read it.
    expect(await modeAfter(undefined)).toBe(0o600);
    expect(await modeAfter(undefined, "--mode", "640")).toBe(0o640);
    expect(await modeAfter(0o600, "--mode", "0666")).toBe(0o666);
  });
});
