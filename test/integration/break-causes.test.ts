import { expect, test } from "bun:test";
import { realDisk } from "../../src/store/disk/disk.ts";
import { childrenOf } from "../support/children-of.ts";
import { follow } from "../support/following.ts";
import { type RealServer, type ServerKind, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const KEYS = 20_000;
/** So a snapshot takes long enough to break it. */
const SLOW_SNAPSHOT = ["--rdb-key-save-delay", "500"];

/** A server whose snapshot takes ten seconds. */
async function slowServer(kind: ServerKind, ...args: string[]): Promise<RealServer> {
  const server = await startServer(kind, { args: [...SLOW_SNAPSHOT, ...args] });
  await server.send("DEBUG", "POPULATE", KEYS, "key", 100);
  return server;
}

type Following = ReturnType<typeof follow>;

/** Waits until an attempt was broken, and returns what is said about it. */
async function causeOf({ replica }: Following): Promise<string> {
  const { links } = replica;
  await until(() => links.last !== undefined && links.unexplained === undefined, {
    what: "a break that is explained",
  });
  return links.lastCause;
}

function inState(following: Following, at: string): Promise<unknown> {
  return until(() => following.replica.state.at === at, { what: at });
}

async function killSaver(server: RealServer): Promise<void> {
  const child = await until(() => childrenOf(server.pid)[0], { what: "the child that saves" });
  process.kill(child, "SIGKILL");
}

test.concurrent.each(["redis-7.0", "valkey-9"] as const)(
  "%s killed amid its snapshot, and restarted: that is what is said",
  async (kind) => {
    using dir = tempDir("killed");
    await using server = await slowServer(kind);
    await using following = follow(server.url(), realDisk, dir);
    await inState(following, "transfer");
    await until(() => following.replica.supply.facts !== undefined, { what: "its INFO" });
    await server.kill9();
    const cause = await causeOf(following);
    expect(cause).toMatch(/^the primary (closed the link|reset the connection) after \d/);
    expect(cause).toMatch(/in \d+\.\d s, .*; no other link to it can be opened now either: /);
    expect(cause).not.toMatch(/output|limit|likely|its log/);
    await server.restart();
    await following.connected();
    await until(
      () =>
        /the primary was restarted: it has been up for \d/.test(following.replica.links.lastCause),
      {
        what: "the restart to be noticed",
      },
    );
    expect(following.replica.links.lastCause).not.toMatch(/output|limit|likely/);
  },
);

test.concurrent(
  "a primary restarted while it is followed is told, though it cost nothing",
  async () => {
    using dir = tempDir("restarted");
    await using server = await startServer("redis-8.0");
    await using following = follow(server.url(), realDisk, dir);
    await following.connected();
    await until(() => following.replica.supply.facts !== undefined, { what: "its INFO" });
    await server.kill9();
    await inState(following, "connect");
    await server.restart();
    await until(() => following.replica.links.lastCause.includes("the primary was restarted: "), {
      what: "the restart to be noticed",
    });
  },
);

test.concurrent.each(["redis-7.0", "valkey-8.1"] as const)(
  "%s: the child of a diskless sync killed",
  async (kind) => {
    using dir = tempDir("diskless");
    await using server = await slowServer(kind, "--repl-diskless-sync", "yes");
    await using following = follow(server.url(), realDisk, dir);
    await inState(following, "transfer");
    await killSaver(server);
    const cause = await causeOf(following);
    expect(cause).toMatch(
      /in \d+\.\d s, .*; (its snapshot failed there|the primary was not restarted, and at most \d+ B of the stream waited there \(its limit is 256\.0 MiB\)): its log says why/,
    );
    expect(cause).not.toContain("raise");
    expect(server.log()).toMatch(/terminated by signal 9|Background transfer/);
  },
);

test.concurrent.each(["redis-7.0", "redis-8.0", "valkey-9"] as const)(
  "%s: the child of a disk-based sync killed",
  async (kind) => {
    using dir = tempDir("disk-based");
    await using server = await slowServer(kind, "--repl-diskless-sync", "no");
    await using following = follow(server.url(), realDisk, dir);
    await inState(following, "receive-bulk-header");
    await until(() => following.replica.supply.facts !== undefined, { what: "its INFO" });
    await killSaver(server);
    expect(await causeOf(following)).toContain(
      "; its snapshot failed there (rdb_last_bgsave_status:err): its log says why",
    );
  },
);

test.concurrent.each(["redis-7.0", "redis-8.0", "valkey-9"] as const)(
  "%s: a real output buffer limit is named, with how much waited",
  async (kind) => {
    using dir = tempDir("limit");
    const limit = ["--client-output-buffer-limit", "slave 2mb 0 0", "--repl-backlog-size", "1mb"];
    await using server = await slowServer(kind, ...limit);
    await using following = follow(server.url(), realDisk, dir, { "sync-links": "1" });
    await inState(following, "transfer");
    await until(() => following.replica.supply.facts !== undefined, { what: "its INFO" });
    const value = "x".repeat(256 * 1024);
    for (let count = 0; count < 16 && following.replica.links.last === undefined; count++) {
      await server.send("SET", "big", value);
    }
    const cause = await causeOf(following);
    expect(cause).toMatch(
      /; \d\.\d MiB of the stream waited there, (and it closed a client for its output buffer|past its limit of 2\.0 MiB): raise client-output-buffer-limit replica there/,
    );
    expect(server.log()).toMatch(/overcoming of output buffer limits/);
  },
);
