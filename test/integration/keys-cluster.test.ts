import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { freePort } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SHARDS = 3;
const KEYS = 300;

interface Told {
  readonly complete: boolean;
  readonly keys: number;
  readonly snapshots: readonly {
    readonly shard: string;
    readonly keys: number;
    readonly generation: number | string;
    readonly damage: string | null;
  }[];
  readonly types: readonly { readonly type: string; readonly keys: number }[];
  readonly biggest_by_elements: readonly {
    readonly key: string;
    readonly elements: number;
    readonly shard: string;
  }[];
}

/** Kinds of servers whose newest and oldest follow a cluster. */
describe.each(outermost(availableServers()).slice(-1))("a cluster of %s", (kind) => {
  let dir: TempDir;
  let data: string;
  let url: string;
  /** The keys of each shard, in the order of their slots. */
  let sizes: number[];

  beforeAll(async () => {
    dir = tempDir("keys-cluster");
    data = dir.file("data");
    url = `file://${dir.file("archive")}`;
    await using cluster: RealCluster = await startCluster(kind, { shards: SHARDS, replicas: 0 });
    for (let n = 0; n < KEYS; n++) {
      if (n % 3 === 0) await cluster.send("RPUSH", `list:${n}`, ...Array(n + 1).fill("x"));
      else await cluster.send("SET", `key:${n}`, `value ${n}`);
    }
    const primaries = await cluster.primaries();
    sizes = [];
    for (const one of primaries) {
      await using client = await one.connect();
      sizes.push(Number(await client.send("DBSIZE")));
    }
    const port = freePort();
    const args = ["follow", cluster.url(), "--dir", data, "--port", String(port)];
    await using replica = startReplica([...args, "--archive", url, "--archive-every", "1s"]);
    const isKept = async () => {
      const { stdout } = await runReplica(["snapshots", data, "--json"]);
      return stdout !== "" && (JSON.parse(stdout) as { layouts: object | null }).layouts !== null;
    };
    const isArchived = async () => {
      const { exitCode, stdout } = await runReplica(["snapshots", url, "--json"]);
      if (exitCode !== 0) return false;
      const { shards = [], layouts = [] } = JSON.parse(stdout) as {
        shards?: { generations?: object[] }[];
        layouts?: object[];
      };
      const whole = shards.filter(({ generations = [] }) => generations.length > 0);
      return whole.length === SHARDS && layouts.length > 0;
    };
    for (const one of primaries) await one.acknowledgedBy(1);
    await until(isKept, { what: "a layout" });
    await until(isArchived, { what: "the archive" });
    await replica.stop();
  });
  afterAll(() => dir.remove());

  function check(told: Told, shards: readonly string[]): void {
    expect(told.complete).toBe(true);
    expect(told.keys).toBe(KEYS);
    expect(told.snapshots.map(({ shard }) => shard)).toEqual([...shards]);
    expect(told.snapshots.map(({ keys }) => keys).toSorted()).toEqual(sizes.toSorted());
    expect(told.types.map(({ type, keys }) => `${type} ${keys}`).toSorted()).toEqual([
      "list 100",
      "string 200",
    ]);
    const [longest] = told.biggest_by_elements;
    expect(longest).toMatchObject({ key: "list:297", elements: 298 });
    expect(shards).toContain(longest!.shard);
  }

  test("in its directory is counted as one, and each shard by itself", async () => {
    const { exitCode, stdout, stderr } = await runReplica(["keys", data, "--json"]);
    expect([exitCode, stderr]).toEqual([0, expect.stringMatching(/^shard 0001: reads the snap/)]);
    check(JSON.parse(stdout) as Told, ["0001", "0002", "0003"]);
    const text = await runReplica(["keys", data]);
    expect(text.stdout).toContain("\nBy shard\nshard  keys ");
    const one = await runReplica(["keys", `${data}/shards/0002`, "--json"]);
    expect(sizes).toContain((JSON.parse(one.stdout) as Told).keys);
  });

  test("in its archive is counted in the same way", async () => {
    const { exitCode, stdout, stderr } = await runReplica(["keys", url, "--json"]);
    expect([exitCode, stderr]).toEqual([0, stderr]);
    const names = fs.readdirSync(dir.file("archive", "shards")).toSorted();
    check(JSON.parse(stdout) as Told, names);
    const one = await runReplica(["keys", `${url}/shards/${names[0]!}`, "--json"]);
    expect(sizes).toContain((JSON.parse(one.stdout) as Told).keys);
  });

  test("refuses what names a point of one shard, and a time before all of it", async () => {
    for (const [source, shard] of [
      [data, `${data}/shards/0001`],
      [url, `${url}/shards/NAME`],
    ] as const) {
      for (const option of ["--offset", "--generation"]) {
        const { exitCode, stderr } = await runReplica(["keys", source, option, "1"]);
        expect([exitCode, stderr]).toEqual([2, expect.stringContaining(`replica keys ${shard}`)]);
      }
      const early = await runReplica(["keys", source, "--at", "2020-01-01T00:00:00Z"]);
      expect([early.exitCode, early.stdout]).toEqual([2, ""]);
    }
  });

  test("with a damaged shard tells the others, and exits with 3", async () => {
    const copy = dir.file("copy");
    fs.cpSync(data, copy, { recursive: true });
    const files = fs.readdirSync(copy, { recursive: true, encoding: "utf8" });
    const base = files.find(
      (name) => name.startsWith("shards/0001/generations") && name.endsWith(".base.rdb"),
    );
    fs.truncateSync(`${copy}/${base!}`, 400);
    const { exitCode, stdout, stderr } = await runReplica(["keys", copy, "--json"]);
    expect([exitCode, stderr]).toEqual([3, expect.stringContaining(base!)]);
    const told = JSON.parse(stdout) as Told;
    expect(told.complete).toBe(false);
    expect(told.snapshots.map(({ damage }) => damage === null)).toEqual([false, true, true]);
    expect(told.keys).toBeGreaterThan(told.snapshots[1]!.keys + told.snapshots[2]!.keys);
  });
});
