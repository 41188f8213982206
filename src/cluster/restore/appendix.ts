import type { Offset } from "../../base/history.ts";
import type { Words } from "../../resp/absolute-expiry.ts";
import { encodeCommands, selectCommand } from "../../resp/encode.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import type { Verb } from "../../resp/verbs.ts";
import type { Disk } from "../../store/disk/disk.ts";
import { removedKeys, writtenKeys } from "../../store/rewrite/command-keys.ts";
import { commandName, firstKey } from "../../store/rewrite/first-key.ts";
import {
  changesOfSlots,
  commandsOfSlots,
  type Flush,
  type SlotCommand,
} from "../../store/rewrite/slot-commands.ts";
import { sweepCommand } from "../../store/rewrite/slot-sweep.ts";
import { rangesWhere, type SlotRange, SLOTS } from "../slots/slot-ranges.ts";
import { Clockless, restoreWords } from "./clockless.ts";
import { offsetIn, type ShardLog } from "./shard-log.ts";

/** Commands that the log of another shard has on slots which count as this one's. */
export interface Borrowed {
  readonly log: ShardLog;
  /** By slot: the migration began behind this offset. */
  readonly since: ReadonlyMap<number, Offset>;
  /** From here on keys may not have left their owner yet. */
  readonly recent: Offset;
  /** The other shard's own cut. */
  readonly cut: Offset;
  /** How far keys are looked for that have left their owner, and arrive in the other log behind its cut. */
  readonly until: Offset;
}

const ascii = (text: string) => Buffer.from(text, "latin1");
const RESTORE = ascii("RESTORE");
const REPLACE = ascii("REPLACE");
const DEL = ascii("DEL");
const MSET = ascii("MSET");
const EVAL = ascii("EVAL");
const ONE = ascii("1");

/**
 * Restores a key unless it is there. A server that loads runs scripts as its default user, and may crash where that
 * user isn't allowed a command: so it is asked first, but for Valkey from 9.0 on, as in the sweep of slots.
 */
const RESTORE_MISSING = ascii(`local may = redis.acl_check_cmd
if not may or (redis.VALKEY_VERSION_NUM or 0) >= 589824 then may = function() return true end end
if not (may('EXISTS', KEYS[1]) and may('RESTORE', KEYS[1], '0', '')) then
  return redis.error_reply('ERR the default user must be allowed to run RESTORE to bring back the keys of a migration')
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('RESTORE', KEYS[1], unpack(ARGV)) end`);

interface Surroundings {
  readonly disk: Disk;
  readonly signal: AbortSignal;
}

/** What an appendix had to do, for people. */
export interface Told {
  /** Keys that a migration had taken away, and that are brought back. */
  keys: number;
}

/** An encoded command, and the database that it is for. */
export interface InDatabase {
  readonly db: number;
  readonly bytes: Uint8Array;
}

/** Selects the database of each command before it; they begin in database 0, and end there. */
export async function* selecting(commands: AsyncIterable<InDatabase>): AsyncGenerator<Uint8Array> {
  let selected = 0;
  for await (const { db, bytes } of commands) {
    if (db !== selected) yield selectCommand(db);
    selected = db;
    yield bytes;
  }
  if (selected !== 0) yield selectCommand(0);
}

/** The shard whose log gets the appendix. */
export interface Owner {
  readonly log: ShardLog;
  readonly cut: Offset;
  /** In time before any of the migrations. */
  readonly since: Offset;
  /** How far keys are looked for that are on their way back to it at the cut. */
  readonly until: Offset;
}

/**
 * The commands behind a shard's log: what other shards got of its slots, and the removal of all keys in slots that it
 * doesn't own.
 */
export async function* appendixOf(
  owner: Owner,
  borrowed: readonly Borrowed[],
  foreign: readonly SlotRange[],
  told: Told,
  surroundings: Surroundings,
): AsyncGenerator<Uint8Array> {
  yield* selecting(returned(owner, borrowed, told, surroundings));
  // In every database.
  if (foreign.length > 0) yield encodeCommands([sweepCommand(foreign)]);
}

