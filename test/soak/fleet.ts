import { appendFileSync, cpSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseInfo } from "../../src/resp/info-text.ts";
import { type FaultRoute, startFaultProxy } from "../support/fault-proxy.ts";
import { fillAllTypes, type Random } from "../support/fill.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import type { Reply } from "../support/resp.ts";
import { type RealServer, type ServerKind, startServer } from "../support/servers.ts";
import type { TempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import type { Syncs } from "./report.ts";

/** Less than the load needs, so that keys are evicted. */
export const MAX_MEMORY = "24mb";
const FIRST_KEYS = 4_000;
const RECOVERY_MS = 60_000;

/** The primary or its heir, and the route by which the replica reaches it. */
interface Side {
  readonly server: RealServer;
  readonly link: FaultRoute;
}

interface FleetOptions {
  readonly kind: ServerKind;
  readonly binary: "source" | "compiled";
  readonly dir: TempDir;
  readonly random: Random;
}

/** All processes: a primary and its heir, the replica, and the servers that follow the replica. */
export class Fleet implements AsyncDisposable {
  readonly replicaPort = freePort();
  readonly #options: FleetOptions;
  readonly #sides: readonly Side[];
  readonly downstreams: readonly RealServer[];
  primary: Side;
  heir: Side;
  #replica: ReplicaProcess | undefined;
  #owned = new AsyncDisposableStack();
  /** Syncs of the processes that have ended. */
  readonly #counted = { replica: { full: 0, partial: 0 }, downstreams: { full: 0, partial: 0 } };

  private constructor(
    options: FleetOptions,
    sides: readonly [Side, Side],
    downstreams: RealServer[],
  ) {
    this.#options = options;
    this.#sides = sides;
    [this.primary, this.heir] = sides;
    this.downstreams = downstreams;
  }

  /** Starts all of them; resolves when they follow one another. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const { random } = options;
    await using owned = new AsyncDisposableStack();
    const args = ["--maxmemory", MAX_MEMORY, "--maxmemory-policy", "allkeys-lru"];
    args.push("--save", "15 1", "--repl-ping-replica-period", "1");
    args.push("--repl-diskless-sync", random.below(2) === 0 ? "yes" : "no");
    // Microseconds per key: makes a snapshot slow enough for faults to hit it.
    args.push("--rdb-key-save-delay", String([0, 50, 200][random.below(3)]));
    args.push("--repl-backlog-size", ["256kb", "1mb", "4mb"][random.below(3)]!);
    // Short, so that a server drops silent links soon.
    args.push("--repl-timeout", "10", "--shutdown-timeout", "3");
    const proxy = owned.use(startFaultProxy());
    const side = async (): Promise<Side> => {
      const server = owned.use(await startServer(options.kind, { args }));
      return { server, link: await proxy.route(server.port) };
    };
    const sides = [await side(), await side()] as const;
    const [{ server: primary }, { server: heir }] = sides;
    await fillAllTypes(primary, { keys: 3_000, databases: [0, 3, 9], seed: random.below(1e9) });
    await primary.send("DEBUG", "POPULATE", FIRST_KEYS, "first", 4_000);
    await heir.send("REPLICAOF", primary.host, primary.port);
    const downstreams: RealServer[] = [];
    const fleet = new Fleet(options, sides, downstreams);
    owned.defer(async () => fleet.#replica?.[Symbol.asyncDispose]());
    fleet.startReplica(random);
    await fleet.#replica!.waitForLine(/connected by full resync/, RECOVERY_MS);
    for (let i = 0; i < 2; i++) {
      const follow = ["--replicaof", `127.0.0.1 ${fleet.replicaPort}`, "--save", "3600 1"];
      downstreams.push(owned.use(await startServer(options.kind, { args: follow })));
    }
    await fleet.recovered();
    fleet.#owned = owned.move();
    return fleet;
  }

  get kind(): ServerKind {
    return this.#options.kind;
  }

  /** The replica's data directory. */
  get dataDir(): string {
    return this.#options.dir.file("data");
  }

  get replica(): ReplicaProcess {
    if (this.#replica === undefined) throw new Error("the replica isn't running");
    return this.#replica;
  }

  /** The replica's log over all its starts. The servers' logs are in their folders. */
  get #replicaLog(): string {
    return this.#options.dir.file("replica.log");
  }

  /** Starts the replica with random settings. */
  startReplica(random: Random): void {
    const args = ["follow", `redis://127.0.0.1:${this.#sides[0]!.link.port}`];
    args.push("--dir", this.dataDir, "--port", String(this.replicaPort));
    args.push("--timeout", "4s", "--sync-timeout", "3s", "--retry-max", "500ms");
    args.push("--keep", String(1 + random.below(2)), "--keep-for", "off");
    // The defaults are more frequent: with them, acknowledged bytes may have no mark yet.
    args.push("--fsync", ["everysec", "everysec", "always"][random.below(3)]!);
    args.push("--ack", ["written", "written", "durable"][random.below(3)]!);
    args.push("--io", ["auto", "buffered", "direct"][random.below(3)]!);
    this.#replica = startReplica(args, { binary: this.#options.binary });
    appendFileSync(this.#replicaLog, `=== ${args.join(" ")}\n`);
  }

  /** Stops or kills the replica. @throws Error if a stop fails. */
  async endReplica(how: "stopped" | "killed"): Promise<void> {
    const { replica } = this;
    if (!replica.isRunning)
      throw new Error(`the replica has ended unexpectedly\n${replica.output()}`);
    if (how === "stopped") {
      // Before its first log line the program may not have installed its signal handlers.
      await until(() => replica.stderr !== "", { what: "the replica to begin" });
    }
    const ending = how === "stopped" ? await replica.stop() : await replica.kill9();
    const { stderr } = replica;
    appendFileSync(this.#replicaLog, `${stderr}=== ${how}: ${JSON.stringify(ending)}\n`);
    this.#count(stderr);
    this.#replica = undefined;
    await replica[Symbol.asyncDispose]();
    if (how === "stopped" && ending.exitCode !== 0) {
      throw new Error(
        `SIGTERM ended the replica with ${JSON.stringify(ending)}\n${stderr.slice(-2000)}`,
      );
    }
  }

  /** Counts the syncs of the replica and its downstreams over all its starts, from its log. */
  syncs(): { replica: Syncs; downstreams: Syncs } {
    const before = structuredClone(this.#counted);
    if (this.#replica !== undefined) this.#count(this.#replica.stderr, before);
    return before;
  }

  #count(stderr: string, into = this.#counted): void {
    for (const [, who, sync] of stderr.matchAll(
      /(connected by|attached:) (full|partial) resync/g,
    )) {
      into[who === "attached:" ? "downstreams" : "replica"][sync as "full" | "partial"]++;
    }
  }

  /** Sends a command to the replica's port as soon as it is open. @throws ReplyError */
  async askReplica(command: string, ...args: (string | number)[]): Promise<Reply> {
    const waiting = { what: "the replica's own port", timeoutMs: RECOVERY_MS };
    await using client = await until(() => this.#connect(), waiting);
    return await client.send(command, ...args);
  }

  /** The replica's INFO. @throws Error while its port is closed. */
  async replicaInfo(): Promise<ReadonlyMap<string, string>> {
    await using client = await this.#connect();
    return parseInfo(String(await client.send("INFO")));
  }

  async #connect(): Promise<RespClient> {
    return await RespClient.connect({ port: this.replicaPort, timeoutMs: 5_000 });
  }

  /** Waits until the replica, the heir and the downstreams follow the primary's history again. */
  async recovered(): Promise<void> {
    await this.#everybody("follow again", () => true);
  }

  /** Waits until all of them have the stream up to `offset`, the replica durably. */
  async caughtUp(offset: number): Promise<void> {
    await this.#everybody(`have offset ${offset}`, (there) => there >= offset);
  }

  async #everybody(what: string, isThere: (offset: number) => boolean): Promise<void> {
    const waiting = { timeoutMs: RECOVERY_MS, everyMs: 50 };
    const history = async () => (await this.primary.server.info("replication"))["master_replid"];
    await until(
      async () => {
        if (!this.replica.isRunning) return true;
        const info = await this.replicaInfo();
        const isWhole = info.get("state") === "connected";
        const isSame = info.get("master_replid") === (await history());
        return isWhole && isSame && isThere(Number(info.get("durable_offset")));
      },
      { ...waiting, what: `the replica to ${what}` },
    );
    if (!this.replica.isRunning) {
      throw new Error(`the replica has ended unexpectedly\n${this.replica.output()}`);
    }
    for (const server of [this.heir.server, ...this.downstreams]) {
      await until(
        async () => {
          const info = await server.info("replication");
          const isWhole = info["master_link_status"] === "up";
          const isSame = info["master_replid"] === (await history());
          return isWhole && isSame && isThere(Number(info["master_repl_offset"]));
        },
        { ...waiting, what: `the server on port ${server.port}, a replica, to ${what}` },
      );
    }
  }

  /** Swaps the roles of the primary and the heir. */
  swap(): void {
    [this.primary, this.heir] = [this.heir, this.primary];
  }

  /** Points the replica to the current primary, as Sentinel does: also for its next start. */
  async repoint(): Promise<void> {
    const { link } = this.primary;
    await this.askReplica("REPLICAOF", "127.0.0.1", link.port);
    await this.askReplica("CONFIG", "REWRITE");
  }

  /** Copies all logs, the replica's files and the servers' files to a folder. */
  collect(folder: string): void {
    if (this.#replica !== undefined) appendFileSync(this.#replicaLog, this.#replica.stderr);
    cpSync(this.#options.dir.path, folder, { recursive: true, verbatimSymlinks: true });
    const servers = [...this.#sides.map(({ server }) => server), ...this.downstreams];
    for (const [i, { dir, port }] of servers.entries()) {
      const name = `${i < this.#sides.length ? "server" : "downstream"}-${port}`;
      cpSync(dir, join(folder, name), { recursive: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** Removes the snapshot from which a server would start. */
export function forgetSnapshot({ dir }: RealServer): void {
  const path = join(dir, "dump.rdb");
  if (existsSync(path)) rmSync(path);
}
