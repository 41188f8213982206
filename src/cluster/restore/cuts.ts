import type { Offset } from "../../base/history.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { commandsOfSlots } from "../../store/rewrite/slot-commands.ts";
import { hasSlot, rangesWhere, slotsIn, type SlotRange } from "../slots/slot-ranges.ts";
import { latenessAt, lateSinceMs } from "./late-shards.ts";
import {
  type Finished,
  type LayoutHistory,
  NEWS_MS,
  newsTimes,
  type Owners,
  ownersAt,
  ownersIn,
  SETTLE_MS,
  type ShardNews,
} from "./owners.ts";
import { type Cut, offsetIn, type ShardLog } from "./shard-log.ts";

interface Surroundings {
  readonly disk: Disk;
  readonly signal: AbortSignal;
}

/** How long before a moment a source may have begun to remove what its target says later that it has. */
const REMOVAL_MS = 4_000;

/**
 * Moves cuts back so that no shard has lost keys to an atomic migration whose end lies behind the target's cut: it
 * doesn't count, so its source still owns the slots. The source removes the keys once the target has said that it has
 * them, and nothing orders their streams but that: the cuts move by no more than those lie apart, about a second.
 * @param cuts by the shard's number.
 * @returns the cuts, and the shards whose cut was moved.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function agreeingCuts(
  history: LayoutHistory,
  atMs: number,
  cuts: ReadonlyMap<number, Cut>,
  news: readonly ShardNews[],
  surroundings: Surroundings,
): Promise<{ readonly cuts: ReadonlyMap<number, Cut>; readonly moved: readonly number[] }> {
  const agreed = new Map(cuts);
  const moved = new Set<number>();
  const { sinceMs } = newsTimes(history, atMs);
  const layouts = history.layouts(sinceMs, atMs + NEWS_MS).map((layout) => ownersIn(layout));
  const sourceOf = async (target: number, end: Finished, owners: Owners | undefined) => {
    const slots = slotsOfEnd(end, target, layouts);
    for (const [source, { log, offset }] of agreed) {
      const own = rangesWhere((slot) => owners?.of[slot] === source && hasSlot(slots, slot));
      if (source === target || own.length === 0) continue;
      const lateMs = lateSinceMs([agreed.get(target)!.log], atMs);
      const from = log.offsetAt(Math.min(atMs - REMOVAL_MS, lateMs));
      // An end that comes late is taken for one only if no client is seen to reach the slots any more.
      const isLate = end.atMs > atMs + SETTLE_MS;
      const ahead = isLate ? Math.max(offset, log.offsetAt(atMs + SETTLE_MS)) : offset;
      const removal = await trailingRemoval(log, own, from, ahead, surroundings);
      if (removal !== undefined && removal < offset) return { source, log, offset: removal };
    }
    return undefined;
  };
  // A cut that moves may leave behind the end of another migration; offsets only fall, so this ends.
  for (let isSettled = false; !isSettled;) {
    isSettled = true;
    // Whoever owns the slots as things are cut now: whoever had them before has removed them for another reason.
    const owners = ownersAt(history, atMs, await countedNews(news, atMs, agreed, surroundings));
    for (const { shard: target, finished } of news) {
      for (const end of finished) {
        if (end.offset <= agreed.get(target)!.offset) continue;
        const found = await sourceOf(target, end, owners);
        if (found === undefined) continue;
        agreed.set(found.source, { log: found.log, offset: found.offset });
        moved.add(found.source);
        isSettled = false;
      }
    }
  }
  return { cuts: agreed, moved: [...moved] };
}

function slotsOfEnd(
  { ranges }: Finished,
  target: number,
  layouts: readonly (readonly number[])[],
): readonly SlotRange[] {
  if (ranges !== undefined) return ranges;
  const [first] = layouts;
  return rangesWhere(
    (slot) => first?.[slot] !== target && layouts.some((of) => of[slot] === target),
  );
}

/**
 * Where a log begins to do nothing but remove keys of some slots: what a source does once its slots have gone, when no
 * client reaches them any more. Undefined where it doesn't.
 */
