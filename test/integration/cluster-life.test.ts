import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { ClusterHistory } from "../../src/cluster/ledger/cluster-history.ts";
import { hasSlot, parseRanges } from "../../src/cluster/slots/slot-ranges.ts";
import { shownTime } from "../../src/store/restore/restore-point.ts";
import { type RealCluster, startCluster } from "../support/cluster.ts";
import { ClusterWriter } from "../support/cluster-writer.ts";
import { Random } from "../support/fill.ts";
import { keySlot } from "../support/key-slot.ts";
import { type Gap, ReplicaLives } from "../support/replica-lives.ts";
import { startReplica } from "../support/replica-process.ts";
import { differences, readAll } from "../support/restored-cluster.ts";
import { availableServers, type RealServer, type ServerKind } from "../support/servers.ts";
import { serverScript } from "../support/stock.ts";
import { amount, IS_FULL, seedOf } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const PLANNED = amount("CLUSTER_LIFE_PLANNED", { sample: 2, full: 10 });
const CRASHES = amount("CLUSTER_LIFE_CRASHES", { sample: 1, full: 10 });
const SLOTS_MOVED = amount("CLUSTER_LIFE_SLOTS", { sample: 20, full: 500 });
const KILLS = amount("CLUSTER_LIFE_KILLS", { sample: 1, full: 5 });
const MOMENTS = amount("CLUSTER_LIFE_MOMENTS", { sample: 2, full: 10 });
/** Whether a shard is added and emptied again: a node without slots is waited for. */
const GROWS = amount("CLUSTER_LIFE_GROWS", { sample: 0, full: 1 }) > 0;
const SEED = seedOf("CLUSTER_LIFE_SEED");
/** What came this long before a moment may not have been kept yet when the link broke. */
const LATE_MS = 2_000;
const NEAR_MS = 1_000;
const MIGRATIONS = ["reshard", "atomic reshard", "grow", "shrink"];
const WRITE_EVERY_MS = 10;
const TAGS = Array.from({ length: 24 }, (_, n) => `t${n}`);
const TAGGED = TAGS.map((tag) => keySlot(`{${tag}}`));

/** All servers in a full sweep, else the newest. */
const KINDS = IS_FULL ? availableServers() : availableServers().slice(-1);

/** What happened to the cluster, and from when to when. */
interface Happened {
  readonly what: string;
  readonly isAmidKill: boolean;
  readonly fromMs: number;
  readonly toMs: number;
}

interface Shard {
  readonly primary: RealServer;
  readonly replicas: readonly RealServer[];
}

/** A cluster that lives: its operators, its clients, and who follows it. */
class Life implements AsyncDisposable {
  readonly cluster: RealCluster;
  readonly writer: ClusterWriter;
  readonly random: Random;
  readonly lives: ReplicaLives;
  readonly happened: Happened[] = [];
  /** When replicas of those that died were primaries. */
  readonly heirsMs: number[] = [];
  #turn = 0;
  #added: RealServer[] = [];

  constructor(cluster: RealCluster, lives: ReplicaLives) {
    this.cluster = cluster;
    this.lives = lives;
    this.random = new Random(SEED);
    this.writer = new ClusterWriter(cluster, TAGS, SEED, WRITE_EVERY_MS);
  }

  /** Does something, perhaps while `replica` dies, and waits until every shard is followed. */
  async step(what: string, act: () => Promise<void>, isAmidKill: boolean): Promise<void> {
    const fromMs = Date.now();
    const killing = isAmidKill ? this.#killSoon() : Promise.resolve();
    await Promise.all([act(), killing]);
    await this.lives.ready();
    this.happened.push({ what, isAmidKill, fromMs, toMs: Date.now() });
    console.log(`${what}${isAmidKill ? ", kill" : ""}: ${Date.now() - fromMs} ms`);
    await this.#untilWritten(20);
  }

  /** A replica of the next shard takes over, and the primary becomes its replica. */
  async planned(): Promise<void> {
    await this.#failOver(await this.#nextShard());
  }

