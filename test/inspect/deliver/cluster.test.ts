import { expect, test } from "bun:test";
import { isFollowed } from "../../../src/cli/delivery/followed-primary.ts";
import { Survey } from "../../../src/inspect/deliver/survey.ts";
import { type RealCluster, startCluster } from "../../support/cluster.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { keySlot } from "../../support/key-slot.ts";
import { installed } from "../../support/servers.ts";
import { until } from "../../support/wait.ts";
import {
  bring,
  openTarget,
  streamOf,
  type BringOptions,
  stringEntries,
  stringEntry,
} from "./rig.ts";

const TIME_LIMIT_MS = 300_000;
const names = (count: number) => Array.from({ length: count }, (_, at) => `key:${at}`);

async function sizeOf(cluster: RealCluster): Promise<number> {
  const sizes = await Promise.all((await cluster.primaries()).map((node) => node.send("DBSIZE")));
  return sizes.reduce((sum: number, size) => sum + Number(size), 0);
}

test(
  "brings each key to the node that has its slot, from whichever node it asks first",
  async () => {
    await using cluster = await startCluster("redis-7.0", { password: "s3cret" });
    const entries = stringEntries(3_000);
    const { counts, error } = await bring(entries, cluster.url());
    expect(error).toBeUndefined();
    expect(counts.restored).toBe(3_000);
    expect(await sizeOf(cluster)).toBe(3_000);
    // A single node's URL leads to all of them, a replica's too.
    const replica = (await cluster.shards())[0]!.replicas[0]!;
    const again = await bring(entries, replica.url());
    expect(again.counts).toMatchObject({ existed: 3_000, restored: 0 });
    // A user with the rights that RESTORE.md names, and no others.
    const rights =
      "-@all +restore +exists +select +info +asking +cluster|shards +cluster|nodes +cluster|info";
    const user = ["ACL", "SETUSER", "bringer", "on", ">pw", "~key:*", ...rights.split(" ")];
    await Promise.all(cluster.nodes.map((node) => node.sendAll([user])));
    const url = cluster.url().replace("//:s3cret@", "//bringer:pw@");
    const byUser = await bring(entries, url, { replace: true });
    expect(byUser.error).toBeUndefined();
    expect(byUser.counts.replaced).toBe(3_000);
    const elsewhere = [{ ...stringEntry("k", "v"), db: 3 }];
    const refused = await rejectionOf(() => bring(elsewhere, cluster.url()));
    expect(refused.message).toContain("database 0 alone");
  },
  TIME_LIMIT_MS,
);

test(
  "follows slots that move while it brings keys, also those that are open",
  async () => {
    await using cluster = await startCluster("redis-7.0", { replicas: 0 });
    const entries = stringEntries(40_000);
    const slots = names(20).map(keySlot);
    const moved: Promise<void>[] = [];
    const move = async () => {
      for (const slot of new Set(slots)) {
        const from = await cluster.ownerOf(slot);
        const to = cluster.nodes.find((node) => node !== from)!;
        await cluster.migrateSlot(slot, from, to);
        // Two moves at a time may get the same epoch, and then the nodes disagree about both.
        const agree = async () => {
          const owners = await Promise.all(cluster.nodes.map((one) => cluster.ownerOf(slot, one)));
          return owners.every((owner) => owner === to);
        };
        await until(agree, { what: `all nodes to take ${to.port} for the owner of ${slot}` });
      }
    };
    // Some stay open for good: what is absent there is asked for at the other node.
    const open = keySlot("key:100");
    const [from, to] = await otherOf(cluster, open);
    await cluster.openSlot(open, from, to);
    const options: BringOptions = {
      onSettled: (count) => count === 100 && moved.push(move()),
    };
    const { counts, error, all } = await bring(entries, cluster.url(), options);
    await Promise.all(moved);
    expect({ error, all }).toEqual({ error: undefined, all: [] });
    expect(counts.restored).toBe(40_000);
    expect(await to.send("CLUSTER", "COUNTKEYSINSLOT", open)).toBeGreaterThan(0);
    expect(await sizeOf(cluster)).toBe(40_000);
    expect(await cluster.send("GET", "key:100")).toContain("100");
  },
  TIME_LIMIT_MS,
);

test(
  "knows the primary of a history in whichever node it is",
  async () => {
    await using cluster = await startCluster("redis-7.0", { replicas: 0 });
    const signal = new AbortController().signal;
    const survey = await Survey.of(streamOf(stringEntries(300)), signal);
    const last = cluster.nodes.at(-1)!;
    const replid = (await last.info("replication"))["master_replid"]!;
    const byId = { source: "DIR", replicationIds: new Set([replid]), urls: [] };
    const byUrl = { source: "DIR", replicationIds: new Set(["x"]), urls: ["a shard", last.url()] };
    using target = await openTarget(cluster.url());
    expect([isFollowed(target, byId), isFollowed(target, byUrl)]).toEqual([false, false]);
    await target.prepare(survey, false);
    expect([isFollowed(target, byId), isFollowed(target, byUrl)]).toEqual([true, true]);
  },
  TIME_LIMIT_MS,
);

async function otherOf(cluster: RealCluster, slot: number) {
  const from = await cluster.ownerOf(slot);
  return [from, cluster.nodes.find((node) => node !== from)!] as const;
}

test(
  "goes on where a node fails over",
  async () => {
    await using cluster = await startCluster("redis-7.0");
    const entries = stringEntries(30_000);
    const [shard] = await cluster.shards();
    let failed: Promise<void> | undefined;
    const { counts, error } = await bring(entries, cluster.url(), {
      timeoutMs: 60_000,
      onSettled: (count) => {
        if (count === 9_000) failed = cluster.failover(shard!.replicas[0]!);
      },
    });
    await failed;
    expect(error).toBeUndefined();
    expect(counts).toMatchObject({ restored: 30_000, left: 0 });
    expect(await sizeOf(cluster)).toBe(30_000);
  },
  TIME_LIMIT_MS,
);

test.if(installed("valkey-9"))(
  "brings keys into every database of a cluster that has several",
  async () => {
    const args = ["--cluster-databases", "4"];
    await using cluster = await startCluster("valkey-9", { replicas: 0, args });
    const entries = stringEntries(400).map((entry, at) => ({ ...entry, db: at % 4 }));
    const { counts, error } = await bring(entries, cluster.url());
    expect(error).toBeUndefined();
    expect(counts.restored).toBe(400);
    const keys = await Promise.all(cluster.nodes.map((node) => node.keysPerDatabase()));
    const third = keys.reduce((sum, perDatabase) => sum + (perDatabase[3] ?? 0), 0);
    expect(third).toBe(100);
  },
  TIME_LIMIT_MS,
);
