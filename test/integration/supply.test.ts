import { describe, expect, test } from "bun:test";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { availableServers, startServer } from "../support/servers.ts";
import { Reporting } from "../support/supplied.ts";
import { certificates } from "../support/tls.ts";
import { until } from "../support/wait.ts";

const KINDS = availableServers();

describe("a chain whose top is gone", () => {
  test.concurrent.each(KINDS)("real → real %s → replica: killed, and back", async (kind) => {
    await using top = await startServer(kind);
    await using middle = await startServer(kind);
    await top.send("SET", "key", "value");
    await middle.send("REPLICAOF", "127.0.0.1", String(top.port));
    await using replica = new Reporting(middle.url());
    await replica.readyzSays("ready");
    await until(() => replica.following.status.supply.role === "slave", { what: "its role" });
    expect(await replica.metric("replica_primary_unsupplied_seconds")).toBe(0);

    await top.kill9();
    const said = await replica.readyzSays(/^not ready: nobody supplies data: /);
    expect(said).toMatch(
      new RegExp(
        `redis://127.0.0.1:${middle.port} is a replica of 127.0.0.1:${top.port}, and that link has been down for \\d+ s$`,
      ),
    );
    const info = await replica.info();
    expect(Object.fromEntries(info)).toMatchObject({
      master_link_status: "down",
      ready: "0",
      state: "connected",
      primary_role: "slave",
      not_ready_reason: expect.stringContaining("nobody supplies data: redis://127.0.0.1:"),
      unsupplied_reason: expect.stringContaining(`is a replica of 127.0.0.1:${top.port}`),
    });
    expect(Number(info.get("master_link_down_since_seconds"))).toBeGreaterThanOrEqual(0);
    const screen = await replica.screen();
    expect(screen).toContain("h:1 is not ready: nobody supplies data: redis://127.0.0.1:");
    expect(screen).toMatch(/\nlag +stale for \d+ s\n/);
    const page = await replica.get("/");
    expect(page.text).toContain(
      '<tr><th scope="row">ready<td>no: nobody supplies data: redis://127.0.0.1:',
    );
    expect(page.text).toMatch(/restorable up to<td>\S+Z: stale for \d+ s/);
    await until(async () => (await replica.metric("replica_primary_unsupplied_seconds")) > 0, {
      what: "the metric",
    });
    // The link itself is up: this is no outage of it.
    expect(await replica.metric("replica_link_up")).toBe(1);
    await top.restart();
    await replica.readyzSays("ready");
    expect(await replica.metric("replica_primary_unsupplied_seconds")).toBe(0);
  });

  test.concurrent("real → real → replica: a stopped top is known by its silence", async () => {
    const args = ["--repl-ping-replica-period", "1"];
    await using top = await startServer("redis-7.0", { args });
    await using middle = await startServer("redis-7.0", { args });
    await middle.send("REPLICAOF", "127.0.0.1", String(top.port));
    await using replica = new Reporting(middle.url(), { timeout: "6s" });
    await replica.readyzSays("ready");
    process.kill(top.pid, "SIGSTOP");
    try {
      await replica.readyzSays(
        new RegExp(`of 127.0.0.1:${top.port}, and nothing has come from there for \\d+ s$`),
      );
    } finally {
      process.kill(top.pid, "SIGCONT");
    }
    await replica.readyzSays("ready");
  });

  test.concurrent("real → replica → replica → replica: each says who has none", async () => {
    await using top = await startServer("redis-7.0");
    await using first = new Reporting(top.url());
    await first.readyzSays("ready");
    await using second = new Reporting(first.url);
    await second.readyzSays("ready");
    await using third = new Reporting(second.url);
    await third.readyzSays("ready");
    await until(() => third.following.status.upstreamRunIds.length === 3, { what: "the chain" });
    expect(third.following.status.upstreamRunIds.slice(0, 2)).toEqual([
      second.following.status.runId,
      first.following.status.runId,
    ]);

    await top.kill9();
    await first.readyzSays(/^not ready: the link is in state \S+: /);
    const why = new RegExp(
      `: redis://127.0.0.1:${first.port} is a replica of 127.0.0.1:${top.port}, and that link has been down for \\d+ s$`,
    );
    await second.readyzSays(why);
    await third.readyzSays(why);
    await first.send("REPLICAOF", "NO", "ONE");
    const alone = new RegExp(`: redis://127.0.0.1:${first.port} follows no primary$`);
    await third.readyzSays(alone);
  });
});

describe("following itself is refused", () => {
  const LOOP =
    /^not ready: the link is in state \S+ .* is this replica itself: REPLICAOF must name/;

  test.concurrent("at once, by any name, and through a proxy; what is kept stays", async () => {
    await using top = await startServer("redis-7.0");
    await using replica = new Reporting(top.url());
    await replica.readyzSays("ready");
    const { resyncs, relay, directory } = replica.following.replica;
    const kept = directory.current?.id;
    await using proxy = startFaultProxy();
    await using route = await proxy.route(replica.port);
    const names = [
      ["127.0.0.1", replica.port],
      ["localhost", replica.port],
      ["127.0.0.1", route.port],
    ] as const;
    for (const [host, port] of names) {
      await replica.send("REPLICAOF", host, String(port));
      await replica.readyzSays(LOOP);
      const info = await replica.info();
      expect(info.get("last_error_code")).toBe("REPLICATION_LOOP");
      expect(info.get("master_link_status")).toBe("down");
      expect(await replica.metric("replica_link_up")).toBe(0);
    }
    expect([resyncs.full, resyncs.partial, relay.downstreams.size]).toEqual([1, 0, 0]);
    expect(directory.current?.id).toBe(kept);
    await replica.send("REPLICAOF", "127.0.0.1", String(top.port));
    await replica.readyzSays("ready");
  });

  test.concurrent("with nothing kept yet", async () => {
    await using first = new Reporting("redis://127.0.0.1:1");
    await first.send("REPLICAOF", "127.0.0.1", String(first.port));
    await first.readyzSays(/state \S+: .*(is this replica itself|NOMASTERLINK)/);
    await first.readyzSays(LOOP);
  });
});