async function trailingRemoval(
  log: ShardLog,
  slots: readonly SlotRange[],
  from: Offset,
  until: Offset,
  { disk, signal }: Surroundings,
): Promise<Offset | undefined> {
  let begin: Offset | undefined;
  for (const part of await log.parts(from, until, { disk, signal })) {
    for await (const command of commandsOfSlots(part, slots)) {
      if (!isUnlink(command.bytes)) begin = undefined;
      else begin ??= offsetIn(part, command.start);
    }
  }
  return begin;
}

/** Keys of slots that are gone are removed one by one, and by no DEL (measured with Valkey 9.1). */
function isUnlink(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, UNLINK.length));
  return head.toString("latin1").toUpperCase() === UNLINK;
}

const UNLINK = "*2\r\n$6\r\nUNLINK";

/**
 * What counts of the news where the logs are cut: what had not ended by then has brought nothing. Of a slot that has come to
 * several shards, those don't count that have begun to remove its keys: it has moved on, and times in marks don't say so.
 */
export async function countedNews(
  news: readonly ShardNews[],
  atMs: number,
  cuts: ReadonlyMap<number, Cut>,
  surroundings: Surroundings,
): Promise<ShardNews[]> {
  const counted = news.map((one) => {
    const { log, offset: cut } = cuts.get(one.shard)!;
    const late = latenessAt(log, atMs);
    const finished = one.finished.filter(({ offset }) => offset <= cut);
    const later = one.finished.filter(({ offset }) => offset > cut);
    const unfinished = [...one.unfinished, ...later.flatMap(({ ranges }) => ranges ?? [])];
    const pending = late === undefined ? [] : pendingOf(later, late.fromMs - SETTLE_MS);
    return { ...one, finished, pending, unfinished };
  });
  const passedOn = await slotsPassedOn(counted, cuts, surroundings);
  return counted.map((one) => {
    const gone = passedOn.get(one.shard);
    if (gone === undefined) return one;
    const holds = (ranges: readonly SlotRange[]) =>
      rangesWhere((slot) => hasSlot(ranges, slot) && !gone.has(slot));
    const finished = one.finished.map((end) => ({
      ...end,
      ranges: end.ranges && holds(end.ranges),
    }));
    return { ...one, finished };
  });
}

function pendingOf(ends: readonly Finished[], sinceMs: number) {
  return ends.map(({ ranges = [] }) => ({ ranges, sinceMs }));
}

/** By shard: the slots that have come to it and to another one, which has them now. */
async function slotsPassedOn(
  news: readonly ShardNews[],
  cuts: ReadonlyMap<number, Cut>,
  surroundings: Surroundings,
): Promise<Map<number, Set<number>>> {
  /** By slot: the shards that it came to, and where its last coming ends in their logs. */
  const comings = new Map<number, Map<number, Offset>>();
  for (const { shard, finished } of news) {
    for (const { ranges, offset } of finished) {
      for (const slot of slotsIn(ranges ?? [])) {
        comings.set(slot, (comings.get(slot) ?? new Map()).set(shard, offset));
      }
    }
  }
  const passedOn = new Map<number, Set<number>>();
  for (const [slot, shards] of comings) {
    if (shards.size < 2) continue;
    const gone: number[] = [];
    for (const [shard, from] of shards) {
      const { log, offset: cut } = cuts.get(shard)!;
      const removal = await trailingRemoval(log, [[slot, slot]], from, cut, surroundings);
      if (removal !== undefined) gone.push(shard);
    }
    // Somebody has it: where none does by this sign, the last that it came to.
    if (gone.length === shards.size) continue;
    for (const shard of gone) passedOn.set(shard, (passedOn.get(shard) ?? new Set()).add(slot));
  }
  return passedOn;
}
