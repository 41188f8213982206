import { describe, expect, test } from "bun:test";
import { RespClient } from "../support/resp-client.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { availableServers, bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { renamingService } from "../support/renaming-service.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { followArgs, onlyLine } from "./bad-input-rig.ts";

const USER = { REPLICA_PASSWORD: "correct-horse" };

/** Adds a user that may do this and nothing else. */
async function addUser(server: RealServer, ...rights: string[]): Promise<void> {
  await server.send("ACL", "SETUSER", "weak", "reset", "on", ">correct-horse", ...rights);
}

/** Renames commands, or takes them away by an empty name. */
const renamed = (names: Readonly<Record<string, string>>) =>
  Object.entries(names).flatMap(([command, name]) => ["--rename-command", command, name]);

async function portOf(replica: ReplicaProcess): Promise<number> {
  const [, port = ""] = await replica.waitForLine(/serving 127\.0\.0\.1:(\d+)/);
  return Number(port);
}

/** What the primary shows of its only replica. */
async function seen(server: RealServer): Promise<Map<string, string>> {
  const row = (await server.info("replication"))["slave0"] ?? "";
  return new Map(row.split(",").map((field) => field.split("=") as [string, string]));
}

/** Waits until the replica has got as far as the primary, by what it says itself. */
async function caughtUp(server: RealServer, port: number): Promise<void> {
  await using client = await RespClient.connect({ port });
  await until(
    async () => {
      const info = String(await client.send("INFO", "replication"));
      return info.includes(`slave_repl_offset:${await server.offset()}\r\n`);
    },
    { what: "the replica to have got everything" },
  );
}

