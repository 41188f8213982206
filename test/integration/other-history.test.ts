import { describe, expect, test } from "bun:test";
import { eventsOf } from "../faults/network-rig.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import {
  availableServers,
  bootCopyOfDir,
  type RealServer,
  startServer,
} from "../support/servers.ts";
import { IS_FULL } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const WARNING = /another primary's history replaces the one that was kept/;

function start(dir: TempDir, url: string, ...more: string[]): ReplicaProcess {
  return startReplica([
    "follow",
    url,
    "--dir",
    dir.file("data"),
    "--port",
    "0",
    "--retry-max",
    "100ms",
    ...more,
  ]);
}

async function clientOf(replica: ReplicaProcess): Promise<RespClient> {
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  return await RespClient.connect({ port: Number(port) });
}

async function infoOf(client: RespClient): Promise<Map<string, string>> {
  const lines = String(await client.send("INFO", "replica")).split("\r\n");
  return new Map(
    lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
  );
}

async function replidOf(server: RealServer): Promise<string> {
  return String((await server.info("replication"))["master_replid"]);
}

/** The oldest and the newest one; all in a full sweep. */
const kinds = availableServers().filter(
  (_, at, all) => IS_FULL || at === 0 || at === all.length - 1,
);

describe.each(kinds)("%s", (kind) => {
  test("another primary's history in the same directory is a warning, an event and in INFO; what was kept stays", async () => {
    using dir = tempDir("other-history");
    await using first = await startServer(kind);
    await using second = await startServer(kind);
    await first.send("SET", "of", "the first");
    await using replica = start(dir, first.url());
    await replica.waitForLine(/connected by full resync/);
    await first.acknowledgedBy(1);
    await using client = await clientOf(replica);
    expect((await infoOf(client)).get("other_history")).toBe("");
    const before = await replidOf(first);
    expect(await client.send("REPLICAOF", "127.0.0.1", second.port)).toBe("OK");
    const [line] = await replica.waitForLine(/ warn {2}another primary's history .*/);
    const says = `generation 1 came from ${first.url()} (${before}), this full resync comes from ${second.url()} (${await replidOf(second)}); if that isn't meant, stop this replica and follow ${second.url()} with a --dir of its own; generation 1 stays, sealed, as long as --keep and --keep-for say`;
    expect(line).toContain(says);
    const events = () => eventsOf(dir.file("data"), "other-history");
    await until(() => events().length > 0, { what: "the event, which follows its line" });
    expect(events()).toEqual([expect.stringContaining(says)]);
    const info = await infoOf(client);
    expect(info.get("other_history")).toContain(says);
    expect(Number(info.get("other_history_time"))).toBeGreaterThan(Date.now() / 1000 - 3_600);
    const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
    const shown = await runReplica(["status", `127.0.0.1:${port}`]);
    expect(shown.stdout.replaceAll(/\s+/g, " ")).toContain("another primary's history replaces");
    await until(async () => (await infoOf(client)).get("generation") === "2", {
      what: "generation 2",
    });

    // At the same address, a primary that comes back empty is no other one.
    const ofSecond = await replidOf(second);
    await second.restart();
    const [seen] = await replica.waitForLine(/ info {2}\S+ has another history .*/);
    expect(seen).toContain(
      `${second.url()} has another history (${await replidOf(second)}) than the one kept`,
    );
    expect(seen).toContain(`(${ofSecond}): it has been up for `);
    await until(async () => (await infoOf(client)).get("generation") === "3", {
      what: "generation 3",
    });
    expect(events()).toHaveLength(1);
    expect(replica.stderr.split("\n").filter((one) => WARNING.test(one))).toHaveLength(1);
    await replica.stop();

    const { stdout } = await runReplica(["snapshots", dir.file("data"), "--json"]);
    const reasons = JSON.parse(stdout).generations.map(
      (one: { sealed_reason: string }) => one.sealed_reason,
    );
    expect(reasons[0]).toEndWith(
      `; what is kept came from ${first.url()}, this comes from ${second.url()}`,
    );
    expect(reasons[1]).not.toContain("what is kept came from");
    const target = dir.file("target");
    const restored = await runReplica(["restore", dir.file("data"), target, "--generation", "1"]);
    expect(restored.exitCode).toBe(0);
    await using server = await bootCopyOfDir(kind, target, { args: ["--appendonly", "yes"] });
    expect(await server.send("GET", "of")).toBe("the first");
  });
});

test("a primary that was promoted with too small a backlog, and one that is restarted after that, are no other ones", async () => {
  using dir = tempDir("other-history");
  const args = ["--repl-backlog-size", "16kb"];
  await using first = await startServer("redis-7.0", { args });
  await using second = await startServer("redis-7.0", { args });
  {
    await using replica = start(dir, first.url());
    await replica.waitForLine(/connected by full resync/);
    await replica.stop();
  }
  const isIn = (server: RealServer) => async () =>
    (await server.info("replication"))["master_link_status"] === "up";
  const promote = async (server: RealServer, of: RealServer) => {
    await server.send("REPLICAOF", of.host, of.port);
    await until(isIn(server), { what: "a replica that is attached" });
    await server.send("REPLICAOF", "NO", "ONE");
  };
  await promote(second, first);
  // More than the backlog holds.
  await second.send("SET", "long", "x".repeat(100_000));
  await using third = await startServer("redis-7.0", { args });
  {
    await using replica = start(dir, second.url());
    const [line] = await replica.waitForLine(/ info {2}\S+ was promoted, or .*/);
    expect(line).toContain(`(${await replidOf(first)}), by its second replication id`);
    await replica.waitForLine(/connected by full resync/);
    // By partial resync to a third one, whose address is the one to know from then on.
    await promote(third, second);
    await using client = await clientOf(replica);
    await client.send("REPLICAOF", third.host, third.port);
    await replica.waitForLine(/connected by partial resync/);
    // Without the file that its own full resync has left.
    await third.restart({ args: ["--dbfilename", "none.rdb"] });
    await replica.waitForLine(/ info {2}\S+ has another history .*/);
    expect(replica.stderr).not.toMatch(WARNING);
    await replica.stop();
  }
  expect(eventsOf(dir.file("data"), "other-history")).toEqual([]);
});

test("a primary that may not be asked is another one as far as can be told", async () => {
  using dir = tempDir("other-history");
  await using first = await startServer("redis-7.0");
  await using second = await startServer("redis-7.0");
  for (const server of [first, second]) {
    await server.send("ACL", "SETUSER", "copier", "on", ">secret", "+psync", "+replconf", "+ping");
  }
  const url = (server: RealServer) => server.url().replace("//", "//copier:secret@");
  {
    await using replica = start(dir, url(first));
    await replica.waitForLine(/connected by full resync/);
    await replica.stop();
  }
  await using replica = start(dir, url(second), "--adopt");
  const [line] = await replica.waitForLine(/ warn {2}another primary's history .*/);
  expect(line).toMatch(
    /, as far as can be told \(INFO is refused: NOPERM .*\): generation 1 came from redis:\/\/copier@/,
  );
  expect(replica.stderr).not.toContain("secret");
});
