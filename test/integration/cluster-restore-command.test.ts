import { describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { ClusterClient } from "../support/cluster-writer.ts";
import { followShards } from "../support/followed-cluster.ts";
import { freeNodePort } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { runProgram } from "../support/run-program.ts";
import {
  availableServers,
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
  tool,
} from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { outermost } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KEYS = 200;

interface Told {
  readonly time: string;
  readonly slots: number;
  readonly open_slots: readonly unknown[];
  readonly notes: readonly string[];
  readonly shards: readonly {
    readonly shard: number;
    readonly slots: string;
    readonly node: string;
    readonly keys: number;
    readonly keys_with_expiry: number;
    readonly stray_keys: number;
    readonly digest: string;
  }[];
}

/** Writes keys of some kinds to every shard. */
async function fill(cluster: RealCluster): Promise<void> {
  const client = new ClusterClient(cluster);
  for (let n = 0; n < KEYS; n++) {
    await client.send("SET", `key:${n}`, `value:${n}`);
    if (n % 10 === 0) await client.send("RPUSH", `list:${n}`, 1, 2, 3);
    if (n % 20 === 0) await client.send("SET", `short:${n}`, 1, "PX", 600_000);
  }
  await client.close();
}

/** A cluster that was followed until it held all keys, and what each node had then. */
async function kept(kind: ServerKind, dir: TempDir) {
  await using cluster = await startCluster(kind, { replicas: 0 });
  await using followed = await followShards(cluster, dir.file("data"));
  await fill(cluster);
  // A mark between, so that an earlier moment is another one.
  const digests = await Promise.all(cluster.nodes.map((node) => node.digest()));
  await followed.stop();
  return { dir: followed.dir, digests };
}

const freePorts = (count: number) => Array.from({ length: count }, freeNodePort);

async function cli(kind: ServerKind, ...words: string[]): Promise<string> {
  return (await runProgram([...tool(kind, "redis-cli"), ...words])).stdout.trim();
}

describe.each(outermost(availableServers()))("%s", (kind) => {
  test(
    "restore writes a whole cluster, which stock servers are at once",
    async () => {
      using dir = tempDir("cluster-command");
      const { dir: data, digests } = await kept(kind, dir);
      const server = serverScript(dir, kind);
      const ports = freePorts(3);
      const addresses = ports.map((port) => `127.0.0.1:${port}`).join(",");
      const checked = await runReplica([
        "restore",
        data,
        dir.file("then"),
        "--addresses",
        addresses,
        "--digest",
        "--server",
        server,
        "--json",
      ]);
      expect(checked).toMatchObject({ exitCode: 0 });
      const told = JSON.parse(checked.stdout) as Told;
      expect([told.slots, told.open_slots]).toEqual([16_384, []]);
      expect(told.shards.map(({ digest }) => digest)).toEqual(digests);
      expect(told.shards.map((shard) => shard.node)).toEqual(addresses.split(","));
      const sum = (what: "keys" | "keys_with_expiry" | "stray_keys") =>
        told.shards.reduce((all, shard) => all + shard[what], 0);
      expect([sum("keys"), sum("keys_with_expiry"), sum("stray_keys")]).toEqual([
        KEYS + KEYS / 10 + KEYS / 20,
        KEYS / 20,
        0,
      ]);
      expect(readdirSync(dir.file("then")).toSorted()).toEqual(["0001", "0002", "0003"]);
      const ids = told.shards.map((_, index) =>
        readFileSync(dir.file("then", `000${index + 1}`, "nodes.conf"), "utf8").slice(0, 40),
      );
      expect(new Set(ids).size).toBe(3);
      // As an operator starts them.
      const nodes: RealServer[] = [];
      await using stack = new AsyncDisposableStack();
      for (const [index, port] of ports.entries()) {
        const args = ["--appendonly", "yes", "--cluster-enabled", "yes"];
        const folder = dir.file("then", `000${index + 1}`);
        nodes.push(stack.use(await bootCopyOfDir(kind, folder, { port, args })));
      }
      await until(
        async () => {
          const infos = await Promise.all(nodes.map((node) => node.send("CLUSTER", "INFO")));
          return infos.every((info) => String(info).includes("cluster_state:ok"));
        },
        { what: "the restored cluster to be ok" },
      );
      const check = await cli(kind, "--cluster", "check", `127.0.0.1:${ports[0]}`);
      expect(check).toContain("[OK] All 16384 slots covered.");
      expect(check).toContain("[OK] All nodes agree about slots configuration.");
      for (const n of [0, 77, 199]) {
        expect(await cli(kind, "-c", "-p", String(ports[0]), "get", `key:${n}`)).toBe(`value:${n}`);
      }
    },
    5 * 60_000,
  );

  test(
    "restore serves a whole cluster, tells it as a table, and stops",
    async () => {
      using dir = tempDir("cluster-command");
      const { dir: data } = await kept(kind, dir);
      const server = serverScript(dir, kind);
      await using serving = startReplica([
        "restore",
        data,
        dir.file("then"),
        "--layout",
        "single",
        "--serve",
        "0",
        "--check",
        "--server",
        server,
      ]);
      const [, port = ""] = await serving.waitForLine(
        /serves it as a cluster at 127.0.0.1:(\d+), /,
      );
      expect(serving.stdout).toContain("then: 3 shards with 16384 slots, as of ");
      expect(serving.stdout).toMatch(/^0002 +5462 +5462-10923 .* 127.0.0.1:7001 /m);
      expect(await cli(kind, "-c", "-p", port, "get", "key:77")).toBe("value:77");
      expect(await cli(kind, "-c", "-p", port, "set", "key:77", "other")).toContain("NOPERM");
      expect(await cli(kind, "--cluster", "check", `127.0.0.1:${port}`)).toContain(
        "[OK] All 16384 slots covered.",
      );
      expect(existsSync(dir.file("then", "0001", "appendonly.aof"))).toBe(true);
      serving.signal("SIGINT");
      expect(await serving.ended()).toMatchObject({ exitCode: 0 });
      expect(await cli(kind, "-p", port, "ping").catch(() => "")).not.toContain("PONG");
    },
    5 * 60_000,
  );
});

test(
  "what can't be restored is refused, with what can; snapshots and verify speak of every shard",
  async () => {
    using dir = tempDir("cluster-command");
    const { dir: data } = await kept("redis-7.0", dir);
    const refused = async (...args: string[]) => {
      const { exitCode, stderr } = await runReplica(["restore", data, dir.file("then"), ...args]);
      expect(exitCode).toBe(2);
      return stderr;
    };
    expect(await refused("--offset", "5")).toContain(
      `--offset is for one shard: replica restore ${data}/shards/0001`,
    );
    expect(await refused("--generation", "1")).toContain("--generation is for one shard");
    expect(await refused("--addresses", "127.0.0.1:7000")).toContain(
      "3 shards are restored: name 3",
    );
    expect(await refused("--addresses", "127.0.0.1:60000,127.0.0.1:7001,127.0.0.1:7002")).toContain(
      "at most 55535",
    );
    expect(await refused("--at", "2001-01-01T00:00:00Z")).toMatch(/no layout of the cluster/);
    expect(await refused("--at", "yesterday")).toMatch(/all shards keep 20.* to 20/);
    const [port = 0] = freePorts(1);
    const bus = { hostname: "127.0.0.1", port: port + 10_001, socket: { data: () => undefined } };
    const listener = Bun.listen(bus);
    const server = serverScript(dir, "redis-7.0");
    const serve = ["--serve", String(port), "--server", server];
    const taken = await runReplica(["restore", data, dir.file("then"), ...serve]);
    listener.stop(true);
    expect(taken.exitCode).not.toBe(0);
    expect(taken.stderr).toContain(`can't listen on 127.0.0.1:${port + 10_001}: the port is in`);
    mkdirSync(dir.file("there", "filled"), { recursive: true });
    const there = await runReplica(["restore", data, dir.file("there")]);
    expect([there.exitCode, there.stderr]).toEqual([2, expect.stringContaining("is not empty")]);
    expect(existsSync(dir.file("then"))).toBe(false);
    const plain = await runReplica([
      "restore",
      `${data}/shards/0001`,
      dir.file("then"),
      "--addresses",
      "127.0.0.1:7000",
    ]);
    expect([plain.exitCode, plain.stderr]).toEqual([2, expect.stringContaining("cluster.db")]);

    const list = await runReplica(["snapshots", data]);
    expect(list.stdout).toMatch(/^shard +id +state/m);
    expect(list.stdout).toMatch(/^0003 +1 +current/m);
    expect(list.stdout).toMatch(/^layouts of the cluster from 20.* to 20/m);
    const listed = JSON.parse((await runReplica(["snapshots", data, "--json"])).stdout);
    expect(listed).toMatchObject({
      dir: data,
      shards: [{ shard: 1, generations: [{ id: 1 }] }, {}, {}],
    });

    expect(await runReplica(["verify", data])).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/^shard 0001\n(.*\n)+shard 0003\n(.*\n)+layouts/),
    });
    const generation = `${data}/shards/0002/generations/0000000001`;
    const log = `${generation}/appendonly.aof.1.incr.aof`;
    const bytes = readFileSync(log);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(log, bytes);
    const verified = await runReplica(["verify", data, "--json"]);
    expect(verified.exitCode).toBe(3);
    expect(JSON.parse(verified.stdout)).toMatchObject({
      ok: false,
      shards: [
        { shard: 1, ok: true },
        { shard: 2, ok: false },
        { shard: 3, ok: true },
      ],
    });
    const damaged = await runReplica(["restore", data, dir.file("then")]);
    expect([damaged.exitCode, damaged.stderr]).toEqual([3, expect.stringContaining("shards/0002")]);
    truncateSync(`${data}/shards/0002/replica.db`, 100);
    expect(await runReplica(["verify", data])).toMatchObject({
      exitCode: 3,
      stdout: expect.stringMatching(/shard 0002\ndamaged: /),
    });
    expect(readdirSync(dir.path).filter((name) => name.startsWith(".then"))).toEqual([]);
  },
  5 * 60_000,
);
