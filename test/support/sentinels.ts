import { writeFileSync } from "node:fs";
import { endWithProcess, endingWithParent } from "./children.ts";
import { freePort } from "./ports.ts";
import { RespClient } from "./resp-client.ts";
import { tool } from "./servers.ts";
import type { TempDir } from "./temp.ts";
import { until } from "./wait.ts";

/** The master name under which they watch the primary. */
export const MASTER = "main";

const SENTINELS = 3;
/** How many of them must agree that the primary is down. */
const QUORUM = 2;

/** Starts a real sentinel that watches a primary; resolves when it answers. */
async function startSentinel(path: string, primaryPort: number, password: string | undefined) {
  const port = freePort();
  const config = [
    `port ${port}`,
    `sentinel monitor ${MASTER} 127.0.0.1 ${primaryPort} ${QUORUM}`,
    `sentinel down-after-milliseconds ${MASTER} 1000`,
    `sentinel failover-timeout ${MASTER} 10000`,
    `sentinel parallel-syncs ${MASTER} 2`,
    ...(password === undefined
      ? []
      : [`requirepass ${password}`, `sentinel sentinel-pass ${password}`]),
  ];
  writeFileSync(path, `${config.join("\n")}\n`);
  const argv = endingWithParent([...tool("redis-7.0", "redis-server"), path, "--sentinel"]);
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
  return {
    port,
    client,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** The fields that a sentinel reports about an instance. */
export type Instance = ReadonlyMap<string, string>;

/** Starts three real sentinels that watch a primary and promote a replica if it dies. */
export async function startSentinels(dir: TempDir, primaryPort: number, password?: string) {
  const sentinels = await Promise.all(
    Array.from({ length: SENTINELS }, (_, index) =>
      startSentinel(dir.file(`sentinel-${index}.conf`), primaryPort, password),
    ),
  );
  const [{ client }] = sentinels as [(typeof sentinels)[0]];
  const instances = async (what: "replicas" | "sentinels"): Promise<Instance[]> => {
    const found = (await client.send("SENTINEL", what, MASTER)) as string[][];
    return found.map((pairs) => {
      const entries = pairs.flatMap((key, at) => (at % 2 === 0 ? [[key, pairs[at + 1]!]] : []));
      return new Map(entries as [string, string][]);
    });
  };
  const replica = async (port: number | string) =>
    (await instances("replicas")).find((one) => one.get("port") === String(port));
  return {
    ports: sentinels.map(({ port }) => port),
    /** What the first of them reports about the replica at this port. */
    replica,
    /** Waits until they know each other, and exactly these replicas of the primary. */
    knowing: async (ports: readonly (number | string)[]) =>
      await until(
        async () => {
          const seen = await Promise.all(ports.map(replica));
          const isWell = (one: Instance | undefined) =>
            one?.get("flags") === "slave" && one.get("master-link-status") === "ok";
          return (
            (await instances("sentinels")).length === SENTINELS - 1 &&
            (await instances("replicas")).length === ports.length &&
            seen.every(isWell)
          );
        },
        { what: "the sentinels to know each other and the replicas", timeoutMs: 30_000 },
      ),
    [Symbol.asyncDispose]: async () => {
      for (const sentinel of sentinels) await sentinel[Symbol.asyncDispose]();
    },
  };
}
