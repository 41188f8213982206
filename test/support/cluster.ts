import { freePort } from "./ports.ts";
import { type RealServer, type ServerKind, type ServerOptions, startServer } from "./servers.ts";
import { keySlot, SLOTS } from "./key-slot.ts";
import { ReplyError } from "./resp.ts";
import { until } from "./wait.ts";

export interface ClusterOptions {
  /** Shards with slots. Default: 3. */
  readonly shards?: number;
  /** Replicas of each. Default: 1. */
  readonly replicas?: number;
  readonly password?: string;
  /** More arguments for every node, which override the defaults. */
  readonly args?: readonly string[];
  readonly tls?: ServerOptions["tls"];
}

/** Longer than a replica tries to take over when it is told to. */
const FAILOVER_MS = 6_000;

/** A range of slots, both ends included. */
export type SlotRange = readonly [from: number, to: number];

/** What `CLUSTER NODES` says of one node. */
export interface NodeView {
  readonly id: string;
  readonly port: number;
  readonly flags: readonly string[];
  /** Of a replica, else "-". */
  readonly primaryId: string;
  readonly slots: readonly SlotRange[];
}

/**
 * Starts a real cluster on free loopback ports. Every node answers `cluster_state:ok` and every replica's link is up
 * when this resolves. It ends with `await using`.
 */
