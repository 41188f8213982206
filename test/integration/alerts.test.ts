import { expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { notifyServiceManager, serviceStatusOf } from "../../src/monitor/service-manager.ts";
import { firing, type Scrape } from "../support/alert-rules.ts";
import { NotifySocket } from "../support/notify-socket.ts";
import { startServer } from "../support/servers.ts";
import { SkippingClock } from "../support/skipping-clock.ts";
import { Reporting } from "../support/supplied.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const EVERY_MS = 30_000;

/** Prometheus, which scrapes twice a minute; the minutes pass at once. */
class Watch {
  readonly #replica: Reporting;
  readonly #clock: SkippingClock;
  readonly #scrapes: Scrape[] = [];

  constructor(replica: Reporting, clock: SkippingClock) {
    this.#replica = replica;
    this.#clock = clock;
  }

  /** Lets minutes pass; returns the alerts that have fired, each with the minute in which it began. */
  async minutes(count: number): Promise<Record<string, number>> {
    const began: Record<string, number> = {};
    for (let half = 1; half <= count * 2; half++) {
      this.#clock.skip(EVERY_MS);
      // The replica's own second goes by, and with it all that it looks at.
      const { following } = this.#replica;
      following.replica.supply.tick(following.replica.silentMs);
      this.#scrapes.push({ atMs: this.#clock.now(), samples: await this.#replica.scrape() });
      for (const alert of firing(this.#scrapes)) began[alert] ??= Math.floor(half / 2);
    }
    return began;
  }
}

test.concurrent("a primary that is killed for 28 minutes, and refilled", async () => {
  using dir = tempDir("killed");
  using manager = new NotifySocket(dir.file("notify"));
  const clock = new SkippingClock();
  await using server = await startServer("redis-7.0");
  await server.send("SET", "key", "value");
  await using replica = new Reporting(server.url(), {}, clock);
  const { status } = replica.following;
  const end = notifyServiceManager(
    { NOTIFY_SOCKET: dir.file("notify") },
    serviceStatusOf(status),
    new AbortController().signal,
  );
  const watch = new Watch(replica, clock);
  await replica.readyzSays("ready");
  const newest = await replica.metric("replica_newest_restorable_timestamp_seconds");
  const oldest = await replica.metric("replica_oldest_restorable_timestamp_seconds");

  await server.kill9();
  await until(async () => (await replica.metric("replica_attempts_failed_total")) > 3, {
    what: "some attempts",
  });
  const fired = await watch.minutes(28);
  expect(fired).toEqual({ ReplicaLinkDown: 5, ReplicaStale: expect.any(Number) });
  // 15 minutes, and 5 more; the last mark is a little older than the kill.
  expect([19, 20]).toContain(fired["ReplicaStale"]!);
  expect(await replica.metric("replica_breaks_total")).toBe(1);
  const downSeconds = await replica.metric("replica_link_down_seconds");
  expect(Math.floor(downSeconds / 60)).toBe(28);
  expect(await replica.metric("replica_link_silent_seconds")).toBeGreaterThanOrEqual(28 * 60);
  const after = await replica.metric("replica_newest_restorable_timestamp_seconds");
  expect(after - newest).toBeLessThan(30);
  expect(await replica.metric("replica_oldest_restorable_timestamp_seconds")).toBe(oldest);
  await replica.readyzSays(/^not ready: the link is in state connect\w*: connection refused/);
  expect(await replica.screen()).toMatch(/\nlag +stale for 28 min\n/);
  expect((await replica.get("/")).text).toMatch(/restorable up to<td>\S+Z: stale for 28 min/);
  expect((await replica.info()).get("master_link_status")).toBe("down");
  await manager.waitFor(
    /^STATUS=connect\w*, redis:\S+, stale for 28 min, durable up to offset \d+$/,
  );

  await server.restart();
  await server.send("SET", "another", "value");
  await replica.readyzSays("ready");
  await manager.waitFor(/^STATUS=connected, redis:\S+, durable up to offset \d+$/);
  expect(await replica.metric("replica_link_down_seconds")).toBe(0);
  expect(await replica.metric("replica_breaks_total")).toBe(1);
  await until(
    async () =>
      (await replica.metric("replica_newest_restorable_timestamp_seconds")) > after + 28 * 60,
    { what: "a newer moment" },
  );
  expect(await replica.screen()).not.toContain("stale");
  await until(() => status.lastBreak?.cause.includes("the primary was restarted") === true, {
    what: "the restart in the words of the last error",
  });
  end();
});

test.concurrent("a primary that is stopped, and goes on", async () => {
  const clock = new SkippingClock();
  await using server = await startServer("valkey-9", {
    args: ["--repl-ping-replica-period", "1"],
  });
  await using replica = new Reporting(server.url(), { timeout: "3s", "sync-timeout": "1s" }, clock);
  const watch = new Watch(replica, clock);
  await replica.readyzSays("ready");
  process.kill(server.pid, "SIGSTOP");
  try {
    await replica.readyzSays(/^not ready: the link is in state \S+ .*silent for 3000 ms/);
    const silent = await replica.metric("replica_link_silent_seconds");
    expect(silent).toBeGreaterThanOrEqual(3);
    expect(await watch.minutes(10)).toEqual({ ReplicaLinkDown: 5 });
    expect(await replica.metric("replica_link_silent_seconds")).toBeGreaterThan(silent + 600);
    expect(await replica.metric("replica_breaks_total")).toBe(1);
    expect(await replica.screen()).toMatch(/\nlag +stale for 10 min\n/);
  } finally {
    process.kill(server.pid, "SIGCONT");
  }
  await replica.readyzSays("ready");
  expect(await replica.metric("replica_link_silent_seconds")).toBeLessThan(60);
  expect(replica.following.replica.resyncs.full).toBe(1);
});

test.concurrent("a chain whose top is gone for half an hour", async () => {
  const clock = new SkippingClock();
  await using top = await startServer("redis-8.0");
  await using middle = await startServer("redis-8.0");
  await middle.send("REPLICAOF", "127.0.0.1", String(top.port));
  await using replica = new Reporting(middle.url(), {}, clock);
  const watch = new Watch(replica, clock);
  await replica.readyzSays("ready");
  await until(() => replica.following.status.supply.role === "slave", { what: "its role" });
  await top.kill9();
  await replica.readyzSays(/nobody supplies data/);
  const fired = await watch.minutes(30);
  expect(Object.keys(fired).toSorted()).toEqual(["ReplicaStale", "ReplicaUnsupplied"]);
  expect(fired["ReplicaUnsupplied"]).toBeLessThanOrEqual(3);
  expect([19, 20]).toContain(fired["ReplicaStale"]!);
  expect(await replica.screen()).toMatch(/\nlag +stale for 30 min\n/);
});

test.concurrent("a replica that is told to follow itself", async () => {
  const clock = new SkippingClock();
  await using top = await startServer("redis-7.0");
  await using replica = new Reporting(top.url(), {}, clock);
  const watch = new Watch(replica, clock);
  await replica.readyzSays("ready");
  await replica.send("REPLICAOF", "localhost", String(replica.port));
  await replica.readyzSays(/ is this replica itself: /);
  const attempts = () => replica.metric("replica_attempts_failed_total");
  await until(async () => (await attempts()) > 8, { what: "attempts" });
  // Its breaks are no news: that it isn't connected is.
  expect(await watch.minutes(16)).toEqual({ ReplicaLinkDown: 5 });
});

test.concurrent("an archive that takes nothing for half an hour, and is well again", async () => {
  using dir = tempDir("no-archive");
  const clock = new SkippingClock();
  await using server = await startServer("valkey-9");
  await server.send("SET", "key", "value");
  const folder = dir.file("archive");
  // Where its folder should be is a file.
  writeFileSync(folder, "");
  const flags = { archive: `file://${folder}`, "archive-every": "1s", timeout: "1d" };
  await using replica = new Reporting(server.url(), flags, clock);
  const watch = new Watch(replica, clock);
  await replica.readyzSays("ready");
  await until(() => replica.following.status.archive?.isUp === false, { what: "a failure" });
  const fired = await watch.minutes(30);
  expect(fired["ReplicaArchiveFailing"]).toBe(10);
  // 15 minutes, and 5 more.
  expect([19, 20]).toContain(fired["ReplicaArchiveLag"]!);
  rmSync(folder);
  const isWell = async () =>
    (await replica.metric("replica_archive_up")) === 1 &&
    (await replica.metric("replica_archive_lag_seconds")) < 60;
  await until(isWell, { what: "the archive to be well" });
  expect(Object.keys(await watch.minutes(1))).not.toContain("ReplicaArchiveFailing");
});
