import { describe, expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { thrownBy } from "../support/error-of.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { MASTER, startSentinels } from "../support/sentinels.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { freePort } from "../support/ports.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { followArgs, onlyLine } from "./bad-input-rig.ts";

/** The one line with which a backup from there ends. */
async function lineOf(url: string, ...flags: string[]): Promise<string> {
  using temp = tempDir();
  const ended = await runReplica(["backup", url, temp.file("dump.rdb"), ...flags]);
  expect(ended).toMatchObject({ exitCode: 1, stdout: "" });
  return onlyLine(ended);
}

/** An address of this machine that is no loopback; undefined, which is said, where it has none. */
function outerAddress(): string | undefined {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outer = all.find(({ family, internal }) => family === "IPv4" && !internal);
  if (outer === undefined) {
    console.warn("this machine has no address beyond loopback: protected mode is NOT tested here");
  }
  return outer?.address;
}

const OUTER = outerAddress();

describe.each(availableServers())("%s", (kind) => {
  test.concurrent("a sentinel is named, with the URL to give", async () => {
    using dir = tempDir("doors");
    await using primary = await startServer(kind);
    await using sentinels = await startSentinels(dir, primary.port, { kind });
    const [port = 0] = sentinels.ports;
    const url = `redis+sentinel://127.0.0.1:${port}/${MASTER}`;
    const says = `this is a sentinel, which holds no data: to follow the primary that it names, give ${url}`;
    expect(await lineOf(`redis://127.0.0.1:${port}`)).toEndWith(says);
    // What it says to give works.
    const ended = await runReplica(["backup", url, dir.file("dump.rdb")]);
    expect(ended.exitCode, ended.stderr).toBe(0);
  });

  test.concurrent(
    "a server that is given as a sentinel is named, with the form to give",
    async () => {
      await using primary = await startServer(kind);
      expect(await lineOf(`redis+sentinel://127.0.0.1:${primary.port}/mymaster`)).toMatch(
        /this isn't a sentinel: it answers -ERR unknown command '?SENTINEL'?; if it is the primary itself, give redis:\/\/host:port/,
      );
    },
  );

  test.concurrent.skipIf(OUTER === undefined)(
    "protected mode is named, with what to set",
    async () => {
      const outer = OUTER!;
      await using primary = await startServer(kind, {
        args: ["--bind", "127.0.0.1", outer, "--protected-mode", "yes"],
      });
      expect(await lineOf(`redis://${outer}:${primary.port}`)).toMatch(
        /-DENIED .*: it takes connections only from its own machine\. Set requirepass there and --password-file here, or/,
      );
      await primary.send("CONFIG", "SET", "protected-mode", "no");
      using temp = tempDir();
      const url = `redis://${outer}:${primary.port}`;
      const ended = await runReplica(["backup", url, temp.file("dump.rdb")]);
      expect(ended.exitCode, ended.stderr).toBe(0);
    },
  );

  test.concurrent(
    "a replica without a primary of its own is named, and whom it follows",
    async () => {
      await using primary = await startServer(kind);
      await using replica = await startServer(kind, {
        args: ["--replicaof", "127.0.0.1", String(primary.port)],
      });
      await until(async () => (await replica.info("replication"))["master_link_status"] === "up", {
        what: "the real replica to be connected",
      });
      await primary.kill9();
      await until(
        async () => (await replica.info("replication"))["master_link_status"] === "down",
        {
          what: "its link to break",
        },
      );
      const says = (error: string) =>
        new RegExp(
          `the server is itself a replica of 127\\.0\\.0\\.1:${primary.port}, and that link is down, so it has nothing to pass on \\(-${error} .*\\): see why in its log, or follow it`,
        );
      expect(await lineOf(replica.url())).toMatch(says("NOMASTERLINK"));
      await replica.send("CONFIG", "SET", "replica-serve-stale-data", "no");
      expect(await lineOf(replica.url())).toMatch(says("MASTERDOWN"));
      // Without asking, what it answered is all that is known.
      expect(await lineOf(replica.url(), "--ask-primary", "no")).toContain(
        "the server is itself a replica, and that link is down",
      );
    },
  );

  test.concurrent(
    "a primary that refuses writes because this replica doesn't count yet says so, once",
    async () => {
      using temp = tempDir();
      await using primary = await startServer(kind);
      // Its snapshot takes a quarter of a minute.
      await primary.sendAll([
        ["DEBUG", "POPULATE", 750],
        ["CONFIG", "SET", "rdb-key-save-delay", "20000"],
        ["CONFIG", "SET", "min-replicas-to-write", "1"],
      ]);
      await using replica = startReplica(followArgs(primary.url(), temp.file("data")));
      await replica.waitForLine(
        /warn .*the primary refuses writes: it has min-replicas-to-write, and counts no replica \(min_slaves_good_slaves:0\); this one counts once its snapshot is here \(state \w+\)/,
      );
      expect(await thrownBy(primary.send("SET", "key", "1"))).toThrow("NOREPLICAS");
      await replica.waitForLine(/connected by full resync/);
      await until(async () => (await primary.send("SET", "key", "1")) === "OK", {
        what: "the primary to take writes",
      });
      expect(replica.stderr.match(/the primary refuses writes/g)).toHaveLength(1);
    },
  );

  test.concurrent(
    "a primary that is loading says how far it is, and is followed once it has loaded",
    async () => {
      using temp = tempDir();
      await using primary = await startServer(kind);
      await primary.send("DEBUG", "POPULATE", 2000, "key", 100);
      await primary.send("CONFIG", "SET", "save", "");
      await primary.send("SAVE");
      const slow = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"];
      const restarted = primary.restart({ args: slow });
      const args = followArgs(primary.url(), temp.file("data"), "--retry-max", "1s");
      await using replica = startReplica(args);
      await replica.waitForLine(
        /the primary is still loading its data \(-LOADING .*\): \d+\.\d+ % are loaded, and it expects \d+ (s|min) more; next attempt .* code=PRIMARY_BUSY/,
      );
      await primaryLoads(primary);
      await restarted;
      await replica.waitForLine(/connected by full resync/);
    },
  );
});

describe("a circle of replicas in which nothing is kept is named as one by each of them", () => {
  test.concurrent.each([1, 2, 3, 5])("of %d; it ends where one gets a primary", async (length) => {
    using dir = tempDir("circle");
    await using top = await startServer("redis-7.0");
    await top.send("SET", "key", "value");
    const ports = Array.from({ length }, () => freePort());
    const urlAt = (index: number) => `redis://127.0.0.1:${ports[index % length]}`;
    await using circle = new AsyncDisposableStack();
    const replicas = ports.map((port, index) =>
      circle.use(
        startReplica([
          ...followArgs(urlAt(index + 1), dir.file(String(index)), "--retry-max", "200ms"),
          "--port",
          String(port),
        ]),
      ),
    );
    for (const replica of replicas) {
      await replica.waitForLine(
        /is (this replica itself|itself fed by this replica, so neither has a primary): REPLICAOF must name a server that is supplied from elsewhere; .* code=REPLICATION_LOOP/,
      );
    }
    await using client = await RespClient.connect({ port: ports[0]! });
    await client.send("REPLICAOF", "127.0.0.1", String(top.port));
    for (const replica of replicas) await replica.waitForLine(/connected by full resync/);
  });
});

/** Ends the delay for each key that a primary loads. */
async function primaryLoads(primary: RealServer): Promise<void> {
  await until(
    async () => {
      await using client = await primary.connect();
      return (await client.send("CONFIG", "SET", "key-load-delay", "0")) === "OK";
    },
    { what: "the primary to load faster" },
  );
}
