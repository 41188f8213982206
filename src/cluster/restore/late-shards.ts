import type { Offset } from "../../base/history.ts";
import {
  slotsIn,
  formatRanges,
  rangesWhere,
  hasSlot,
  type SlotRange,
} from "../slots/slot-ranges.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { removedKeys, writtenKeys } from "../../store/rewrite/command-keys.ts";
import { migrationEvents } from "../../store/rewrite/migration-events.ts";
import { commandsOfSlots } from "../../store/rewrite/slot-commands.ts";
import { idOf, type Told } from "./appendix.ts";
import { reachingTarget } from "./open-slots.ts";
import {
  type LayoutHistory,
  LOOK_MS,
  MAX_LATE_MS,
  ownersIn,
  SETTLE_MS,
  type ShardNews,
} from "./owners.ts";
import { type Cut, offsetIn, type ShardLog } from "./shard-log.ts";
import { shardName } from "./shard-window.ts";

interface Surroundings {
  readonly disk: Disk;
  readonly signal: AbortSignal;
}

/** A time around a moment within which nothing of a shard arrived: its link may have been down or slow. */
export interface Lateness {
  /** When the last of it had arrived, in milliseconds since 1970. */
  readonly fromMs: number;
  /** When more came; undefined where that is unknown or too far. */
  readonly untilMs: number | undefined;
}

/** Keys that came behind what is looked at anyway are looked for where a shard said nothing for this long after a moment. */
const SILENT_MS = 500;

/**
 * Undefined where something arrived in time. A primary without writes says something every ten seconds.
 * @param graceMs how long after the moment that may be.
 */
export function latenessAt(log: ShardLog, atMs: number, graceMs = SETTLE_MS): Lateness | undefined {
  const offset = log.offsetAt(atMs);
  const nextMs = log.timeOf(offset + 1);
  if (nextMs <= atMs + graceMs) return undefined;
  const fromMs = Math.max(Math.min(log.timeOf(offset), atMs), atMs - MAX_LATE_MS);
  return { fromMs, untilMs: nextMs <= atMs + MAX_LATE_MS ? nextMs : undefined };
}

/** Since when what other shards did may be missing in the log of a late one, in milliseconds since 1970. */
export function lateSinceMs(logs: Iterable<ShardLog>, atMs: number): number {
  return Math.min(...[...logs].map((log) => (latenessAt(log, atMs)?.fromMs ?? atMs) - SETTLE_MS));
}

/** Keys that came to a shard too late for the moment, by the slots that they are in. */
export interface LateArrivals {
  readonly shard: number;
  readonly slots: readonly SlotRange[];
  readonly fromMs: number;
  /** They came behind this offset of the shard. */
  readonly behind: Offset;
  /** They came by then, in milliseconds since 1970. */
  readonly untilMs: number;
}

/**
 * Finds the slots of which keys came by a classic migration once a late shard was heard of again.
 * @param cuts by the shard's number.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function lateArrivals(
  cuts: ReadonlyMap<number, Cut>,
  atMs: number,
  { disk, signal }: Surroundings,
): Promise<LateArrivals[]> {
  const found: LateArrivals[] = [];
  for (const [shard, { log, offset: cut }] of cuts) {
    const late = latenessAt(log, atMs, SILENT_MS);
    if (late?.untilMs === undefined) continue;
    const untilMs = late.untilMs + SETTLE_MS;
    const slots = new Set<number>();
    // What came sooner is found by those who look at what moved around the moment.
    const behind = Math.max(cut, log.offsetAt(atMs + SETTLE_MS));
    for (const part of await log.parts(behind, log.offsetAt(untilMs), { disk, signal })) {
      for await (const event of migrationEvents(part)) {
        if (event.kind !== "arrived" || offsetIn(part, event.command.end) <= behind) continue;
        slots.add(event.slot);
      }
    }
    const ranges = rangesWhere((slot) => slots.has(slot));
    if (ranges.length > 0)
      found.push({ shard, slots: ranges, fromMs: late.fromMs, behind, untilMs });
  }
  return found;
}

/**
 * What a shard's log needs of that behind its cut: keys of its slots that had left another shard before that one's cut,
 * and came late to where they were going.
 * @param owned the slots of the shard.
 */
