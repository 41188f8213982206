import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { endWithProcess, endingWithParent } from "../support/children.ts";
import { freePort } from "../support/ports.ts";
import { startReplica } from "../support/replica-process.ts";
import { bootCopy, startServer, tool } from "../support/servers.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const MASTER = "main";

/** A real sentinel that watches a primary; two of three must agree. */
function startSentinel(path: string, primaryPort: number) {
  const port = freePort();
  const config = [
    `port ${port}`,
    `sentinel monitor ${MASTER} 127.0.0.1 ${primaryPort} 2`,
    `sentinel down-after-milliseconds ${MASTER} 1000`,
    `sentinel failover-timeout ${MASTER} 10000`,
    `sentinel parallel-syncs ${MASTER} 2`,
  ];
  writeFileSync(path, `${config.join("\n")}\n`);
  const argv = endingWithParent([...tool("redis-7.0", "redis-server"), path, "--sentinel"]);
  const child = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  endWithProcess(child);
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

test("Sentinel knows it as a replica, repoints it after a failover, and never promotes it", async () => {
  using dir = tempDir("sentinel");
  await using primary = await startServer("redis-7.0");
  await using other = await startServer("redis-7.0", {
    args: ["--replicaof", "127.0.0.1", String(primary.port)],
  });
  await using replica = startReplica([
    "follow",
    primary.url(),
    "--dir",
    dir.file("data"),
    "--port",
    "0",
    "--retry-max",
    "200ms",
  ]);
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  await replica.waitForLine(/connected by full resync/);
  await until(async () => (await other.info("replication"))["master_link_status"] === "up", {
    what: "the real replica",
  });
  await using first = startSentinel(dir.file("1.conf"), primary.port);
  await using second = startSentinel(dir.file("2.conf"), primary.port);
  await using third = startSentinel(dir.file("3.conf"), primary.port);
  const answers = ({ port }: { port: number }) =>
    until(() => RespClient.connect({ port }), { what: "a sentinel that answers" });
  await using client = await answers(first);
  for (const one of [second, third]) await (await answers(one))[Symbol.asyncDispose]();
  const replicas = async () => {
    const found = (await client.send("SENTINEL", "replicas", MASTER)) as string[][];
    return found.map((pairs) => {
      const entries = pairs.flatMap((key, at) => (at % 2 === 0 ? [[key, pairs[at + 1]!]] : []));
      return new Map(entries as [string, string][]);
    });
  };
  const ours = async () => (await replicas()).find((one) => one.get("port") === port);
  await until(
    async () => {
      const one = await ours();
      const sentinels = (await client.send("SENTINEL", "sentinels", MASTER)) as unknown[];
      return (
        sentinels.length === 2 &&
        one?.get("flags") === "slave" &&
        one.get("master-link-status") === "ok" &&
        one.get("slave-priority") === "0" &&
        (await replicas()).length === 2
      );
    },
    { what: "the sentinels to know all", timeoutMs: 30_000 },
  );
  await primary.cli("set", "before", "1");
  await primary.kill9();
  await until(async () => (await other.info("replication"))["role"] === "master", {
    what: "the real replica to be promoted",
    timeoutMs: 60_000,
  });
  await replica.waitForLine(
    new RegExp(String.raw`told to follow redis://127\.0\.0\.1:${other.port}`),
    60_000,
  );
  await replica.waitForLine(/connected by partial resync/, 60_000);
  await other.cli("set", "after", "2");
  expect(await other.cli("wait", "1", "5000")).toBe("1");
  await until(async () => (await ours())?.get("master-link-status") === "ok", {
    what: "the sentinel to see it follow",
    timeoutMs: 60_000,
  });
  expect((await replica.stop()).exitCode).toBe(0);
  await using copy = await bootCopy("redis-7.0", dir.file("data", "current"));
  expect(await copy.keysPerDatabase()).toEqual({ 0: 2 });
}, 180_000);
