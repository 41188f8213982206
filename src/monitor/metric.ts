import type { ReplicaStatus } from "../replica/status.ts";

/** A value, and the labels that distinguish it from the metric's other values. */
export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

/** One metric of `/metrics`, of a replica or of what `Status` says. */
export interface Metric<Status = ReplicaStatus> {
  /** Without the prefix. */
  readonly name: string;
  /** Default: `replica_`. `process_` begins the names that Prometheus's client libraries share. */
  readonly prefix?: "process_";
  readonly type: "gauge" | "counter";
  readonly help: string;
  readonly labels?: readonly string[];
  /**
   * What it is now; undefined where nobody knows, or it doesn't apply. The metric is left out of the answer then, and
   * where this throws.
   */
  read(status: Status, version: string): number | readonly Sample[] | undefined;
}

/** One sample for each entry, with its key as a label. */
export function labeled(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values).map(([key, value]) => [{ [label]: key }, value]);
}

export function flag(isSet: boolean): 0 | 1 {
  return isSet ? 1 : 0;
}
