import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Disk } from "../store/disk/disk.ts";
import type { ErrorCode } from "../base/errors.ts";
import { cursorsOf } from "../replica/cursors.ts";
import type { FullReason } from "../upstream/link/full-reason.ts";
import type { Replica } from "../replica/replica.ts";

const FSYNC_BUCKETS_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];
const STATES = [
  "none",
  "connect",
  "connecting",
  "receive-pong",
  "receive-auth",
  "receive-port",
  "receive-ip",
  "receive-capa",
  "receive-version",
  "receive-psync",
  "receive-bulk-header",
  "transfer",
  "connected",
] as const;

/** What is counted begins at 0: of a count that appears with its first event, rate() misses that. */
const NO_FULL_SYNCS: Readonly<Record<FullReason, 0>> = {
  "nothing-kept": 0,
  "no-psync": 0,
  "other-history": 0,
  "primary-behind": 0,
  "backlog-too-small": 0,
};
/** Those that an attempt ends in and another may follow. */
const NO_BREAKS: Readonly<Partial<Record<ErrorCode, 0>>> = {
  CONNECT_FAILED: 0,
  LINK_LOST: 0,
  TIMED_OUT: 0,
  TLS_FAILED: 0,
  NOT_A_PRIMARY: 0,
  AUTH_FAILED: 0,
  PRIMARY_BUSY: 0,
  PRIMARY_REFUSED: 0,
  PROTOCOL: 0,
  BAD_PAYLOAD: 0,
  BAD_CHECKSUM: 0,
  DISK_FULL: 0,
  DISK_FAILED: 0,
};

/** Of a disk that fails, all else is worth the more: what can't be looked up is left out. */
function succeeds(look: () => void): boolean {
  try {
    look();
    return true;
  } catch {
    return false;
  }
}

