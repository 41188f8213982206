import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { sentinelUrl } from "../support/fake-sentinel.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, startReplica } from "../support/replica-process.ts";
import { MASTER, startSentinels } from "../support/sentinels.ts";
import { bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const PASSWORD = "correct-horse-battery";

function startFollow(url: string, dir: string, ...more: string[]): ReplicaProcess {
  return startReplica([
    "follow",
    url,
    "--dir",
    dir,
    "--port",
    "0",
    "--retry-max",
    "200ms",
    ...more,
  ]);
}

async function portOf(replica: ReplicaProcess): Promise<string> {
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  return port;
}

/** Starts a real replica, which can be promoted. */
async function startOther(primary: RealServer): Promise<RealServer> {
  const other = await startServer("redis-7.0", {
    args: ["--replicaof", "127.0.0.1", String(primary.port)],
  });
  await until(async () => (await other.info("replication"))["master_link_status"] === "up", {
    what: "the real replica to be connected",
  });
  return other;
}

/** Kills the primary, and waits until the other server is promoted. */
async function failOver(primary: RealServer, other: RealServer): Promise<void> {
  await primary.kill9();
  await until(async () => (await other.info("replication"))["role"] === "master", {
    what: "the real replica to be promoted",
  });
}

test("finds the primary through the sentinels alone, also after a failover during its absence, or where they can't reach it", async () => {
  using dir = tempDir("sentinel");
  writeFileSync(dir.file("password"), `${PASSWORD}\n`);
  await using primary = await startServer("redis-7.0");
  await using other = await startOther(primary);
  await using sentinels = await startSentinels(dir, primary.port, { password: PASSWORD });
  const url = sentinelUrl(
    sentinels.ports.map((port) => ({ port })),
    { master: MASTER },
  );
  const login = ["--sentinel-password-file", dir.file("password")];
  const follow = (name: string, ...more: string[]) =>
    startFollow(url, dir.file(name), ...login, ...more);
  // Sentinels before 6.2 list every replica that they know: this one they can't reach, so no reader can either.
  const closed = String(freePort());
  const names = ({ port }: RealServer) =>
    new RegExp(String.raw`Sentinel names redis://127\.0\.0\.1:${port}$`);

  await using steady = follow("steady");
  await using away = follow("away");
  await using remote = follow("remote", "--announce", "yes", "--announce-port", closed);
  for (const replica of [steady, away, remote]) {
    await replica.waitForLine(names(primary));
    await replica.waitForLine(/connected by full resync/);
  }
  const port = await portOf(steady);
  await sentinels.knowing([port, await portOf(away), other.port], { unreachable: 1 });
  expect((await sentinels.infoOf(port))?.get("slave_priority")).toBe("0");
  await until(async () => /s_down/.test((await sentinels.replica(closed))?.get("flags") ?? ""), {
    what: "the sentinel to count as down what it can't reach",
  });
  await primary.cli("set", "before", "1");
  await primary.acknowledgedBy(4);
  expect((await away.stop()).exitCode).toBe(0);
  await failOver(primary, other);

  // By itself or by Sentinel's REPLICAOF, whichever comes first.
  await steady.waitForLine(/connected by partial resync/);
  await other.cli("set", "after", "2");
  await other.acknowledgedBy(2);
  await until(
    async () => {
      const seen = await sentinels.infoOf(port);
      const isFollowing = seen?.get("master_port") === String(other.port);
      return isFollowing && seen?.get("master_link_status") === "up";
    },
    { what: "the sentinel to see it follow" },
  );
  expect(remote.stderr).not.toContain("REPLICAOF: following");

  // One that was not told yet names the old primary.
  await sentinels.naming(other.port);
  await using back = follow("away");
  await back.waitForLine(/connected by partial resync/);
  expect(back.stderr).toMatch(new RegExp(names(other), "m"));
  expect(back.stderr).not.toContain("next attempt");
  expect(back.stderr).not.toContain("REPLICAOF: following");
  await other.acknowledgedBy(3);
  for (const [replica, name] of [
    [steady, "steady"],
    [remote, "remote"],
    [back, "away"],
  ] as const) {
    expect((await replica.stop()).exitCode).toBe(0);
    await using copy = await bootCopy("redis-7.0", dir.file(name, "current"));
    expect(await copy.keysPerDatabase()).toEqual({ 0: 2 });
    expect(replica.stderr).not.toContain(PASSWORD);
  }
});
