import type { Clock } from "../../base/clock.ts";
import { logger } from "../../base/logger.ts";
import { limits } from "../../config/limits.ts";
import type { Sample } from "../../replica/past.ts";
import type { ReplicaStatus } from "../../replica/status.ts";

const MINUTE_MS = 60_000;

/** What is read of a replica for a sample. */
export type Recorded = Pick<
  ReplicaStatus,
  "bytesPerSecond" | "archive" | "staleSeconds" | "link" | "supply" | "past"
>;

/**
 * Keeps how a replica did: the last half hour by 5 s, the last day by minutes. The minutes are kept in `replica.db` too;
 * where that fails, it is logged once, and nothing else notices.
 */
export class Recorder {
  readonly #status: Recorded;
  readonly #clock: Clock;
  /** Oldest first. */
  readonly #fine: Sample[] = [];
  readonly #minutes: Sample[] = [];
  /** Those of the minute that is not over. */
  #open: Sample[] = [];
  /** Minutes that the database lacks. */
  #unkept: Sample[] = [];
  #archived:
    | { readonly generation: number | undefined; readonly offset: number; readonly ms: number }
    | undefined;
  #hasWarned = false;

  constructor(status: Recorded, clock: Clock) {
    this.#status = status;
    this.#clock = clock;
    this.#guarded(() => {
      this.#minutes.push(...status.past.samples(limits.minuteSamples));
    });
  }

  /** Takes one sample; call it every `limits.sampleMs`. */
  sample(): void {
    const atMs = Math.floor(this.#clock.now() / limits.sampleMs) * limits.sampleMs;
    const before = this.#fine.at(-1)?.atMs ?? -Infinity;
    // A clock that was set back: what is drawn goes on where that was.
    if (atMs <= before) return;
    const sample = this.#read(atMs);
    this.#fine.push(sample);
    if (this.#fine.length > limits.fineSamples) this.#fine.shift();
    const minute = Math.floor(atMs / MINUTE_MS);
    const isNext = this.#open.some((one) => Math.floor(one.atMs / MINUTE_MS) !== minute);
    if (isNext) this.#endMinute();
    this.#open.push(sample);
  }

  #read(atMs: number): Sample {
    const { bytesPerSecond, archive, staleSeconds, link, supply } = this.#status;
    const lagMs = archive?.lag?.lagMs;
    return {
      atMs,
      received: Math.round(bytesPerSecond.received),
      written: Math.round(bytesPerSecond.written),
      durable: Math.round(bytesPerSecond.durable),
      archived: archive === undefined ? null : this.#archivedPerSecond(archive),
      lagMs: staleSeconds === undefined ? null : Math.round(staleSeconds * 1000),
      archiveLagMs: lagMs === undefined ? null : Math.round(lagMs),
      isUp: link.state === "connected" && supply.trouble === undefined ? 1 : 0,
    };
  }

  #archivedPerSecond({ generation, archivedOffset: offset = 0 }: NonNullable<Recorded["archive"]>) {
    const before = this.#archived;
    const ms = this.#clock.monotonicMs();
    this.#archived = { generation, offset, ms };
    if (before === undefined || before.generation !== generation || ms <= before.ms) return 0;
    return Math.max(0, Math.round(((offset - before.offset) / (ms - before.ms)) * 1000));
  }

  #endMinute(): void {
    const minute = merged(this.#open);
    this.#open = [];
    if (minute === undefined) return;
    this.#minutes.push(minute);
    if (this.#minutes.length > limits.minuteSamples) this.#minutes.shift();
    this.#unkept.push(minute);
    if (this.#unkept.length >= limits.keptSampleMinutes) this.keep();
  }

  /** Writes to the database what it lacks: off and on, and at the end. */
  keep(): void {
    const unkept = this.#unkept;
    this.#unkept = [];
    if (unkept.length === 0) return;
    this.#guarded(() => this.#status.past.addSamples(unkept, limits.minuteSamples * MINUTE_MS));
  }

  #guarded(act: () => void): void {
    try {
      act();
      this.#hasWarned = false;
    } catch (error) {
      if (this.#hasWarned) return;
      this.#hasWarned = true;
      const why = error instanceof Error ? error.message : String(error);
      logger.warn(`the status page's history is not kept: ${why}; everything else goes on`);
    }
  }

  /** The samples after `sinceMs`, oldest first: minutes, then finer ones. */
  since(sinceMs: number): Sample[] {
    const from = this.#fine[0]?.atMs ?? Infinity;
    const minutes = this.#minutes.filter(({ atMs }) => atMs < from);
    return [...minutes, ...this.#fine].filter(({ atMs }) => atMs > sinceMs);
  }
}

/** One sample for several: the mean of each rate, the worst lag, and up only while each was. */
function merged(samples: readonly Sample[]): Sample | undefined {
  const last = samples.at(-1);
  if (last === undefined) return undefined;
  const mean = (read: (one: Sample) => number) =>
    Math.round(samples.reduce((sum, one) => sum + read(one), 0) / samples.length);
  return {
    atMs: last.atMs,
    received: mean((one) => one.received),
    written: mean((one) => one.written),
    durable: mean((one) => one.durable),
    archived: last.archived === null ? null : mean((one) => one.archived ?? 0),
    ...worstOf(samples),
  };
}

/** The samples of several shards as one of all: rates add up, and the worst lag counts. */
export function together(all: readonly (readonly Sample[])[]): Sample[] {
  const byTime = Map.groupBy(all.flat(), ({ atMs }) => atMs);
  const sum = (some: readonly Sample[], read: (one: Sample) => number) =>
    some.reduce((total, one) => total + read(one), 0);
  return [...byTime]
    .toSorted(([a], [b]) => a - b)
    .map(([atMs, some]) => ({
      atMs,
      received: sum(some, (one) => one.received),
      written: sum(some, (one) => one.written),
      durable: sum(some, (one) => one.durable),
      archived: some.every(({ archived }) => archived === null)
        ? null
        : sum(some, (one) => one.archived ?? 0),
      ...worstOf(some),
    }));
}

function worstOf(samples: readonly Sample[]): Pick<Sample, "lagMs" | "archiveLagMs" | "isUp"> {
  const most = (values: readonly (number | null)[]) => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : Math.max(...known);
  };
  return {
    lagMs: most(samples.map(({ lagMs }) => lagMs)),
    archiveLagMs: most(samples.map(({ archiveLagMs }) => archiveLagMs)),
    isUp: Math.min(...samples.map(({ isUp }) => isUp)),
  };
}

/** A recorder for each replica that runs here. */
export class Recorders {
  readonly #clock: Clock;
  readonly #replicas: () => readonly ReplicaStatus[];
  readonly #all = new Map<ReplicaStatus, Recorder>();
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param replicas those that run now. */
  constructor(replicas: () => readonly ReplicaStatus[], clock: Clock) {
    this.#replicas = replicas;
    this.#clock = clock;
  }

  /** The recorder of one replica. */
  of(status: ReplicaStatus): Recorder {
    const known = this.#all.get(status) ?? new Recorder(status, this.#clock);
    this.#all.set(status, known);
    return known;
  }

  /** Takes a sample of each, and forgets those that run no more. */
  sample(): void {
    const replicas = this.#replicas();
    for (const gone of [...this.#all.keys()].filter((one) => !replicas.includes(one))) {
      this.#all.delete(gone);
    }
    for (const replica of replicas) this.of(replica).sample();
  }

  /** Begins to record; returns a function that ends it, and keeps what was recorded. */
  begin(): () => void {
    this.#timer = setInterval(() => this.sample(), limits.sampleMs);
    return () => {
      clearInterval(this.#timer);
      for (const recorder of this.#all.values()) recorder.keep();
    };
  }
}