/** What Prometheus reads of a replica: looked up when it is asked for, but for what has a duration. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #fsync: Histogram;

  constructor() {
    this.#fsync = new Histogram({
      name: "replica_fsync_duration_seconds",
      help: "How long each data sync took, of snapshots, of the log and of the database.",
      buckets: FSYNC_BUCKETS_SECONDS,
      registers: [this.#registry],
    });
  }

  /** The disk, with its data syncs timed. */
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

  /** From now on tells of this replica. To be said once. */
  of(replica: Replica, disk: Disk, version: string): void {
    const { directory, counts, syncs } = replica;
    const link = () => (replica.state.at === "connected" ? 1 : 0);
    const generation = () => directory.current;
    this.#gauge("build_info", "Constant 1; the version is its label.", ["version"], (gauge) =>
      gauge.set({ version }, 1),
    );
    this.#gauge("start_time_seconds", "When the process began, unix time.", [], (gauge) =>
      gauge.set(replica.startedAtMs / 1000),
    );
    this.#gauge("link_up", "Whether the primary is followed now.", [], (gauge) =>
      gauge.set(link()),
    );
    this.#gauge("state", "1 for the state that the link is in.", ["state"], (gauge) => {
      for (const state of STATES) gauge.set({ state }, state === replica.state.at ? 1 : 0);
    });
    this.#gauge("link_silent_seconds", "Since when the primary was last heard.", [], (gauge) =>
      gauge.set(replica.silentMs / 1000),
    );
    this.#gauge("offset_bytes", "Replication offset of each cursor.", ["cursor"], (gauge) => {
      const { received, written, durable } = cursorsOf(replica);
      gauge.set({ cursor: "received" }, received);
      gauge.set({ cursor: "written" }, written);
      gauge.set({ cursor: "durable" }, durable);
    });
    this.#gauge(
      "durable_lag_bytes",
      "Stream that has come and is not durable yet.",
      [],
      (gauge) => {
        const { received, durable } = cursorsOf(replica);
        gauge.set(received - durable);
      },
    );
    this.#gauge(
      "durable_lag_seconds",
      "For how long the oldest byte that is not durable (--fsync no: not written) has been here.",
      [],
      (gauge) => gauge.set(replica.durableAgeSeconds),
    );
    this.#gauge(
      "generation_id",
      "The id of the current generation; 0 where there is none.",
      [],
      (gauge) => gauge.set(generation()?.id ?? 0),
    );
    this.#gauge(
      "generation_timestamp_seconds",
      "When the current generation became current, unix time; 0 where there is none.",
      [],
      (gauge) => gauge.set((generation()?.currentAtMs ?? 0) / 1000),
    );
    this.#gauge("generations", "Generations that are kept, by state.", ["state"], (gauge) => {
      for (const [state, count] of directory.countByState()) gauge.set({ state }, count);
    });
    this.#gauge("snapshot_bytes", "Length of the current snapshot.", [], (gauge) =>
      gauge.set(generation()?.rdbBytes ?? 0),
    );
    this.#gauge("log_bytes", "Length of the current log.", [], (gauge) =>
      gauge.set(cursorsOf(replica).logBytes),
    );
    this.#gauge(
      "snapshot_in_progress",
      "Whether a new snapshot comes in over a second link.",
      [],
      (gauge) => gauge.set(replica.renewal.runningSeconds === undefined ? 0 : 1),
    );
    this.#gauge(
      "disk_low",
      "Whether less than --min-free is free: no new snapshot is taken then.",
      [],
      (gauge) => gauge.set(replica.retention.lowOnRoom ? 1 : 0),
    );
    this.#gauge("disk_free_bytes", "Room where the data directory lies.", [], (gauge) =>
      gauge.set(disk.freeBytes(directory.path)),
    );
    this.#gauge("resident_memory_bytes", "Resident memory of the process.", [], (gauge) =>
      gauge.set(process.memoryUsage.rss()),
    );
    this.#counter(
      "received_bytes_total",
      "Bytes from the primary, by phase.",
      ["phase"],
      (counter) => {
        counter.inc({ phase: "snapshot" }, counts.bytes.snapshot);
        counter.inc({ phase: "stream" }, counts.bytes.stream);
      },
    );
    this.#counter(
      "syncs_total",
      "Syncs that the primary granted; a full one with its reason.",
      ["kind", "reason"],
      (counter) => {
        counter.inc({ kind: "partial", reason: "" }, syncs.partial);
        const full = { ...NO_FULL_SYNCS, ...Object.fromEntries(counts.fullSyncs) };
        for (const [reason, count] of Object.entries(full))
          counter.inc({ kind: "full", reason }, count);
      },
    );
    this.#counter(
      "breaks_total",
      "Attempts that ended, by the error's code.",
      ["code"],
      (counter) => {
        const breaks = { ...NO_BREAKS, ...Object.fromEntries(counts.breaks) };
        for (const [code, count] of Object.entries(breaks)) counter.inc({ code }, count);
      },
    );
    this.#counter(
      "snapshots_total",
      "New snapshots over a second link: those that took the place of the one before, and those that failed.",
      ["result"],
      (counter) => {
        counter.inc({ result: "ok" }, replica.renewal.counts.ok);
        counter.inc({ result: "failed" }, replica.renewal.counts.failed);
      },
    );
    this.#ofRelay(replica);
    this.#counter("cpu_seconds_total", "CPU time of the process.", ["mode"], (counter) => {
      const { user, system } = process.cpuUsage();
      counter.inc({ mode: "user" }, user / 1e6);
      counter.inc({ mode: "system" }, system / 1e6);
    });
  }

  /** The replicas that are fed from here. */
  #ofRelay({ relay }: Replica): void {
    this.#gauge("downstreams", "Replicas that are fed from here, by state.", ["state"], (gauge) => {
      for (const [state, count] of Object.entries(relay.countByState()))
        gauge.set({ state }, count);
    });
    this.#gauge(
      "downstream_lag_bytes",
      "What the furthest one of those online has not acknowledged.",
      [],
      (gauge) => gauge.set(relay.lagBytes),
    );
    this.#counter(
      "downstream_sent_bytes_total",
      "Bytes sent to them, by phase.",
      ["phase"],
      (counter) => {
        counter.inc({ phase: "snapshot" }, relay.counts.snapshot);
        counter.inc({ phase: "stream" }, relay.counts.stream);
      },
    );
    this.#counter("downstream_syncs_total", "Syncs granted to them.", ["kind"], (counter) => {
      counter.inc({ kind: "full" }, relay.counts.full);
      counter.inc({ kind: "partial" }, relay.counts.partial);
    });
  }

  #gauge(name: string, help: string, labelNames: string[], look: (gauge: Gauge) => void): void {
    const registers = [this.#registry];
    const collect = () => {
      gauge.reset();
      if (succeeds(() => look(gauge))) return;
      // Without labels, a reset leaves a 0: what can't be known is to be missing.
      if (labelNames.length === 0) gauge.remove();
      else gauge.reset();
    };
    const gauge: Gauge = new Gauge({
      name: `replica_${name}`,
      help,
      labelNames,
      registers,
      collect,
    });
  }

  /** Counted elsewhere: it is laid anew each time. */
  #counter(
    name: string,
    help: string,
    labelNames: string[],
    look: (counter: Counter) => void,
  ): void {
    const registers = [this.#registry];
    const collect = () => {
      counter.reset();
      if (!succeeds(() => look(counter))) counter.reset();
    };
    const counter: Counter = new Counter({
      name: `replica_${name}`,
      help,
      labelNames,
      registers,
      collect,
    });
  }

  /** Everything, in Prometheus's text form. */
  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}