/** What other shards got of a shard's slots. */
async function* returned(
  owner: Owner,
  borrowed: readonly Borrowed[],
  told: Told,
  surroundings: Surroundings,
): AsyncGenerator<InDatabase> {
  const all: Stays[] = [];
  for (const one of borrowed) all.push(await staysIn(one, all.length, surroundings));
  const { cameBack, arrived, comeLater } = await returnsTo(owner, borrowed, surroundings);
  for (const stays of all) {
    // A key that was made in the other shard never left its owner, and yet comes back to it.
    const hasCome = (slot: number, key: number, db: number): boolean => {
      const at = arrived.get(key);
      if (at === undefined) return false;
      return !stays.holds(slot, key, db) || owner.log.timeOf(at) >= stays.cameMs(key);
    };
    // A key can be moved on to a third shard, or back: then it counts where it is, and is repeated once.
    const counts = (slot: number, key: number, db: number): boolean => {
      if (cameBack.has(key) || hasCome(slot, key, db)) return false;
      const others = all.filter((other) => other !== stays && other.hasTouched(key));
      if (!stays.holds(slot, key, db)) return others.length === 0 && !comeLater.has(key);
      return others.every((other) => !other.holds(slot, key, db) || stays.isAfter(other, key));
    };
    yield* giveBack(stays, counts, told, surroundings);
  }
  // What arrives behind the cuts only if it is nowhere else: so at last.
  for (const { borrowed: one, slots } of all) yield* arrivingLater(one, slots, told, surroundings);
  if (borrowed.length > 0) yield* arrivingLater(owner, slotsOf(borrowed), told, surroundings);
}

/** The keys of borrowed slots that came to their owner. */
interface Returns {
  /** They had left it before, and were back by its cut. */
  readonly cameBack: ReadonlySet<number>;
  /** All that came and are there at its cut, by where they came last. */
  readonly arrived: ReadonlyMap<number, Offset>;
  /** They come behind its cut. */
  readonly comeLater: ReadonlySet<number>;
}

async function returnsTo(
  { log, cut, since, until }: Owner,
  borrowed: readonly Borrowed[],
  { disk, signal }: Surroundings,
): Promise<Returns> {
  const [left, cameBack, comeLater] = [new Set<number>(), new Set<number>(), new Set<number>()];
  const arrived = new Map<number, Offset>();
  if (borrowed.length === 0) return { cameBack, arrived, comeLater };
  for (const part of await log.parts(since, until, { disk, signal })) {
    for await (const command of commandsOfSlots(part, slotsOf(borrowed))) {
      const isBefore = offsetIn(part, command.end) <= cut;
      if (command.verb !== "RESTORE-ASKING") {
        for (const key of (isBefore && removedKeys(command.bytes)) || []) {
          left.add(idOf(key, command.db));
          cameBack.delete(idOf(key, command.db));
          arrived.delete(idOf(key, command.db));
        }
        continue;
      }
      const key = firstKey(command.bytes);
      if (typeof key === "string") continue;
      const id = idOf(key, command.db);
      if (!isBefore) comeLater.add(id);
      else arrived.set(id, offsetIn(part, command.end));
      if (isBefore && left.has(id)) cameBack.add(id);
    }
  }
  return { cameBack, arrived, comeLater };
}

/** Keys that were on their way at the cut of a shard, and had left the other one before its own. */
async function* arrivingLater(
  { log, cut, until }: Pick<Borrowed, "log" | "cut" | "until">,
  slots: readonly SlotRange[],
  told: Told,
  { disk, signal }: Surroundings,
): AsyncGenerator<InDatabase> {
  const clockless = new Clockless(log, new Set());
  for (const part of await log.parts(cut, until, { disk, signal })) {
    for await (const command of commandsOfSlots(part, slots)) {
      if (offsetIn(part, command.end) <= cut || command.verb !== "RESTORE-ASKING") continue;
      told.keys++;
      yield { db: command.db, bytes: restoringMissing(clockless.arrival(part, command)) };
    }
  }
}