export async function* bringLate(
  owned: readonly SlotRange[],
  late: readonly LateArrivals[],
  cuts: ReadonlyMap<number, Cut>,
  told: Told,
  surroundings: Surroundings,
): AsyncGenerator<Uint8Array> {
  for (const { shard, slots: all, fromMs, behind, untilMs } of late) {
    const slots = rangesWhere((slot) => hasSlot(all, slot) && hasSlot(owned, slot));
    if (slots.length === 0) continue;
    const endOf = ({ log, offset: cut }: Cut) => ({
      log,
      cut,
      since: log.offsetAt(fromMs - SETTLE_MS),
      until: log.offsetAt(untilMs),
    });
    const target = { ...endOf(cuts.get(shard)!), cut: behind };
    const makers = [...cuts].flatMap(([other, cut]) => (other === shard ? [] : [endOf(cut)]));
    for (const source of makers) {
      yield* reachingTarget({ slots, source, target, makers }, told, surroundings);
    }
  }
}

/**
 * Says of which slots keys may be missing, since they were moving to a shard of which no more was heard.
 * @throws ReplicaError BAD_FRAME, DISK_FAILED; the signal's reason.
 */
export async function lateNotes(
  history: LayoutHistory,
  cuts: ReadonlyMap<number, Cut>,
  atMs: number,
  news: readonly ShardNews[],
  surroundings: Surroundings,
): Promise<string[]> {
  const notes: string[] = [];
  for (const [shard, target] of cuts) {
    const { log } = target;
    const late = latenessAt(log, atMs);
    // Of one that was heard of again, the keys are found; what came just now was all.
    if (late === undefined || late.untilMs !== undefined) continue;
    if (late.fromMs > atMs - SETTLE_MS) continue;
    const sinceMs = late.fromMs - SETTLE_MS;
    const whole = news.find((one) => one.shard === shard)?.finished ?? [];
    const moving = movingTo(shard, history, sinceMs, atMs);
    for (const [source, all] of moving) {
      const cut = cuts.get(source);
      const isWhole = (slot: number) => whole.some(({ ranges }) => hasSlot(ranges ?? [], slot));
      const slots = rangesWhere((slot) => hasSlot(all, slot) && !isWhole(slot));
      if (cut === undefined) continue;
      if (!(await lacksKeys({ source: cut, target, slots, sinceMs }, surroundings))) continue;
      notes.push(
        `nothing came of shard ${shardName(shard)} while slots ${formatRanges(slots)} were moving to it from shard ${shardName(source)}: keys that had left there may be missing`,
      );
    }
  }
  return notes;
}

/** By source: the slots that were moving to a shard, or had moved, within some time. */
function movingTo(
  shard: number,
  history: LayoutHistory,
  fromMs: number,
  toMs: number,
): Map<number, SlotRange[]> {
  const sourceOf = new Map<number, number>();
  for (const { slot, source, target } of history.openSlots(fromMs, toMs)) {
    if (target === shard) sourceOf.set(slot, source);
  }
  let before: readonly number[] | undefined;
  for (const layout of history.layouts(fromMs, toMs + LOOK_MS)) {
    for (const slot of slotsIn(layout.slots.get(shard) ?? [])) {
      const source = before?.[slot] ?? shard;
      if (source !== shard && source !== 0) sourceOf.set(slot, source);
    }
    before = ownersIn(layout);
  }
  return new Map(
    [...new Set(sourceOf.values())].map((source) => [
      source,
      rangesWhere((slot) => sourceOf.get(slot) === source),
    ]),
  );
}

interface Moving {
  readonly source: Cut;
  readonly target: Cut;
  readonly slots: readonly SlotRange[];
  readonly sinceMs: number;
}

/** Whether the source has removed keys that didn't come to the target. */
async function lacksKeys(
  { source, target, slots, sinceMs }: Moving,
  { disk, signal }: Surroundings,
): Promise<boolean> {
  const came = new Set<number>();
  const { log } = target;
  const fromMs = sinceMs - SETTLE_MS;
  for (const part of await log.parts(log.offsetAt(fromMs), target.offset, { disk, signal })) {
    for await (const { bytes, db } of commandsOfSlots(part, slots)) {
      for (const key of writtenKeys(bytes)) came.add(idOf(key, db));
    }
  }
  const from = source.log.offsetAt(sinceMs);
  for (const part of await source.log.parts(from, source.offset, { disk, signal })) {
    for await (const { bytes, db } of commandsOfSlots(part, slots)) {
      if (removedKeys(bytes)?.some((key) => !came.has(idOf(key, db))) === true) return true;
    }
  }
  return false;
}