  async #failOver({ primary, replicas }: Shard): Promise<RealServer> {
    const [heir] = replicas;
    await this.cluster.failover(heir!);
    await this.cluster.untilReplica(primary);
    await this.cluster.settled();
    return heir!;
  }

  /** The primary of the next shard dies when its replicas have everything, and comes back as a replica. */
  async crash(): Promise<void> {
    const { primary, replicas } = await this.#nextShard();
    await this.writer.pause();
    await until(
      async () => {
        const all = await Promise.all([primary, ...replicas].map((node) => node.offset()));
        return all.every((offset) => offset === all[0]);
      },
      { what: "the replicas to have everything" },
    );
    await primary.kill9();
    const isPrimary = async (node: RealServer) =>
      (await node.info("replication"))["role"] === "master";
    const heir = await until(
      async () => {
        for (const node of replicas) if (await isPrimary(node)) return node;
        return undefined;
      },
      { what: "a replica to take over" },
    );
    this.heirsMs.push(Date.now());
    await this.cluster.untilPrimary(heir);
    this.writer.resume();
    await this.#untilWritten(20);
    await primary.restart();
    await this.cluster.untilReplica(primary);
    await this.cluster.settled();
  }

  /** Slots with keys and without go from one shard to the next, one by one; midway the first one fails over. */
  async reshard(count: number): Promise<void> {
    const [from, to] = await this.#twoShards();
    const slots = await this.#slotsOf(from, count);
    // Those with keys come first.
    const [first, rest] = [0, 1].map((part) => slots.filter((_, at) => at % 2 === part));
    await this.#moveSlots(first!, from, to);
    const shard = (await this.cluster.shards()).find(({ primary }) => primary === from)!;
    await this.#moveSlots(rest!, await this.#failOver(shard), to);
  }

  /** The same, a range at a time (Valkey 9). */
  async reshardAtomically(): Promise<void> {
    const [from, to] = await this.#twoShards();
    for (const slot of (await this.#slotsOf(from, 5)).filter((one) => TAGGED.includes(one))) {
      await this.cluster.migrateAtomically([slot, slot], from, to);
      await until(async () => (await this.cluster.ownerOf(slot, from)) === to, {
        what: "the source to know",
      });
    }
  }

  /** A new shard gets slots of all others. */
  async grow(): Promise<void> {
    const primary = await this.cluster.add();
    const replica = await this.cluster.add(primary);
    this.#added = [primary, replica];
    await this.lives.current.waitForLine(/connected by full resync.* shard=4/);
    for (const { primary: from } of await this.cluster.shards()) {
      await this.#moveSlots(await this.#slotsOf(from, 8), from, primary);
    }
  }

  /** The new shard's slots go back, and its nodes join another one. */
  async shrink(): Promise<void> {
    const shards = await this.cluster.shards();
    const { primary: from, replicas } = shards.find(({ primary, replicas: others }) =>
      [primary, ...others].includes(this.#added[0]!),
    )!;
    const others = shards.map(({ primary }) => primary).filter((node) => node !== from);
    const slots = await this.#slotsOf(from, Infinity);
    for (const [index, to] of others.entries()) {
      const share = slots.filter((_, at) => at % others.length === index);
      await this.#moveSlots(share, from, to);
    }
    for (const node of [...replicas, from]) await this.cluster.replicate(node, others[0]!);
    await this.cluster.settled();
    await this.lives.current.waitForLine(/shard 4 has ended/);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.writer.stop();
  }

  async #killSoon(): Promise<void> {
    await Bun.sleep(this.random.below(800));
    await this.lives.crash();
  }

  /** Waits until so many more keys are acknowledged. */
  async #untilWritten(count: number): Promise<void> {
    const { keys } = this.writer;
    const before = keys.length;
    await until(() => keys.length >= before + count, { what: "more keys" });
  }

  /** One after the other: nodes vote but once in four seconds for the same shard. */
  async #nextShard(): Promise<Shard> {
    const shards = await this.cluster.shards();
    return shards[this.#turn++ % shards.length]!;
  }

  async #twoShards(): Promise<[RealServer, RealServer]> {
    const primaries = await this.cluster.primaries();
    const at = this.random.below(primaries.length);
    return [primaries[at]!, primaries[(at + 1) % primaries.length]!];
  }

  /** Some slots of a node, at most half: of those with keys, and others without. All of them for Infinity. */
  async #slotsOf(node: RealServer, count: number): Promise<number[]> {
    const view = (await this.cluster.view()).find(({ port }) => port === node.port)!;
    const all = view.slots.flatMap(([first, last]) =>
      Array.from({ length: last - first + 1 }, (_, index) => first + index),
    );
    const tagged = all.filter((slot) => TAGGED.includes(slot));
    if (count === Infinity) return all;
    const chosen = tagged.slice(0, Math.ceil(tagged.length / 2));
    const others = all.filter((slot) => !tagged.includes(slot));
    const most = Math.min(count, Math.floor(all.length / 2));
    return [...chosen, ...others.slice(0, Math.max(0, most - chosen.length))];
  }

  async #moveSlots(slots: readonly number[], from: RealServer, to: RealServer): Promise<void> {
    for (const slot of slots) {
      await this.cluster.openSlot(slot, from, to);
      // Slowly, so that moments fall between.
      while ((await this.cluster.migrateKeys(slot, from, to, 5 + this.random.below(20))) > 0) {
        await Bun.sleep(this.random.below(20));
      }
      await this.cluster.closeSlot(slot, from, to);
    }
  }
}

