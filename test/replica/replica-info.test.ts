import { expect, test } from "bun:test";
import type { Info } from "../../src/cli/status/info-connection.ts";
import { parseInfo } from "../../src/resp/info-text.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { crc64 } from "../../src/rdb/crc64.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import {
  bulkPayload,
  eofPayload,
  fakePrimary,
  standardHandshake,
} from "../support/fake-primary.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { freePort } from "../support/ports.ts";
import { encodeCommand } from "../support/resp.ts";
import { RespClient } from "../support/resp-client.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

const SET = encodeCommand(["SET", "key", "value"]);
const RDB = smallRdb("a value");

async function grantFull(peer: FakePeer): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset: 100 });
  await peer.send(bulkPayload(RDB));
}

/** Polls INFO until `holds`. Returns the fields of that reply. */
async function infoWhere(client: RespClient, what: string, holds: (info: Info) => boolean) {
  return await until(
    async () => {
      const info = parseInfo(String(await client.send("INFO", "replica")));
      return holds(info) ? Object.fromEntries(info) : undefined;
    },
    { what },
  );
}

const isAt = (state: string) => (info: Info) => info.get("state") === state;

test("shows cursors, rates and counts; ready while durable, and why not while it lags", async () => {
  using dir = tempDir("own-info");
  await using primary = fakePrimary(grantFull);
  const disk = new FaultyDisk();
  await using replica = follow(primary.url, disk, dir, { "ready-lag": "1s" });
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  await primary.peers[0]!.send(SET);
  const durable = String(100 + SET.length);
  const info = await infoWhere(
    client,
    "a durable byte and its rate",
    (info) =>
      info.get("durable_offset") === durable &&
      Number(info.get("durable_bytes_per_second")) > 0 &&
      Number(info.get("received_bytes_per_second")) > 0,
  );
  expect(info).toMatchObject({
    state: "connected",
    ready: "1",
    not_ready_reason: "",
    primary: primary.url,
    received_offset: durable,
    written_offset: durable,
    durable_lag_bytes: "0",
    durable_age_seconds: "0.0",
    received_snapshot_bytes: String(RDB.length),
    received_stream_bytes: String(SET.length),
    generation: "1",
    sealed_generations: "0",
    disk_low: "0",
    snapshot_read_bytes: "0",
    full_syncs: "1",
    full_syncs_nothing_kept: "1",
    full_syncs_backlog_too_small: "0",
    partial_syncs: "0",
    breaks: "0",
    last_error: "",
    last_error_code: "",
    last_error_cause: "",
    last_error_time: "0",
  });
  expect(Number(info["disk_free_bytes"])).toBeGreaterThan(0);

  disk.hold("syncData");
  await primary.peers[0]!.send(SET);
  const late = await infoWhere(client, "it to be late", (info) => info.get("ready") === "0");
  expect(late["not_ready_reason"]).toMatch(/^bytes received \d+ s ago are not durable yet$/);
  expect(late["durable_lag_bytes"]).toBe(String(SET.length));
  expect(Number(late["durable_age_seconds"])).toBeGreaterThanOrEqual(1);

  // A failing disk leaves only its own fields unknown.
  disk.fail({ operation: "freeBytes", code: "EIO" });
  const failing = await infoWhere(client, "an answer", () => true);
  expect(failing).toMatchObject({
    disk_free_bytes: "-1",
    sealed_generations: "0",
    generation: "1",
  });
});

test("is ready with --fsync no, where nothing is synced", async () => {
  using dir = tempDir("own-info");
  await using primary = fakePrimary(grantFull);
  const flags = { "ready-lag": "1s", fsync: "no" };
  await using replica = follow(primary.url, realDisk, dir, flags);
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  await primary.peers[0]!.send(SET);
  const written = String(100 + SET.length);
  const at = replica.replica.silentMs;
  // Longer than --ready-lag: a byte that needed a sync would make it not ready by then.
  const info = await infoWhere(
    client,
    "two seconds after the byte",
    (found) => found.get("written_offset") === written && replica.replica.silentMs > at + 2_000,
  );
  expect(info).toMatchObject({ ready: "1", durable_age_seconds: "0.0", durable_offset: "100" });
});

test("shows the promised cursors while the log can't be reopened", async () => {
  using dir = tempDir("own-info");
  await using primary = fakePrimary(grantFull);
  const disk = new FaultyDisk();
  const metrics = new Metrics();
  await using replica = follow(primary.url, disk, dir, { fsync: "always" });
  metrics.of(replica.status, "1.2.3");
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  await primary.peers[0]!.send(SET);
  const durable = 100 + SET.length;
  const before = await infoWhere(
    client,
    "it to be durable",
    (info) => info.get("durable_offset") === String(durable),
  );
  disk.fail({ operation: "openExisting", code: "ENOSPC" });
  disk.fail({ operation: "write", code: "ENOSPC" });
  await primary.peers[0]!.send(SET);
  const info = await infoWhere(
    client,
    "a log that can't be opened",
    (now) => now.get("last_error")?.startsWith("opening the log") === true,
  );
  for (const name of ["received_offset", "written_offset", "durable_offset", "log_bytes"]) {
    expect([name, info[name]]).toEqual([name, before[name]]);
  }
  expect(info["durable_lag_bytes"]).toBe("0");
  const all = parseInfo(String(await client.send("INFO", "replication")));
  expect(all.get("master_repl_offset")).toBe(String(durable));
  expect(all.get("repl_backlog_histlen")).toBe(String(SET.length));
  expect(await metrics.text()).toContain(`replica_offset_bytes{cursor="durable"} ${durable}\n`);
});

