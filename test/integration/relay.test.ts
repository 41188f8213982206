import { describe, expect, test } from "bun:test";
import { parseInfo } from "../../src/resp/info-text.ts";
import { SeededLoad } from "../faults/seeded-load.ts";
import { endingWithParent, endWithProcess } from "../support/children.ts";
import { fillAllTypes } from "../support/fill.ts";
import { freePort } from "../support/ports.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { RespClient } from "../support/resp-client.ts";
import { availableServers, type RealServer, startServer, tool } from "../support/servers.ts";
import { outermost } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** The fields of INFO on a replica's port. */
async function infoOf(port: number): Promise<Record<string, string>> {
  await using client = await RespClient.connect({ port });
  return Object.fromEntries(parseInfo(String(await client.send("INFO"))));
}

/** Starts a replica on a fixed port, and waits until it is connected. */
async function relayOf(
  url: string,
  dir: string,
  port: number,
  ...more: string[]
): Promise<ReplicaProcess> {
  const argv = [
    "follow",
    url,
    "--dir",
    dir,
    "--port",
    String(port),
    "--retry-max",
    "200ms",
    ...more,
  ];
  const replica = startReplica(argv);
  await replica.waitForLine(/connected by (full|partial) resync/);
  return replica;
}

/** Waits until the last server of the chain has the primary's whole stream. */
async function caughtUp(primary: RealServer, last: RealServer): Promise<void> {
  await until(
    async () => {
      const { master_link_status: status } = await last.info("replication");
      return status === "up" && (await last.offset()) === (await primary.offset());
    },
    { what: "the last replica to catch up with the primary" },
  );
}

async function expectSame(primary: RealServer, last: RealServer): Promise<void> {
  await caughtUp(primary, last);
  expect(await last.digest()).toBe(await primary.digest());
}

async function writeSome(server: RealServer, name: string): Promise<void> {
  await server.sendAll([
    ["SELECT", 3],
    ...Array.from({ length: 200 }, (_, i) => ["RPUSH", `${name}:${i % 7}`, i]),
    ["SELECT", 0],
    ["SET", name, "in database 0"],
  ]);
}

/** No PINGs in the stream, so that the offset stands still while nothing is written. */
const quiet = { args: ["--repl-ping-replica-period", "3600"] };

