import { randomBytes } from "node:crypto";
import { ReplicaError, usageError } from "../base/errors.ts";
import {
  BUS_OFFSET,
  type ConfiguredNode,
  nodesConf,
  type NodeSlots,
} from "../cluster/slots/nodes-conf.ts";
import { countSlots, type SlotRange, SLOTS } from "../cluster/slots/slot-ranges.ts";
import { type DatabaseKeys, parseInfo, parseKeyspace } from "../resp/info-text.ts";
import { hasClusterDatabases, nameOf, type ServerProgram } from "./server-program.ts";
import { READERS, type RestoredFiles } from "./stock-directory.ts";
import { freePort, type LoadProgress, refuseTaken, StockServer } from "./stock-server.ts";

const HOST = "127.0.0.1";
/** How often to ask whether the nodes have found each other. */
const LOOK_EVERY_MS = 100;
/** Nodes of an idle machine are one cluster after some 3 s. */
const CLUSTER_TIMEOUT_MS = 120_000;
/** Another process may take a free port before a node does. */
const PORT_ATTEMPTS = 5;
/** The questions of one turn fit into a socket's buffer. */
const SLOTS_A_TURN = 256;
/** A node's id has 40 hexadecimal digits. */
const ID_BYTES = 20;

/** One shard of a restored cluster: its files, and its slots. */
export interface RestoredShard extends NodeSlots {
  readonly files: RestoredFiles;
}

/** What a node reports about its shard. */
export interface NodeCheck {
  readonly keys: number;
  /** How many of the keys have an expiry. */
  readonly expires: number;
  /** The same by database: those with keys, in ascending order. */
  readonly databases: readonly DatabaseKeys[];
  /** Keys in slots that the node doesn't own; no client would find them. */
  readonly strayKeys: number;
  readonly digest: string | undefined;
}

interface ClusterOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: LoadProgress;
}

/**
 * Starts a stock server on each shard, joined to one cluster on loopback that asks for a password which nobody knows,
 * and asks each what it has loaded. The restored files don't change, nor does their `nodes.conf`. Once this settles, the
 * servers and their directories are gone.
 * @returns in the order of the shards.
 * @throws ReplicaError as `checkRestored`; SERVER_FAILED if they don't become a cluster.
 */
export async function checkRestoredCluster(
  shards: readonly RestoredShard[],
  server: ServerProgram,
  options: ClusterOptions & { readonly digest: boolean },
): Promise<NodeCheck[]> {
  await using cluster = await startOnFreePorts(shards, server, options);
  return await Promise.all(
    cluster.servers.map(async (node, index) => {
      const databases = parseKeyspace(await node.ask("INFO", "keyspace"));
      const sum = (what: "keys" | "expires") => databases.reduce((all, one) => all + one[what], 0);
      const { slots, importing = [] } = shards[index]!;
      const owned = [...slots, ...importing.map(({ slot }) => [slot, slot] as const)];
      let ownKeys = 0;
      for (const { database } of databases) {
        if (database > 0) await node.ask("SELECT", String(database));
        ownKeys += await keysIn(node, owned);
      }
      return {
        keys: sum("keys"),
        expires: sum("expires"),
        databases,
        strayKeys: sum("keys") - ownKeys,
        digest: options.digest ? await node.ask("DEBUG", "DIGEST") : undefined,
      };
    }),
  );
}

/** How many keys of these slots the selected database has. */
async function keysIn(node: StockServer, ranges: readonly SlotRange[]): Promise<number> {
  const slots = ranges.flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, index) => first + index),
  );
  let keys = 0;
  for (let from = 0; from < slots.length; from += SLOTS_A_TURN) {
    const some = slots.slice(from, from + SLOTS_A_TURN);
    const counts = await Promise.all(
      some.map((slot) => node.ask("CLUSTER", "COUNTKEYSINSLOT", String(slot))),
    );
    keys += counts.reduce((sum, count) => sum + Number(count), 0);
  }
  return keys;
}

