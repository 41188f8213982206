import { describe, expect, test } from "bun:test";
import { ClusterDirectory } from "../../src/cluster/restore/cluster-directory.ts";
import { nodeAddresses } from "../../src/cluster/restore/addresses.ts";
import { planRestore } from "../../src/cluster/restore/plan.ts";
import { restoreCluster } from "../../src/cluster/restore/restore-cluster.ts";
import { hasSlot } from "../../src/cluster/slots/slot-ranges.ts";
import { findServer } from "../../src/stock/server-program.ts";
import { serveRestoredCluster } from "../../src/stock/stock-cluster.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { PieceCheckers } from "../../src/store/pieces/piece-checkers.ts";
import { shownTime } from "../../src/store/restore/restore-point.ts";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { ClusterClient, ClusterWriter } from "../support/cluster-writer.ts";
import { Random } from "../support/fill.ts";
import { followShards } from "../support/followed-cluster.ts";
import { keySlot } from "../support/key-slot.ts";
import { differences, readAll } from "../support/restored-cluster.ts";
import { availableServers, type RealServer, type ServerKind } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { amount, outermost, seedOf } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SECONDS = amount("CLUSTER_RESTORE_SECONDS", { sample: 10, full: 40 });
const POINTS = amount("CLUSTER_RESTORE_POINTS", { sample: 3, full: 30 });
const SEED = seedOf("CLUSTER_RESTORE_SEED");
const TAGS = Array.from({ length: 24 }, (_, n) => `t${n}`);

/** Every key of a restored cluster, which is served for that. */
async function readRestored(
  dir: TempDir,
  kind: ServerKind,
  shards: Parameters<typeof serveRestoredCluster>[0],
): ReturnType<typeof readAll> {
  const server = await findServer(serverScript(dir, kind));
  const stopping = new AbortController();
  const served = await serveRestoredCluster(shards, server, { port: 0, signal: stopping.signal });
  try {
    return await readAll(shards.map((shard, index) => ({ ...shard, port: served.ports[index]! })));
  } finally {
    stopping.abort(new Error("done"));
    await served.ended;
  }
}

/** Restores the whole cluster into a new folder. */
async function restoreAt(dir: string, target: string, atMs: number | undefined) {
  const signal = new AbortController().signal;
  using source = new ClusterDirectory(dir);
  using checkers = new PieceCheckers({ signal });
  const plan = await planRestore(source, atMs, { nowMs: Date.now(), disk: realDisk, signal });
  const nodes = await restoreCluster(plan, source.path, target, {
    disk: realDisk,
    signal,
    layout: "multipart",
    checkers,
    onProgress: () => undefined,
    addresses: nodeAddresses(undefined, plan.shards.length),
  });
  const shards = nodes.map(({ restored, slots, migrating = [], importing = [] }) => ({
    files: restored,
    slots,
    migrating,
    importing,
  }));
  return { plan, nodes, shards };
}

/** Moves slots about, one at a time, until `isOver`: by classic migrations, here and there left open for a while. */
async function reshard(cluster: RealCluster, random: Random, isOver: () => boolean): Promise<void> {
  const primaries = await cluster.primaries();
  const owner = new Map<number, RealServer>();
  for (const tag of TAGS)
    owner.set(keySlot(`{${tag}}`), await cluster.ownerOf(keySlot(`{${tag}}`)));
  const slots = [...owner.keys()];
  while (!isOver()) {
    const slot = slots[random.below(slots.length)]!;
    const from = owner.get(slot)!;
    const others = primaries.filter((node) => node !== from);
    const to = others[random.below(others.length)]!;
    await cluster.openSlot(slot, from, to);
    const pauseMs = random.below(3) === 0 ? 30 + random.below(60) : 0;
    while ((await cluster.migrateKeys(slot, from, to, 5 + random.below(20))) > 0)
      await Bun.sleep(pauseMs);
    await cluster.closeSlot(slot, from, to);
    owner.set(slot, to);
    await Bun.sleep(random.below(400));
  }
}

/** Moves ranges of slots about, by atomic migrations. */
async function reshardAtomically(
  cluster: RealCluster,
  random: Random,
  isOver: () => boolean,
): Promise<void> {
  const primaries = await cluster.primaries();
  while (!isOver()) {
    const slot = keySlot(`{${TAGS[random.below(TAGS.length)]!}}`);
    const from = await cluster.ownerOf(slot);
    const others = primaries.filter((node) => node !== from);
    const to = others[random.below(others.length)]!;
    await cluster.migrateAtomically([slot, slot], from, to);
    await until(async () => (await cluster.ownerOf(slot, from)) === to, {
      what: "the source to know",
    });
    await Bun.sleep(random.below(600));
  }
}

interface Way {
  readonly name: string;
  readonly kind: ServerKind;
  readonly move: (cluster: RealCluster, random: Random, isOver: () => boolean) => Promise<void>;
}

const WAYS: Way[] = [
  ...outermost(availableServers()).map((kind) => ({
    name: `classic, ${kind}`,
    kind,
    move: reshard,
  })),
  ...availableServers()
    .filter((kind) => kind === "valkey-9")
    .map((kind) => ({ name: `atomic, ${kind}`, kind, move: reshardAtomically })),
];