function slotsOf(borrowed: readonly Borrowed[]): SlotRange[] {
  return rangesWhere((slot) => borrowed.some((one) => one.since.has(slot)));
}

async function staysIn(
  borrowed: Borrowed,
  rank: number,
  { disk, signal }: Surroundings,
): Promise<Stays> {
  const { log, cut, until } = borrowed;
  const stays = new Stays(borrowed, rank);
  for (const part of await log.parts(stays.from, until, { disk, signal })) {
    for await (const command of changesOfSlots(part, stays.slots)) {
      const end = offsetIn(part, command.end);
      if (command.slot === "all") {
        if (end <= cut) stays.flush(command, end);
      } else if (end <= cut) stays.look(command, end);
      else if (command.verb === "RESTORE-ASKING") stays.lookBehind(command, end);
    }
  }
  return stays;
}

/** @param counts whether a key counts as it is there; else it is elsewhere, and nothing of it is repeated. */
async function* giveBack(
  stays: Stays,
  counts: (slot: number, key: number, db: number) => boolean,
  told: Told,
  { disk, signal }: Surroundings,
): AsyncGenerator<InDatabase> {
  const { log, recent, cut } = stays.borrowed;
  /** The keys that the migration has touched. */
  const touched = new Set<number>();
  const clockless = new Clockless(log, stays.verbs);
  for (const part of await log.parts(stays.from, cut, { disk, signal })) {
    for await (const command of commandsOfSlots(part, stays.slots)) {
      const end = offsetIn(part, command.end);
      const { db, slot } = command;
      if (end <= stays.beginOf(slot, db)) continue;
      const keys = writtenKeys(command.bytes);
      const counting = keys.filter((key) => counts(slot, idOf(key, db), db));
      if (counting.length === 0) continue;
      const fresh = counting.filter((key) => !touched.has(idOf(key, db)));
      for (const key of fresh) touched.add(idOf(key, db));
      if (command.verb === "RESTORE-ASKING") {
        told.keys++;
        // Before, the owner has deleted what has left it: a key that is still there wasn't migrated, and is newer.
        const words = clockless.arrival(part, command);
        yield { db, bytes: end > recent ? restoring(words) : restoringMissing(words) };
        continue;
      }
      // A key that was made in the other shard was missing here by then.
      if (fresh.length > 0 && end > recent) yield { db, bytes: encodeCommands([[DEL, ...fresh]]) };
      const replacing = clockless.replacing(part, command);
      if (replacing !== undefined) yield { db, bytes: encodeCommands(replacing) };
      else if (counting.length === keys.length) yield { db, bytes: command.bytes };
      else yield { db, bytes: onlyOf(command.bytes, counting) };
    }
  }
}

/** What a command does to some of its keys, where it can be told apart: the others are elsewhere. */
function onlyOf(bytes: Uint8Array, keys: readonly Uint8Array[]): Uint8Array {
  if (removedKeys(bytes) !== undefined) return encodeCommands([[DEL, ...keys]]);
  const name = commandName(bytes);
  if (name !== "mset" && name !== "msetnx") return bytes;
  const words = wordsOf(bytes);
  const id = (key: Uint8Array) => idOf(key, 0);
  const wanted = new Set(keys.map(id));
  const kept = words.filter((_, at) => at > 0 && wanted.has(id(words[at - ((at + 1) % 2)]!)));
  return encodeCommands([[MSET, ...kept]]);
}

/** Keys are many, and a number takes less room. Two with the same would have to meet within one migration. */
export function idOf(key: Uint8Array, db: number): number {
  return Number(Bun.hash(key, db));
}

/**
 * Finds out where the present stay of each slot begins in a shard that doesn't own it. It had no key of the slot then;
 * so a stay has ended where the last of its keys is removed, and what removes a key that was never seen belongs to an
 * earlier one. Commands of an ended stay must not be repeated: its keys have gone back to their owner.
 */
