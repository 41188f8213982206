import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { addClusterMetrics } from "../../src/cluster/monitor/cluster-metrics.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { parseDurationMs } from "../../src/base/quantity.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { parseExposition, type Sample } from "../support/exposition.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { follow } from "../support/following.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { fakeCluster } from "../support/fake-cluster-status.ts";
import { parsePromql } from "./promql.ts";
import { proofMetrics } from "./proof-metrics.ts";

const deployDir = join(import.meta.dir, "../../deploy");

/** Labels that Prometheus adds to each series. */
const TARGET_LABELS = ["job", "instance"];

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
}
const rulesText = await Bun.file(join(deployDir, "alerts.yml")).text();
const { groups } = Bun.YAML.parse(rulesText) as { groups: { name: string; rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  readonly datasource?: unknown;
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly { refId: string; expr: string; datasource: unknown }[];
}
interface Dashboard {
  readonly schemaVersion: number;
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly Panel[];
  readonly annotations: { readonly list: readonly { readonly expr?: string }[] };
  readonly templating: { readonly list: readonly { name: string; type: string }[] };
}
const dashboardText = await Bun.file(join(deployDir, "grafana-dashboard.json")).text();
const dashboard = JSON.parse(dashboardText) as Dashboard;
const panels = dashboard.panels.filter((panel) => panel.type !== "row");
const queries = [
  ...panels.flatMap((panel) => panel.targets ?? []),
  ...dashboard.annotations.list,
].flatMap(({ expr }) => expr ?? []);

/** What a replica exports while it follows. */
let exported: readonly Sample[] = [];
beforeAll(async () => {
  using dir = tempDir("deploy");
  const primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: 100 });
    await peer.send(bulkPayload(smallRdb("a value")));
  });
  const metrics = new Metrics();
  {
    const flags = { archive: `file://${dir.file("archive")}` };
    await using following = follow(primary.url, metrics.timed(realDisk), dir, flags);
    metrics.of(following.status, "1.2.3");
    await following.connected();
    // Some are known only once it has got something.
    const isThere = () => following.status.archive?.archivedOffset !== undefined;
    await until(isThere, { what: "the snapshot in the archive" });
    const ofCluster = new Metrics();
    addClusterMetrics(ofCluster, fakeCluster([following.status]), "1.2.3");
    const texts = [await metrics.text(), await ofCluster.text()];
    exported = texts.flatMap(parseExposition).flatMap((family) => family.samples);
  }
  await primary.stop();
});

/** What the proof of a restore leaves for node_exporter. */
const proven = proofMetrics.map((name) => ({
  name,
  labels: new Map([["source", "/data"]]),
  value: 1,
}));

/** What an expression queries that no replica exports. */
function complaints(expression: string): string[] {
  const { selectors, groupings } = parsePromql(expression);
  const found: string[] = [];
  const known = new Set(["le", ...TARGET_LABELS]);
  for (const { metric, matchers } of selectors) {
    // Prometheus's own.
    if (metric === "up") continue;
    const samples = [...exported, ...proven].filter(({ name }) => name === metric);
    if (samples.length === 0) found.push(`no metric ${metric}`);
    const labels = new Set(samples.flatMap((sample) => [...sample.labels.keys()]));
    for (const label of labels) known.add(label);
    for (const { label, operator, value } of matchers) {
      if (TARGET_LABELS.includes(label)) continue;
      if (!labels.has(label)) found.push(`${metric} has no label ${label}`);
      const values = operator.endsWith("~") ? value.split("|") : [value];
      for (const wanted of values) {
        if (!samples.some((sample) => sample.labels.get(label) === wanted))
          found.push(`${metric} is never ${label}=${wanted}`);
      }
    }
  }
  for (const label of groupings)
    if (!known.has(label)) found.push(`nothing has the label ${label}`);
  return found;
}

