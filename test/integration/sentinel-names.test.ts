import { expect, test } from "bun:test";
import { sentinelUrl } from "../support/fake-sentinel.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { MASTER, type Sentinels, startSentinels } from "../support/sentinels.ts";
import { availableServers, bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { followArgs } from "./bad-input-rig.ts";

/** Servers that are known by their host name. */
const BY_NAME = ["--replica-announce-ip", "localhost"];

/** Starts a real replica, which can be promoted. */
async function startOther(primary: RealServer, ...args: string[]): Promise<RealServer> {
  const more = ["--replicaof", "localhost", String(primary.port), ...args];
  const other = await startServer(primary.kind, { args: more });
  await until(async () => (await other.info("replication"))["master_link_status"] === "up", {
    what: "the real replica to be connected",
  });
  return other;
}

function start(dir: TempDir, name: string, url: string, ...more: string[]): ReplicaProcess {
  return startReplica(followArgs(url, dir.file(name), "--retry-max", "200ms", ...more));
}

async function portOf(replica: ReplicaProcess): Promise<string> {
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  return port;
}

const urlOf = (sentinels: Sentinels) =>
  sentinelUrl(
    sentinels.ports.map((port) => ({ port })),
    { master: MASTER },
  );

/** Stops a replica, and compares what it kept with the server. */
async function expectSame(replica: ReplicaProcess, folder: string, server: RealServer) {
  expect((await replica.stop()).exitCode).toBe(0);
  await using copy = await bootCopy(server.kind, folder);
  expect(await copy.digest()).toBe(await server.digest());
}

/** The oldest and the newest. */
const kinds = availableServers();
const tried = kinds.filter((kind) => kind === kinds[0] || kind === kinds.at(-1));

test.each(tried)(
  "host names: who Sentinel names by one is followed, and whom its REPLICAOF names (%s)",
  async (kind) => {
    using dir = tempDir("names");
    await using primary = await startServer(kind, { args: BY_NAME });
    await using other = await startOther(primary, ...BY_NAME);
    await using sentinels = await startSentinels(dir, primary.port, { kind, hostNames: true });
    await using asking = start(dir, "asking", urlOf(sentinels), "--announce-ip", "localhost");
    await using told = start(dir, "told", primary.url());
    await asking.waitForLine(new RegExp(`Sentinel names redis://localhost:${primary.port}$`));
    const ports = [await portOf(asking), await portOf(told)];
    for (const replica of [asking, told]) await replica.waitForLine(/connected by full resync/);
    await sentinels.knowing([...ports, other.port]);
    await primary.send("SET", "before", "1");
    await primary.acknowledgedBy(3);

    await primary.kill9();
    await sentinels.naming(other.port);
    expect(await sentinels.named()).toEqual(["localhost", String(other.port)]);
    for (const replica of [asking, told]) await replica.waitForLine(/connected by partial resync/);
    await told.waitForLine(new RegExp(`REPLICAOF: following redis://localhost:${other.port}`));
    await until(
      async () => (await sentinels.infoOf(ports[1]!))?.get("master_host") === "localhost",
      {
        what: "Sentinel to see it follow by that name",
      },
    );
    await other.send("SET", "after", "2");
    await other.acknowledgedBy(2);
    await expectSame(asking, dir.file("asking", "current"), other);
    await expectSame(told, dir.file("told", "current"), other);
    for (const replica of [asking, told]) {
      expect(replica.stderr.match(/connected by full resync/g)).toHaveLength(1);
    }
  },
);

test.skipIf(!kinds.includes("valkey-9"))(
  "a coordinated failover (Valkey 9) is followed by partial resync, and loses nothing",
  async () => {
    using dir = tempDir("coordinated");
    await using primary = await startServer("valkey-9");
    await using other = await startOther(primary);
    await using sentinels = await startSentinels(dir, primary.port, { kind: "valkey-9" });
    await using asking = start(dir, "asking", urlOf(sentinels));
    await using told = start(dir, "told", primary.url());
    for (const replica of [asking, told]) await replica.waitForLine(/connected by full resync/);
    await sentinels.knowing([await portOf(asking), await portOf(told), other.port]);
    await primary.send("SET", "before", "1");

    // Writes go on while the primary hands over: each that was answered is there afterwards.
    const writing = new AbortController();
    let written = 0;
    const writer = (async () => {
      while (!writing.signal.aborted) {
        const done = await primary.send("RPUSH", "list", written).catch(() => undefined);
        if (typeof done === "number") written = done;
      }
    })();
    expect(await sentinels.failOver("COORDINATED")).toBe("OK");
    await sentinels.naming(other.port);
    for (const replica of [asking, told]) await replica.waitForLine(/connected by partial resync/);
    writing.abort();
    await writer;
    // The former primary lives on as a replica: what it gave was never thrown away.
    await until(async () => (await primary.info("replication"))["role"] === "slave", {
      what: "the former primary to follow the new one",
    });
    await other.send("SET", "after", "2");
    await other.acknowledgedBy(3);
    expect(await other.send("LLEN", "list")).toBe(written);
    await expectSame(asking, dir.file("asking", "current"), other);
    await expectSame(told, dir.file("told", "current"), other);
    for (const replica of [asking, told]) {
      expect(replica.stderr.match(/connected by full resync/g)).toHaveLength(1);
    }
  },
);
