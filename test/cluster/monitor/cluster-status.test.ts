import { afterAll, beforeAll, expect, test } from "bun:test";
import { addClusterMetrics } from "../../../src/cluster/monitor/cluster-metrics.ts";
import { clusterSections } from "../../../src/cluster/monitor/cluster-info.ts";
import { clusterView } from "../../../src/cluster/monitor/cluster-view.ts";
import { serviceStatusOfCluster } from "../../../src/cluster/monitor/cluster-service.ts";
import type { ShardStatus } from "../../../src/cluster/status/cluster-status.ts";
import { infoToJson, isReady } from "../../../src/cli/status/info-json.ts";
import { screenLines } from "../../../src/cli/status/status-screen.ts";
import { Metrics } from "../../../src/monitor/metrics.ts";
import { pageOf } from "../../../src/monitor/page.ts";
import { noCounts } from "../../../src/monitor/port-counts.ts";
import { infoText } from "../../../src/monitor/process-info.ts";
import type { ReplicaStatus } from "../../../src/replica/status.ts";
import { parseInfo } from "../../../src/resp/info-text.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../../integration/bad-input-rig.ts";
import { parseExposition } from "../../support/exposition.ts";
import { fakeCluster } from "../../support/fake-cluster-status.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../../support/fake-primary.ts";
import { follow } from "../../support/following.ts";
import { tempDir } from "../../support/temp.ts";
import { around } from "../../support/view.ts";

const LAG_MS = 10_000;
const about = {
  version: "1.2.3",
  port: 6380,
  listener: "name=tcp,bind=127.0.0.1,port=6380",
  nowMs: 1_700_000_012_000,
  readyLagMs: LAG_MS,
  announced: false,
  connectedClients: 1,
  blockedClients: 0,
  maxClients: 100,
  counts: noCounts(),
};
const ended: ShardStatus = {
  number: 9,
  label: "0009",
  state: "ended",
  slots: [],
  why: "it was emptied",
  replica: undefined,
  relayPort: undefined,
};

let status: ReplicaStatus;
const stack = new AsyncDisposableStack();
beforeAll(async () => {
  const dir = tempDir("cluster-status");
  stack.defer(() => dir.remove());
  const primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send(bulkPayload(smallRdb("a value")));
    await peer.untilClosed();
  });
  stack.defer(async () => await primary.stop());
  const following = follow(primary.url, realDisk, dir);
  stack.use(following);
  await following.connected();
  status = following.status;
});
afterAll(async () => await stack.disposeAsync());

const infoOf = (...given: Parameters<typeof fakeCluster>) =>
  parseInfo(infoText(clusterSections(fakeCluster(...given), about), []));

test("a cluster is ready when every shard is, and all slots are owned", () => {
  expect(fakeCluster([status, status]).whyNotReady(LAG_MS)).toBeUndefined();
  expect(fakeCluster([status, undefined]).whyNotReady(LAG_MS)).toBe(
    "1 of 2 shards are not ready: shard 0002: the disk is full",
  );
  // What has ended owns nothing, and is nobody's fault.
  expect(fakeCluster([status], [ended]).whyNotReady(LAG_MS)).toBeUndefined();
  const owner = fakeCluster([status, status]).shards[0]!;
  expect(fakeCluster([undefined], [owner]).newestRestorableMs).toBeUndefined();
});

test("slots are covered where a replica of their shard runs", () => {
  const slots = (...given: Parameters<typeof fakeCluster>) => {
    const { coveredSlots, uncoveredSlots } = fakeCluster(...given);
    return [coveredSlots, uncoveredSlots];
  };
  expect(slots([status, status])).toEqual([16_384, 0]);
  expect(slots([status, undefined])).toEqual([8_192, 8_192]);
  const waiting: ShardStatus = { ...ended, state: "waiting", slots: [[0, 9]] };
  expect(slots([], [waiting])).toEqual([0, 16_384]);
  // With --shards: what has no owner, and what is ours and isn't followed.
  const part = { assignedSlots: 16_000 };
  expect(slots([status, undefined], [], undefined, part)).toEqual([8_192, 384 + 8_192]);
  expect(slots([status], [], undefined, part)).toEqual([16_384, 384]);
});