/** A running cluster that clients can read from. */
export interface ServedCluster {
  /** In the order of the shards. */
  readonly ports: readonly number[];
  /** Resolves once the signal has stopped all; rejects if one ends by itself, once the others are stopped. */
  readonly ended: Promise<void>;
}

/**
 * Starts a stock server on each shard, as one cluster that clients on this machine can read from and not write to.
 * Resolves once everything is loaded and `cluster_state` is ok on all.
 * @param options.port of the first shard; those of the others follow it. 0 picks free ones.
 * @throws ReplicaError as `checkRestoredCluster`; PORT_IN_USE; USAGE.
 */
export async function serveRestoredCluster(
  shards: readonly RestoredShard[],
  server: ServerProgram,
  options: ClusterOptions & { readonly port: number },
): Promise<ServedCluster> {
  refuseServing(shards.length, server, options.port);
  const cluster =
    options.port === 0
      ? await startOnFreePorts(shards, server, options)
      : await StockCluster.start(
          shards,
          server,
          shards.map((_, index) => portsFrom(options.port + index)),
          options,
        );
  try {
    await cluster.letRead();
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return { ports: cluster.ports, ended: cluster.ended() };
}

/**
 * Refuses what can't be served, before any work is done.
 * @throws ReplicaError USAGE; PORT_IN_USE, LISTEN_FAILED for the first of its ports, or ports of the cluster bus, that is taken.
 */
export function refuseServing(shards: number, server: ServerProgram, port: number): void {
  if (server.major < 6) {
    throw usageError(
      `${nameOf(server)} can't keep clients from writing to a cluster: give Redis 6 or later with --server, or leave out --serve`,
    );
  }
  if (port === 0) return;
  if (port + shards - 1 + BUS_OFFSET > MAX_PORT) {
    throw usageError(
      `--serve ${port} needs the ports ${port} to ${port + shards - 1}, and for the cluster bus those ${BUS_OFFSET} above, which end at ${MAX_PORT}: give a port up to ${MAX_PORT - BUS_OFFSET - shards + 1}`,
    );
  }
  for (let shard = 0; shard < shards; shard++) {
    const own = portsFrom(port + shard);
    refuseTaken(own.port, HOST);
    refuseTaken(own.busPort, HOST);
  }
}

const MAX_PORT = 65_535;

/** Where a node listens for clients, and for the other nodes. */
interface NodePorts {
  readonly port: number;
  readonly busPort: number;
}

function portsFrom(port: number): NodePorts {
  return { port, busPort: port + BUS_OFFSET };
}

async function startOnFreePorts(
  shards: readonly RestoredShard[],
  server: ServerProgram,
  options: ClusterOptions,
): Promise<StockCluster> {
  for (let left = PORT_ATTEMPTS - 1; ; left -= 1) {
    const ports = freePorts(shards.length, server);
    try {
      return await StockCluster.start(shards, server, ports, options);
    } catch (error) {
      const isTaken = error instanceof ReplicaError && error.code === "PORT_IN_USE";
      if (!isTaken || left === 0) throw error;
    }
  }
}

function freePorts(nodes: number, { major }: ServerProgram): NodePorts[] {
  const taken = new Set<number>();
  const next = (): number => {
    for (;;) {
      const port = freePort(HOST);
      // An old server's bus has no port of its own choice.
      const isLow = major >= 7 || port + BUS_OFFSET <= MAX_PORT;
      if (taken.has(port) || !isLow) continue;
      taken.add(port);
      return port;
    }
  };
  return Array.from({ length: nodes }, () => {
    const port = next();
    return major < 7 ? portsFrom(port) : { port, busPort: next() };
  });
}

/** Stock servers that are one cluster. */
class StockCluster implements AsyncDisposable {
  readonly servers: readonly StockServer[];
  readonly ports: readonly number[];
  readonly #program: ServerProgram;

  private constructor(
    servers: readonly StockServer[],
    ports: readonly number[],
    program: ServerProgram,
  ) {
    this.servers = servers;
    this.ports = ports;
    this.#program = program;
  }

  static async start(
    shards: readonly RestoredShard[],
    program: ServerProgram,
    ports: readonly NodePorts[],
    { signal, onProgress }: ClusterOptions,
  ): Promise<StockCluster> {
    const nodes = shards.map(({ files: _files, ...slots }, index): ConfiguredNode => ({
      id: randomBytes(ID_BYTES).toString("hex"),
      host: HOST,
      ...ports[index]!,
      ...slots,
    }));
    const isPartial = countSlots(shards.flatMap(({ slots }) => slots)) < SLOTS;
    const password = randomBytes(ID_BYTES).toString("hex");
    const booted = await Promise.allSettled(
      shards.map(({ files }, index) => {
        const text = nodesConf(nodes, index);
        const own = { host: HOST, ...ports[index]!, nodesConf: text, isPartial, password };
        return StockServer.boot(files, program, signal, { as: "node", ...own });
      }),
    );
    const servers = booted.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    const cluster = new StockCluster(
      servers,
      ports.map(({ port }) => port),
      program,
    );
    try {
      for (const one of booted) if (one.status === "rejected") throw one.reason;
      await cluster.#loaded(onProgress);
      await cluster.#refuseDatabases();
      for (const node of servers) node.refusePassedOver();
      await cluster.#joined();
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** Lets everybody on this machine read. Not earlier: files are loaded as the same user. */
  async letRead(): Promise<void> {
    const rules = ["nopass", ...READERS.slice(0, 1), "-@write", ...READERS.slice(1)];
    await Promise.all(this.servers.map((node) => node.ask("ACL", "SETUSER", "default", ...rules)));
  }

  /** Settles when one of the servers ends, or all should; then all have. */
  async ended(): Promise<void> {
    const all = this.servers.map((node) => node.ended());
    // Where the signal has stopped them, each resolves; the first that ends by itself rejects.
    const first = await Promise.race(all).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    await this.stop();
    await Promise.allSettled(all);
    if (first !== undefined) throw first.error;
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((node) => node.stop()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #loaded(onProgress: LoadProgress = () => undefined): Promise<void> {
    const loads = this.servers.map(() => ({ loaded: 0, total: 0 }));
    const sum = (what: "loaded" | "total") => loads.reduce((all, load) => all + load[what], 0);
    await Promise.all(
      this.servers.map((node, index) =>
        node.loaded((loaded, total) => {
          loads[index] = { loaded, total };
          onProgress(sum("loaded"), sum("total"));
        }),
      ),
    );
  }

  /** Refuses data of databases that the nodes don't have: what is for those would be in database 0 instead. */
  async #refuseDatabases(): Promise<void> {
    if (hasClusterDatabases(this.#program)) return;
    for (const node of this.servers) {
      const databases = parseKeyspace(await node.ask("INFO", "keyspace"));
      if (!node.wasRefusedDatabase && databases.every(({ database }) => database === 0)) continue;
      throw new ReplicaError("RESTORE_UNUSABLE", {
        retry: "never",
        message: `${nameOf(this.#program)} has database 0 alone in a cluster, and the data has more: give Valkey 9 or later with --server`,
      });
    }
  }

  /** Waits until every node takes the cluster for whole. */
  async #joined(): Promise<void> {
    const untilMs = performance.now() + CLUSTER_TIMEOUT_MS;
    for (;;) {
      const infos = await Promise.all(this.servers.map((node) => node.ask("CLUSTER", "INFO")));
      const views = infos.map((text) => parseInfo(text));
      const isOne = views.every(
        (view) =>
          view.get("cluster_state") === "ok" &&
          view.get("cluster_known_nodes") === String(this.servers.length),
      );
      if (isOne) return;
      if (performance.now() > untilMs) {
        const said = views.map((view) => view.get("cluster_state") ?? "nothing").join(", ");
        throw new ReplicaError("SERVER_FAILED", {
          retry: "never",
          message: `${nameOf(this.#program)}: its ${this.servers.length} nodes are no cluster after ${CLUSTER_TIMEOUT_MS / 1000} s, their cluster_state is ${said}`,
        });
      }
      await Promise.all(this.servers.map((node) => node.running(Bun.sleep(LOOK_EVERY_MS))));
    }
  }
}
