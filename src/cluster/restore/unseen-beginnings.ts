import type { Offset } from "../../base/history.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { removedKeys } from "../../store/rewrite/command-keys.ts";
import { commandsOfSlots } from "../../store/rewrite/slot-commands.ts";
import { rangesWhere, type SlotRange } from "../slots/slot-ranges.ts";
import type { Arrival } from "./arrivals.ts";
import { type LayoutHistory, LOOK_MS, ownersIn, SETTLE_MS } from "./owners.ts";
import { type Cut, offsetIn } from "./shard-log.ts";

interface Surroundings {
  readonly disk: Disk;
  readonly signal: AbortSignal;
}

/** What to do with slots of which keys came to a shard before anything that is kept of it. */
export interface UnseenBeginnings {
  /** All keys had left their owner by its cut: the slots are those of the shard that they went to. */
  readonly given: readonly Arrival[];
  /** Which keys are where is not known: the slots stay open. */
  readonly open: readonly Arrival[];
}

/**
 * Looks at migrations into shards whose oldest snapshot was taken about then: keys that are in that are in no log, so
 * nothing would give them back to the slot's owner. What the owner's own log removed tells what became of them.
 * @param cuts by the shard's number.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function unseenBeginnings(
  history: LayoutHistory,
  arrivals: readonly Arrival[],
  cuts: ReadonlyMap<number, Cut>,
  atMs: number,
  surroundings: Surroundings,
): Promise<UnseenBeginnings> {
  const [given, open]: [Arrival[], Arrival[]] = [[], []];
  const suspects = arrivals.filter(({ shard, sinceMs }) => {
    const log = cuts.get(shard)?.log;
    return log !== undefined && log.beginMs > sinceMs && !log.beginsEmpty;
  });
  const layouts = history
    .layouts(atMs - SETTLE_MS, atMs + SETTLE_MS + LOOK_MS)
    .map((layout) => ({ atMs: layout.atMs, of: ownersIn(layout) }));
  for (const group of Map.groupBy(suspects, ({ owner }) => owner).values()) {
    const source = cuts.get(group[0]!.owner);
    if (source === undefined) continue;
    const sinceMs = Math.min(...group.map((one) => one.sinceMs));
    const slots = rangesWhere((slot) => group.some((one) => one.slot === slot));
    const removals = await removalsIn(source, slots, { fromMs: sinceMs, atMs }, surroundings);
    for (const one of group) {
      const seen = layouts.find(({ of }) => of[one.slot] === one.shard);
      const removal = removals.get(one.slot);
      const targetBeginMs = cuts.get(one.shard)!.log.beginMs;
      const keptMs = Math.max(source.log.beginMs, targetBeginMs);
      const facts = {
        removal,
        gotMs: seen?.atMs,
        isSourceKnown:
          source.log.beginMs <= one.sinceMs || wasClosed(history, one, keptMs, removal),
        targetBeginMs,
      };
      const what = judge(facts, source.offset);
      if (what === "given") given.push(one);
      else if (what === "open") open.push(one);
    }
  }
  return { given, open };
}

/**
 * Whether a look came between the beginning of both logs and what first left the source, and didn't find the slot open:
 * then the migration began since, and the logs have all of it.
 */
function wasClosed(
  history: LayoutHistory,
  { slot }: Arrival,
  keptMs: number,
  removal: Removal | undefined,
): boolean {
  if (removal === undefined || removal.firstMs <= keptMs + LOOK_MS + SETTLE_MS) return false;
  return !history.openSlots(keptMs, keptMs + LOOK_MS).some((open) => open.slot === slot);
}

interface Facts {
  readonly removal: Removal | undefined;
  /** When a look first saw the slot as the target's. */
  readonly gotMs: number | undefined;
  /** Whether the source's log goes back to before the migration, as times or looks tell. */
  readonly isSourceKnown: boolean;
  readonly targetBeginMs: number;
}

function judge(
  { removal, gotMs, isSourceKnown, targetBeginMs }: Facts,
  cut: Offset,
): "given" | "open" | "in the log" {
  if (removal === undefined) {
    // The slot has moved, and the log doesn't show it: the source's snapshot is younger, or there was nothing to move.
    return gotMs !== undefined && !isSourceKnown ? "given" : "in the log";
  }
  // Nothing had left the source, or all that has left it came behind the target's snapshot.
  if (isSourceKnown && removal.first > cut) return "in the log";
  if (isSourceKnown && removal.firstMs > targetBeginMs + SETTLE_MS) return "in the log";
  return removal.last <= cut && removal.isLast && gotMs !== undefined ? "given" : "open";
}

/** How a source has removed keys of a slot. */
interface Removal {
  readonly first: Offset;
  readonly firstMs: number;
  readonly last: Offset;
  /** Whether nothing else was done to the slot behind. */
  readonly isLast: boolean;
}

async function removalsIn(
  { log, offset }: Cut,
  slots: readonly SlotRange[],
  { fromMs, atMs }: { readonly fromMs: number; readonly atMs: number },
  { disk, signal }: Surroundings,
): Promise<Map<number, Removal>> {
  const found = new Map<number, Removal>();
  // As far as all removals go before a look that is counted here.
  const until = Math.max(offset, log.offsetAt(atMs + SETTLE_MS + LOOK_MS + SETTLE_MS));
  for (const part of await log.parts(log.offsetAt(fromMs), until, { disk, signal })) {
    for await (const { slot, bytes, end } of commandsOfSlots(part, slots)) {
      const known = found.get(slot);
      const last = offsetIn(part, end);
      if (removedKeys(bytes) !== undefined) {
        const first = known?.first ?? last;
        const firstMs = known?.firstMs ?? log.timeOf(last);
        found.set(slot, { first, firstMs, last, isLast: true });
      } else if (known !== undefined) {
        found.set(slot, { ...known, isLast: false });
      }
    }
  }
  return found;
}