test("counts a second full resync by its reason, and the sealed generation", async () => {
  using dir = tempDir("own-info");
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, {
      replid: (peer.index === 0 ? "a" : "b").repeat(40),
      offset: 100,
    });
    await peer.send(bulkPayload(RDB));
    await peer.readAck(100);
    if (peer.index === 0) await peer.close();
  });
  const beganSeconds = Math.floor(Date.now() / 1000);
  await using replica = follow(primary.url, realDisk, dir);
  await using client = await RespClient.connect({ port: replica.port });
  const info = await infoWhere(
    client,
    "the second generation",
    (info) => isAt("connected")(info) && info.get("generation") === "2",
  );
  expect(info).toMatchObject({
    full_syncs: "2",
    full_syncs_nothing_kept: "1",
    full_syncs_other_history: "1",
    sealed_generations: "1",
    breaks: "1",
    // Which of the two depends on whether an ACK was still unread.
    last_error: expect.stringMatching(/^the primary (closed the link|reset the connection)$/),
    last_error_code: "LINK_LOST",
  });
  expect(Number(info["last_error_time"])).toBeGreaterThanOrEqual(beganSeconds);
});

test("shows a transfer under way, and the figures of its break", async () => {
  using dir = tempDir("own-info");
  const goOn = Promise.withResolvers<void>();
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send("$1000\r\nREDIS0009");
    await goOn.promise;
    await peer.close();
  });
  await using replica = follow(primary.url, realDisk, dir);
  await using client = await RespClient.connect({ port: replica.port });
  const info = await infoWhere(
    client,
    "the payload",
    (info) => isAt("transfer")(info) && info.get("received_snapshot_bytes") === "9",
  );
  expect(info).toMatchObject({
    ready: "0",
    not_ready_reason: "the link is in state transfer",
    generation: "0",
    received_offset: "0",
    durable_lag_bytes: "0",
    received_stream_bytes: "0",
  });
  const link = replica.status.link;
  expect(replica.status.snapshotsOnDiskBytes()).toBe(9);
  goOn.resolve();
  const broken = await infoWhere(client, "the break", (info) => info.get("breaks") !== "0");
  // What the status handed out before does not change under its reader.
  expect(link).toMatchObject({ state: "transfer", transfer: { readBytes: 9, totalBytes: 1000 } });
  expect(broken["last_error_code"]).toBe("LINK_LOST");
  expect(broken["last_error_cause"]).toMatch(
    /^after 9 B of 1000 B in \d+\.\d s, [\d.]+ (?:B|KiB)\/s/,
  );
});

test("an attempt that is under way is not blamed for what ended the one before it", async () => {
  using dir = tempDir("own-info");
  const goOn = Promise.withResolvers<void>();
  await using primary = fakePrimary(async (peer) => {
    if (peer.index === 0) return peer.close();
    await peer.readCommand();
    if (peer.index === 1) {
      await goOn.promise;
      return peer.close();
    }
    await peer.send("+PONG\r\n");
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send("$1000\r\nREDIS0009");
  });
  await using replica = follow(primary.url, realDisk, dir);
  await using client = await RespClient.connect({ port: replica.port });
  const before = await infoWhere(
    client,
    "the second attempt",
    (info) => isAt("receive-pong")(info) && info.get("breaks") === "1",
  );
  expect(before["not_ready_reason"]).toMatch(
    /^the link is in state receive-pong; before that: the primary \w+ the /,
  );
  goOn.resolve();
  const info = await infoWhere(client, "the payload", isAt("transfer"));
  expect(info).toMatchObject({ not_ready_reason: "the link is in state transfer", breaks: "1" });
});

test.each(["$2000000", "$4\r\na\nb\r"])(
  "a primary that answers INFO with %j is followed all the same",
  async (reply) => {
    using dir = tempDir("own-info");
    await using primary = fakePrimary(async (peer) => {
      await standardHandshake(peer, { replid: REPLID, offset: 100, replies: { INFO: reply } });
      await peer.send(bulkPayload(RDB));
    });
    await using replica = follow(primary.url, realDisk, dir);
    await using client = await RespClient.connect({ port: replica.port });
    expect(await infoWhere(client, "the link", isAt("connected"))).toMatchObject({
      attempts_failed: "1",
      last_error_code: "PROTOCOL",
    });
  },
);

