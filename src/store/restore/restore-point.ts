import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import type { Catalogue } from "./catalogue.ts";
import type { KeptGeneration } from "./kept-generation.ts";

/** What a person asks for; nothing of it means: all that is durable. */
export interface Wanted {
  readonly generation: number | undefined;
  /** A time, in milliseconds since 1970. */
  readonly atMs: number | undefined;
  readonly offset: Offset | undefined;
}

/** Where a restore ends: with the last whole command of this generation that ends at `offset` or before. */
export interface RestorePoint {
  readonly generation: KeptGeneration;
  readonly offset: Offset;
}

/**
 * Finds the newest generation that covers what is wanted, and how far it is to be restored.
 * @throws ReplicaError USAGE where it lies outside of what is kept, with the range that is kept.
 */
export function restorePoint(
  catalogue: Catalogue,
  wanted: Wanted,
  nowMs = Date.now(),
): RestorePoint {
  const candidates = candidatesOf(catalogue, wanted.generation);
  if (wanted.offset !== undefined) return byOffset(candidates, wanted.offset);
  if (wanted.atMs !== undefined) return byTime(catalogue, candidates, wanted.atMs, nowMs);
  // The current one, but where there is none.
  const generation = candidates.find(({ state }) => state === "current") ?? candidates[0]!;
  return { generation, offset: generation.durableOffset };
}

/** The newest first. */
function candidatesOf({ path, generations }: Catalogue, id: number | undefined): KeptGeneration[] {
  if (generations.length === 0) throw outside(`${path} keeps no snapshot yet`);
  const candidates = generations.filter((one) => id === undefined || one.id === id).toReversed();
  if (candidates.length > 0) return candidates;
  const ids = generations.map((generation) => generation.id).join(", ");
  throw outside(`${path} keeps no generation ${id}: it keeps ${ids}`);
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
    `the offset ${offset} is not kept: what is kept goes from ${ranges.join(", and from ")}`,
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
      `without its database nothing tells what was when: give --offset instead of --at`,
    );
  }
  // What is followed stays as it was until more comes: its last mark tells of every moment since.
  const untilMs =
    newest.state === "current" ? Math.max(nowMs, newest.last!.atMs) : newest.last!.atMs;
  for (const generation of atMs > untilMs ? [] : timed) {
    // Between the end of one generation and the beginning of the next nothing was known but that end.
    // Its first mark doesn't tell what it covers: of a clock set back since, it lies in the future.
    const moment = catalogue.momentBefore(generation.id, atMs);
    if (moment === undefined) continue;
    return { generation, offset: Math.min(moment.offset, generation.durableOffset) };
  }
  const fromMs = Math.min(...timed.map(({ id }) => catalogue.earliestMs(id)!));
  throw outside(
    `${shownTime(atMs)} is not kept: what is kept goes from ${shownTime(fromMs)} to ${shownTime(newest.last!.atMs)}`,
  );
}

function outside(message: string): ReplicaError {
  return new ReplicaError("USAGE", { retry: "never", message });
}

/** A moment as people and programs read it: ISO 8601, in UTC. */
export function shownTime(atMs: number): string {
  return new Date(atMs).toISOString();
}