type Step = readonly [what: string, act: (life: Life) => Promise<void>];

/** What happens, in an order of the seed's choice. */
function program(kind: ServerKind, random: Random): Step[] {
  const steps: Step[] = [];
  const many = (count: number, ...step: Step) => {
    for (let at = 0; at < count; at++) steps.splice(random.below(steps.length + 1), 0, step);
  };
  many(PLANNED, "planned failover", async (life) => life.planned());
  many(CRASHES, "crash", async (life) => life.crash());
  many(1, "reshard", async (life) => life.reshard(SLOTS_MOVED));
  if (kind === "valkey-9") {
    many(1, "atomic reshard", async (life) => life.reshardAtomically());
  }
  if (!GROWS) return steps;
  const at = random.below(steps.length);
  steps.splice(at, 0, ["grow", async (life) => life.grow()]);
  const later = at + 1 + random.below(steps.length - at);
  steps.splice(later, 0, ["shrink", async (life) => life.shrink()]);
  return steps;
}

/** Amid which steps `replica` is killed: the reshard, then others. Nobody waits for a line of a run that is killed. */
function killsAmid(steps: readonly Step[], random: Random): ReadonlySet<number> {
  const fit = steps.flatMap(([what], at) => (["grow", "shrink"].includes(what) ? [] : [at]));
  const chosen = new Set([steps.findIndex(([what]) => what === "reshard")]);
  while (chosen.size < Math.min(KILLS, fit.length)) chosen.add(fit[random.below(fit.length)]!);
  return chosen;
}

interface Told {
  readonly slots: number;
  readonly open_slots: readonly { readonly slot: number; readonly target: number }[];
  readonly notes: readonly string[];
  readonly shards: readonly { readonly shard: number; readonly slots: string }[];
}

/** Restores a moment with the program, which serves it, and compares it with the journal. */
async function restored(life: Life, dir: TempDir, atMs: number, name: string) {
  const server = serverScript(dir, life.cluster.kind);
  const args = ["restore", dir.file("data"), dir.file(name), "--at", shownTime(atMs)];
  await using serving = startReplica([
    ...args,
    "--check",
    "--json",
    "--serve",
    "0",
    "--server",
    server,
  ]);
  const [, list = ""] = await serving.waitForLine(/serves it as a cluster at (.*) as of /);
  const told = JSON.parse(serving.stdout) as Told;
  const ports = Array.from(list.matchAll(/:(\d+)/g), ([, port]) => Number(port));
  const nodes = told.shards.map(({ shard, slots }, index) => ({
    port: ports[index]!,
    slots: parseRanges(slots)!,
    importing: told.open_slots.filter(({ target }) => target === shard),
    linkedMs: life.lives.linkedUntil(shard, atMs, LATE_MS),
  }));
  const { found, faults } = await readAll(nodes);
  const linkedMs = (slot: number) =>
    nodes.find(({ slots }) => hasSlot(slots, slot))?.linkedMs ?? atMs;
  const all = [...faults, ...differences(life.writer, found, atMs, linkedMs)];
  serving.signal("SIGINT");
  const { exitCode } = await serving.ended();
  return {
    at: shownTime(atMs),
    amid: life.happened
      .filter(({ fromMs, toMs }) => fromMs <= atMs && atMs <= toMs)
      .map(({ what, isAmidKill }) => (isAmidKill ? `${what}, kill` : what)),
    lateMs: nodes.map((node) => atMs - node.linkedMs),
    exitCode,
    slots: told.slots,
    keys: found.size,
    notes: told.notes,
    count: all.length,
    faults: all.slice(0, 20),
  };
}