describe.each(outermost(availableServers()))("%s", (kind) => {
  test("gets the snapshot and the stream at no cost to the primary", async () => {
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 2_000, seed: 3 });
    using dir = tempDir("relay");
    const port = freePort();
    await using relay = await relayOf(primary.url(), dir.file("data"), port);
    const before = await primary.info("stats");
    await writeSome(primary, "before it comes");
    await using last = await startServer(kind, quiet);
    await last.send("REPLICAOF", "127.0.0.1", port);
    await relay.waitForLine(/downstream 127\.0\.0\.1:\d+ attached: full resync at offset \d+/);
    await relay.waitForLine(/downstream 127\.0\.0\.1:\d+ was sent its snapshot/);
    await expectSame(primary, last);
    await writeSome(primary, "live");
    await expectSame(primary, last);
    const after = await primary.info("stats");
    for (const name of ["total_forks", "sync_full", "sync_partial_ok", "sync_partial_err"]) {
      expect(after[name]).toBe(before[name]!);
    }
    const { master_replid } = await primary.info("replication");
    expect((await last.info("replication"))["master_replid"]).toBe(master_replid!);
    const info = await infoOf(port);
    expect([info["sync_full"], info["connected_slaves"]]).toEqual(["1", "1"]);
  });

  test("resumes after a restart of any of the three, and after a break of either link", async () => {
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 2_000, seed: 4 });
    using dir = tempDir("relay");
    const port = freePort();
    const data = dir.file("data");
    const replicaOf = ["--save", "3600 1", "--replicaof", `127.0.0.1 ${port}`];
    const first = await relayOf(primary.url(), data, port);
    await using last = await startServer(kind, { args: [...quiet.args, ...replicaOf] });
    await caughtUp(primary, last);
    const syncs = async () => {
      const { sync_full: full, sync_partial_ok: partial } = await infoOf(port);
      return [Number(full), Number(partial)];
    };
    expect(await syncs()).toEqual([1, 0]);

    await last.stop();
    await writeSome(primary, "while the last one is away");
    await last.restart();
    await expectSame(primary, last);
    expect(await syncs()).toEqual([1, 1]);

    await using client = await RespClient.connect({ port });
    expect(await client.send("CLIENT", "KILL", "TYPE", "replica")).toBe(1);
    await writeSome(primary, "while its link is broken");
    await until(async () => (await syncs())[1] === 2, { what: "it to reconnect" });
    await expectSame(primary, last);

    await primary.send("CLIENT", "KILL", "TYPE", "replica");
    await writeSome(primary, "while the link above is broken");
    await expectSame(primary, last);
    expect(await syncs()).toEqual([1, 2]);

    await using load = await SeededLoad.start(primary, 4);
    await first.kill9();
    await writeSome(primary, "while the relay is away");
    const restarted = await relayOf(primary.url(), data, port);
    await load.stop();
    await expectSame(primary, last);
    expect(await syncs()).toEqual([0, 1]);
    expect((await restarted.stop()).exitCode).toBe(0);
    await writeSome(primary, "while it is away once more");
    await using second = await relayOf(primary.url(), data, port);
    await expectSame(primary, last);
    expect(await syncs()).toEqual([0, 1]);
    expect(second.stderr).toMatch(
      /downstream 127\.0\.0\.1:\d+ attached: partial resync after offset/,
    );

    // The history is the primary's: a downstream can move to the primary, and back.
    await last.send("REPLICAOF", primary.host, primary.port);
    await until(async () => (await primary.info("replication"))["connected_slaves"] === "2", {
      what: "it to follow the primary itself",
    });
    await writeSome(primary, "at the primary's own");
    await last.send("REPLICAOF", "127.0.0.1", port);
    await expectSame(primary, last);
    expect(await syncs()).toEqual([0, 2]);
    expect((await primary.info("stats"))["sync_full"]).toBe("1");
  });

  test("resumes across new generations, even after an absence", async () => {
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 2_000, seed: 5 });
    using dir = tempDir("relay");
    const port = freePort();
    await using relay = await relayOf(primary.url(), dir.file("data"), port);
    await using last = await startServer(kind, quiet);
    await last.send("REPLICAOF", "127.0.0.1", port);
    await using away = await startServer(kind, quiet);
    await away.send("REPLICAOF", "127.0.0.1", port);
    await caughtUp(primary, last);
    await caughtUp(primary, away);
    away.freeze();
    await using load = await SeededLoad.start(primary, 5);
    await using client = await RespClient.connect({ port });
    expect(await client.send("CLIENT", "KILL", "TYPE", "replica")).toBe(2);
    for (const id of [2, 3]) {
      const { commands } = load;
      await until(() => load.commands > commands + 200, { what: "the load to go on" });
      await client.send("BGSAVE");
      await relay.waitForLine(new RegExp(`generation ${id} replaces generation ${id - 1}`));
    }
    away.thaw();
    await load.stop();
    await expectSame(primary, last);
    await expectSame(primary, away);
    const info = await infoOf(port);
    expect([info["sync_full"], info["sync_partial_ok"]]).toEqual(["2", "2"]);
  });

  test("feeds redis-cli --rdb and --replica, and a backup", async () => {
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 2_000, seed: 6 });
    using dir = tempDir("relay");
    const port = freePort();
    await using relay = await relayOf(primary.url(), dir.file("data"), port);
    const cli = [...tool(kind, "redis-cli"), "-p", String(port)];
    const taken = Bun.spawn(endingWithParent([...cli, "--rdb", dir.file("taken.rdb")]), {
      stdout: "ignore",
      stderr: "ignore",
      env: process.env,
    });
    endWithProcess(taken);
    expect(await taken.exited).toBe(0);
    const base = await Bun.file(dir.file("data/current/appendonly.aof.1.base.rdb")).bytes();
    expect(Buffer.compare(await Bun.file(dir.file("taken.rdb")).bytes(), base)).toBe(0);
    expect((await runReplica(["verify", dir.file("taken.rdb")])).exitCode).toBe(0);
    const backup = ["backup", `redis://127.0.0.1:${port}`, dir.file("backup.rdb")];
    expect((await runReplica(backup)).exitCode).toBe(0);
    expect(Buffer.compare(await Bun.file(dir.file("backup.rdb")).bytes(), base)).toBe(0);

    const following = Bun.spawn(endingWithParent([...cli, "--replica"]), {
      stdout: "pipe",
      stderr: "ignore",
      env: process.env,
    });
    endWithProcess(following);
    await until(async () => (await infoOf(port))["connected_slaves"] === "1", {
      what: "redis-cli to attach",
    });
    await primary.send("SET", "shown", "to redis-cli");
    await relay.waitForLine(/attached: full resync at offset \d+: SYNC names no offset/);
    let shown = "";
    for await (const chunk of following.stdout) {
      shown += Buffer.from(chunk).toString("latin1");
      if (/"SET","shown","to redis-cli"/i.test(shown)) break;
    }
    following.kill();
    await following.exited;
    expect(shown).toMatch(/"SET","shown","to redis-cli"/i);
  });

  test("a chain of replicas survives a failover of the primary without a full resync", async () => {
    await using primary = await startServer(kind, quiet);
    await fillAllTypes(primary, { keys: 2_000, seed: 7 });
    await using heir = await startServer(kind, quiet);
    await heir.send("REPLICAOF", primary.host, primary.port);
    await caughtUp(primary, heir);
    using dir = tempDir("chain");
    const [one, two] = [freePort(), freePort()];
    await using upper = await relayOf(primary.url(), dir.file("upper"), one);
    await using lower = await relayOf(`redis://127.0.0.1:${one}`, dir.file("lower"), two);
    await using last = await startServer(kind, quiet);
    await last.send("REPLICAOF", "127.0.0.1", two);
    await writeSome(primary, "before the failover");
    await expectSame(primary, last);
    await caughtUp(primary, heir);

    await primary.stop();
    await heir.send("REPLICAOF", "NO", "ONE");
    await writeSome(heir, "after the failover");
    await using client = await RespClient.connect({ port: one });
    await client.send("REPLICAOF", heir.host, heir.port);
    await expectSame(heir, last);
    const { master_replid: replid } = await heir.info("replication");
    expect((await last.info("replication"))["master_replid"]).toBe(replid!);
    expect((await infoOf(two))["master_replid"]).toBe(replid!);
    for (const port of [one, two]) {
      const { sync_full: full, sync_partial_ok: partial } = await infoOf(port);
      expect([port, full, Number(partial) > 0]).toEqual([port, "1", true]);
    }
    for (const relay of [upper, lower])
      expect(relay.stderr).toContain("continues under a new replication id");
    expect((await heir.info("stats"))["sync_full"]).toBe("0");
  });

  test("a downstream needs the password of the replica's port", async () => {
    await using primary = await startServer(kind, quiet);
    using dir = tempDir("relay");
    await Bun.write(dir.file("password"), "open sesame");
    const port = freePort();
    const more = ["--requirepass-file", dir.file("password")];
    await using relay = await relayOf(primary.url(), dir.file("data"), port, ...more);
    await using last = await startServer(kind, quiet);
    await last.send("REPLICAOF", "127.0.0.1", port);
    await until(() => last.log().includes("NOAUTH"), { what: "it to be refused" });
    await last.send("CONFIG", "SET", "masterauth", "open sesame");
    await writeSome(primary, "behind a password");
    await expectSame(primary, last);
    expect(relay.stderr).not.toContain("sesame");
  });
});
