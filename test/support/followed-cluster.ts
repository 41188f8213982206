import { mkdirSync } from "node:fs";
import { shardDirectory } from "../../src/cluster/ledger/cluster-schema.ts";
import { ClusterLedger, type SeenOpenSlot } from "../../src/cluster/ledger/cluster-ledger.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { type RealCluster, readNodes } from "./cluster.ts";
import { type ReplicaProcess, startReplica } from "./replica-process.ts";
import type { RealServer } from "./servers.ts";

const LOOK_EVERY_MS = 1_000;

/** Follows each primary of a cluster into a directory of its own, and keeps cluster.db by looking once a second. */
export async function followShards(cluster: RealCluster, dir: string): Promise<FollowedShards> {
  mkdirSync(dir, { recursive: true });
  const followed = new FollowedShards(cluster, dir);
  await followed.begin(await cluster.primaries());
  return followed;
}

/** The followers, one a shard, and what looks at the layout. */
export class FollowedShards implements AsyncDisposable {
  readonly dir: string;
  readonly #cluster: RealCluster;
  readonly #ledger: ClusterLedger;
  /** By the port of the primary. */
  readonly #shards = new Map<
    number,
    { readonly number: number; readonly replica: ReplicaProcess }
  >();
  #looking: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(cluster: RealCluster, dir: string) {
    this.dir = dir;
    this.#cluster = cluster;
    this.#ledger = new ClusterLedger(dir, realDisk, true);
  }

  /** Follows one more shard. */
  async add(node: RealServer): Promise<void> {
    const replica = this.#start(node);
    await replica.waitForLine(/connected by full resync/);
  }

  /** Looks, follows these shards, and goes on looking. */
  async begin(nodes: readonly RealServer[]): Promise<void> {
    const replicas = nodes.map((node) => this.#start(node));
    await this.look();
    for (const replica of replicas) await replica.waitForLine(/connected by full resync/);
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(() => this.look()).catch(() => undefined);
    }, LOOK_EVERY_MS);
  }

  #start(node: RealServer): ReplicaProcess {
    const { number } = this.#ledger.addShard(undefined, Date.now());
    const dir = shardDirectory(this.dir, number);
    mkdirSync(dir, { recursive: true });
    const replica = startReplica(["follow", node.url(), "--dir", dir, "--port", "0"]);
    this.#shards.set(node.port, { number, replica });
    return replica;
  }

  replicaOf(node: RealServer): ReplicaProcess {
    return this.#shards.get(node.port)!.replica;
  }

  numberOf(node: RealServer): number {
    return this.#shards.get(node.port)!.number;
  }

  async look(): Promise<void> {
    const atMs = Date.now();
    const [asked] = this.#cluster.running;
    const text = String(await asked!.send("CLUSTER", "NODES"));
    const numbers = new Map<string, number>();
    for (const { id, port } of readNodes(text)) {
      const number = this.#shards.get(port)?.number;
      if (number !== undefined) numbers.set(id, number);
    }
    const slots = new Map(
      readNodes(text).flatMap((node) => {
        const number = numbers.get(node.id);
        return number === undefined ? [] : [[number, node.slots] as const];
      }),
    );
    const open = await Promise.all(
      [...this.#shards.keys()].map((port) => this.#openAt(this.#cluster.at(port), numbers)),
    );
    this.#ledger.sawLayout({ atMs, epoch: 1, slots });
    this.#ledger.sawOpenSlots(atMs, open.flat());
  }

  async #openAt(node: RealServer, numbers: ReadonlyMap<string, number>): Promise<SeenOpenSlot[]> {
    const text = String(await node.send("CLUSTER", "NODES"));
    const own = text.split("\n").find((line) => line.includes("myself")) ?? "";
    const source = this.#shards.get(node.port)!.number;
    return [...own.matchAll(/\[(\d+)->-([0-9a-f]+)\]/g)].flatMap(([, slot, id]) => {
      const target = numbers.get(id!);
      return target === undefined ? [] : [{ slot: Number(slot), source, target }];
    });
  }

  /** Stops the followers, once they have all that was written. */
  async stop(): Promise<void> {
    for (const port of this.#shards.keys()) await this.#cluster.at(port).acknowledgedBy(1);
    await this.end();
  }

  /** Stops the followers where they are. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    await Promise.all([...this.#shards.values()].map(({ replica }) => replica.stop()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await Promise.all(
      [...this.#shards.values()].map(({ replica }) => replica[Symbol.asyncDispose]()),
    );
    this.#ledger.close();
  }
}
