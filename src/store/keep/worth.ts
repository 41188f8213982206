import type { Guard, Replaced, SnapshotSize, WorthChange } from "../ledger/keep-tables.ts";

/** Whether a snapshot holds no key. */
export function isEmpty({ firstDatabase }: SnapshotSize): boolean {
  return firstDatabase?.keys === 0;
}

/**
 * Whether a snapshot has less than half of the keys, or of the bytes, of another. Keys are compared where both
 * snapshots say how many the same database holds; one that is empty has fewer than any other.
 */
export function isSmallBeside(
  next: SnapshotSize,
  before: SnapshotSize & { readonly hasWrites: boolean },
): boolean {
  if (isEmpty(before)) return isEmpty(next) && before.hasWrites;
  if (isEmpty(next)) return true;
  if (2 * next.bytes < before.bytes) return true;
  const [few, many] = [next.firstDatabase, before.firstDatabase];
  return few !== undefined && many !== undefined && few.db === many.db && 2 * few.keys < many.keys;
}

/**
 * What becomes of the worth of others once a generation replaces another.
 * @param guards the generations that are guarded already.
 */
export function worthChange(
  next: SnapshotSize,
  replaced: Replaced | undefined,
  guards: readonly Guard[],
): WorthChange {
  const open = guards.filter(({ wellLivedMs }) => wellLivedMs === undefined);
  const isSmall = replaced !== undefined && isSmallBeside(next, replaced);
  const beside = open.filter((guard) => isSmallBeside(next, guard));
  const larger = [...beside, ...(isSmall ? [replaced] : [])];
  return {
    guarded: isSmall ? replaced : undefined,
    smallBeside: larger.toSorted((a, b) => b.bytes - a.bytes)[0],
    well: open.filter((guard) => !beside.includes(guard)).map(({ id }) => id),
  };
}

/** How much a snapshot holds, for people: `12,638 keys (1.2 MiB)`. */
export function describeSize({ firstDatabase }: SnapshotSize, bytesText: string): string {
  if (firstDatabase === undefined) return bytesText;
  const { db, keys } = firstDatabase;
  const where = db === undefined || db === 0 ? "" : ` in database ${db}`;
  return `${keys.toLocaleString("en-US")} ${keys === 1 ? "key" : "keys"}${where} (${bytesText})`;
}
