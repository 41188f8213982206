import { describe, expect, test } from "bun:test";
import { eventsOf } from "../faults/network-rig.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, type RealServer, startServer } from "../support/servers.ts";
import { IS_FULL } from "../support/sweep.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

function followWords(dir: TempDir, url: string, ...more: string[]): string[] {
  const words = ["follow", url, "--dir", dir.file("data"), "--port", "0"];
  return [...words, "--retry-max", "100ms", ...more];
}

function start(dir: TempDir, url: string, ...more: string[]): ReplicaProcess {
  return startReplica(followWords(dir, url, ...more));
}

/** Follows until there is a full resync, and stops. */
async function fill(dir: TempDir, url: string): Promise<void> {
  await using replica = start(dir, url);
  await replica.waitForLine(/connected by full resync/);
  await replica.stop();
}

interface Listed {
  readonly id: number;
  readonly primary: string;
  readonly to_offset: number;
}

async function listed(dir: TempDir): Promise<Listed[]> {
  const { stdout } = await runReplica(["snapshots", dir.file("data"), "--json"]);
  return JSON.parse(stdout).generations;
}

const primariesIn = async (dir: TempDir) => (await listed(dir)).map(({ primary }) => primary);

async function replidOf(server: RealServer): Promise<string> {
  return String((await server.info("replication"))["master_replid"]);
}

async function clientOf(replica: ReplicaProcess): Promise<RespClient> {
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  return await RespClient.connect({ port: Number(port) });
}

/** The oldest and the newest one; all in a full sweep. */
const kinds = availableServers().filter(
  (_, at, all) => IS_FULL || at === 0 || at === all.length - 1,
);

