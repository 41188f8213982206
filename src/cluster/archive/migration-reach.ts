import { usageError } from "../../base/errors.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { Layout, OpenSlot } from "../ledger/layouts.ts";
import type { ShardRecord } from "../ledger/shard-records.ts";
import { SLOTS } from "../slots/slot-ranges.ts";
import type { ArchivedHistory } from "./cluster-archive.ts";

/** A slot that changed hands as long before a moment as this may have news in a log. */
const NEWS_MS = 15_000;
/** Within this of a moment, nothing orders the streams of two shards. */
const SETTLE_MS = 2_000;
/** A look may come this much after what it sees, and a migration that no look saw open is shorter than that. */
const LOOK_MS = 3_000;

/** A shard that is part of a migration around a moment. */
export interface MigrationReach {
  /** From when on its stream counts, in milliseconds since 1970. */
  readonly sinceMs: number;
  /**
   * Of slots that it has got by a migration that was never seen open, and that still count as another's: when the migration
   * had ended, and may have begun.
   */
  readonly got: { readonly beganMs: number; readonly endedMs: number } | undefined;
}

/** The shards that are part of a migration around a moment, by their numbers. */
export function migrationsAround(
  { layouts, openSlots }: Pick<ArchivedHistory, "layouts" | "openSlots">,
  atMs: number,
): ReadonlyMap<number, MigrationReach> {
  const reaches = new Map<number, MigrationReach>();
  const add = (shard: number, sinceMs: number, got?: MigrationReach["got"]) => {
    const before = reaches.get(shard);
    reaches.set(shard, {
      sinceMs: Math.min(sinceMs, before?.sinceMs ?? Infinity),
      got: [got, before?.got]
        .filter((one) => one !== undefined)
        .reduce<MigrationReach["got"]>(
          (last, one) => (last === undefined || one.endedMs > last.endedMs ? one : last),
          undefined,
        ),
    });
  };
  const open = openSlots.filter(
    ({ fromMs, untilMs = Infinity }) =>
      fromMs <= atMs + SETTLE_MS && untilMs >= atMs - SETTLE_MS - LOOK_MS,
  );
  for (const { source, target, fromMs } of open) {
    for (const shard of [source, target]) add(shard, fromMs - SETTLE_MS - LOOK_MS);
  }
  for (const { layout, slot, from, to } of changesIn(layouts, atMs)) {
    add(from, atMs - NEWS_MS);
    const isUnseen = !open.some((one) => one.slot === slot && one.target === to);
    const isRecent = layout.atMs > atMs - SETTLE_MS && layout.atMs <= atMs + LOOK_MS;
    const ended = { beganMs: layout.atMs - SETTLE_MS - LOOK_MS, endedMs: layout.atMs };
    add(to, atMs - NEWS_MS, isUnseen && isRecent ? ended : undefined);
  }
  return reaches;
}

/**
 * Refuses a moment at which keys of a slot may lie in a shard whose stream from then isn't archived any more: they would be
 * lost. Slots that were seen open stay open then, which the restore sees to.
 * @param beginMs when what is archived of the shard's stream begins.
 * @throws ReplicaError USAGE that says which moments can be restored.
 */
export function refuseLost({ name }: ShardRecord, { got }: MigrationReach, beginMs: number): void {
  if (got === undefined || beginMs <= got.beganMs) return;
  throw usageError(
    `slots were moved to shard ${name} around then, and what came with them isn't in the archive any more: its log begins at ${shownTime(beginMs)}. Restore ${shownTime(got.endedMs + SETTLE_MS)} or later, or ${shownTime(got.beganMs)} or earlier`,
  );
}

interface Change {
  readonly layout: Layout;
  readonly slot: OpenSlot["slot"];
  readonly from: number;
  readonly to: number;
}

function* changesIn(layouts: readonly Layout[], atMs: number): Generator<Change, void> {
  const first = layouts.findLastIndex((one) => one.atMs <= atMs - NEWS_MS);
  // Between two looks of different directories nobody may own a slot. What nobody owned before came from nobody.
  const before = Array<number>(SLOTS).fill(0);
  for (const layout of layouts.slice(Math.max(0, first))) {
    if (layout.atMs > atMs + SETTLE_MS + LOOK_MS) return;
    const of = ownersIn(layout);
    for (let slot = 0; slot < SLOTS; slot++) {
      const [from, to] = [before[slot]!, of[slot]!];
      if (to === 0 || from === to) continue;
      before[slot] = to;
      if (from !== 0) yield { layout, slot, from, to };
    }
  }
}

function ownersIn({ slots }: Layout): number[] {
  const of = Array<number>(SLOTS).fill(0);
  for (const [shard, ranges] of slots) {
    for (const [first, last] of ranges) of.fill(shard, first, last + 1);
  }
  return of;
}