export async function startCluster(
  kind: ServerKind,
  options: ClusterOptions = {},
): Promise<RealCluster> {
  const { shards = 3, replicas = 1 } = options;
  const cluster = new RealCluster(kind, options);
  try {
    await cluster.begin(shards, replicas);
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

/** The nodes of a real cluster, and what an operator does with them. */
export class RealCluster implements AsyncDisposable {
  readonly kind: ServerKind;
  /** All that were started, in that order: the primaries, then their replicas, then what came later. */
  readonly nodes: RealServer[] = [];
  readonly #options: ClusterOptions;

  constructor(kind: ServerKind, options: ClusterOptions) {
    this.kind = kind;
    this.#options = options;
  }

  /** The URL that `replica` follows: the first node alone, or those given. */
  url(seeds: readonly RealServer[] = this.nodes.slice(0, 1)): string {
    const { password } = this.#options;
    const login = password === undefined ? "" : `:${encodeURIComponent(password)}@`;
    return `redis+cluster://${login}${seeds.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  }

  async begin(shards: number, replicas: number): Promise<void> {
    await Promise.all(Array.from({ length: shards * (replicas + 1) }, () => this.start()));
    const primaries = this.nodes.slice(0, shards);
    const width = Math.ceil(SLOTS / shards);
    await Promise.all(
      primaries.map((node, index) =>
        node.sendAll([
          ["CLUSTER", "SET-CONFIG-EPOCH", index + 1],
          ["CLUSTER", "ADDSLOTSRANGE", index * width, Math.min(SLOTS, (index + 1) * width) - 1],
        ]),
      ),
    );
    await this.#meetAll();
    await Promise.all(
      this.nodes
        .slice(shards)
        .map((node, index) => this.#replicate(node, primaries[index % shards]!)),
    );
    await this.settled();
  }

  /** Starts one more node, which belongs to no cluster yet. */
  async start(options: { readonly args?: readonly string[] } = {}): Promise<RealServer> {
    const { args = [], password, tls } = this.#options;
    const server = await startServer(this.kind, {
      ...(password === undefined ? {} : { password }),
      ...(tls === undefined ? {} : { tls }),
      args: [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        String(freePort()),
        "--cluster-node-timeout",
        "2000",
        "--cluster-allow-replica-migration",
        "no",
        ...args,
        ...(options.args ?? []),
      ],
    });
    this.nodes.push(server);
    return server;
  }

  /** Starts a node and makes it a member: a primary without slots, or a replica. */
  async add(replicaOf?: RealServer): Promise<RealServer> {
    const server = await this.start();
    await this.#meetAll();
    if (replicaOf !== undefined) await this.#replicate(server, replicaOf);
    await this.settled();
    return server;
  }

  /** What the first running node that isn't left out says of all nodes. */
  async view(from: RealServer = this.running[0]!): Promise<NodeView[]> {
    return readNodes(String(await from.send("CLUSTER", "NODES")));
  }

  get running(): RealServer[] {
    return this.nodes.filter(({ isRunning }) => isRunning);
  }

  /** The node that owns a slot, by what `from` says. */
  async ownerOf(slot: number, from?: RealServer): Promise<RealServer> {
    const owner = (await this.view(from)).find(({ slots }) =>
      slots.some(([first, last]) => first <= slot && slot <= last),
    );
    if (owner === undefined) throw new Error(`slot ${slot} is not covered`);
    return this.at(owner.port);
  }

  /** The running primaries that own slots, by their first slot. */
  async primaries(): Promise<RealServer[]> {
    const owners = (await this.view()).filter(({ slots }) => slots.length > 0);
    return owners
      .toSorted((one, other) => one.slots[0]![0] - other.slots[0]![0])
      .map(({ port }) => this.at(port));
  }

  at(port: number): RealServer {
    const found = this.nodes.find((node) => node.port === port || node.tlsPort === port);
    if (found === undefined) throw new Error(`no node listens at ${port}`);
    return found;
  }

  async idOf(node: RealServer): Promise<string> {
    return String(await node.send("CLUSTER", "MYID"));
  }

  /** Sends a command for a key to whoever owns its slot, as a client does that follows MOVED and ASK. */
  async send(command: string, key: string, ...args: (string | number)[]) {
    let node = await this.ownerOf(keySlot(key));
    for (let tries = 0; ; tries++) {
      const isAsking: (string | number)[][] = tries > 0 ? [["ASKING"]] : [];
      const client = await node.connect();
      const reply = (await client.exchange([...isAsking, [command, key, ...args]])).at(-1) ?? null;
      client.close();
      if (!(reply instanceof ReplyError)) return reply;
      const port = /^(?:MOVED|ASK) \d+ [^ ]*:(\d+)$/.exec(reply.message)?.[1];
      if (port === undefined || tries > 5) throw reply;
      node = this.at(Number(port));
    }
  }

  /** A planned failover: the replica takes over, and all agree when this resolves. */
  async failover(
    replica: RealServer,
    how: "planned" | "force" | "takeover" = "planned",
  ): Promise<void> {
    const words = how === "planned" ? [] : [how.toUpperCase()];
    for (let isOver = false; !isOver;) {
      await replica.send("CLUSTER", "FAILOVER", ...words);
      // It gives up after 5 s, such as when the others voted for its shard a moment ago.
      isOver = await until(async () => (await replica.info("replication"))["role"] === "master", {
        what: `${replica.port} to be a primary`,
        timeoutMs: FAILOVER_MS,
      }).catch(() => false);
    }
    await this.untilPrimary(replica);
  }

  /** The shards that own slots, by their first slot: the primary of each, and its replicas that run. */
  async shards(): Promise<{ primary: RealServer; replicas: RealServer[] }[]> {
    const view = await this.view();
    const primaries = await this.primaries();
    return primaries.map((primary) => {
      const id = view.find(({ port }) => port === primary.port)!.id;
      const replicas = view.filter(({ primaryId }) => primaryId === id);
      const nodes = replicas.map(({ port }) => this.at(port));
      return { primary, replicas: nodes.filter(({ isRunning }) => isRunning) };
    });
  }

  /** Makes a node a replica of another shard's primary, as all know when this resolves. Its keys must be gone. */
  async replicate(node: RealServer, primary: RealServer): Promise<void> {
    await this.#replicate(node, primary);
  }

  /** Waits until every running node takes it for a replica. */
  async untilReplica(node: RealServer): Promise<void> {
    const id = await this.idOf(node);
    await until(
      async () => {
        const views = await Promise.all(this.running.map((one) => this.view(one)));
        return views.every((view) => view.find((one) => one.id === id)?.flags.includes("slave"));
      },
      { what: `all nodes to take ${node.port} for a replica` },
    );
  }

  /** Waits until every running node takes it for a primary. */
  async untilPrimary(node: RealServer): Promise<void> {
    const id = await this.idOf(node);
    await until(
      async () => {
        const views = await Promise.all(this.running.map((one) => this.view(one)));
        return views.every((view) => view.find((one) => one.id === id)?.flags.includes("master"));
      },
      { what: `all nodes to take ${node.port} for a primary` },
    );
  }

  /** A classic migration of one slot with all its keys, as `redis-cli --cluster reshard` does it. */
  async migrateSlot(slot: number, from: RealServer, to: RealServer, batch = 100): Promise<void> {
    await this.openSlot(slot, from, to);
    while ((await this.migrateKeys(slot, from, to, batch)) > 0);
    await this.closeSlot(slot, from, to);
  }

  async openSlot(slot: number, from: RealServer, to: RealServer): Promise<void> {
    await this.#setSlot(to, slot, "IMPORTING", await this.idOf(from));
    await this.#setSlot(from, slot, "MIGRATING", await this.idOf(to));
  }

  /** Valkey 8 and later have a node's replicas confirm it, and refuse it while one of them isn't there. */
  async #setSlot(node: RealServer, ...args: (string | number)[]): Promise<void> {
    const set = async () => {
      try {
        return await node.send("CLUSTER", "SETSLOT", ...args);
      } catch (error) {
        if (error instanceof ReplyError && error.message.startsWith("NOREPLICAS")) return undefined;
        throw error;
      }
    };
    await until(async () => (await set()) !== undefined, { what: `${node.port} to set a slot` });
  }

  /** Moves up to `batch` keys of a slot that is open; returns how many there were. */
  async migrateKeys(
    slot: number,
    from: RealServer,
    to: RealServer,
    batch: number,
  ): Promise<number> {
    const keys = (await from.send("CLUSTER", "GETKEYSINSLOT", slot, batch)) as string[];
    if (keys.length === 0) return 0;
    const { password } = this.#options;
    const login = password === undefined ? [] : ["AUTH", password];
    await from.send("MIGRATE", "127.0.0.1", to.port, "", 0, 60_000, ...login, "KEYS", ...keys);
    return keys.length;
  }

  async closeSlot(slot: number, from: RealServer, to: RealServer): Promise<void> {
    const id = await this.idOf(to);
    // The target first: it bumps its epoch, which tells the others.
    for (const node of [to, from]) await this.#setSlot(node, slot, "NODE", id);
  }

  /** An atomic migration (Valkey 9); resolves once the target owns the slots. */
  async migrateAtomically(
    [first, last]: SlotRange,
    from: RealServer,
    to: RealServer,
  ): Promise<void> {
    const id = await this.idOf(to);
    await from.send("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", id);
    await until(async () => (await this.ownerOf(first, to)) === to, {
      what: `${to.port} to own slot ${first}`,
    });
  }

  /** Waits until every running node says `cluster_state:ok`, and every replica's link is up. */
  async settled(): Promise<void> {
    await until(
      async () => {
        const infos = await Promise.all(
          this.running.map(async (node) => ({
            cluster: String(await node.send("CLUSTER", "INFO")),
            replication: await node.info("replication"),
          })),
        );
        return infos.every(
          ({ cluster, replication }) =>
            cluster.includes("cluster_state:ok") &&
            (replication["role"] === "master" || replication["master_link_status"] === "up"),
        );
      },
      { what: "the cluster to be ok" },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }

  async #meetAll(): Promise<void> {
    const [first, ...others] = this.running;
    if (first === undefined) throw new Error("no node runs");
    for (const other of others) {
      const busPort = /@(\d+)/.exec(String(await other.send("CLUSTER", "NODES")))?.[1] ?? "";
      await first.send("CLUSTER", "MEET", "127.0.0.1", other.port, busPort);
    }
    const count = this.running.length;
    await until(
      async () => {
        const views = await Promise.all(this.running.map((node) => this.view(node)));
        const known = (view: NodeView[]) =>
          view.filter(({ flags }) => !flags.includes("handshake")).length;
        return views.every((view) => known(view) >= count);
      },
      { what: "all nodes to know each other" },
    );
  }

  async #replicate(node: RealServer, primary: RealServer): Promise<void> {
    await node.send("CLUSTER", "REPLICATE", await this.idOf(primary));
    await this.untilReplica(node);
  }
}

/** Reads the reply to `CLUSTER NODES`. */
export function readNodes(text: string): NodeView[] {
  return text
    .trim()
    .split("\n")
    .map((line) => {
      const [id = "", address = "", flags = "", primaryId = "-", , , , , ...slots] =
        line.split(" ");
      return {
        id,
        port: Number(/:(\d+)@/.exec(address)?.[1]),
        flags: flags.split(","),
        primaryId,
        slots: slots
          .filter((slot) => !slot.startsWith("["))
          .map((slot): SlotRange => {
            const [from, to = from] = slot.split("-").map(Number);
            return [from!, to!];
          }),
      };
    });
}