test.each(WAYS)(
  "any moment within a reshard is restored whole, no key lost and none twice: $name",
  async ({ kind, move }) => {
    using dir = tempDir("cluster-restore");
    const random = new Random(SEED);
    await using cluster = await startCluster(kind, { replicas: 0 });
    await using followed = await followShards(cluster, dir.file("data"));
    await using writer = new ClusterWriter(cluster, TAGS, SEED);
    const beganMs = Date.now();
    const hasSome = () => Date.now() > beganMs + 3_000 && writer.keys.length > 1_000;
    await until(hasSome, { what: "some keys" });
    const movedMs = Date.now();
    await move(cluster, random, () => Date.now() > movedMs + SECONDS * 1_000);
    const endedMs = Date.now();
    await until(() => Date.now() > endedMs + 1_000, { what: "some more keys" });
    await writer.stop();
    await followed.stop();
    for (let point = 0; point < POINTS; point++) {
      const atMs = movedMs + random.below(endedMs - movedMs);
      const { plan, nodes, shards } = await restoreAt(
        followed.dir,
        dir.file(`restored-${point}`),
        atMs,
      );
      const { found, faults } = await readRestored(dir, kind, shards);
      const all = [...faults, ...differences(writer, found, atMs)];
      const back = nodes.map(({ broughtBack }) => broughtBack);
      const told = {
        at: shownTime(atMs),
        faults: all.slice(0, 20),
        count: all.length,
        back,
        notes: plan.notes,
      };
      expect(told).toEqual({ ...told, faults: [], count: 0 });
      expect(found.size).toBeGreaterThan(100);
    }
  },
  15 * 60_000,
);

/** Writes keys of one slot, and moves half of them. */
async function halfMoved(cluster: RealCluster, count = 100) {
  const slot = keySlot("{tag}");
  const from = await cluster.ownerOf(slot);
  const to = (await cluster.primaries()).find((node) => node !== from)!;
  for (let n = 0; n < count; n++) await from.send("SET", `{tag}:${n}`, n);
  await cluster.openSlot(slot, from, to);
  await cluster.migrateKeys(slot, from, to, count / 2);
  return { slot, from, to };
}

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("a slot that was open before anything was kept stays open, and no key of it is lost", async () => {
    using dir = tempDir("cluster-restore");
    await using cluster = await startCluster(kind, { replicas: 0 });
    const { slot, from } = await halfMoved(cluster);
    await using followed = await followShards(cluster, dir.file("data"));
    await from.send("SET", "{tag}:0:later", 1).catch(() => undefined);
    await followed.stop();
    const { plan, shards } = await restoreAt(followed.dir, dir.file("restored"), undefined);
    expect(plan.open).toMatchObject([{ slot }]);
    expect(plan.notes.join()).toMatch(/stays open .* redis-cli --cluster fix ends it/);
    const { found, faults } = await readRestored(dir, kind, shards);
    expect(faults).toEqual([]);
    const tagged = [...found.keys()].filter((key) => /^\{tag\}:\d+$/.test(key));
    expect(tagged.length).toBe(100);
  });

  test("a slot that stays open has each key in one shard, while they move", async () => {
    using dir = tempDir("cluster-restore");
    await using cluster = await startCluster(kind, { replicas: 0 });
    const count = 2_000;
    const { slot, from, to } = await halfMoved(cluster, count);
    await using followed = await followShards(cluster, dir.file("data"));
    const beganMs = Date.now();
    for (let left = 5; left > 0;) {
      left = await cluster.migrateKeys(slot, from, to, 5);
      await Bun.sleep(10);
    }
    const endedMs = Date.now();
    await until(() => Date.now() > endedMs + 2_500, { what: "looks at what came of it" });
    await followed.stop();
    for (const part of [0.2, 0.4, 0.6, 0.8]) {
      const atMs = Math.round(beganMs + part * (endedMs - beganMs));
      const { plan, shards } = await restoreAt(followed.dir, dir.file(`then-${part}`), atMs);
      expect(plan.open).toMatchObject([{ slot }]);
      const { found, faults } = await readRestored(dir, kind, shards);
      expect([part, faults.length, found.size]).toEqual([part, 0, count]);
      expect([...found].filter(([key, value]) => key !== `{tag}:${value}`)).toEqual([]);
    }
  });

  test.each([
    ["long after following began", 3_000],
    ["when nothing was kept but an empty snapshot", 0],
  ])("a migration that was left half done is undone, begun %s", async (_when, quietForMs) => {
    using dir = tempDir("cluster-restore");
    await using cluster = await startCluster(kind, { replicas: 0 });
    await using followed = await followShards(cluster, dir.file("data"));
    const quietMs = Date.now() + quietForMs;
    await until(() => Date.now() > quietMs, { what: "looks at a cluster at rest" });
    const { slot, from, to } = await halfMoved(cluster);
    const client = new ClusterClient(cluster);
    await client.send("SET", "{tag}:0", "newer");
    await client.send("SET", "{tag}:made", 1);
    await client.send("DEL", "{tag}:1");
    await client.close();
    const leftMs = Date.now() + 4_000;
    await until(() => Date.now() > leftMs, { what: "the migration to be old" });
    await from.send("SET", "{tag}:none", 1).catch(() => undefined);
    await followed.stop();
    const { plan, nodes, shards } = await restoreAt(followed.dir, dir.file("restored"), undefined);
    expect(plan.open).toEqual([]);
    const { found, faults } = await readRestored(dir, kind, shards);
    expect(faults).toEqual([]);
    expect(found.size).toBe(100);
    expect([found.get("{tag}:0"), found.get("{tag}:made"), found.get("{tag}:1")]).toEqual([
      "newer",
      "1",
      undefined,
    ]);
    const owner = nodes.find(({ slots }) => hasSlot(slots, slot))!;
    expect(owner.number).toBe(followed.numberOf(from));
    expect(owner.number).not.toBe(followed.numberOf(to));
  });
});
