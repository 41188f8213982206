import { type ClusterStatus, type ShardStatus } from "../status/cluster-status.ts";
import { countSlots } from "../slots/slot-ranges.ts";
import { flag, labeled, type Metric, type Sample } from "../../monitor/metric.ts";
import { METRICS } from "../../monitor/metric-table.ts";
import { type Metrics, samplesOf } from "../../monitor/metrics.ts";

/** A new state of a shard must be added here, or this does not compile. */
const SHARD_STATES = Object.keys({
  waiting: true,
  following: true,
  ended: true,
  failed: true,
} satisfies Record<ShardStatus["state"], true>);

/** Adds the metrics of all shards of a cluster, told apart by the label `shard`, and those of the cluster itself. */
export function addClusterMetrics(metrics: Metrics, status: ClusterStatus, version: string): void {
  metrics.ofProcess(status, version);
  for (const metric of METRICS) {
    const labels = ["shard", ...(metric.labels ?? [])];
    metrics.add({ ...metric, labels }, () => samplesOfShards(metric, status, version));
  }
  for (const metric of CLUSTER_METRICS) {
    metrics.add(metric, () => samplesOf(metric.read(status, version)));
  }
}

/** The samples of every shard that runs; one whose disk fails keeps none of the others away. */
function samplesOfShards(metric: Metric, { live }: ClusterStatus, version: string): Sample[] {
  return live.flatMap(({ label, replica }) => {
    if (replica === undefined) return [];
    try {
      const samples = samplesOf(metric.read(replica, version)) ?? [];
      return samples.map(([labels, value]): Sample => [{ shard: label, ...labels }, value]);
    } catch {
      return [];
    }
  });
}

/** What is said of a cluster beside what is said of each shard. To add a metric, add a row. */
const CLUSTER_METRICS: readonly Metric<ClusterStatus>[] = [
  {
    name: "cluster_shards",
    type: "gauge",
    help: "How many shards are in each state.",
    labels: ["state"],
    read: ({ shards }) =>
      labeled(
        "state",
        Object.fromEntries(
          SHARD_STATES.map((state) => [state, shards.filter((one) => one.state === state).length]),
        ),
      ),
  },
  {
    name: "cluster_snapshots_waiting",
    type: "gauge",
    help: "How many shards wait for their turn to take a snapshot, first ones included: --cluster-snapshots.",
    read: ({ waitingSnapshots }) => waitingSnapshots,
  },
  {
    name: "cluster_slots_covered",
    type: "gauge",
    help: "How many of the 16384 slots are owned by a shard whose replica runs here.",
    read: ({ coveredSlots }) => coveredSlots,
  },
  {
    name: "cluster_slots_uncovered",
    type: "gauge",
    help: "How many slots have no owner, or one whose replica does not run; with --shards, those of others do not count.",
    read: ({ uncoveredSlots }) => uncoveredSlots,
  },
  {
    name: "cluster_state_ok",
    type: "gauge",
    help: "1 while the node that was believed last says cluster_state:ok, else 0.",
    read: ({ topology }) => flag(topology.state === "ok"),
  },
  {
    name: "cluster_topology_age_seconds",
    type: "gauge",
    help: "Seconds since a node told the topology that is believed; left out before one did.",
    read: ({ topology }) => topology.ageSeconds,
  },
  {
    name: "cluster_newest_restorable_timestamp_seconds",
    type: "gauge",
    help: "The newest moment as of which all shards can be restored, in unix time; 0 before there is one.",
    read: ({ newestRestorableMs }) => (newestRestorableMs ?? 0) / 1000,
  },
  {
    name: "cluster_layouts_archive_up",
    type: "gauge",
    help: "1 while the archive takes what is recorded of the cluster itself, 0 while it doesn't; left out without an archive.",
    read: ({ layoutsArchive }) => layoutsArchive && flag(layoutsArchive.error === undefined),
  },
  {
    name: "shard_slots",
    type: "gauge",
    help: "How many slots each shard owns.",
    labels: ["shard"],
    read: ({ live }) => live.map(({ label, slots }) => [{ shard: label }, countSlots(slots)]),
  },
];
