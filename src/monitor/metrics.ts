import type * as prometheus from "prom-client";
import type { ReplicaStatus } from "../replica/status.ts";
import type { Disk } from "../store/disk/disk.ts";
import { METRICS, PROCESS_METRICS } from "./metric-table.ts";
import type { Metric, Sample } from "./metric.ts";

// The package as a whole also loads what pushes metrics, over Node's HTTP, and what gathers those of a cluster: as much
// as all else that a start loads.
const Counter = require("prom-client/lib/counter.js") as typeof prometheus.Counter;
const Gauge = require("prom-client/lib/gauge.js") as typeof prometheus.Gauge;
const Histogram = require("prom-client/lib/histogram.js") as typeof prometheus.Histogram;
const Registry = require("prom-client/lib/registry.js") as typeof prometheus.Registry;

const FSYNC_BUCKETS_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

/** What Prometheus reads. The metrics are read when it asks; only the times of fsync are recorded as they pass. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #fsync: prometheus.Histogram;
  /** The text of this turn of the event loop; undefined until somebody asks. */
  #text: Promise<string> | undefined;

  constructor() {
    this.#fsync = new Histogram({
      name: "replica_fsync_duration_seconds",
      help: "How long each fsync took: of snapshots, the log and the database.",
      buckets: FSYNC_BUCKETS_SECONDS,
      registers: [this.#registry],
    });
  }

  /** Returns the same disk, with the time of each data sync recorded. */
  timed(disk: Disk): Disk {
    return {
      ...disk,
      syncData: async (fd) => {
        const beganMs = performance.now();
        try {
          await disk.syncData(fd);
        } finally {
          this.#fsync.observe((performance.now() - beganMs) / 1000);
        }
      },
    };
  }

  /** Adds the metrics of a replica. Call it exactly once. */
  of(status: ReplicaStatus, version: string): void {
    this.ofProcess(status, version);
    for (const metric of METRICS) {
      this.add(metric, () => samplesOf(metric.read(status, version)));
    }
  }

  /** Adds what is said of the process, whatever runs in it. */
  ofProcess(status: { readonly startedAtMs: number }, version: string): void {
    for (const metric of PROCESS_METRICS) {
      this.add(metric, () => samplesOf(metric.read(status, version)));
    }
  }

  /**
   * Adds one metric.
   * @param read returns its samples of now; undefined, or an error, leaves it out.
   */
  add(
    { name, prefix, type, help, labels = [] }: Omit<Metric, "read">,
    read: () => readonly Sample[] | undefined,
  ): void {
    const collect = () => {
      collector.reset();
      try {
        const samples = read();
        for (const [labels, value] of samples ?? []) collector.inc(labels, value);
        if (samples !== undefined) return;
      } catch {
        // The rest is worth all the more while a disk fails.
        collector.reset();
      }
      // A reset alone would leave a 0.
      if (labels.length === 0) collector.remove();
    };
    const about = {
      name: `${prefix ?? "replica_"}${name}`,
      help,
      labelNames: [...labels],
      collect,
    };
    const registers = [this.#registry];
    const collector =
      type === "gauge"
        ? new Gauge<string>({ ...about, registers })
        : new Counter<string>({ ...about, registers });
  }

  /**
   * All metrics in Prometheus's text format. Requests of one turn of the event loop share one text: each costs about a
   * millisecond, and a thousand of them would keep the primary waiting for a second.
   */
  text(): Promise<string> {
    if (this.#text !== undefined) return this.#text;
    setImmediate(() => (this.#text = undefined));
    return (this.#text = this.#registry.metrics());
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}

/** What a metric read, as samples. */
export function samplesOf(read: ReturnType<Metric["read"]>): readonly Sample[] | undefined {
  return typeof read === "number" ? [[{}, read]] : read;
}
