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
import { ALERT_CASES } from "./alert-cases.ts";
import { dashboard, dashboardQueries, dashboardText, panels } from "./dashboard.ts";
import { parsePromql } from "./promql.ts";
import { proofMetrics } from "./proof-metrics.ts";

const deployDir = join(import.meta.dir, "../../deploy");

/** What no generation is here, and some are elsewhere. */
const GENERATIONS = /^(?:receiving|sealed)$/;

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

/** What a replica exports while it follows. */
let exported: readonly Sample[] = [];
/** The metrics that a cluster has for each shard. */
let ofShards: ReadonlySet<string> = new Set();
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
    const sharded = exported.filter(({ labels }) => labels.has("shard"));
    ofShards = new Set(sharded.map(({ name }) => name));
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
      // A variable of the dashboard.
      if (value.startsWith("$")) continue;
      const values = operator.endsWith("~") ? value.split("|") : [value];
      for (const wanted of values) {
        if (GENERATIONS.test(wanted) && metric === "replica_generations") continue;
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
const withInterval = (query: string) => query.replaceAll("$__rate_interval", "1m");

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

describe("the cases that the alerts are tried with", () => {
  test("has one in which each alert fires, and one that looks like it", () => {
    const names = new Set(rules.map((rule) => rule.alert));
    const alertsIn = (words: readonly string[]) => words.map((word) => word.split(" ")[0]!);
    const firing = new Set(ALERT_CASES.flatMap(({ fires }) => alertsIn(Object.keys(fires))));
    const quiet = new Set(ALERT_CASES.flatMap((one) => one.quiet ?? []));
    expect(names.difference(firing)).toEqual(new Set());
    expect(names.difference(quiet)).toEqual(new Set());
    expect(firing.union(quiet).difference(names)).toEqual(new Set());
    for (const { name, fires, quiet = [] } of ALERT_CASES) {
      expect([name, alertsIn(Object.keys(fires)).filter((one) => quiet.includes(one))]).toEqual([
        name,
        [],
      ]);
    }
    const titles = ALERT_CASES.map(({ name }) => name);
    expect(titles).toEqual([...new Set(titles)]);
  });

  test("have the series that a replica exports, and all that the alerts ask for", () => {
    const series = new Set(ALERT_CASES.flatMap((one) => Object.keys(one.series)));
    for (const key of series) {
      // One shard is real here.
      expect([key, complaints(key.replace(/shard="\d+"/, 'shard="0001"'))]).toEqual([key, []]);
    }
    const known = new Set([...series].map((key) => key.replace(/\{.*/, "")));
    const asked = rules.flatMap(({ expr }) => parsePromql(expr).selectors.map((one) => one.metric));
    expect(new Set(asked).difference(known)).toEqual(new Set());
  });
});

describe("the dashboard", () => {
  test("queries only what a replica exports", () => {
    expect(dashboardQueries.length).toBeGreaterThan(20);
    for (const query of dashboardQueries) {
      expect([query, complaints(withInterval(query))]).toEqual([query, []]);
      for (const { metric, matchers } of parsePromql(withInterval(query)).selectors) {
        const variables = matchers.filter(({ value }) => value.startsWith("$"));
        const asked = variables.map(({ label, operator, value }) => `${label}${operator}${value}`);
        // What is said of the process has no shard: with that, a choice of one would hide it.
        const hasShard = ofShards.has(metric);
        const expected = [
          "job=~$job",
          "instance=~$instance",
          ...(hasShard ? ["shard=~$shard"] : []),
        ];
        expect([query, metric, asked]).toEqual([query, metric, expected]);
      }
    }
  });

  test("shows every metric, but for the version, absolute offsets and what another one says too", () => {
    const asked = new Set(
      dashboardQueries.flatMap((query) =>
        parsePromql(withInterval(query)).selectors.map((one) => one.metric),
      ),
    );
    const missing = new Set(exported.map(({ name }) => name)).difference(asked);
    expect([...missing].toSorted()).toEqual([
      "process_cpu_seconds_total",
      "process_resident_memory_bytes",
      "process_start_time_seconds",
      "replica_archive_offset_bytes",
      "replica_build_info",
      "replica_fsync_duration_seconds_count",
      "replica_fsync_duration_seconds_sum",
      "replica_offset_bytes",
    ]);
  });

  test("has the data source, the job, the replica and the shard as its variables", () => {
    const named = dashboard.templating.list.map(({ name, type }) => [name, type]);
    expect(named).toEqual([
      ["datasource", "datasource"],
      ["job", "query"],
      ["instance", "query"],
      ["shard", "query"],
    ]);
    const used = [...dashboardText.matchAll(/\$\{?(\w+)/g)].map((match) => match[1]!);
    expect([...new Set(used)].toSorted()).toEqual([
      "__all",
      "__rate_interval",
      "datasource",
      "instance",
      "job",
      "shard",
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