describe.each(kinds)("%s", (kind) => {
  test("another primary's directory is refused before the primary forks, and nothing changes; with --adopt it is followed from then on", async () => {
    using dir = tempDir("adopt");
    await using first = await startServer(kind);
    await using second = await startServer(kind);
    await first.send("SET", "of", "the first");
    await fill(dir, first.url());
    const before = await listed(dir);
    const refused = await runReplica(followWords(dir, second.url()));
    expect(refused.exitCode, refused.stderr).toBe(2);
    const [ofFirst, ofSecond] = [await replidOf(first), await replidOf(second)];
    expect(refused.stderr.trim().split("\n").at(-1)).toBe(
      `replica: ${dir.file("data")} holds the history of ${first.url()} (${ofFirst}), and ${second.url()} has another one (${ofSecond}): follow ${second.url()} with a --dir of its own; if it is to take the place of ${first.url()} here, give --adopt (generation 1 then stays, sealed, as long as --keep and --keep-for say)`,
    );
    expect(await listed(dir)).toEqual(before);
    expect((await second.info("stats"))["sync_full"]).toBe("0");

    {
      await using replica = start(dir, second.url(), "--adopt");
      await replica.waitForLine(/ warn {2}another primary's history replaces/);
      await replica.waitForLine(/connected by full resync/);
      await replica.stop();
    }
    expect(eventsOf(dir.file("data"), "other-history")).toHaveLength(1);
    expect(await primariesIn(dir)).toEqual([first.url(), second.url()]);
    const { stdout } = await runReplica(["snapshots", dir.file("data")]);
    const [, , origins = ""] = stdout.split("\n\n");
    const [head, ...rows] = origins.split("\n");
    expect(head).toMatch(/^id +primary +server +rdb$/);
    expect(rows[0]).toContain(first.url());
    expect(rows[1]).toContain(second.url());
    // It is the directory's own primary now.
    await using replica = start(dir, second.url());
    await replica.waitForLine(/connected by partial resync/);
  });
});

test("a primary that was wiped is the same one at the same address, by whichever user and after any time", async () => {
  using dir = tempDir("adopt");
  await using primary = await startServer("redis-7.0");
  await fill(dir, primary.url());
  await primary.restart();
  await primary.send("ACL", "SETUSER", "copier", "on", ">secret", "~*", "+@all");
  await using replica = start(dir, primary.url().replace("//", "//copier:secret@"));
  await replica.waitForLine(/connected by full resync/);
  expect(replica.stderr).toContain(" has another history ");
});

test("a primary that moved is the same one by its id; so is one that was promoted, by its second id, after a gap", async () => {
  using dir = tempDir("adopt");
  const args = ["--repl-backlog-size", "16kb"];
  await using first = await startServer("redis-7.0", { args });
  await using second = await startServer("redis-7.0", { args });
  await fill(dir, first.url());
  await second.send("REPLICAOF", first.host, first.port);
  await until(async () => (await second.info("replication"))["master_link_status"] === "up", {
    what: "a replica that is attached",
  });
  {
    // A replica of the primary has the primary's own id.
    await using replica = start(dir, second.url());
    await replica.waitForLine(/connected by partial resync/);
    await replica.stop();
  }
  await second.send("REPLICAOF", "NO", "ONE");
  // More than the backlog holds.
  await second.send("SET", "long", "x".repeat(100_000));
  await using third = await startServer("redis-7.0", { args });
  await third.send("REPLICAOF", second.host, second.port);
  await until(async () => (await third.info("replication"))["master_link_status"] === "up", {
    what: "a replica that is attached",
  });
  await third.send("REPLICAOF", "NO", "ONE");
  await third.send("SET", "long", "y".repeat(100_000));
  await using replica = start(dir, third.url());
  // Two failovers are more than its two ids tell.
  const { exitCode } = await replica.ended();
  expect(exitCode).toBe(2);
  await using promoted = start(dir, second.url());
  await promoted.waitForLine(/connected by full resync/);
});

test("REPLICAOF is an order: it needs no --adopt, nor does the next start, whoever it names", async () => {
  using dir = tempDir("adopt");
  await using first = await startServer("redis-7.0");
  await using second = await startServer("redis-7.0");
  await using third = await startServer("redis-7.0");
  await fill(dir, first.url());
  const turnTo = async (replica: ReplicaProcess, server: RealServer, ...then: string[]) => {
    await using client = await clientOf(replica);
    expect(await client.send("REPLICAOF", server.host, server.port)).toBe("OK");
    await until(async () => (await primariesIn(dir)).at(-1) === server.url(), {
      what: `a generation from ${server.url()}`,
    });
    if (then.length > 0) expect(await client.send(...(then as [string]))).toBe("OK");
    await replica.stop();
  };
  {
    await using replica = start(dir, first.url());
    await replica.waitForLine(/connected by partial resync/);
    await turnTo(replica, second);
  }
  {
    // What the URL names is kept, too.
    await using replica = start(dir, first.url());
    await replica.waitForLine(/connected by (full|partial) resync/);
    await turnTo(replica, third, "CONFIG", "REWRITE");
  }
  await third.restart();
  await using replica = start(dir, first.url());
  await replica.waitForLine(new RegExp(`following ${third.url()} into`));
  await replica.waitForLine(/connected by full resync/);
});

test("whom INFO can't be asked is refused once it grants a full resync, as far as can be told", async () => {
  using dir = tempDir("adopt");
  await using first = await startServer("redis-7.0");
  await using second = await startServer("redis-7.0");
  await second.send("ACL", "SETUSER", "copier", "on", ">secret", "+psync", "+replconf", "+ping");
  await fill(dir, first.url());
  const before = await listed(dir);
  const mute = second.url().replace("//", "//copier:secret@");
  for (const words of [
    followWords(dir, mute),
    followWords(dir, second.url(), "--ask-primary=no"),
  ]) {
    const refused = await runReplica(words);
    expect(refused.exitCode, refused.stderr).toBe(2);
    expect(refused.stderr).toContain(", as far as can be told without its INFO: follow redis://");
    expect(refused.stderr).not.toContain("secret");
  }
  expect(await listed(dir)).toEqual(before);
});

test("--adopt comes from the environment, too; an empty directory needs none", async () => {
  using dir = tempDir("adopt");
  await using first = await startServer("redis-7.0");
  await using second = await startServer("redis-7.0");
  await fill(dir, first.url());
  const env = { REPLICA_ADOPT: "yes" };
  await using replica = startReplica(followWords(dir, second.url()), { env });
  await replica.waitForLine(/connected by full resync/);
  using other = tempDir("adopt");
  await fill(other, second.url());
});
