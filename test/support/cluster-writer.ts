import type { RealCluster } from "./cluster.ts";
import { Random } from "./fill.ts";
import { keySlot } from "./key-slot.ts";
import { RespClient } from "./resp-client.ts";
import { type Reply, ReplyError } from "./resp.ts";
import { PATIENCE_MS, until } from "./wait.ts";

/** When a command was sent, and when its reply had come; Infinity where none came. */
export interface Span {
  readonly sentMs: number;
  readonly doneMs: number;
}

/** A key that was written once, and perhaps removed later. */
export interface WrittenKey {
  readonly key: string;
  readonly written: Span;
  removed?: Span;
}

/** The connection ended before the reply: nobody knows whether the command was executed. */
export class Unacknowledged extends Error {}

/** How long to wait before another node is asked. */
const AGAIN_MS = 5;
/** What a node answers that did nothing, and may do it later. */
const LATER = /^(?:TRYAGAIN|CLUSTERDOWN|LOADING|MASTERDOWN)/;

/** A client that follows MOVED and ASK, with a connection to each node. It outlives nodes. */
export class ClusterClient {
  readonly #cluster: RealCluster;
  readonly #ports = new Map<number, number>();
  readonly #clients = new Map<number, Promise<RespClient>>();

  constructor(cluster: RealCluster) {
    this.#cluster = cluster;
  }

  /** @throws ReplyError; Unacknowledged; Error where no node has answered for long. */
  async send(command: string, key: string, ...args: (string | number)[]): Promise<Reply> {
    const slot = keySlot(key);
    const words = [command, key, ...args];
    const beganMs = Date.now();
    let port = this.#ports.get(slot) ?? this.#cluster.nodes[0]!.port;
    let isAsking = false;
    for (let tries = 0; Date.now() - beganMs < PATIENCE_MS; tries++) {
      const client = await this.#clientOf(port);
      if (client === undefined) {
        await Bun.sleep(AGAIN_MS);
        const { running } = this.#cluster;
        port = running[tries % running.length]?.port ?? port;
        isAsking = false;
        continue;
      }
      const reply = await exchange(client, isAsking ? [["ASKING"], words] : [words]);
      if (!(reply instanceof ReplyError)) return reply;
      const [, how, to] = /^(MOVED|ASK) \d+ [^ ]*:(\d+)$/.exec(reply.message) ?? [];
      if (to === undefined) {
        if (!LATER.test(reply.message)) throw reply;
        await Bun.sleep(AGAIN_MS);
        continue;
      }
      // Nodes that don't agree yet send a client to and fro.
      if (tries > 3) await Bun.sleep(AGAIN_MS);
      port = Number(to);
      isAsking = how === "ASK";
      if (!isAsking) this.#ports.set(slot, port);
    }
    throw new Error(`no node has executed ${command} ${key} for ${PATIENCE_MS} ms`);
  }

  /** Undefined where nobody listens there. */
  async #clientOf(port: number): Promise<RespClient | undefined> {
    const found = await this.#clients.get(port);
    if (found?.isClosed === false) return found;
    const connecting = RespClient.connect({ host: "127.0.0.1", port });
    this.#clients.set(port, connecting);
    try {
      return await connecting;
    } catch {
      this.#clients.delete(port);
      return undefined;
    }
  }

  async close(): Promise<void> {
    for (const client of this.#clients.values()) (await client).close();
  }
}

async function exchange(client: RespClient, commands: (string | number)[][]): Promise<Reply> {
  try {
    return (await client.exchange(commands)).at(-1) ?? null;
  } catch (cause) {
    throw new Unacknowledged("the connection ended before the reply", { cause });
  }
}

const WORKERS = 4;

/**
 * Writes numbered keys, removes some, and counts, in a few slots, until it is stopped. What was not acknowledged is no key
 * of its journal.
 */
export class ClusterWriter implements AsyncDisposable {
  readonly keys: WrittenKey[] = [];
  /** By tag: each value of its counter. */
  readonly counts = new Map<string, Span[]>();
  readonly #tags: readonly string[];
  readonly #random: Random;
  readonly #everyMs: number;
  #isStopped = false;
  #resumed: PromiseWithResolvers<void> | undefined;
  #idle = 0;
  readonly #running: Promise<void[]>;

  /** @param everyMs how long each of four workers pauses after a key. */
  constructor(cluster: RealCluster, tags: readonly string[], seed: number, everyMs = 2) {
    this.#tags = tags;
    this.#random = new Random(seed);
    this.#everyMs = everyMs;
    const workers = Array.from({ length: WORKERS }, (_, worker) => this.#run(cluster, worker));
    this.#running = Promise.all(workers);
    // Whoever stops it is told.
    this.#running.catch(() => undefined);
  }

  /** Resolves once nothing is being written. */
  async pause(): Promise<void> {
    this.#resumed = Promise.withResolvers();
    await until(() => this.#idle === WORKERS, { what: "the writers to pause" });
  }

  resume(): void {
    this.#resumed?.resolve();
    this.#resumed = undefined;
  }

  /** @throws what ended a worker. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.resume();
    await this.#running;
  }

  /** To be before its cluster is: no command is sent to nodes that another test has started. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(cluster: RealCluster, worker: number): Promise<void> {
    const client = new ClusterClient(cluster);
    const own = this.#tags.filter((_, index) => index % WORKERS === worker);
    for (let n = 0; !this.#isStopped; n++) {
      await this.#whilePaused();
      const tag = own[this.#random.below(own.length)]!;
      const key = `{${tag}}:${worker}:${n}`;
      const written = await timed(client, "SET", key, `value of ${key}`);
      if (written.doneMs !== Infinity) this.keys.push({ key, written });
      if (n % 5 === 0) {
        const spans = this.counts.get(tag) ?? [];
        this.counts.set(tag, spans);
        spans.push(await timed(client, "INCR", `{${tag}}:count`));
      }
      const found = this.keys[this.#random.below(this.keys.length)];
      if (n % 7 === 0 && found !== undefined) {
        const isOwn = own.some((one) => found.key.startsWith(`{${one}}:`));
        if (isOwn && found.removed === undefined) {
          found.removed = await timed(client, "DEL", found.key);
        }
      }
      await Bun.sleep(this.#everyMs);
    }
    await client.close();
  }

  async #whilePaused(): Promise<void> {
    if (this.#resumed === undefined) return;
    this.#idle++;
    await this.#resumed.promise;
    this.#idle--;
  }
}

async function timed(
  client: ClusterClient,
  command: string,
  key: string,
  ...args: (string | number)[]
): Promise<Span> {
  const sentMs = Date.now();
  try {
    await client.send(command, key, ...args);
    return { sentMs, doneMs: Date.now() };
  } catch (error) {
    if (!(error instanceof Unacknowledged)) throw error;
    return { sentMs, doneMs: Infinity };
  }
}