class Stays {
  readonly borrowed: Borrowed;
  readonly slots: readonly SlotRange[];
  readonly from: Offset;
  /** Of the commands on the slots, as far as `Verb` names them. */
  readonly verbs = new Set<Verb>();
  readonly #rank: number;
  /** By place: where an earlier stay has ended. */
  readonly #begins = new Map<number, Offset>();
  /** By place: the keys that are there, and whether they came by the migration. */
  readonly #live = new Map<number, Map<number, boolean>>();
  /** The keys that were there at some time, or arrive later, and where they came last. */
  readonly #touched = new Map<number, Offset>();

  /** @param rank differs from that of all others. */
  constructor(borrowed: Borrowed, rank: number) {
    this.borrowed = borrowed;
    this.#rank = rank;
    this.slots = rangesWhere((slot) => borrowed.since.has(slot));
    this.from = Math.min(...borrowed.since.values());
  }

  /** The offset behind which the present stay of a slot's keys begins, in one of the databases. */
  beginOf(slot: number, db: number): Offset {
    return this.#begins.get(placeOf(slot, db)) ?? this.borrowed.since.get(slot) ?? Infinity;
  }

  /** Whether a key of a slot is there at the cut. */
  holds(slot: number, key: number, db: number): boolean {
    return this.#live.get(placeOf(slot, db))?.has(key) === true;
  }

  hasTouched(key: number): boolean {
    return this.#touched.has(key);
  }

  /** Whether a key that both hold came here later. Where their marks don't tell, either may be taken, but not both. */
  isAfter(other: Stays, key: number): boolean {
    const [own, others] = [this.cameMs(key), other.cameMs(key)];
    return own === others ? this.#rank > other.#rank : own > others;
  }

  /** When a key came here last, in milliseconds since 1970. */
  cameMs(key: number): number {
    return this.borrowed.log.timeOf(this.#touched.get(key) ?? 0);
  }

  /** Takes note of a key that arrives behind the cut. */
  lookBehind({ bytes, db }: SlotCommand, end: Offset): void {
    const key = firstKey(bytes);
    if (typeof key === "string" || this.hasTouched(idOf(key, db))) return;
    this.#touched.set(idOf(key, db), end);
  }

  look({ slot, verb, bytes, db }: SlotCommand, end: Offset): void {
    if (end <= this.beginOf(slot, db)) return;
    if (verb !== undefined) this.verbs.add(verb);
    const place = placeOf(slot, db);
    const live = this.#live.get(place) ?? new Map<number, boolean>();
    this.#live.set(place, live);
    const removed = removedKeys(bytes);
    if (removed === undefined) {
      const arrives = verb === "RESTORE-ASKING";
      for (const key of writtenKeys(bytes)) {
        const id = idOf(key, db);
        live.set(id, arrives || live.get(id) === true);
        if (arrives || !this.#touched.has(id)) this.#touched.set(id, end);
      }
      return;
    }
    const wereSeen = removed.map((key) => live.delete(idOf(key, db)));
    if (live.size > 0 && wereSeen.includes(true)) return;
    // Not all that makes a key names it, as commands of modules: while keys are there that came, the stay goes on.
    if (live.values().some((arrived) => arrived)) return;
    live.clear();
    this.#begins.set(place, end);
  }

  /** All keys of a database are gone at once, or of all of them. */
  flush({ db, everywhere }: Flush, end: Offset): void {
    for (const [place, live] of this.#live) {
      if (!everywhere && !isInDatabase(place, db)) continue;
      live.clear();
      this.#begins.set(place, end);
    }
  }
}

/** A slot in one of the databases. */
function placeOf(slot: number, db: number): number {
  return db * SLOTS + slot;
}

function isInDatabase(place: number, db: number): boolean {
  return Math.floor(place / SLOTS) === db;
}

/** `RESTORE-ASKING key ttl payload [ABSTTL] [REPLACE] …` as an ordinary command. */
function restoring(arrival: Words): Uint8Array {
  const [, ...words] = restoreWords(arrival);
  return encodeCommands([[RESTORE, ...words, REPLACE]]);
}

/** The same for a key that is missing. */
export function restoringMissing(arrival: Words): Uint8Array {
  const [, key, ...words] = restoreWords(arrival);
  return encodeCommands([[EVAL, RESTORE_MISSING, ONE, key!, ...words]]);
}