test("INFO has a row for each shard, and what is true of all", () => {
  const info = infoOf([status, undefined], [ended]);
  expect(info.get("role")).toBe("slave");
  expect(info.get("master_link_status")).toBe("up");
  expect(info.get("ready")).toBe("0");
  expect(info.get("shards")).toBe("2");
  expect(info.get("shards_ready")).toBe("1");
  expect(info.get("shards_ended")).toBe("1");
  expect(info.get("cluster_state")).toBe("ok");
  expect(info.get("shard0001")).toMatch(
    /^state=connected,ready=1,slots=0-8191,primary=redis:\/\/127\.0\.0\.1:\d+,received_offset=100,durable_offset=100,/,
  );
  expect(info.get("shard0002")).toBe("state=failed,ready=0,slots=8192-16383");
  expect(info.get("shard0002_not_ready_reason")).toBe("the disk is full");
});

test("of the shards that have ended the last hundred are shown, and all are counted", () => {
  const many = Array.from({ length: 120 }, (_, index) => {
    return { ...ended, number: index + 2, label: String(index + 2).padStart(4, "0") };
  });
  const info = infoOf([status], many);
  expect(info.get("shards_ended")).toBe("120");
  const rows = [...info.keys()].filter((name) => /^shard\d{4}$/.test(name));
  expect([rows.length, rows[0], rows[1], rows.at(-1)]).toEqual([
    101,
    "shard0001",
    "shard0022",
    "shard0121",
  ]);
});

test("status shows INFO's rows as a table, and as JSON", () => {
  const info = infoOf([status, undefined], [ended]);
  expect(isReady(info)).toBe(false);
  const json = infoToJson(info) as { shards: Record<string, unknown>[] };
  expect(json.shards.map(({ shard }) => shard)).toEqual(["0001", "0002", "0009"]);
  expect(json.shards[0]).toMatchObject({ state: "connected", ready: 1, durable_offset: 100 });
  expect(Object.keys(json).filter((name) => name.startsWith("shard0"))).toEqual([]);
  const look = { columns: undefined, hasColors: false };
  const lines = screenLines({ at: "127.0.0.1:6380", info }, look);
  expect(lines[0]).toContain("not ready: 1 of 2 shards are not ready");
  const row = lines.find((line) => line.startsWith("0001"));
  expect(row).toMatch(/^0001 +connected +0-8191 +redis:\/\/127\.0\.0\.1:\d+ +0 B /);
  expect(lines).toContain("shard 0002: the disk is full");
});

test("metrics have the label shard, and the process's own have none", async () => {
  const metrics = new Metrics();
  addClusterMetrics(metrics, fakeCluster([status, status, undefined]), "1.2.3");
  const samples = parseExposition(await metrics.text()).flatMap((family) => family.samples);
  const of = (name: string) => samples.filter((one) => one.name === name);
  expect(of("replica_link_up").map(({ labels }) => labels.get("shard"))).toEqual(["0001", "0002"]);
  expect(
    of("replica_state").every(({ labels }) => labels.has("shard") && labels.has("state")),
  ).toBe(true);
  expect(of("replica_resident_memory_bytes").map(({ labels }) => labels.size)).toEqual([0]);
  expect(of("replica_cluster_slots_covered").map(({ value }) => value)).toEqual([10_924]);
  const failed = of("replica_cluster_shards").find(
    ({ labels }) => labels.get("state") === "failed",
  );
  expect(failed?.value).toBe(1);
});

test("the page has a row for each shard, and takes nothing that a peer says for HTML", async () => {
  const view = clusterView(
    fakeCluster([status, undefined], [], "<script>alert(1)</script>"),
    around(LAG_MS),
  );
  const html = await pageOf(view.page()).text();
  expect(html).toContain("<td>0001<td>connected<td>0-8191");
  expect(html).toContain("the disk is full");
  expect(html).not.toContain("<script>alert");
});

test("the service manager is told how many shards are ready", () => {
  const { summary, line } = serviceStatusOfCluster(fakeCluster([status, undefined]), LAG_MS);
  expect(summary()).toBe("1 of 2 shards ready, cluster_state:ok");
  expect(line()).toContain("redis+cluster://127.0.0.1:7000");
});

test("/status.json has all shards, and one of them by its label", () => {
  const view = clusterView(fakeCluster([status, undefined]), around(LAG_MS));
  const all = view.document({ sinceMs: 0, shard: undefined });
  expect(all).toMatchObject({
    kind: "cluster",
    ready: false,
    headline: { tone: "bad", state: "1 of 2 shards ready" },
    timeline: { newest_ms: null, generations: [] },
    shards: [
      { shard: "0001", slots: "0-8191", ready: true },
      { shard: "0002", ready: false, headline: { state: "failed", text: "the disk is full" } },
    ],
  });
  expect(view.document({ sinceMs: 0, shard: "0001" })?.kind).toBe("shard");
  expect(view.document({ sinceMs: 0, shard: "0002" })).toBeUndefined();
});
