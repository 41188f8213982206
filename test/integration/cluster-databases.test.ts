import { expect, test } from "bun:test";
import { startCluster } from "../support/cluster.ts";
import { followShards } from "../support/followed-cluster.ts";
import { keySlot } from "../support/key-slot.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const kinds = availableServers().filter((kind) => kind === "valkey-9");

test.each(kinds)(
  "each key of a migration comes back to its database, and what was left out is told: %s",
  async (kind) => {
    using dir = tempDir("cluster-databases");
    const args = ["--cluster-databases", "4"];
    await using cluster = await startCluster(kind, { replicas: 0, args });
    await using followed = await followShards(cluster, dir.file("data"));
    const slot = keySlot("{tag}");
    const from = await cluster.ownerOf(slot);
    const to = (await cluster.primaries()).find((node) => node !== from)!;
    const client = await from.connect();
    await client.exchange([
      ...Array.from({ length: 10 }, (_, n) => ["SET", `{tag}:${n}`, n]),
      ["SELECT", 1],
      ["SET", "{tag}:one", "in 1"],
      ["SET", "{tag}:5", "in 1, too"],
      ["SET", "{tag}:stays", "in 1, at home"],
      ["SELECT", 3],
      ["SET", "{tag}:5", "in 3"],
    ]);
    // Its end is told in the target's stream, in words that no other server knows.
    const moved = keySlot("{other}");
    if ((await cluster.ownerOf(moved)) === to) throw new Error("the other slot is elsewhere");
    await cluster.migrateAtomically([moved, moved], await cluster.ownerOf(moved), to);
    const settledMs = Date.now() + 3_500;
    await until(() => Date.now() > settledMs, { what: "looks at a cluster at rest" });
    await cluster.openSlot(slot, from, to);
    const keys = ["KEYS", "{tag}:one", "{tag}:5"];
    await client.exchange([
      ["SELECT", 1],
      ["MIGRATE", "127.0.0.1", to.port, "", 1, 5_000, ...keys],
    ]);
    const target = await to.connect();
    await target.exchange([["SELECT", 1], ["ASKING"], ["SET", "{tag}:made", "in 1 as well"]]);
    const leftMs = Date.now() + 3_500;
    await until(() => Date.now() > leftMs, { what: "the migration to be old" });
    for (const key of ["a", "bb", "c1"]) await to.send("SET", key, 1).catch(() => undefined);
    await followed.stop();
    client.close();
    target.close();
    const server = serverScript(dir, kind);
    const restored = ["restore", followed.dir, dir.file("then"), "--server", server];
    await using serving = startReplica([...restored, "--check", "--serve", "0"]);
    const [, ports = ""] = await serving.waitForLine(/as a cluster at (\S+(?:, \S+)*) as of/);
    expect(serving.stdout).toContain("--cluster-databases 4 ");
    const found = new Map<string, string>();
    for (const port of ports.matchAll(/:(\d+)/g)) {
      const node = await RespClient.connect({ host: "127.0.0.1", port: Number(port[1]) });
      for (let db = 0; db < 4; db++) {
        await node.send("SELECT", db);
        const own = (await node.send("KEYS", "{tag}:*")) as string[];
        for (const key of own) found.set(`${db} ${key}`, String(await node.send("GET", key)));
      }
      node.close();
    }
    expect(Object.fromEntries(found)).toEqual({
      ...Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`0 {tag}:${n}`, String(n)])),
      "1 {tag}:one": "in 1",
      "1 {tag}:5": "in 1, too",
      "1 {tag}:stays": "in 1, at home",
      "1 {tag}:made": "in 1 as well",
      "3 {tag}:5": "in 3",
    });
    serving.signal("SIGINT");
    await serving.ended();
    const asJson = [...restored.with(2, dir.file("again")), "--check", "--json"];
    const checked = await runReplica(asJson);
    const { shards } = JSON.parse(checked.stdout) as {
      shards: {
        shard: number;
        stray_keys: number;
        databases: Record<string, number>;
        left_out_commands: number;
        sweeps: number;
      }[];
    };
    // That each shard removes what isn't its own in the end stands for nothing.
    for (const { shard, left_out_commands: leftOut, sweeps } of shards) {
      const note = `note: shard 000${shard} is without ${leftOut} commands that not every server`;
      expect([shard, sweeps, serving.stdout.includes(note)]).toEqual([shard, 0, leftOut > 0]);
      if (shard === followed.numberOf(to)) expect(leftOut).toBeGreaterThan(1);
    }
    expect(shards.reduce((sum, one) => sum + one.stray_keys, 0)).toBe(0);
    expect(shards.map(({ databases }) => databases)).toContainEqual({ db0: 10, db1: 4, db3: 1 });
  },
  5 * 60_000,
);