/** Grafana replaces this with a duration. */
const filledIn = (query: string) => query.replaceAll("$__rate_interval", "1m");

test("the check finds mistakes", () => {
  expect(complaints('rate(replica_breaks_total{code="LINK_LOST"}[5m])')).toEqual([]);
  expect(complaints("replica_gone > 1")).toEqual(["no metric replica_gone"]);
  expect(complaints('replica_state{stat="none"}')).toContain("replica_state has no label stat");
  expect(complaints('replica_state{state=~"none|nowhere"}')).toEqual([
    "replica_state is never state=nowhere",
  ]);
  expect(complaints("sum by (colour) (replica_state)")).toEqual(["nothing has the label colour"]);
  for (const expression of ["sum(", "rate(replica_state[5m]", "a b", "a{b}", "nofunction(a)", ""]) {
    expect(() => parsePromql(expression)).toThrow("no PromQL");
  }
});

describe("the alerts", () => {
  test("have unique names, a severity, a summary and a description", () => {
    expect(groups.map((group) => group.name)).toEqual(["replica"]);
    const names = rules.map((rule) => rule.alert);
    expect(names).toEqual([...new Set(names)]);
    expect(names.length).toBeGreaterThan(10);
    for (const rule of rules) {
      expect([rule.alert, Object.keys(rule)]).toEqual([
        rule.alert,
        ["alert", "expr", "for", "labels", "annotations"],
      ]);
      expect(rule.alert).toMatch(/^Replica[A-Z]\w+$/);
      expect(parseDurationMs(rule.for)).toBeGreaterThan(0);
      expect(Object.keys(rule.labels)).toEqual(["severity"]);
      expect(["critical", "warning", "info"]).toContain(rule.labels["severity"]!);
      expect(Object.keys(rule.annotations)).toEqual(["summary", "description"]);
      for (const text of Object.values(rule.annotations)) {
        expect(text.length).toBeGreaterThan(10);
        for (const [, inner] of text.matchAll(/\{\{(.*?)\}\}/g)) {
          expect(inner).toMatch(
            /^ \$(?:labels\.(?:instance|job)|value(?: \| (?:humanize\w*|printf "%\.\df"))?) $/,
          );
        }
      }
    }
  });

  test.each(rules.map((rule) => [rule.alert, rule.expr] as const))("%s", (_name, expression) => {
    expect(complaints(expression)).toEqual([]);
    expect(parsePromql(expression).selectors).not.toEqual([]);
  });
});

/** Prometheus's predict_linear: least squares over the samples, continued for some seconds after the last one. */
function predictLinear(values: readonly number[], everySeconds: number, aheadSeconds: number) {
  const meanX = ((values.length - 1) / 2) * everySeconds;
  const meanY = values.reduce((sum, y) => sum + y, 0) / values.length;
  let [covariance, variance] = [0, 0];
  for (const [index, y] of values.entries()) {
    const x = index * everySeconds - meanX;
    covariance += x * (y - meanY);
    variance += x * x;
  }
  const slope = variance === 0 ? 0 : covariance / variance;
  return meanY + slope * ((values.length - 1) * everySeconds + aheadSeconds - meanX);
}

