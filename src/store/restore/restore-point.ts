import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { DATABASE } from "../generation/layout.ts";
import type { Catalogue } from "./catalogue.ts";
import type { KeptGeneration } from "./kept-generation.ts";

/** The point that a person asks for; by default the last durable byte. */
export interface Wanted {
  readonly generation: number | undefined;
  /** A time, in milliseconds since 1970. */
  readonly atMs: number | undefined;
  readonly offset: Offset | undefined;
}

/** Where a restore ends: at this generation's last safe cut at `offset` or before. */
export interface RestorePoint {
  readonly generation: KeptGeneration;
  readonly offset: Offset;
}

/**
 * Finds the newest generation that covers the wanted point, and the offset to restore up to.
 * @throws ReplicaError USAGE for a point that is not kept, naming the range that is.
 */
export function restorePoint(
  catalogue: Catalogue,
  wanted: Wanted,
  nowMs = Date.now(),
): RestorePoint {
  const candidates = candidatesOf(catalogue, wanted.generation);
  if (wanted.offset !== undefined) return byOffset(candidates, wanted.offset);
  if (wanted.atMs !== undefined) return byTime(catalogue, candidates, wanted.atMs, nowMs);
  // Without a current one, the newest.
  const generation = candidates.find(({ state }) => state === "current") ?? candidates[0]!;
  return { generation, offset: generation.durableOffset };
}

/** The newest first. */
function candidatesOf({ path, generations }: Catalogue, id: number | undefined): KeptGeneration[] {
  if (generations.length === 0) throw outside(`${path} keeps no snapshot yet`);
  const candidates = generations.filter((one) => id === undefined || one.id === id).toReversed();
  if (candidates.length > 0) return candidates;
  const ids = generations.map((generation) => generation.id).join(", ");
  throw outside(`${path} keeps no generation ${id ?? ""}: it keeps ${ids}`);
}

function byOffset(candidates: readonly KeptGeneration[], offset: Offset): RestorePoint {
  const generation = candidates.find(
    ({ baseOffset, durableOffset }) => offset >= baseOffset && offset <= durableOffset,
  );
  if (generation !== undefined) return { generation, offset };
  const ranges = candidates
    .toReversed()
    .map(
      ({ id, baseOffset, durableOffset }) => `${baseOffset} to ${durableOffset} (generation ${id})`,
    );
  throw outside(
    `offset ${offset} is not kept: the kept offsets are from ${ranges.join(" and from ")}`,
  );
}

function byTime(
  catalogue: Catalogue,
  candidates: readonly KeptGeneration[],
  atMs: number,
  nowMs: number,
): RestorePoint {
  const timed = candidates.filter(({ last }) => last !== undefined);
  const newest = timed[0];
  if (newest === undefined) {
    throw outside(
      `${DATABASE} is missing or empty, so times are unknown: use --offset instead of --at`,
    );
  }
  // A followed data set stays the same until more comes: its last mark holds for every moment since.
  const untilMs =
    newest.state === "current" ? Math.max(nowMs, newest.last!.atMs) : newest.last!.atMs;
  for (const generation of atMs > untilMs ? [] : timed) {
    // Between two generations, the end of the earlier one is all that was known. Don't compare with the first
    // mark: if the clock was set back since, that one lies in the future.
    const moment = catalogue.momentBefore(generation.id, atMs);
    if (moment === undefined) continue;
    return { generation, offset: Math.min(moment.offset, generation.durableOffset) };
  }
  throw outside(`${shownTime(atMs)} is not kept: ${shownRange(catalogue, timed)}`);
}

/**
 * Says from which time to which one `restorePoint` finds a point, as a clause of its own; undefined where no time is
 * known. @param id a generation, for its times alone.
 * @throws ReplicaError USAGE where nothing is kept, or not this generation; of the database.
 */
export function keptTimes(catalogue: Catalogue, id: number | undefined): string | undefined {
  const timed = candidatesOf(catalogue, id).filter(({ last }) => last !== undefined);
  return timed.length === 0 ? undefined : shownRange(catalogue, timed);
}

/** @param timed generations with marks; the newest first, at least one. */
function shownRange(catalogue: Catalogue, timed: readonly KeptGeneration[]): string {
  const fromMs = Math.min(...timed.map(({ id }) => catalogue.earliestMs(id)!));
  return `the kept times are from ${shownTime(fromMs)} to ${shownTime(timed[0]!.last!.atMs)}`;
}

function outside(message: string): ReplicaError {
  return new ReplicaError("USAGE", { retry: "never", message });
}

/** A time as ISO 8601, in UTC. */
export function shownTime(atMs: number): string {
  return new Date(atMs).toISOString();
}
