import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { keySlot } from "../support/key-slot.ts";
import { freePort, freePortsInARow } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { startServer } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { IS_FULL } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KIND = "valkey-9";
const SHARDS = 3;
/** Of the first shard. */
const MOVED = Array.from({ length: 100 }, (_, n) => `moved:${n}`)
  .filter((key) => keySlot(key) < 5_000)
  .slice(0, 2);

interface Shown {
  readonly time: string;
  readonly shards: readonly {
    readonly shard: number;
    readonly slots: string;
    readonly keys: number;
    readonly stray_keys: number;
    readonly digest: string;
  }[];
}

const WAYS = [
  { where: "a folder", isEncrypted: false, isS3: false },
  { where: "a bucket, encrypted", isEncrypted: true, isS3: true },
];

describe.each(IS_FULL ? WAYS : WAYS.slice(1))(
  "the archive of a cluster in $where",
  ({ isEncrypted, isS3 }) => {
    let cluster: RealCluster;
    let dir: TempDir;
    let store: FaultS3;
    let url: string;
    let identity: string[] = [];
    let env: Record<string, string>;
    let server: string;
    /** Between the first writes and the last, before anything was moved. */
    let earlyMs: number;
    let early: string[];
    let late: string[];
    let targets = 0;

    beforeAll(async () => {
      dir = tempDir("cluster-archive");
      [cluster, store] = await Promise.all([
        startCluster(KIND, { shards: SHARDS, replicas: 0 }),
        FaultS3.start(),
      ]);
      url = isS3 ? "s3://bucket/cluster" : `file://${dir.file("archive")}`;
      env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
      server = serverScript(dir, KIND);
      const how = isS3 ? ["--archive-endpoint", store.endpoint] : [];
      const key = await generateX25519Identity();
      if (isEncrypted) {
        fs.writeFileSync(dir.file("identity"), `${key}\n`);
        identity = ["--archive-identity", dir.file("identity")];
      }
      const recipient = isEncrypted ? ["--archive-recipient", await identityToRecipient(key)] : [];
      const port = freePort();
      const args = [cluster.url(), "--dir", dir.file("data"), "--port", String(port)];
      const archive = ["--archive", url, "--archive-every", "1s", ...how, ...recipient];
      for (let n = 0; n < 200; n++) await cluster.send("SET", `key:${n}`, `value ${n}`);
      for (const tag of MOVED) await cluster.send("SET", tag, "moved");
      await using replica = startReplica(["follow", ...args, ...archive], { env });
      await until(async () => (await shownBy(port)).every(({ state }) => state === "connected"), {
        what: "all shards",
      });
      const primaries = await cluster.primaries();
      for (const one of primaries) await one.acknowledgedBy(1);
      early = await Promise.all(primaries.map(async (one) => await one.digest()));
      // No moment is told more exactly than by a mark, which comes within a second; and that what is moved later wasn't
      // moving yet is known once a look has come.
      await Bun.sleep(4_100);
      earlyMs = Date.now();
      await Bun.sleep(2_100);
      for (let n = 200; n < 300; n++) await cluster.send("SET", `key:${n}`, `value ${n}`);
      const [from, to] = primaries;
      for (const tag of MOVED) await cluster.migrateSlot(keySlot(tag), from!, to!);
      // For two seconds a slot that was moved counts as its source's.
      await Bun.sleep(3_000);
      for (let n = 300; n < 320; n++) await cluster.send("SET", `key:${n}`, `value ${n}`);
      for (const one of primaries) await one.acknowledgedBy(1);
      late = await Promise.all(primaries.map(async (one) => await one.digest()));
      await Bun.sleep(1_100);
      await replica.stop();
      identity.push(...how);
    });
    afterAll(async () => {
      await cluster[Symbol.asyncDispose]();
      await store.stop();
      dir.remove();
    });

    async function shownBy(port: number) {
      const { stdout } = await runReplica(["status", `127.0.0.1:${port}`, "--json"]);
      const { shards = [] } = (stdout === "" ? {} : JSON.parse(stdout)) as {
        shards?: { state: string }[];
      };
      return shards.length === SHARDS ? shards : [{ state: "missing" }];
    }

    const run = async (command: string, ...more: string[]) =>
      await runReplica([command, url, ...more, ...identity], { env });

    const restored = async (...more: string[]) => {
      const target = dir.file(`target-${targets++}`);
      const how = ["--check", "--digest", "--server", server, "--json"];
      const { exitCode, stdout, stderr } = await run("restore", target, ...how, ...more);
      expect([exitCode, stderr]).toEqual([0, stderr]);
      return { target, shown: JSON.parse(stdout) as Shown };
    };

    test("restores the end, with the slots that were moved, and leaves nothing beside it", async () => {
      const { shown } = await restored();
      expect(shown.shards.map(({ digest }) => digest)).toEqual(late);
      expect(shown.shards.map(({ stray_keys }) => stray_keys)).toEqual([0, 0, 0]);
      expect(shown.shards.reduce((sum, { keys }) => sum + keys, 0)).toBe(322);
      expect(fs.readdirSync(dir.path).filter((name) => name.startsWith("."))).toEqual([]);
    });

    test("restores a moment, with the slots as they were", async () => {
      const { shown, target } = await restored("--at", String(earlyMs));
      expect(shown.shards.map(({ digest }) => digest)).toEqual(early);
      expect(shown.shards.map(({ slots }) => slots)).toEqual([
        "0-5461",
        "5462-10923",
        "10924-16383",
      ]);
      const conf = fs.readFileSync(`${target}/0002/nodes.conf`, "utf8");
      expect(conf).toMatch(
        /127\.0\.0\.1:7001@17001 myself,master - 0 0 \d+ connected 5462-10923\n/,
      );
    });

    test("the restored cluster serves any key to a client that follows MOVED", async () => {
      const port = freePortsInARow(SHARDS);
      const target = dir.file(`target-${targets++}`);
      const args = ["restore", url, target, "--serve", String(port), "--server", server];
      await using serving = startReplica([...args, ...identity], { env });
      await serving.waitForLine(/serves it as a cluster at/);
      for (const key of ["key:1", "key:250", ...MOVED]) {
        await using client = await RespClient.connect({ port });
        const [reply] = await client.exchange([["GET", key]]);
        const to = /^MOVED \d+ 127\.0\.0\.1:(\d+)$/.exec(
          String((reply as Error)?.message ?? ""),
        )?.[1];
        await using other = await RespClient.connect({ port: Number(to ?? port) });
        const value = MOVED.includes(key) ? "moved" : `value ${key.slice(4)}`;
        expect(await other.send("GET", key)).toBe(value);
      }
      expect((await serving.stop()).exitCode).toBe(0);
    });

    test("--offline serves each shard from there, and leaves nothing behind", async () => {
      const [port, relays] = [freePort(), freePortsInARow(SHARDS)];
      const served = dir.file("served");
      const args = ["follow", url, "--offline", "--dir", served, "--port", String(port)];
      await using serving = startReplica([...args, "--relay-ports", String(relays), ...identity], {
        env,
      });
      await serving.waitForLine(/serving .*\(--offline\) at/);
      await using stock = await startServer(KIND, { args: ["--replicaof", `127.0.0.1 ${relays}`] });
      await stock.suppliedFrom(relays);
      expect(await stock.digest()).toBe(late[0]!);
      expect((await serving.stop()).exitCode).toBe(0);
      expect(fs.readdirSync(dir.path).filter((name) => /served/.test(name))).toEqual([]);
    });

    test("snapshots and verify have a part for each shard", async () => {
      const listed = await run("snapshots", "--json");
      const { shards, layouts } = JSON.parse(listed.stdout) as {
        shards: { shard: string; generations: object[] }[];
        layouts: object[];
      };
      expect(shards.map(({ generations }) => generations.length)).toEqual([1, 1, 1]);
      expect(shards[0]!.shard).toMatch(/^0001-[0-9a-f]{8}$/);
      expect(layouts).toHaveLength(1);
      const verified = await run("verify");
      expect(verified.exitCode).toBe(0);
      expect(verified.stdout.match(/^shard 000[123]-[0-9a-f]{8}$/gm)).toHaveLength(SHARDS);
      expect(verified.stdout).toContain("layouts of the directory");
    });

    test.if(isEncrypted)("without the identity verify says so, once", async () => {
      const how = identity.filter((_, index) => identity[index - 1] !== "--archive-identity");
      const more = how.filter((one) => one !== "--archive-identity");
      const { exitCode, stdout, stderr } = await runReplica(["verify", url, ...more], { env });
      expect([exitCode, stdout]).toEqual([2, ""]);
      expect(stderr.match(/archive-identity/g)).toHaveLength(1);
    });

    test("a moment that no shard has is refused with the shard's name, and --offset with what to give", async () => {
      const before = await run("restore", dir.file("never"), "--at", "2020-01-01T00:00:00Z");
      expect(before.exitCode).toBe(2);
      expect(before.stderr).toMatch(/no shard with slots at .*: its layouts begin at /);
      const offset = await run("restore", dir.file("never"), "--offset", "100");
      expect(offset.exitCode).toBe(2);
      expect(offset.stderr).toContain("--offset is for one shard");
      expect(fs.existsSync(dir.file("never"))).toBe(false);
    });
  },
);