describe("ReplicaDiskFills", () => {
  const GB = 1e9;
  const EVERY_SECONDS = 300;
  /** The rule's own numbers, so that the simulation below is of what it says. */
  const { expr, for: pending } = rules.find(({ alert }) => alert === "ReplicaDiskFills")!;
  const form =
    /^predict_linear\(\(replica_disk_free_bytes \+ replica_snapshots_on_disk_bytes \+ replica_logs_on_disk_bytes\)\[(\w+):(\w+)\], (\d+)\) - replica_snapshots_on_disk_bytes - replica_logs_on_disk_bytes \+ replica_disk_removable_bytes < replica_snapshot_bytes or replica_disk_left_seconds < 86400$/;
  const [, window = "", step = "", ahead = ""] = form.exec(expr) ?? [];

  interface Disk {
    readonly freeBytes: number;
    /** Kept snapshots, and what has come of new ones. */
    readonly snapshotsBytes: number;
    /** The current one. */
    readonly snapshotBytes: number;
    readonly logsBytes?: number;
    /** Old generations that give way. */
    readonly removableBytes?: number;
    readonly leftSeconds?: number;
  }

  /** The minutes after which the alert fires; undefined where it never does. */
  function firesAfter(disks: readonly Disk[]): number | undefined {
    const samples = parseDurationMs(window)! / parseDurationMs(step)!;
    let trueSinceMinute: number | undefined;
    for (const [index, disk] of disks.entries()) {
      const seen = disks.slice(Math.max(0, index - samples), index + 1);
      const sums = seen.map(
        ({ freeBytes, snapshotsBytes, logsBytes = 0 }) => freeBytes + snapshotsBytes + logsBytes,
      );
      const predicted = predictLinear(sums, EVERY_SECONDS, Number(ahead));
      const minute = (index * EVERY_SECONDS) / 60;
      const { snapshotsBytes, logsBytes = 0, removableBytes = 0, leftSeconds = Infinity } = disk;
      const left = predicted - snapshotsBytes - logsBytes + removableBytes;
      const isTrue = left < disk.snapshotBytes || leftSeconds < 86_400;
      if (!isTrue) trueSinceMinute = undefined;
      else trueSinceMinute ??= minute;
      const lastedMs = (minute - (trueSinceMinute ?? minute)) * 60_000;
      if (lastedMs >= parseDurationMs(pending)!) return minute;
    }
    return undefined;
  }

  /** A disk each five minutes, for so many hours. */
  const hours = (count: number, at: (hour: number) => Disk) =>
    Array.from({ length: count * 12 }, (_, index) => at(index / 12));

  test("is a rule that the simulation knows", () => {
    expect([parseDurationMs(step), window, ahead]).toEqual([EVERY_SECONDS * 1000, "6h", "86400"]);
  });

  test("stays silent through a first snapshot of 50 GB with 200 GB free, and after it", () => {
    const disks = hours(24, (hour) => {
      const came = Math.min(50, hour * 20) * GB;
      const isWhole = came === 50 * GB;
      return {
        freeBytes: 200 * GB - came - hour * 0.1 * GB,
        snapshotsBytes: came,
        snapshotBytes: isWhole ? came : 0,
      };
    });
    expect(firesAfter(disks)).toBeUndefined();
  });

  test("stays silent while new snapshots replace old ones", () => {
    // Each 6 hours one of 50 GB arrives within an hour and pushes out another, whose log of 6 GB goes too.
    const disks = hours(72, (hour) => {
      const came = Math.min(50, (hour % 6) * 50) * GB;
      const isWhole = came === 50 * GB;
      const snapshotsBytes = 100 * GB + (isWhole ? 0 : came);
      const logsBytes = 6 * GB + (hour % 6) * GB;
      return {
        freeBytes: 250 * GB - snapshotsBytes - logsBytes,
        snapshotsBytes,
        snapshotBytes: 50 * GB,
        logsBytes,
      };
    });
    expect(firesAfter(disks)).toBeUndefined();
  });

  test("stays silent while a day of history piles up that gives way to what comes", () => {
    const disks = hours(48, (hour) => {
      // 20 GB of log an hour, and a new generation each hour; the oldest goes once nothing is free.
      const removableBytes = Math.min(350, Math.floor(hour) * 21) * GB;
      const logsBytes = Math.min(330, hour * 20) * GB;
      const snapshotsBytes = Math.min(20, 1 + Math.floor(hour)) * GB;
      const freeBytes = 400 * GB - logsBytes - snapshotsBytes;
      return { freeBytes, snapshotsBytes, snapshotBytes: GB, logsBytes, removableBytes };
    });
    expect(firesAfter(disks)).toBeUndefined();
  });

  test("fires a day ahead where nothing shortens the log", () => {
    const disks = hours(80, (hour) => ({
      freeBytes: 400 * GB,
      snapshotsBytes: 50 * GB,
      snapshotBytes: 50 * GB,
      leftSeconds: (80 - hour) * 3600,
    }));
    const minute = firesAfter(disks)!;
    expect(minute / 60).toBeGreaterThan(56);
    expect(minute / 60).toBeLessThan(58);
  });

  test("fires in time where another program fills the disk", () => {
    const filling = (perHour: number) =>
      hours(48, (hour) => ({
        freeBytes: Math.max(0, 200 * GB - hour * perHour * GB),
        snapshotsBytes: 50 * GB,
        snapshotBytes: 50 * GB,
      }));
    // At 5 GB an hour no room is left after 30 hours, and the alert is due a day before.
    const minute = firesAfter(filling(5))!;
    expect(minute).toBeGreaterThan(5 * 60);
    expect(minute).toBeLessThan(8 * 60);
    expect(firesAfter(filling(1))).toBeUndefined();
  });
});

