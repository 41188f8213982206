import { join } from "node:path";
import { parseDurationMs } from "../../src/base/quantity.ts";
import type { Sample } from "./exposition.ts";

/** The metrics of one replica at one moment. */
export interface Scrape {
  readonly atMs: number;
  readonly samples: readonly Sample[];
}

/** The value of a series; 0 where there is none. */
function valueOf({ samples }: Scrape, name: string, labels: Record<string, RegExp> = {}): number {
  const found = samples.filter(
    (sample) =>
      sample.name === name &&
      Object.entries(labels).every(([label, form]) => form.test(sample.labels.get(label) ?? "")),
  );
  return found.reduce((sum, { value }) => sum + value, 0);
}

/** Prometheus's increase() over the scrapes of a window, without its extrapolation. */
function increase(
  scrapes: readonly Scrape[],
  windowMs: number,
  name: string,
  labels: Record<string, RegExp> = {},
): number {
  const last = scrapes.at(-1)!;
  const first = scrapes.find(({ atMs }) => atMs > last.atMs - windowMs)!;
  return valueOf(last, name, labels) - valueOf(first, name, labels);
}

/**
 * What the alerts about the link and the archive mean, in words of this language, beside the expression that they stand for: a rule
 * that changes in deploy/alerts.yml must change here.
 */
const RULES: Readonly<
  Record<string, { readonly expr: string; holds(scrapes: readonly Scrape[]): boolean }>
> = {
  ReplicaLinkDown: {
    expr: 'replica_link_up == 0 unless ignoring (state) replica_state{state=~"receive-bulk-header|transfer|none"} == 1 unless (replica_newest_restorable_timestamp_seconds == 0 and ignoring (shard) replica_cluster_snapshots_waiting > 0)',
    holds: (scrapes) => {
      const last = scrapes.at(-1)!;
      // No cluster is played here.
      const excused = { state: /^(?:receive-bulk-header|transfer|none)$/ };
      return (
        valueOf(last, "replica_link_up") === 0 && valueOf(last, "replica_state", excused) === 0
      );
    },
  },
  ReplicaUnsupplied: {
    expr: "replica_primary_unsupplied_seconds > 60",
    holds: (scrapes) => valueOf(scrapes.at(-1)!, "replica_primary_unsupplied_seconds") > 60,
  },
  ReplicaStale: {
    expr: '(time() - replica_newest_restorable_timestamp_seconds > 900 and replica_newest_restorable_timestamp_seconds > 0) unless ignoring (state) replica_state{state="none"} == 1',
    holds: (scrapes) => {
      const last = scrapes.at(-1)!;
      const newest = valueOf(last, "replica_newest_restorable_timestamp_seconds");
      const isAlone = valueOf(last, "replica_state", { state: /^none$/ }) === 1;
      return newest > 0 && last.atMs / 1000 - newest > 900 && !isAlone;
    },
  },
  ReplicaBreaks: {
    expr: 'sum without (code) (increase(replica_breaks_total[15m])) > 5 or sum without (code) (increase(replica_attempts_failed_total{code!~"CONNECT_FAILED|DISK_FULL|PRIMARY_BUSY|PRIMARY_UNKNOWN|REPLICATION_LOOP"}[15m])) > 5',
    holds: (scrapes) => {
      const other = {
        code: /^(?!(?:CONNECT_FAILED|DISK_FULL|PRIMARY_BUSY|PRIMARY_UNKNOWN|REPLICATION_LOOP)$)/,
      };
      const windowMs = 15 * 60_000;
      return (
        increase(scrapes, windowMs, "replica_breaks_total") > 5 ||
        increase(scrapes, windowMs, "replica_attempts_failed_total", other) > 5
      );
    },
  },
  ReplicaArchiveLag: {
    expr: 'replica_archive_lag_seconds > 900 unless ( sum without (kind) (increase(replica_archive_sent_bytes_total{kind="piece"}[1h])) > 0 unless ignoring (state) replica_generations{state="sealed"} > 0 )',
    holds: (scrapes) => {
      const last = scrapes.at(-1)!;
      const sent = ["replica_archive_sent_bytes_total", { kind: /^piece$/ }] as const;
      const isFirst = valueOf(last, "replica_generations", { state: /^sealed$/ }) === 0;
      const isOnItsWay = isFirst && increase(scrapes, 60 * 60_000, ...sent) > 0;
      return valueOf(last, "replica_archive_lag_seconds") > 900 && !isOnItsWay;
    },
  },
  ReplicaArchiveFailing: {
    expr: "replica_archive_up == 0 or replica_cluster_layouts_archive_up == 0",
    holds: (scrapes) => {
      const last = scrapes.at(-1)!;
      return ["replica_archive_up", "replica_cluster_layouts_archive_up"].some(
        (metric) => last.samples.some(({ name }) => name === metric) && valueOf(last, metric) === 0,
      );
    },
  },
};

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
}

const text = await Bun.file(join(import.meta.dir, "../../deploy/alerts.yml")).text();
const { groups } = Bun.YAML.parse(text) as { groups: { rules: Rule[] }[] };

/** The alerts about the link and the archive, as deploy/alerts.yml has them. */
const PLAYED_ALERTS: readonly string[] = Object.keys(RULES);

/** The rule of deploy/alerts.yml. @throws Error where it isn't what this file stands for. */
function ruleOf(alert: string): Rule {
  const rule = groups.flatMap(({ rules }) => rules).find((one) => one.alert === alert);
  const known = RULES[alert];
  if (rule === undefined || known === undefined) throw new Error(`there is no alert ${alert}`);
  if (rule.expr === known.expr) return rule;
  throw new Error(`${alert} is another rule now: change test/support/alert-rules.ts too`);
}

/** Those of them that fire at the last of these scrapes: their condition has held for as long as they say. */
export function firing(scrapes: readonly Scrape[]): string[] {
  const last = scrapes.at(-1)!;
  return PLAYED_ALERTS.filter((alert) => {
    const pendingMs = parseDurationMs(ruleOf(alert).for)!;
    if (last.atMs - scrapes[0]!.atMs < pendingMs) return false;
    return scrapes.every(
      ({ atMs }, index) =>
        atMs < last.atMs - pendingMs || RULES[alert]!.holds(scrapes.slice(0, index + 1)),
    );
  });
}
