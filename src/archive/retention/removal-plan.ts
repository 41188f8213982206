import type { Offset } from "../../base/history.ts";

/** A place in the history of a primary's data. */
export interface Position {
  readonly replid: string;
  readonly offset: Offset;
}

/** The histories that a generation's log has been in, each from an offset on, and where it ends. */
export interface StreamPath {
  /** In their order; the first one begins with the base. */
  readonly steps: readonly { readonly replid: string; readonly fromOffset: Offset }[];
  readonly endOffset: Offset;
}

/** A generation whose documents are sound, as far as it matters to what is removed. */
export interface WholeGeneration {
  /** The name of its folder. */
  readonly name: string;
  /** Which generation of which data directory it is. */
  readonly lineage: { readonly name: string; readonly generation: number };
  /** The history of its base, and the offset of the last byte in that. */
  readonly replid: string;
  readonly baseOffset: Offset;
  /** What tells its base from another one. */
  readonly baseSum: string;
  /** From when on it is certain that its base was there: the latest of all times that tell so. */
  readonly sinceMs: number;
  /** When the store took its newest object. */
  readonly youngestMs: number;
  readonly isSealed: boolean;
  /** Whether all that its base is made of is there: only then it can stand in for another one. */
  readonly isSound: boolean;
}

export interface RemovalRules {
  /** What time it is, at least; milliseconds since 1970. */
  readonly nowMs: number;
  /** How long a moment stays restorable. */
  readonly keepForMs: number;
}

/** A generation that may go, and the one that is why: every young moment that it tells, that one tells as well. */
export interface Due {
  readonly name: string;
  readonly by: string;
}

export interface RemovalPlan {
  /** In the order in which they are to go: each one's reason is still there then. */
  readonly due: readonly Due[];
  /** Generations whose paths decide: where they are known, plan again. */
  readonly unread: readonly string[];
  /** Generations that are old, and that nothing goes on with, so far as is known. The newest of all is none of them. */
  readonly alone: readonly string[];
  /** Lineages of which two data directories take themselves for, and from which generation on. */
  readonly forks: ReadonlyMap<string, number>;
}

/** A generation that nobody has sealed may still be written to, by a writer that had nothing to send for so long. */
export const UNSEALED_FOR_MS = 2 * 86_400_000;

/**
 * Says which generations may go. One may if nothing of it is young, and another one
 *
 * - is of the same data and begins behind it, or has all of it: a later one of the same data directory, or one whose stream
 *   has passed the place where this one ends; and
 * - was there before the young moments begin.
 *
 * So that one tells every young moment at least as well. Of generations with the same base, whose segments may complete
 * each other, all go or none. The newest generation of each history has no such other one, and
 * stays. What supersedes another one has a later base, so no two ever supersede each other, whoever plans.
 * @param all all whole generations of the archive.
 * @param paths those that are known; undefined: it can't be known.
 */
export function removalPlan(
  all: readonly WholeGeneration[],
  { nowMs, keepForMs }: RemovalRules,
  paths: ReadonlyMap<string, StreamPath | undefined>,
): RemovalPlan {
  const youngFromMs = nowMs - keepForMs;
  const forks = forksOf(all);
  const rest = new Set(all);
  const due = new Map<WholeGeneration, string>();
  const unread = new Set<string>();
  const alone: string[] = [];
  const newest = all.reduce<WholeGeneration | undefined>(
    (best, one) => (best === undefined || one.sinceMs > best.sinceMs ? one : best),
    undefined,
  );
  for (const one of all.toSorted((a, b) => a.sinceMs - b.sinceMs || (a.name < b.name ? -1 : 1))) {
    const silentSinceMs = one.isSealed
      ? youngFromMs
      : Math.min(youngFromMs, nowMs - UNSEALED_FOR_MS);
    if (!one.isSound || one.youngestMs > silentSinceMs) continue;
    const others = [...rest].filter((other) => other !== one && other.isSound);
    const old = others.filter(({ sinceMs }) => sinceMs <= youngFromMs);
    const by =
      old.find((other) => isLaterOfLineage(other, one, forks)) ??
      old.find((other) => hasAllOf(other, one, paths, unread));
    if (by !== undefined) {
      rest.delete(one);
      due.set(one, by.name);
    } else if (one !== newest && !others.some((other) => isLaterOfLineage(other, one, forks)))
      alone.push(one.name);
  }
  keepCompanions(all, due);
  const found = [...due].map(([{ name }, by]) => ({ name, by }));
  return { due: found, unread: [...unread], alone, forks };
}

/** Takes those from `due` that have the same base as one that stays. */
function keepCompanions(all: readonly WholeGeneration[], due: Map<WholeGeneration, string>): void {
  const baseOf = ({ replid, baseOffset }: WholeGeneration) => `${replid} ${baseOffset}`;
  const stay = new Set(all.filter((one) => one.isSound && !due.has(one)).map(baseOf));
  for (const one of due.keys()) if (stay.has(baseOf(one))) due.delete(one);
}

function isLaterOfLineage(
  later: WholeGeneration,
  { lineage }: WholeGeneration,
  forks: ReadonlyMap<string, number>,
): boolean {
  const isSame = later.lineage.name === lineage.name;
  const { generation } = later.lineage;
  return (
    isSame && generation > lineage.generation && generation < (forks.get(lineage.name) ?? Infinity)
  );
}

/**
 * The generation from which on a lineage is more than one: two machines that were made from one image each have a next
 * generation of the same number.
 */
function forksOf(all: readonly WholeGeneration[]): ReadonlyMap<string, number> {
  const forks = new Map<string, number>();
  const known = new Map<string, string>();
  for (const { lineage, baseOffset, baseSum } of all) {
    const key = `${lineage.name} ${lineage.generation}`;
    const base = `${baseOffset} ${baseSum}`;
    const found = known.get(key);
    if (found === undefined) known.set(key, base);
    else if (found !== base)
      forks.set(lineage.name, Math.min(lineage.generation, forks.get(lineage.name) ?? Infinity));
  }
  return forks;
}

/** Whether a generation of another data directory has all that this one has. What must be known for that, it adds to `unread`. */
function hasAllOf(
  other: WholeGeneration,
  one: WholeGeneration,
  paths: ReadonlyMap<string, StreamPath | undefined>,
  unread: Set<string>,
): boolean {
  // Of two with the same base, each might have all of the other.
  if (other.baseOffset <= one.baseOffset) return false;
  if (!paths.has(one.name)) {
    unread.add(one.name);
    return false;
  }
  const end = endOf(paths.get(one.name));
  if (end === undefined) return false;
  if (end.replid === other.replid && end.offset <= other.baseOffset) return true;
  if (!paths.has(other.name)) {
    unread.add(other.name);
    return false;
  }
  return hasPassed(paths.get(other.name), end);
}

function endOf(path: StreamPath | undefined): Position | undefined {
  const last = path?.steps.at(-1);
  return path && last && { replid: last.replid, offset: path.endOffset };
}

/** Whether a path leads through a place, or did before its base. */
function hasPassed(path: StreamPath | undefined, { replid, offset }: Position): boolean {
  if (path === undefined) return false;
  const { steps, endOffset } = path;
  const at = steps.findIndex((step) => step.replid === replid);
  // The histories part where the next one begins.
  return at !== -1 && offset <= (steps[at + 1]?.fromOffset ?? endOffset);
}
