import { usageError } from "../../base/errors.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import type { OpenSlot } from "../ledger/layouts.ts";
import { type Arrival, arrivalsAt } from "./arrivals.ts";
import type { LateArrivals } from "./late-shards.ts";
import { type LayoutHistory, type Owners, SETTLE_MS, type ShardNews } from "./owners.ts";
import type { Cut } from "./shard-log.ts";
import { shardName } from "./shard-window.ts";
import { unseenBeginnings } from "./unseen-beginnings.ts";

interface Surroundings {
  readonly disk: Disk;
  readonly signal: AbortSignal;
}

/** What is known of a moment. */
export interface Settled {
  readonly owners: Owners;
  readonly news: readonly ShardNews[];
  readonly cuts: ReadonlyMap<number, Cut>;
  readonly atMs: number;
}

/** What became of slots of which keys may be in two shards: whose they are, and from where keys are taken. */
export interface MovingSlots {
  readonly owners: Owners;
  readonly open: readonly OpenSlot[];
  readonly arrivals: readonly Arrival[];
  readonly late: readonly LateArrivals[];
  readonly notes: readonly string[];
}

/**
 * Decides whose the slots are that were moving around a moment.
 * @param owners as layouts and logs have them.
 * @throws ReplicaError USAGE where a shard that has keys of an open slot keeps nothing; BAD_FRAME, DISK_FAILED; the
 * signal's reason.
 */
export async function movingSlots(
  history: LayoutHistory,
  { owners, news, cuts, atMs }: Settled,
  surroundings: Surroundings,
): Promise<MovingSlots> {
  const seen = stayingOpen(history, cuts, owners, atMs);
  const all = arrivalsAt(history, atMs, owners, news).filter(
    ({ slot, shard }) => !seen.some((one) => one.slot === slot && one.target === shard),
  );
  const unseen = await unseenBeginnings(history, all, cuts, atMs, surroundings);
  const given = new Map(unseen.given.map((one) => [one.slot, one]));
  // A slot is open between two shards: where it went on to a third one, to that.
  const open = new Map(unseen.open.map((one) => [one.slot, one]));
  const of = owners.of.map((owner, slot) => given.get(slot)?.shard ?? owner);
  const arrivals = all.filter(({ slot }) => !given.has(slot) && !open.has(slot));
  const opened = [...open.values()].map(({ slot, owner, shard, sinceMs }) => ({
    slot,
    source: owner,
    target: shard,
    fromMs: sinceMs,
    untilMs: undefined,
  }));
  const late = [...given.values()].map(({ slot, shard, sinceMs }) => ({
    shard,
    slots: [[slot, slot]] as const,
    fromMs: sinceMs,
    behind: cuts.get(shard)!.offset,
    untilMs: atMs + SETTLE_MS,
  }));
  const notes = [...given.values()].map(
    ({ slot, owner, shard }) =>
      `slot ${slot} counts as shard ${shardName(shard)}'s already: what is kept of that begins with keys of it, and shard ${shardName(owner)} had none any more`,
  );
  return { owners: { ...owners, of }, open: [...seen, ...opened], arrivals, late, notes };
}

/**
 * The slots of which a shard had keys already when what is kept of it begins: which keys came by the migration is not
 * known, so the slot stays open, as it was.
 * @throws ReplicaError USAGE where nothing is kept of that shard.
 */
function stayingOpen(
  history: LayoutHistory,
  cuts: ReadonlyMap<number, Cut>,
  owners: Owners,
  atMs: number,
): OpenSlot[] {
  const seen = history.openSlots(atMs - SETTLE_MS, atMs + SETTLE_MS);
  return seen.filter(({ slot, source, target, fromMs, untilMs }) => {
    if (owners.of[slot] !== source || owners.isAtomic(slot)) return false;
    const found = cuts.get(target);
    // A look may have come this much after the slot was opened.
    if (fromMs > atMs) return false;
    if (found !== undefined) {
      return found.log.beginMs > fromMs - SETTLE_MS && !found.log.beginsEmpty;
    }
    const until = untilMs === undefined ? "" : `, or ${shownTime(untilMs + SETTLE_MS)} or later`;
    throw usageError(
      `slot ${slot} was moving from shard ${shardName(source)} to ${shardName(target)}, of which nothing is kept for that moment: restore ${shownTime(fromMs - SETTLE_MS)} or earlier${until}`,
    );
  });
}
