import { writeFileSync } from "node:fs";
import { endWithProcess, endingWithParent } from "./children.ts";
import { freePort } from "./ports.ts";
import type { Reply } from "./resp.ts";
import { RespClient } from "./resp-client.ts";
import { type ServerKind, tool } from "./servers.ts";
import type { TempDir } from "./temp.ts";
import { until } from "./wait.ts";

/** The master name under which they watch the primary: another run's sentinels never take it for theirs. */
export const MASTER = `main-${process.pid}`;

const SENTINELS = 3;
/** How many of them must agree that the primary is down. */
const QUORUM = 2;

/** Long enough that a busy machine causes no failover. */
const DOWN_AFTER_MS = 3000;

export interface SentinelOptions {
  /** Whose sentinels. Default: Redis 7.0's. */
  readonly kind?: ServerKind;
  /** The sentinels' own password. */
  readonly password?: string;
  /** The password that they use with the primary and its replicas. */
  readonly authPass?: string;
  /** Whether they take host names, and name servers by them (`localhost`). */
  readonly hostNames?: boolean;
}

/** The fields that a sentinel reports about an instance. */
export type Instance = ReadonlyMap<string, string>;

/** A real sentinel. */
class RealSentinel implements AsyncDisposable {
  readonly port: number;
  readonly #client: RespClient;
  readonly #child: Bun.Subprocess;

  private constructor(port: number, client: RespClient, child: Bun.Subprocess) {
    this.port = port;
    this.#client = client;
    this.#child = child;
  }

  /** Starts one that watches a primary; resolves when it answers. */
  static async start(
    path: string,
    primaryPort: number,
    { kind = "redis-7.0", password, authPass, hostNames = false }: SentinelOptions,
  ): Promise<RealSentinel> {
    const port = freePort();
    const config = [
      `port ${port}`,
      // It must stand before the names.
      ...(hostNames ? ["sentinel resolve-hostnames yes", "sentinel announce-hostnames yes"] : []),
      `sentinel monitor ${MASTER} ${hostNames ? "localhost" : "127.0.0.1"} ${primaryPort} ${QUORUM}`,
      `sentinel down-after-milliseconds ${MASTER} ${DOWN_AFTER_MS}`,
      `sentinel failover-timeout ${MASTER} 10000`,
      `sentinel parallel-syncs ${MASTER} 2`,
      ...(password === undefined
        ? []
        : [`requirepass ${password}`, `sentinel sentinel-pass ${password}`]),
      ...(authPass === undefined ? [] : [`sentinel auth-pass ${MASTER} ${authPass}`]),
    ];
    writeFileSync(path, `${config.join("\n")}\n`);
    const argv = endingWithParent([...tool(kind, "redis-server"), path, "--sentinel"]);
    const child = Bun.spawn(argv, {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
      env: process.env,
    });
    endWithProcess(child);
    const address = { port, ...(password === undefined ? {} : { password }) };
    const client = await until(() => RespClient.connect(address), {
      what: "a sentinel that answers",
    });
    return new RealSentinel(port, client, child);
  }

  /** Sends `SENTINEL …`. */
  async ask(...words: string[]): Promise<Reply> {
    return await this.#client.send("SENTINEL", ...words);
  }

  /** What it tells clients. */
  async listed(what: "replicas" | "sentinels"): Promise<Instance[]> {
    return ((await this.ask(what, MASTER)) as string[][]).map(instance);
  }

  /** What it knows about the primary. */
  async master(): Promise<Instance> {
    return instance((await this.ask("master", MASTER)) as string[]);
  }

  /** The last INFO of the replica at this port, which it may hide from clients; undefined without one. */
  async infoOf(port: number | string): Promise<Instance | undefined> {
    const [, infos] = (await this.ask("INFO-CACHE", MASTER)) as [string, [unknown, string][]];
    return infos
      .map(([, text]) => new Map(fields(text ?? "")))
      .find((info) => info.get("tcp_port") === String(port));
  }