describe("a circle without a primary is refused", () => {
  test.concurrent("of two: the one that would close it", async () => {
    await using top = await startServer("redis-7.0");
    await using first = new Reporting(top.url());
    await first.readyzSays("ready");
    await using second = new Reporting(first.url);
    await second.readyzSays("ready");
    await until(() => second.following.status.upstreamRunIds.length === 2, { what: "the chain" });
    await first.send("REPLICAOF", "127.0.0.1", String(second.port));
    await first.readyzSays(/ is itself fed by this replica, so neither has a primary/);
    // The first one tells it so, as soon as it asks again.
    await second.readyzSays(
      /: what answers there is itself fed by this replica, so neither has a primary: REPLICAOF/,
    );
    expect((await first.info()).get("last_error_code")).toBe("REPLICATION_LOOP");
    await first.send("REPLICAOF", "127.0.0.1", String(top.port));
    await first.readyzSays("ready");
    await second.readyzSays("ready");
  });

  test.concurrent("of two that begin to follow each other at the same moment", async () => {
    await using top = await startServer("redis-7.0");
    await using one = new Reporting(top.url());
    await using other = new Reporting(top.url());
    await one.readyzSays("ready");
    await other.readyzSays("ready");
    await Promise.all([
      one.send("REPLICAOF", "127.0.0.1", String(other.port)),
      other.send("REPLICAOF", "127.0.0.1", String(one.port)),
    ]);
    const both = [one, other];
    await Promise.all(both.map((replica) => replica.readyzSays(/^not ready: /)));
    await until(
      async () => {
        const infos = await Promise.all(both.map((replica) => replica.info()));
        return infos.some((info) => info.get("last_error_code") === "REPLICATION_LOOP");
      },
      { what: "one of them to see the circle" },
    );
    await one.send("REPLICAOF", "127.0.0.1", String(top.port));
    await Promise.all(both.map((replica) => replica.readyzSays("ready")));
  });

  test.concurrent("of three", async () => {
    await using top = await startServer("redis-7.0");
    await using first = new Reporting(top.url());
    await first.readyzSays("ready");
    await using second = new Reporting(first.url);
    await second.readyzSays("ready");
    await using third = new Reporting(second.url);
    await third.readyzSays("ready");
    await first.send("REPLICAOF", "127.0.0.1", String(third.port));
    await first.readyzSays(/ is itself fed by this replica, so neither has a primary/);
    await second.readyzSays(/nobody supplies data/);
    await third.readyzSays(/nobody supplies data/);
  });

  test.concurrent.each(KINDS)("through a real %s that follows this replica", async (kind) => {
    await using server = await startServer(kind);
    await server.send("SET", "key", "value");
    await using replica = new Reporting(server.url());
    await replica.readyzSays("ready");
    const { resyncs, directory } = replica.following.replica;
    const kept = directory.current?.id;
    await server.send("REPLICAOF", "127.0.0.1", String(replica.port));
    await replica.readyzSays(
      new RegExp(
        `127.0.0.1:${server.port} is itself fed by this replica, so neither has a primary`,
      ),
    );
    const { full, partial } = resyncs;
    const failed = () => replica.metric("replica_attempts_failed_total");
    const before = await failed();
    await until(async () => (await failed()) > before + 2, { what: "more attempts" });
    // None of them followed it again.
    expect([resyncs.full, resyncs.partial]).toEqual([full, partial]);
    expect(directory.current?.id).toBe(kept);
    await server.send("REPLICAOF", "NO", "ONE");
    await replica.readyzSays("ready");
  });
});

describe("a primary that may not be asked", () => {
  test.concurrent("is followed all the same, and asked once for each link", async () => {
    await using server = await startServer("redis-7.0");
    await server.send("ACL", "SETUSER", "feed", "on", ">secret", "+psync", "+replconf", "+ping");
    const url = server.url().replace("redis://", "redis://feed:secret@");
    // Where no room is kept free, the size of a full resync is not asked for.
    await using replica = new Reporting(url, { "min-free": "0" });
    await replica.readyzSays("ready");
    const denied = async () => (await server.send("ACL", "LOG")) as unknown[];
    await until(async () => (await denied()).length > 0, { what: "the question" });
    await until(async () => replica.following.status.uptimeSeconds >= 3, { what: "three seconds" });
    const entries = await denied();
    expect(entries).toHaveLength(1);
    expect((entries[0] as unknown[])[1]).toBe(1);
    expect((await replica.info()).get("primary_role")).toBe("unknown");
  });

  test.concurrent.each(["tcp", "tls", "unix"] as const)(
    "is asked as it is followed: %s",
    async (way) => {
      const options = { tls: { clients: "no" }, unixSocket: true } as const;
      // The URL of a socket comes without it.
      const login = way === "unix" ? {} : { password: "secret" };
      await using server = await startServer("redis-7.0", { ...options, ...login });
      const flags = { "tls-ca": certificates.ca };
      await using replica = new Reporting(server.url(way), flags);
      await until(async () => (await replica.info()).get("primary_role") === "master", {
        what: "its role",
      });
    },
  );
});
