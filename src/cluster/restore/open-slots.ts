import { encodeCommands } from "../../resp/encode.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { removedKeys, writtenKeys } from "../../store/rewrite/command-keys.ts";
import { firstKey } from "../../store/rewrite/first-key.ts";
import { changesOfSlots, commandsOfSlots } from "../../store/rewrite/slot-commands.ts";
import type { SlotRange } from "../slots/slot-ranges.ts";
import {
  idOf,
  type InDatabase,
  type Owner,
  restoringMissing,
  selecting,
  type Told,
} from "./appendix.ts";
import { Clockless } from "./clockless.ts";
import { offsetIn } from "./shard-log.ts";

/** Slots that stay open in the restored cluster, with the two shards that have keys of them. */
export interface OpenBetween {
  readonly slots: readonly SlotRange[];
  readonly source: Owner;
  readonly target: Owner;
  /** All shards but the target whose clients may have made keys of the slots since; undefined: the source alone. */
  readonly makers?: readonly Owner[];
}

interface Surroundings {
  readonly disk: Disk;
  readonly signal: AbortSignal;
}

const DEL = Buffer.from("DEL");

/** Removes from the source, behind its cut, what the target has at its own: the migration was about to. */
export function leavingSource(
  between: OpenBetween,
  surroundings: Surroundings,
): AsyncGenerator<Uint8Array> {
  return selecting(leaving(between, surroundings));
}

async function* leaving(
  { slots, target: { log, cut } }: OpenBetween,
  { disk, signal }: Surroundings,
): AsyncGenerator<InDatabase> {
  /** By database. */
  const live = new Map<number, Set<number>>();
  const parts = await log.parts(log.begin, cut, { disk, signal });
  for (const part of parts) {
    for await (const change of changesOfSlots(part, slots)) {
      const { db } = change;
      if (change.slot === "all") {
        if (change.everywhere) live.clear();
        live.delete(db);
        continue;
      }
      const keys = live.get(db) ?? new Set();
      live.set(db, keys);
      const removed = removedKeys(change.bytes);
      for (const one of removed ?? []) keys.delete(idOf(one, db));
      if (removed === undefined)
        for (const key of writtenKeys(change.bytes)) keys.add(idOf(key, db));
    }
  }
  for (const part of parts) {
    for await (const { bytes, db } of commandsOfSlots(part, slots)) {
      for (const key of writtenKeys(bytes)) {
        if (live.get(db)?.delete(idOf(key, db)) !== true) continue;
        yield { db, bytes: encodeCommands([[DEL, key]]) };
      }
    }
  }
}

/** Brings to the target, behind its cut, what had left the source before its own, and was on its way. */
export function reachingTarget(
  between: OpenBetween,
  told: Told,
  surroundings: Surroundings,
): AsyncGenerator<Uint8Array> {
  return selecting(reaching(between, told, surroundings));
}

async function* reaching(
  { slots, source, target: { log, cut, until }, makers = [source] }: OpenBetween,
  told: Told,
  { disk, signal }: Surroundings,
): AsyncGenerator<InDatabase> {
  const gone = new Set<number>();
  for (const part of await source.log.parts(source.since, source.cut, { disk, signal })) {
    for await (const { bytes, db } of commandsOfSlots(part, slots)) {
      const removed = removedKeys(bytes);
      for (const one of removed ?? []) gone.add(idOf(one, db));
      if (removed === undefined) for (const key of writtenKeys(bytes)) gone.delete(idOf(key, db));
    }
  }
  for (const maker of makers) await forgetMadeAnew(gone, maker, slots, { disk, signal });
  const clockless = new Clockless(log, new Set());
  for (const part of await log.parts(cut, until, { disk, signal })) {
    for await (const command of commandsOfSlots(part, slots)) {
      const key = firstKey(command.bytes);
      const isBehind = offsetIn(part, command.end) > cut && command.verb === "RESTORE-ASKING";
      if (!isBehind || typeof key === "string" || !gone.has(idOf(key, command.db))) continue;
      told.keys++;
      yield { db: command.db, bytes: restoringMissing(clockless.arrival(part, command)) };
    }
  }
}

/**
 * Takes out what a shard makes anew behind its cut: that was not on its way, or the shard would have sent its client to the
 * target. What arrives there later is this new one. What came to the shard by a migration had been on its way.
 */
async function forgetMadeAnew(
  gone: Set<number>,
  { log, cut, until }: Owner,
  slots: readonly SlotRange[],
  { disk, signal }: Surroundings,
): Promise<void> {
  const cameBack = new Set<number>();
  for (const part of gone.size === 0 ? [] : await log.parts(cut, until, { disk, signal })) {
    for await (const { bytes, db, verb, end } of commandsOfSlots(part, slots)) {
      if (offsetIn(part, end) <= cut || removedKeys(bytes) !== undefined) continue;
      for (const id of writtenKeys(bytes).map((key) => idOf(key, db))) {
        if (verb === "RESTORE-ASKING") cameBack.add(id);
        else if (!cameBack.has(id)) gone.delete(id);
      }
    }
  }
}
