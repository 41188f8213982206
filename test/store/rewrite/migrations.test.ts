import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { Catalogue } from "../../../src/store/restore/catalogue.ts";
import { restore } from "../../../src/store/restore/restore.ts";
import { restorePoint } from "../../../src/store/restore/restore-point.ts";
import { filesOf } from "../../../src/store/generation/layout.ts";
import {
  type MigrationEvent,
  migrationEvents,
} from "../../../src/store/rewrite/migration-events.ts";
import { startCluster } from "../../support/cluster.ts";
import { follow } from "../../support/following.ts";
import { keySlot } from "../../support/key-slot.ts";
import {
  availableServers,
  bootCopyOfDir,
  type RealServer,
  type ServerKind,
} from "../../support/servers.ts";
import { tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { clusterArgs, complaints, OWNER_OF_ALL } from "./loaded.ts";

const signal = new AbortController().signal;
const sorted = async (server: RealServer) =>
  ((await server.send("KEYS", "*")) as string[]).toSorted();

/** Restores all that a data directory keeps. */
async function restoreAll(path: string, target: string) {
  using catalogue = new Catalogue(path);
  const wanted = { generation: undefined, atMs: undefined, offset: undefined };
  return await restore(catalogue, restorePoint(catalogue, wanted), target, {
    disk: realDisk,
    layout: "multipart",
    signal,
    onProgress: () => undefined,
  });
}

/** The kinds of the events in the log of a data directory. */
async function eventsOf(path: string): Promise<MigrationEvent[]> {
  using catalogue = new Catalogue(path);
  const generation = catalogue.generations.at(-1)!;
  const log = filesOf(generation).log;
  const part = { disk: realDisk, path: log, from: 0, to: realDisk.sizeOf(log), signal };
  return await Array.fromAsync(migrationEvents(part));
}

/** Boots servers on a restore, alone and in a cluster of one node, and expects these keys and no complaint. */
async function expectKeys(kind: ServerKind, dir: string, keys: readonly string[]): Promise<void> {
  writeFileSync(join(dir, "nodes.conf"), OWNER_OF_ALL);
  for (const isCluster of [false, true]) {
    const args = ["--appendonly", "yes", ...clusterArgs(isCluster)];
    await using server = await bootCopyOfDir(kind, dir, { args });
    expect([isCluster, await sorted(server)]).toEqual([isCluster, [...keys]]);
    expect(complaints(server)).toEqual([]);
  }
}

test.each(availableServers())("%s: both shards of a moved slot are restored", async (kind) => {
  using dir = tempDir("classic");
  using other = tempDir("classic");
  await using cluster = await startCluster(kind, { shards: 2, replicas: 1 });
  const [source, target] = cluster.nodes as [RealServer, RealServer];
  const slot = Array.from({ length: 100 }, (_, n) => `t${n}`).find((tag) => keySlot(tag) < 8_000)!;
  for (let n = 0; n < 30; n++) await cluster.send("SET", `{${slot}}${n}`, String(n));
  await cluster.send("SET", `{${slot}}ttl`, "1", "EX", 10_000);
  await cluster.send("SET", "other", "1");
  await using from = follow(source.url(), realDisk, dir, { fsync: "always" });
  await using to = follow(target.url(), realDisk, other, { fsync: "always" });
  await Promise.all([from.connected(), to.connected()]);
  await cluster.migrateSlot(keySlot(slot), source, target);
  await cluster.send("SET", `{${slot}}after`, "1");
  await Promise.all([source.acknowledgedBy(2), target.acknowledgedBy(2)]);
  const [left, moved] = await Promise.all([sorted(source), sorted(target)]);
  expect(moved.filter((key) => key.startsWith(`{${slot}}`)).length).toBe(32);
  expect(await from.stop()).toBeUndefined();
  expect(await to.stop()).toBeUndefined();
  const kinds = (await eventsOf(to.path)).map((event) => event.kind);
  expect(kinds.filter((one) => one === "arrived").length).toBe(31);
  // Only where a replica is a node of the cluster.
  expect(kinds.includes("setslot")).toBe(kind.startsWith("valkey"));
  await expectKeys(kind, (await restoreAll(from.path, dir.file("restored"))).dir, left);
  await expectKeys(kind, (await restoreAll(to.path, other.file("restored"))).dir, moved);
});

const nine = availableServers().filter((kind) => kind === "valkey-9");

test.each(nine)("%s: an atomic migration is restored at both ends", async (kind) => {
  using dir = tempDir("atomic");
  using other = tempDir("atomic");
  await using cluster = await startCluster(kind, { shards: 2, replicas: 0 });
  const [source, target] = cluster.nodes as [RealServer, RealServer];
  for (let n = 0; n < 300; n++) await cluster.send("SET", `key:${n}`, String(n));
  await using from = follow(source.url(), realDisk, dir, { fsync: "always" });
  await using to = follow(target.url(), realDisk, other, { fsync: "always" });
  await Promise.all([from.connected(), to.connected()]);
  await cluster.migrateAtomically([0, 4_000], source, target);
  await until(
    async () =>
      ((await source.send("DBSIZE")) as number) + ((await target.send("DBSIZE")) as number) === 300,
    { what: "the source to remove what has moved" },
  );
  await Promise.all([source.acknowledgedBy(1), target.acknowledgedBy(1)]);
  const [left, moved] = await Promise.all([sorted(source), sorted(target)]);
  expect(await from.stop()).toBeUndefined();
  expect(await to.stop()).toBeUndefined();
  const events = await eventsOf(to.path);
  expect(events.map((event) => event.kind)).toEqual(["established", "finished"]);
  expect(events[0]).toMatchObject({ ranges: [[0, 4_000]] });
  expect(events[1]).toMatchObject({ ok: true });
  await expectKeys(kind, (await restoreAll(from.path, dir.file("restored"))).dir, left);
  const restored = await restoreAll(to.path, other.file("restored"));
  expect(restored.leftOutCommands).toBeGreaterThan(2);
  expect(restored.sweeps).toBe(0);
  await expectKeys(kind, restored.dir, moved);
});

test.each(nine)("%s: a migration that is in the snapshot ends as it did", async (kind) => {
  for (const how of ["success", "failed"]) {
    using dir = tempDir("open-job");
    await using cluster = await startCluster(kind, { shards: 2, replicas: 0 });
    const [source, target] = cluster.nodes as [RealServer, RealServer];
    for (let n = 0; n < 300; n++) await cluster.send("SET", `key:${n}`, String(n));
    const stateAt = async (node: RealServer) =>
      JSON.stringify(await node.send("CLUSTER", "GETSLOTMIGRATIONS"));
    await source.send("DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1);
    const id = await cluster.idOf(target);
    await source.send("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 4_000, "NODE", id);
    await until(async () => (await stateAt(target)).includes("waiting-for-paused"), {
      what: "all keys to have come",
    });
    await using to = follow(target.url(), realDisk, dir, { fsync: "always" });
    await to.connected();
    if (how === "success") await source.send("DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0);
    else await source.send("CLUSTER", "CANCELSLOTMIGRATIONS");
    await until(async () => (await stateAt(target)).includes(how), { what: how });
    await target.acknowledgedBy(1);
    const keys = await sorted(target);
    expect(await to.stop()).toBeUndefined();
    const events = await eventsOf(to.path);
    expect(events.map((event) => event.kind)).toEqual(["finished"]);
    const restored = await restoreAll(to.path, dir.file("restored"));
    const own = how === "success" ? "0-4000 8192-16383" : "8192-16383";
    writeFileSync(join(restored.dir, "nodes.conf"), OWNER_OF_ALL.replace("0-16383", own));
    // Valkey 9.1.2 loads no such snapshot without cluster support.
    const args = ["--appendonly", "yes", ...clusterArgs(true)];
    await using server = await bootCopyOfDir(kind, restored.dir, { args });
    expect([how, await sorted(server)]).toEqual([how, keys]);
    expect(await server.send("DBSIZE")).toBe(keys.length);
    expect(complaints(server)).toEqual([]);
  }
});