/** Any moment; every other one within a second of a migration, which is short. */
function* moments(life: Life, fromMs: number, toMs: number): Generator<number> {
  const moving = life.happened.filter(({ what }) => MIGRATIONS.includes(what));
  for (let point = 0; point < MOMENTS; point++) {
    const { random } = life;
    const some = point % 2 === 0 ? moving[random.below(moving.length)] : undefined;
    const first = some === undefined ? fromMs : some.fromMs - NEAR_MS;
    const last = some === undefined ? toMs : some.toMs + NEAR_MS;
    yield Math.max(fromMs, first + random.below(last - first));
  }
}

/** The times without a link in what happened, where `replica` itself wasn't killed. */
function gapsIn(life: Life, kind: string): Gap[] {
  const those = life.happened.filter(({ what, isAmidKill }) => what === kind && !isAmidKill);
  return life.lives
    .gaps()
    .filter((gap) => those.some(({ fromMs, toMs }) => fromMs <= gap.fromMs && gap.fromMs <= toMs));
}

/** Tells how long shards were without a link, and how much of that there was a new primary already. */
function tellGaps(life: Life): void {
  const told = (what: string, all: readonly number[]) => {
    const sorted = all.toSorted((a, b) => a - b).join(" ");
    console.log(`${life.cluster.kind}, without a link in ${what}: ${sorted} ms`);
  };
  const crashes = gapsIn(life, "crash");
  const length = ({ fromMs, toMs }: Gap) => toMs - fromMs;
  told("planned failovers", gapsIn(life, "planned failover").map(length));
  told("crashes", crashes.map(length));
  const isIn =
    ({ fromMs, toMs }: Gap) =>
    (heirMs: number) =>
      fromMs <= heirMs && heirMs <= toMs;
  const after = crashes.flatMap((gap) => {
    const heirMs = life.heirsMs.find(isIn(gap));
    return heirMs === undefined ? [] : [gap.toMs - heirMs];
  });
  told("crashes once there was a primary", after);
}

test.each(KINDS)(
  "a cluster of %s is followed through failovers, reshards and crashes, and any moment of it restored",
  async (kind) => {
    using dir = tempDir("cluster-life");
    await using cluster = await startCluster(kind);
    await using lives = new ReplicaLives(["follow", cluster.url(), "--dir", dir.file("data")]);
    lives.begin();
    await lives.ready();
    await using life = new Life(cluster, lives);
    await until(() => life.writer.keys.length > 1_000, { what: "some keys" });
    const beganMs = Date.now();
    const steps = program(kind, life.random);
    const kills = killsAmid(steps, life.random);
    for (const [at, [what, act]] of steps.entries()) {
      await life.step(what, async () => act(life), kills.has(at));
    }
    const endedMs = Date.now();
    await until(() => Date.now() > endedMs + LATE_MS, { what: "some more keys" });
    await life.writer.stop();
    for (const primary of await cluster.primaries()) {
      const { connected_slaves: replicas } = await primary.info("replication");
      await primary.acknowledgedBy(Number(replicas));
    }
    expect((await lives.current.stop()).exitCode).toBe(0);
    tellGaps(life);
    const shards = GROWS ? [1, 2, 3, 4] : [1, 2, 3];
    expect(lives.fullResyncs()).toEqual(Object.fromEntries(shards.map((shard) => [shard, 1])));
    expect(readdirSync(dir.file("data", "shards"))).toEqual(shards.map((shard) => `000${shard}`));
    using history = new ClusterHistory(dir.file("data"));
    expect(history.shards.map(({ number, endedMs: end }) => [number, end !== undefined])).toEqual(
      shards.map((shard) => [shard, shard === 4]),
    );
    let keys = 0;
    for (const atMs of moments(life, beganMs, endedMs)) {
      const told = await restored(life, dir, atMs, `restored-${atMs}`);
      console.log(kind, JSON.stringify(told));
      expect(told).toEqual({ ...told, exitCode: 0, slots: 16_384, count: 0, faults: [] });
      keys = Math.max(keys, told.keys);
    }
    expect(keys).toBeGreaterThan(50);
  },
  10 * 60_000,
);
