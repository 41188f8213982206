import { expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { screenLines } from "../../src/cli/status/status-screen.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { parseInfo } from "../../src/resp/info-text.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { restorePoint } from "../../src/store/restore/restore-point.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { parseExposition } from "../support/exposition.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { freePort } from "../support/ports.ts";
import { encodeCommand } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { SkippingClock } from "../support/skipping-clock.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);
const MINUTE_MS = 60_000;

async function grantFull(peer: FakePeer): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset: 100 });
  await peer.send(bulkPayload(smallRdb("a value")));
}

test("goes on with the marks while the link is up, and stays once it is down", async () => {
  using dir = tempDir("freshness");
  const clock = new SkippingClock();
  const primary = fakePrimary(grantFull);
  const metrics = new Metrics();
  await using replica = follow(primary.url, realDisk, dir, {}, undefined, clock);
  const { status } = replica;
  metrics.of(status, "1.2.3");
  expect([status.newestRestorableMs, status.oldestRestorableMs]).toEqual([undefined, undefined]);
  await replica.connected();
  const [first, oldest] = [status.newestRestorableMs!, status.oldestRestorableMs!];
  expect([oldest, status.link.downForSeconds]).toEqual([first, 0]);

  // A ping is enough to know that the copy is as new as the primary.
  clock.skip(20_000);
  await primary.peers[0]!.send(encodeCommand(["PING"]));
  await until(() => status.newestRestorableMs !== first, { what: "a mark" });
  const newest = status.newestRestorableMs!;
  expect(newest - first).toBeGreaterThanOrEqual(20_000);
  expect(status.staleSeconds).toBeLessThan(15);
  expect(status.oldestRestorableMs).toBe(oldest);

  await primary.stop();
  await until(() => (status.lastBreak?.code ?? "") === "CONNECT_FAILED", { what: "an attempt" });
  clock.skip(28 * MINUTE_MS);
  const failed = status.failedAttempts["CONNECT_FAILED"] ?? 0;
  await until(() => (status.failedAttempts["CONNECT_FAILED"] ?? 0) > failed + 3, {
    what: "more attempts",
  });
  expect(status.newestRestorableMs).toBe(newest);
  // However many attempts it takes, it is one break.
  expect(status.breaks).toEqual({ LINK_LOST: 1 });
  const samples = parseExposition(await metrics.text()).flatMap((family) => family.samples);
  const valueOf = (name: string) => samples.find((one) => one.name === `replica_${name}`)!.value;
  expect(valueOf("newest_restorable_timestamp_seconds")).toBe(newest / 1000);
  expect(valueOf("oldest_restorable_timestamp_seconds")).toBe(oldest / 1000);
  for (const name of ["link_down_seconds", "link_silent_seconds"]) {
    expect([name, valueOf(name) >= 28 * 60 && valueOf(name) < 30 * 60]).toEqual([name, true]);
  }

  await using client = await RespClient.connect({ port: replica.port });
  const info = parseInfo(String(await client.send("INFO")));
  expect(info.get("newest_restorable_time")).toBe(String(Math.floor(newest / 1000)));
  expect(info.get("oldest_restorable_time")).toBe(String(Math.ceil(oldest / 1000)));
  expect(Number(info.get("stale_seconds"))).toBeGreaterThanOrEqual(28 * 60);
  expect(Number(info.get("link_down_seconds"))).toBeGreaterThanOrEqual(28 * 60);
  const screen = screenLines({ at: "h:1", info }, { columns: undefined, hasColors: false });
  expect(screen.find((line) => line.startsWith("lag"))).toBe("lag           stale for 28 min");

  // What it names as the oldest and the newest moment is what a restore takes.
  using catalogue = new Catalogue(replica.path);
  const at = (atMs: number) =>
    restorePoint(catalogue, { generation: undefined, offset: undefined, atMs }).offset;
  expect([at(oldest), at(newest)]).toEqual([100, 100 + encodeCommand(["PING"]).length]);
  expect(() => at(oldest - 1)).toThrow("is not kept");
});

test("a mark that is made after the link went down doesn't count as newer than the link", async () => {
  using dir = tempDir("freshness");
  const clock = new SkippingClock();
  const primary = fakePrimary(grantFull);
  const disk = new FaultyDisk();
  await using replica = follow(primary.url, disk, dir, {}, undefined, clock);
  await replica.connected();
  const held = disk.hold("syncData");
  await primary.peers[0]!.send(SET);
  await until(() => replica.replica.log?.writtenOffset === 100 + SET.length, { what: "the byte" });
  await primary.stop();
  await until(() => replica.status.link.downSeconds !== undefined, { what: "a link down" });
  const downMs = clock.now();
  clock.skip(10 * MINUTE_MS);
  held.release();
  await until(() => replica.status.cursors.durable === 100 + SET.length, { what: "a late mark" });
  expect(replica.status.newestRestorableMs).toBeLessThanOrEqual(downMs);
  expect(replica.status.staleSeconds).toBeGreaterThanOrEqual(600);
});

test("a restart while the primary is away doesn't make the copy newer", async () => {
  using dir = tempDir("freshness");
  using killed = tempDir("freshness");
  const clock = new SkippingClock();
  const primary = fakePrimary(grantFull);
  const disk = new FaultyDisk();
  await using replica = follow(primary.url, disk, dir, {}, undefined, clock);
  await replica.connected();
  const held = disk.hold("syncData");
  await primary.peers[0]!.send(SET);
  await until(() => replica.replica.log?.writtenOffset === 100 + SET.length, { what: "the byte" });
  // As a kill leaves it: the last bytes are in the file, and no mark covers them.
  cpSync(replica.path, killed.file("data"), { recursive: true, verbatimSymlinks: true });
  const killedMs = clock.now();
  held.release();
  await primary.stop();
  clock.skip(60 * MINUTE_MS);

  const url = `redis://127.0.0.1:${freePort()}`;
  await using next = follow(url, realDisk, killed, {}, undefined, clock);
  await until(() => next.status.cursors.durable === 100 + SET.length, { what: "its mark" });
  expect(next.status.newestRestorableMs).toBeLessThanOrEqual(killedMs);
  expect(next.status.staleSeconds).toBeGreaterThanOrEqual(3_600);
  expect(next.status.link.downForSeconds).toBeLessThan(60);
});
