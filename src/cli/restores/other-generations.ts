import { ReplicaError } from "../../base/errors.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import { type RestorePoint, restorePoint, type Wanted } from "../../store/restore/restore-point.ts";

function isDamage(error: unknown): error is ReplicaError {
  return error instanceof ReplicaError && error.code === "DIRECTORY_DAMAGED";
}

/** What was looked for, when, and what was found. */
interface Search {
  readonly wanted: Wanted;
  readonly nowMs: number;
  readonly point: RestorePoint;
}

/** How many other generations to suggest; `replica snapshots` lists them all. */
const MAX_OTHERS = 3;

/** Adds to damage which other generations can be restored instead, the newest first. Another error stays as it is. */
export function withOthers(
  damage: unknown,
  catalogue: Catalogue,
  { wanted, nowMs, point }: Search,
): unknown {
  if (!isDamage(damage)) return damage;
  const damaged = point.generation;
  const isEnd = wanted.offset === undefined && wanted.atMs === undefined;
  const others = catalogue.generations
    .filter(({ id }) => id !== damaged.id)
    .toReversed()
    .flatMap(({ id }) => pointIn(catalogue, { ...wanted, generation: id }, nowMs) ?? [])
    .slice(0, MAX_OTHERS)
    .map(({ generation: { id }, offset }) => {
      const what = isEnd ? `goes up to offset ${offset}` : "covers it too";
      return `; generation ${id} ${what} (--generation ${id})`;
    });
  const { code, retry, message } = damage;
  return new ReplicaError(code, { retry, message: message + others.join(""), cause: damage });
}

function pointIn(catalogue: Catalogue, wanted: Wanted, nowMs: number): RestorePoint | undefined {
  try {
    return restorePoint(catalogue, wanted, nowMs);
  } catch (error) {
    if (error instanceof ReplicaError && error.code === "USAGE") return undefined;
    throw error;
  }
}