  /**
   * Whether it knows the other sentinels, and exactly these replicas, all of them connected to the primary, beside
   * so many that it can't reach.
   */
  async knows(ports: readonly (number | string)[], unreachable: number): Promise<boolean> {
    const [master, ...seen] = await Promise.all([
      this.master(),
      ...ports.map((port) => this.infoOf(port)),
    ]);
    const primaryPort = master.get("port");
    return (
      master.get("num-other-sentinels") === String(SENTINELS - 1) &&
      master.get("num-slaves") === String(ports.length + unreachable) &&
      seen.every(
        (info) =>
          info?.get("master_port") === primaryPort && info?.get("master_link_status") === "up",
      )
    );
  }

  /** What it knows of all that, in one line. */
  async describe(ports: readonly (number | string)[]): Promise<string> {
    const master = await this.master();
    const seen = await Promise.all(ports.map((port) => this.infoOf(port)));
    const shown = (one: Instance | undefined, ...names: string[]) =>
      names.map((name) => `${name}:${one?.get(name) ?? "?"}`).join(" ");
    return [
      shown(master, "port", "flags", "num-other-sentinels", "num-slaves"),
      ...seen.map((info) => shown(info, "tcp_port", "role", "master_port", "master_link_status")),
    ].join("; ");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

function instance(pairs: readonly string[]): Instance {
  return new Map(pairs.flatMap((key, at) => (at % 2 === 0 ? [[key, pairs[at + 1]!]] : [])));
}

function fields(info: string): [name: string, value: string][] {
  const lines = info.split("\r\n").filter((line) => line.includes(":"));
  return lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1)];
  });
}

/** Starts three real sentinels that watch a primary and promote a replica if it dies. */
export async function startSentinels(
  dir: TempDir,
  primaryPort: number,
  options: SentinelOptions = {},
) {
  const sentinels = await Promise.all(
    Array.from({ length: SENTINELS }, (_, index) =>
      RealSentinel.start(dir.file(`sentinel-${index}.conf`), primaryPort, options),
    ),
  );
  const [first] = sentinels as [RealSentinel];
  return {
    ports: sentinels.map(({ port }) => port),
    /** The ports of the replicas that each of them hands to clients. */
    listed: async () =>
      await Promise.all(
        sentinels.map(async (sentinel) =>
          (await sentinel.listed("replicas")).map((one) => one.get("port")),
        ),
      ),
    /** What the first of them tells clients about the replica at this port. */
    replica: async (port: number | string) =>
      (await first.listed("replicas")).find((one) => one.get("port") === String(port)),
    /** The last INFO of the replica at this port that the first of them got. */
    infoOf: async (port: number | string) => await first.infoOf(port),
    /** Waits until each knows the others, and exactly these replicas of the primary, listed or not. */
    knowing: async (ports: readonly (number | string)[], { unreachable = 0 } = {}) => {
      const what = "the sentinels to know each other and the replicas";
      try {
        await until(
          async () =>
            (await Promise.all(sentinels.map((one) => one.knows(ports, unreachable)))).every(
              (well) => well,
            ),
          { what, timeoutMs: 120_000 },
        );
      } catch (cause) {
        const seen = await Promise.all(sentinels.map((one) => one.describe(ports)));
        throw new Error(`waited for ${what}, who know:\n${seen.join("\n")}`, { cause });
      }
    },
    /** Waits until each names the primary at this port. */
    naming: async (port: number) => {
      await until(
        async () =>
          (await Promise.all(sentinels.map((one) => one.master()))).every(
            (master) => master.get("port") === String(port),
          ),
        { what: `all sentinels to name port ${port}` },
      );
    },
    /**
     * Makes them promote a replica, though the primary is well.
     * @param how `COORDINATED`: the primary hands over to it (Valkey 9).
     * @throws ReplyError where they won't.
     */
    failOver: async (...how: "COORDINATED"[]) => await first.ask("failover", MASTER, ...how),
    /** The address that the first of them names, as it names it. */
    named: async () => (await first.ask("get-master-addr-by-name", MASTER)) as [string, string],
    [Symbol.asyncDispose]: async () => {
      for (const sentinel of sentinels) await sentinel[Symbol.asyncDispose]();
    },
  };
}

export type Sentinels = Awaited<ReturnType<typeof startSentinels>>;
