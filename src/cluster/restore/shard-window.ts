import { usageError } from "../../base/errors.ts";
import { formatAge } from "../../base/quantity.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import { shownTime } from "../../store/restore/restore-point.ts";

/** A shard's number, as its folder is named. */
export function shardName(number: number): string {
  return String(number).padStart(4, "0");
}

/** Which moments of a shard can be restored. */
export interface ShardWindow {
  readonly fromMs: number;
  /** Its last mark. */
  readonly lastMs: number;
  /** How long what it held then goes on to hold: it is followed, or has ended. */
  readonly untilMs: number;
}

/** Undefined where the shard keeps nothing, or its times are lost. */
export function windowOf(catalogue: Catalogue, nowMs: number): ShardWindow | undefined {
  const timed = catalogue.generations.filter(({ last }) => last !== undefined);
  const newest = timed.at(-1);
  if (newest === undefined) return undefined;
  const lastMs = newest.last!.atMs;
  return {
    fromMs: Math.min(...timed.map(({ id }) => catalogue.earliestMs(id)!)),
    lastMs,
    untilMs: newest.state === "current" ? Math.max(nowMs, lastMs) : lastMs,
  };
}

/**
 * A primary says something at least every ten seconds (`repl-ping-replica-period`). So a shard whose last byte is as much
 * older than the newest of another shard was quiet, not away.
 */
const QUIET_MS = 11_000;

/**
 * Says that nothing had come of a shard for longer than a primary is ever silent, so that it may lack what was written
 * then. Undefined where something had, or nobody knows.
 * @param heardMs when the last byte that is restored had arrived.
 */
export function silenceAt(
  number: number,
  heardMs: number | undefined,
  atMs: number,
): string | undefined {
  if (heardMs === undefined || atMs - heardMs <= QUIET_MS) return undefined;
  return `shard ${shardName(number)} has nothing of the ${formatAge((atMs - heardMs) / 1000)} before that moment: nothing came from its primary, or its link was down`;
}

/** The last moment that all shards have durable. @param windows of those that own slots; at least one. */
export function lastMoment(windows: readonly ShardWindow[]): number {
  const lasts = windows.map(({ lastMs }) => lastMs);
  const newestMs = Math.max(...lasts);
  const oldestMs = Math.min(...lasts);
  return newestMs - oldestMs <= QUIET_MS ? newestMs : oldestMs;
}

/** Says from when to when all shards can be restored, as a clause of its own; undefined where there is no such time. */
export function commonWindow(windows: readonly ShardWindow[]): string {
  const fromMs = Math.max(...windows.map((window) => window.fromMs));
  const toMs = lastMoment(windows);
  return fromMs > toMs
    ? "there is no moment that all shards keep"
    : `all shards keep ${shownTime(fromMs)} to ${shownTime(toMs)}`;
}

/**
 * Refuses a moment that a shard which owns slots then doesn't keep.
 * @param windows by the shard's number; undefined for one that keeps nothing.
 * @throws ReplicaError USAGE that says what is kept.
 */
export function refuseOutside(
  atMs: number,
  windows: ReadonlyMap<number, ShardWindow | undefined>,
): void {
  const known = [...windows.values()].filter((window) => window !== undefined);
  for (const [number, window] of windows) {
    const shard = `shard ${shardName(number)}`;
    if (window === undefined) {
      throw usageError(
        `${shard}, which had slots at ${shownTime(atMs)}, keeps no moment: no snapshot of it has arrived, or its replica.db is lost`,
      );
    }
    if (atMs >= window.fromMs && atMs <= window.untilMs) continue;
    throw usageError(
      `${shownTime(atMs)} is not kept by ${shard}, which keeps ${shownTime(window.fromMs)} to ${shownTime(window.lastMs)}; ${commonWindow(known)}`,
    );
  }
}