describe("the dashboard", () => {
  test("queries only what a replica exports", () => {
    expect(queries.length).toBeGreaterThan(20);
    for (const query of queries) {
      expect([query, complaints(filledIn(query))]).toEqual([query, []]);
      for (const { metric, matchers } of parsePromql(filledIn(query)).selectors) {
        const own = matchers.find(({ label }) => label === "instance");
        expect([metric, own?.operator, own?.value]).toEqual([metric, "=~", "$instance"]);
      }
    }
  });

  test("shows every metric except the version and the absolute offsets", () => {
    const asked = new Set(
      queries.flatMap((query) => parsePromql(filledIn(query)).selectors.map((one) => one.metric)),
    );
    const missing = new Set(exported.map(({ name }) => name)).difference(asked);
    expect([...missing].toSorted()).toEqual([
      "replica_archive_offset_bytes",
      "replica_build_info",
      "replica_fsync_duration_seconds_count",
      "replica_fsync_duration_seconds_sum",
      "replica_offset_bytes",
    ]);
  });

  test("has the data source and the replica as its only variables", () => {
    const named = dashboard.templating.list.map(({ name, type }) => [name, type]);
    expect(named).toEqual([
      ["datasource", "datasource"],
      ["instance", "query"],
    ]);
    const used = [...dashboardText.matchAll(/\$\{?(\w+)/g)].map((match) => match[1]!);
    expect([...new Set(used)].toSorted()).toEqual([
      "__all",
      "__rate_interval",
      "datasource",
      "instance",
    ]);
  });

  test("gives each panel its own place, a description and a unit", () => {
    expect(dashboard.schemaVersion).toBeGreaterThanOrEqual(39);
    const ids = dashboard.panels.map((panel) => panel.id);
    expect(ids).toEqual([...new Set(ids)]);
    const places = new Set<string>();
    for (const { title, gridPos } of dashboard.panels) {
      expect([title, gridPos.x + gridPos.w <= 24]).toEqual([title, true]);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          const place = `${x},${y}`;
          expect([title, places.has(place)]).toEqual([title, false]);
          places.add(place);
        }
      }
    }
    const source = { type: "prometheus", uid: "${datasource}" };
    for (const { title, type, description, datasource, fieldConfig, targets = [] } of panels) {
      expect([title, datasource]).toEqual([title, source]);
      expect([title, (description ?? "").length > 10]).toEqual([title, true]);
      expect([title, targets.length > 0]).toEqual([title, true]);
      if (type === "timeseries") expect(fieldConfig?.defaults.unit).toBeString();
      for (const target of targets) expect(target.datasource).toEqual(source);
      const letters = targets.map((target) => target.refId);
      expect(letters).toEqual([...new Set(letters)]);
    }
  });
});
