/** A sealed generation, as far as it matters to what is kept. */
export interface SealedOne {
  readonly id: number;
  /** When it became current and when it was sealed, in lived time; milliseconds. */
  readonly currentLivedMs: number;
  readonly sealedLivedMs: number;
  readonly rdbBytes: number;
  /** Whether neither its snapshot nor its log holds anything. */
  readonly isBlank: boolean;
  /** Whether its snapshot had less than half of what an earlier generation had. */
  readonly isSmall: boolean;
}

export interface KeepRules {
  /** --keep */
  readonly keep: number;
  /** --keep-for; undefined: off. */
  readonly keepForMs: number | undefined;
  /** Lived time. */
  readonly nowMs: number;
  /** The guarded generations; whether as much is current again. */
  readonly guards: ReadonlyMap<number, { readonly isWell: boolean }>;
}

/** What is to become of the sealed generations. Ids, in the order in which they are to go. */
export interface KeepPlan {
  /** Nothing keeps them. */
  readonly due: readonly number[];
  /** Those that are not guarded, due or not: they may go where the disk has no room. */
  readonly spare: readonly number[];
  /** Guarded: the last ones to go where the disk has no room. */
  readonly last: readonly number[];
}

/** A generation that was current for less than this was current for moments. */
export const MOMENT_MS = 60_000;

/**
 * What to keep of the sealed generations, and in which order to let them go. One is kept if it
 *
 * - is guarded, or
 * - was current within `keepForMs` of lived time, unless it is blank behind a blank one: that one tells the same, or
 * - is among the newest `keep` ones, or among the newest `keep` ones of worth: not blank, not small, and current
 *   for more than moments.
 *
 * Under pressure of room, blank ones go first, then small ones and those of moments, then the others; oldest first
 * in each case. The guarded ones go last: first those beside which as much is current again, then small before large.
 * @param newestFirst the sealed generations.
 */
export function keepPlan(newestFirst: readonly SealedOne[], rules: KeepRules): KeepPlan {
  const { keep, keepForMs = 0, nowMs, guards } = rules;
  const isOfWorth = (one: SealedOne) =>
    !one.isBlank && !one.isSmall && one.sealedLivedMs - one.currentLivedMs >= MOMENT_MS;
  const counted = new Set([
    ...newestFirst.slice(0, keep),
    ...newestFirst.filter((one) => isOfWorth(one)).slice(0, keep),
  ]);
  const due: number[] = [];
  const spare: SealedOne[] = [];
  const last: SealedOne[] = [];
  // None was sealed after the next one, or in the future: rows of older versions have the wall clock's times.
  let sealedMs = nowMs;
  for (const [at, one] of newestFirst.entries()) {
    const tellsNothing = one.isBlank && newestFirst[at + 1]?.isBlank === true;
    sealedMs = Math.min(sealedMs, one.sealedLivedMs);
    const isYoung = nowMs - sealedMs < keepForMs && !tellsNothing;
    if (guards.has(one.id)) {
      last.push(one);
      continue;
    }
    spare.push(one);
    if (!counted.has(one) && !isYoung) due.push(one.id);
  }
  const rank = (one: SealedOne) => (one.isBlank ? 0 : isOfWorth(one) ? 2 : 1);
  const isWell = (one: SealedOne) => (guards.get(one.id)!.isWell ? 0 : 1);
  return {
    due: due.toReversed(),
    spare: spare.toSorted((a, b) => rank(a) - rank(b) || a.id - b.id).map(({ id }) => id),
    last: last
      .toSorted((a, b) => isWell(a) - isWell(b) || a.rdbBytes - b.rdbBytes || a.id - b.id)
      .map(({ id }) => id),
  };
}

/**
 * The order in which generations go where the disk has no room: first those that are archived, as `keepPlan` has them,
 * the guarded ones last if they may go; then those that the archive still lacks, oldest first, the guarded ones last.
 */
export function orderForRoom(
  { spare, last }: Pick<KeepPlan, "spare" | "last">,
  evenGuarded: boolean,
  isArchived: (id: number) => boolean,
): number[] {
  const guarded = evenGuarded ? last : [];
  const lacked = spare.filter((id) => !isArchived(id)).toSorted((a, b) => a - b);
  return [
    ...[...spare, ...guarded].filter((id) => isArchived(id)),
    ...lacked,
    ...guarded.filter((id) => !isArchived(id)),
  ];
}
