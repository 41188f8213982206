import type { KeysFound } from "../../inspect/keys/key-report.ts";

/** A snapshot that was read, or the part of it up to where it is damaged. */
export interface ReadSnapshot {
  /** The shard of a cluster that it is of. */
  readonly shard: string | undefined;
  /** The generation that it begins, as people call it; undefined for a file of its own. */
  readonly generation: string | number | undefined;
  /** The replication offset that it is of. */
  readonly offset: number | undefined;
  /** How many bytes of the log come between it and the moment that was asked for; undefined where there is no log. */
  readonly logBytes: number | undefined;
  /** `REDIS0011`; undefined where not even that could be read. */
  readonly format: string | undefined;
  /** `redis 8.0.2`. */
  readonly server: string | undefined;
  /** The moment that expiries are compared with, in milliseconds since 1970, and where it comes from. */
  readonly atMs: number;
  readonly atFrom: "snapshot" | "generation" | "now";
  /** How much of it was read, and how much there is; undefined: unknown. */
  readonly readBytes: number;
  readonly rdbBytes: number | undefined;
  /** Undefined where it wasn't read to its end. */
  readonly functionLibraries: number | undefined;
  /** What is wrong with it, for people; undefined where it was read to its end and is sound. */
  readonly damage: string | undefined;
}

/** All that `replica keys` tells. */
export interface KeysReport {
  /** What was asked for: a file, a directory, a URL, `-`. */
  readonly source: string;
  readonly snapshots: readonly ReadSnapshot[];
  readonly found: KeysFound;
  readonly prefixDepth: number;
  readonly separators: string;
  /** What was chosen of all keys; undefined: all of them. */
  readonly db: number | undefined;
  readonly match: string | undefined;
}

/** Whether all snapshots were read to their ends, and are sound. */
export function isComplete({ snapshots }: KeysReport): boolean {
  return snapshots.every(({ damage }) => damage === undefined);
}

/** A type as people call it: `hash`, or `module ReJSON-RL`. */
export function typeName(kind: string, module: string | undefined): string {
  if (kind !== "module") return kind;
  return module === undefined ? "other modules" : `module ${module}`;
}