test("shows a refused connect, and that no primary is followed", async () => {
  using dir = tempDir("own-info");
  const path = dir.file("no.sock");
  await using replica = follow(`unix://${path}`, realDisk, dir);
  await using client = await RespClient.connect({ port: replica.port });
  const info = await infoWhere(client, "a refusal", (info) => info.get("breaks") !== "0");
  expect(info).toMatchObject({
    ready: "0",
    primary: `unix://${path}`,
    last_error_code: "CONNECT_FAILED",
    last_error_cause: "",
    generation: "0",
    rdb_crc64: "",
  });
  await client.send("REPLICAOF", "NO", "ONE");
  expect(await infoWhere(client, "the end", isAt("none"))).toMatchObject({
    ready: "0",
    not_ready_reason: "the link is in state none",
    primary: "",
  });
  await client.send("REPLICAOF", "127.0.0.1", String(freePort()));
  await infoWhere(
    client,
    "another",
    (info) => info.get("primary")?.startsWith("redis://") ?? false,
  );
});

/** An RDB that says how much memory its primary used. */
function rdbOf(usedMemory: number, valueBytes: number): Buffer {
  const [magic, rest] = [RDB.subarray(0, 9), smallRdb("x", valueBytes).subarray(9, -8)];
  const used = String(usedMemory);
  const aux = `\xfa\x08used-mem${String.fromCharCode(used.length)}${used}`;
  const body = Buffer.concat([magic, Buffer.from(aux, "latin1"), rest]);
  const checksum = Buffer.alloc(8);
  checksum.writeBigUInt64LE(crc64(body));
  return Buffer.concat([body, checksum]);
}

test("tells that the primary prepares a snapshot, and estimates the size of one of unknown length", async () => {
  using dir = tempDir("own-info");
  const rdb = rdbOf(2_000_000, 100_000);
  const steps = Array.from({ length: 6 }, () => Promise.withResolvers<void>());
  await using primary = fakePrimary(async (peer) => {
    const [sends, ends] = steps.slice(2 * peer.index);
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await sends!.promise;
    const payload = eofPayload(peer.index === 0 ? rdb : rdbOf(4_000_000, 200_000));
    await peer.send(payload.subarray(0, 50_000));
    await ends!.promise;
    await peer.send(payload.subarray(50_000));
  });
  await using replica = follow(primary.url, realDisk, dir, { "min-free": "0" });
  await using client = await RespClient.connect({ port: replica.port });
  expect(await infoWhere(client, "the grant", isAt("receive-bulk-header"))).toMatchObject({
    sync_preparing_seconds: expect.stringMatching(/^\d+$/),
    sync_expected_bytes: "0",
    not_ready_reason:
      "the link is in state receive-bulk-header: the primary is preparing the snapshot (fork)",
  });
  steps[0]!.resolve();
  // Nothing is kept to compare with: at most what the primary has in memory.
  const first = await infoWhere(
    client,
    "its size",
    (info) => info.get("sync_expected_bytes") !== "0",
  );
  expect(first).toMatchObject({ state: "transfer", sync_expected_bytes: "2000000" });
  expect(first["sync_preparing_seconds"]).toBe("-1");
  steps[1]!.resolve();
  await replica.connected();
  expect(await infoWhere(client, "the link", isAt("connected"))).toMatchObject({
    sync_expected_bytes: "0",
    sync_preparing_seconds: "-1",
  });

  await client.send("BGSAVE");
  const isPreparing = (info: Info) => info.get("snapshot_preparing_seconds") !== "-1";
  await infoWhere(client, "the grant of a new snapshot", isPreparing);
  steps[2]!.resolve();
  const second = await infoWhere(
    client,
    "the new one's size",
    (info) => info.get("snapshot_expected_bytes") !== "0",
  );
  // Twice the memory, so twice the last one.
  expect(second).toMatchObject({
    snapshot_expected_bytes: String(2 * rdb.length),
    snapshot_preparing_seconds: "-1",
    snapshot_total_bytes: "0",
  });
  steps[3]!.resolve();
  await infoWhere(client, "the new one", (info) => info.get("generation") === "2");
});

test("shows the progress of a new snapshot, and that it failed", async () => {
  using dir = tempDir("own-info");
  const goOn = Promise.withResolvers<void>();
  await using primary = fakePrimary(async (peer) => {
    if (peer.index === 0) return await grantFull(peer);
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send("$1000\r\nREDIS0009");
    await goOn.promise;
    await peer.close();
  });
  await using replica = follow(primary.url, realDisk, dir, { "min-free": "0" });
  await replica.connected();
  await using client = await RespClient.connect({ port: replica.port });
  await client.send("BGSAVE");
  const under = await infoWhere(client, "it", (info) => info.get("snapshot_read_bytes") === "9");
  expect(under).toMatchObject({ state: "connected", ready: "1", snapshot_total_bytes: "1000" });
  expect(replica.status.snapshotsOnDiskBytes()).toBe(RDB.length + 9);
  goOn.resolve();
  const failed = await infoWhere(
    client,
    "its end",
    (info) => info.get("last_snapshot_error") !== "",
  );
  expect(failed).toMatchObject({ state: "connected", ready: "1", last_error: "", breaks: "0" });
  expect(failed["snapshot_read_bytes"]).toBe("0");
});