describe.each(availableServers())("%s", (kind) => {
  test.concurrent("a service that offers no PSYNC is named as one", async () => {
    await using server = await startServer(kind, { args: renamed({ PSYNC: "", SYNC: "" }) });
    using temp = tempDir();
    const ended = await runReplica(["backup", server.url(), temp.file("dump.rdb")]);
    const lines = ended.stderr.split("\n").filter((line) => !line.includes("falling back"));
    expect(onlyLine({ ...ended, stderr: lines.join("\n") })).toMatch(
      /: this service offers no PSYNC \(-ERR unknown command '?SYNC'?\): ask its support for a user that may replicate, or for its own name of PSYNC, for --psync-command$/,
    );
    expect(ended.exitCode).toBe(1);
  });

  test.concurrent(
    "its own name of PSYNC is used for each sync: follow, renewal, resume, backup",
    async () => {
      using temp = tempDir();
      await using server = await startServer(kind);
      await server.send("SET", "before", "1");
      await using service = renamingService(server.port, { xhma21psync: "PSYNC" });
      const name = ["--psync-command", `127.0.0.1:1=other,127.0.0.1:${service.port}=xhma21psync`];
      await using replica = startReplica(followArgs(service.url, temp.file("data"), ...name));
      await replica.waitForLine(/connected by full resync/);
      const port = await portOf(replica);
      await using client = await RespClient.connect({ port });
      await client.send("BGSAVE");
      await replica.waitForLine(/generation 2 replaces generation 1/);
      await server.send("SET", "after", "2");
      await server.send("CLIENT", "KILL", "TYPE", "replica");
      await replica.waitForLine(/connected by partial resync/);
      await caughtUp(server, port);
      expect((await replica.stop()).exitCode).toBe(0);
      await using copy = await bootCopy(kind, temp.file("data", "current"));
      expect(await copy.keysPerDatabase()).toEqual({ 0: 2 });
      const backup = (name: string) =>
        runReplica(["backup", service.url, temp.file(`${name}.rdb`), "--psync-command", name]);
      expect((await backup("xhma21psync")).exitCode).toBe(0);
      const wrong = await backup("ymcapsync");
      expect(wrong.exitCode).toBe(1);
      expect(wrong.stderr).toContain(
        "this service offers neither ymcapsync nor SYNC (-ERR unknown",
      );
    },
  );

  test.concurrent("a stock server that has another name for PSYNC takes it for SYNC", async () => {
    using temp = tempDir();
    const args = renamed({ PSYNC: "xhma21psync", SYNC: "" });
    await using server = await startServer(kind, { args });
    await server.send("SET", "key", "1");
    const name = ["--psync-command", "xhma21psync"];
    await using replica = startReplica(followArgs(server.url(), temp.file("data"), ...name));
    await replica.waitForLine(/connected by full resync/);
    await server.send("SET", "other", "1");
    await caughtUp(server, await portOf(replica));
    expect((await replica.stop()).exitCode).toBe(0);
    await using copy = await bootCopy(kind, temp.file("data", "current"));
    expect(await copy.keysPerDatabase()).toEqual({ 0: 2 });
  });

  test.concurrent("its own name of SYNC is used where it offers no PSYNC", async () => {
    using temp = tempDir();
    await using server = await startServer(kind, {
      args: renamed({ PSYNC: "", SYNC: "xhma21sync" }),
    });
    await server.send("SET", "key", "1");
    const name = ["--sync-command", "xhma21sync"];
    const ended = await runReplica(["backup", server.url(), temp.file("dump.rdb"), ...name]);
    expect(ended.exitCode, ended.stderr).toBe(0);
    await using replica = startReplica(followArgs(server.url(), temp.file("data"), ...name));
    await replica.waitForLine(/connected by full resync/);
    await server.send("SET", "other", "1");
    await caughtUp(server, await portOf(replica));
  });

  test.concurrent(
    "a user that may PSYNC alone is enough: it is followed, stays counted, and resumes",
    async () => {
      using temp = tempDir();
      await using server = await startServer(kind, { args: ["--repl-timeout", "5"] });
      await server.sendAll([
        ["CONFIG", "SET", "min-replicas-to-write", "1"],
        ["CONFIG", "SET", "min-replicas-max-lag", "3"],
      ]);
      await addUser(server, "+psync");
      // PING goes before the login.
      await server.send("ACL", "SETUSER", "default", "-ping");
      const args = followArgs(server.url(), temp.file("data"), "--username", "weak");
      await using replica = startReplica(args, { env: USER });
      await replica.waitForLine(/connected by full resync/);
      const port = await portOf(replica);
      await replica.waitForLine(
        /warn .*the primary takes no REPLCONF \(-NOPERM .*\): WAIT doesn't count this replica, .*; send it ACL SETUSER weak \+replconf/,
      );
      // The primary would drop a replica that says nothing for its repl-timeout, and refuse writes without one.
      const since = Date.now();
      await until(
        async () => {
          expect(await server.send("SET", "key", "value")).toBe("OK");
          const row = await seen(server);
          expect(row.get("state")).toBe("online");
          expect(Number(row.get("lag"))).toBeLessThan(3);
          return Date.now() - since > 8_000;
        },
        { what: "twice the primary's repl-timeout to pass", everyMs: 250 },
      );
      await caughtUp(server, port);
      expect(replica.stderr.match(/next attempt/g)).toBeNull();
      await server.send("CLIENT", "KILL", "TYPE", "replica");
      await replica.waitForLine(/connected by partial resync/);
      await server.send("SET", "last", "value");
      await caughtUp(server, port);
      expect((await replica.stop()).exitCode).toBe(0);
      await using copy = await bootCopy(kind, temp.file("data", "current"));
      expect(await copy.digest()).toBe(await server.digest());
    },
  );

  test.concurrent(
    "without REPLCONF a failover is followed under the new id, which INFO names",
    async () => {
      using temp = tempDir();
      await using server = await startServer(kind);
      await using other = await startServer(kind, {
        args: ["--replicaof", "127.0.0.1", String(server.port)],
      });
      await until(async () => (await other.info("replication"))["master_link_status"] === "up", {
        what: "the real replica to be connected",
      });
      await addUser(server, "+psync", "+info");
      await addUser(other, "+psync", "+info");
      await server.send("SET", "before", "1");
      const follow = (url: string) =>
        startReplica(followArgs(url, temp.file("data"), "--username", "weak"), { env: USER });
      await using first = follow(server.url());
      await first.waitForLine(/connected by full resync/);
      await caughtUp(server, await portOf(first));
      expect((await first.stop()).exitCode).toBe(0);
      await other.send("REPLICAOF", "NO", "ONE");
      await other.send("SET", "after", "2");
      await using second = follow(other.url());
      await second.waitForLine(/connected by partial resync/);
      const port = await portOf(second);
      await caughtUp(other, port);
      await using client = await RespClient.connect({ port });
      const info = String(await client.send("INFO", "replication"));
      expect(info).toContain(`master_replid:${(await other.info("replication"))["master_replid"]}`);
    },
  );
});
