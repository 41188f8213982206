import { unreachable } from "../../base/errors.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import { commandName, firstKey } from "./first-key.ts";
import {
  type Keyed,
  keysOf,
  MIGRATE_OPTIONS,
  nameOf,
  type Options,
  type Place,
  STREAM_OPTIONS,
  type Touches,
  type Writes,
} from "./key-places.ts";

/** What a command works on. */
export interface CommandKeys {
  /** In lower case. */
  readonly name: string;
  readonly touches: Touches;
  /** Every key that the command names, to write or to read, in their order; the same one twice where it is named twice. */
  readonly keys: readonly Uint8Array[];
  /** For each key which word it is; the verb is word 0. */
  readonly words: readonly number[];
  /** Which of the keys it writes, if its words alone say that. */
  readonly writes: Writes;
  /**
   * Whether it does the same to each key as one with this key alone would, as primaries stream it: DEL, MSET. So any of them
   * can be left out. MSETNX and MSETEX count: a primary streams none that a condition held back.
   */
  readonly isIndependent: boolean;
  /** The database in which the written key is, where that isn't the selected one: of MOVE and COPY … DB. */
  readonly intoDb: number | undefined;
}

const INDEPENDENT = new Set([
  "del",
  "unlink",
  "touch",
  "exists",
  "mget",
  "mset",
  "msetnx",
  "msetex",
]);
/** COPY source destination [DB number] [REPLACE]. */
const FIRST_COPY_OPTION = 3;

/**
 * Finds all keys of a command, those that it writes and those that it only reads.
 * @param words a whole command's; what doesn't make sense in them has no keys.
 * @returns views of the words; undefined for a command that isn't known: one of a module, or a newer one.
 */
export function commandKeys(words: readonly Uint8Array[]): CommandKeys | undefined {
  const name = nameOf(words[0]!);
  const known = name === undefined ? undefined : keysOf(name);
  if (name === undefined || known === undefined) return undefined;
  const keyed = known.place.at === "subcommand" ? subcommandOf(words, known.place.places) : known;
  if (keyed === undefined) return undefined;
  const { indexes, storesInLast } = keyWords(words, keyed.place);
  const isStoring = keyed.place.at === "storing";
  const touches = usesPattern(name, words) ? "pattern" : keyed.touches;
  const intoDb = otherDatabase(name, words);
  const hasOne = indexes.length === 1 && touches === "keys" && intoDb === undefined;
  return {
    name,
    touches,
    keys: indexes.map((index) => words[index]!),
    words: indexes,
    writes: isStoring && !storesInLast ? "none" : keyed.writes,
    isIndependent: hasOne || isIndependent(name),
    intoDb,
  };
}

/** Whether a command of several keys does the same to each as one with this key alone would. @param name in lower case. */
export function isIndependent(name: string): boolean {
  return INDEPENDENT.has(name);
}

/** A container's subcommand; undefined where it isn't known. */
function subcommandOf(
  words: readonly Uint8Array[],
  places: ReadonlyMap<string, Keyed>,
): Keyed | undefined {
  const name = words[1] === undefined ? undefined : nameOf(words[1]);
  return name === undefined ? undefined : places.get(name);
}

interface Found {
  readonly indexes: readonly number[];
  /** Whether an option names the last one as the key that is written. */
  readonly storesInLast: boolean;
}

function keyWords(words: readonly Uint8Array[], place: Place): Found {
  switch (place.at) {
    case "none":
    case "subcommand":
      return found([]);
    case "words": {
      const { first, last, step } = place;
      return found(range(first, last < 0 ? words.length + last : last, step, words.length));
    }
    case "counted": {
      const { count, step, target } = place;
      const first = count + 1;
      const keys = range(first, first + (numberIn(words[count]) - 1) * step, step, words.length);
      return found(target === undefined ? keys : [target, ...keys]);
    }
    case "streams":
      return found(behindStreams(words));
    case "storing": {
      const store = storeKey(words, place.options);
      return { indexes: store === undefined ? [1] : [1, store], storesInLast: store !== undefined };
    }
    case "migrate":
      return found(migrated(words));
    default:
      return unreachable(place);
  }
}

function found(indexes: readonly number[]): Found {
  return { indexes, storesInLast: false };
}

function range(first: number, last: number, step: number, count: number): number[] {
  const indexes: number[] = [];
  for (let at = first; at <= last && at < count; at += step) indexes.push(at);
  return indexes;
}

/** XREAD and XREADGROUP name as many streams as ids behind them. */
function behindStreams(words: readonly Uint8Array[]): number[] {
  for (let at = 1; at < words.length; at++) {
    const name = nameOf(words[at]!);
    if (name === "streams") {
      const first = at + 1;
      return range(first, first + (words.length - first) / 2 - 1, 1, words.length);
    }
    at += (name === undefined ? undefined : STREAM_OPTIONS.get(name)) ?? 0;
  }
  return [];
}

/** Of several, servers take the last. */
function storeKey(words: readonly Uint8Array[], { from, store, values }: Options) {
  let key: number | undefined;
  for (let at = from; at < words.length; at++) {
    const name = nameOf(words[at]!);
    if (name === undefined) continue;
    if (store.has(name) && at + 1 < words.length) key = ++at;
    else at += values.get(name) ?? 0;
  }
  return key;
}

function migrated(words: readonly Uint8Array[]): number[] {
  if (words[3] === undefined) return [];
  if (words[3].length > 0) return [3];
  for (let at = 6; at < words.length; at++) {
    const name = nameOf(words[at]!);
    if (name === "keys") return range(at + 1, words.length - 1, 1, words.length);
    at += (name === undefined ? undefined : MIGRATE_OPTIONS.get(name)) ?? 0;
  }
  return [];
}

/** SORT reads other keys where BY has a pattern, and GET one that isn't "#" ("Redis, sort.c"). */
function usesPattern(name: string, words: readonly Uint8Array[]): boolean {
  if (name !== "sort" && name !== "sort_ro") return false;
  for (let at = 2; at + 1 < words.length; at++) {
    const option = nameOf(words[at]!);
    const value = words[at + 1]!;
    if (option === "by" && value.includes(STAR)) return true;
    if (option === "get" && !(value.length === 1 && value[0] === HASH)) return true;
    if (option === "limit") at += 2;
    else if (option === "by" || option === "get" || option === "store") at++;
  }
  return false;
}

const STAR = 0x2a;
const HASH = 0x23;

function otherDatabase(name: string, words: readonly Uint8Array[]): number | undefined {
  if (name === "move") return numberIn(words[2]);
  if (name !== "copy") return undefined;
  for (let at = FIRST_COPY_OPTION; at + 1 < words.length; at++) {
    if (nameOf(words[at]!) === "db") return numberIn(words[at + 1]);
  }
  return undefined;
}

/** A plain number; NaN for other words. */
function numberIn(word: Uint8Array | undefined): number {
  const text = word === undefined ? undefined : nameOf(word);
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : NaN;
}

/**
 * Finds the keys that a command may make, change or remove; those that it only reads may be missing. The first one comes
 * first. Of a command that isn't known, only that one is.
 * @param command a whole command, as FrameScanner found it.
 * @returns views of it; none where it has no key.
 */
export function writtenKeys(command: Uint8Array): Uint8Array[] {
  const first = firstKey(command);
  if (typeof first === "string") return [];
  const name = commandName(command);
  const keyed = name === undefined ? undefined : keysOf(name);
  if (keyed === undefined || keyed.writes === "first" || hasOneKey(keyed.place)) return [first];
  return [...(commandKeys(wordsOf(command))?.keys ?? [])];
}

/** Most commands do: their other words needn't be looked at. */
function hasOneKey(place: Place): boolean {
  return place.at === "words" ? place.first === place.last : place.at === "subcommand";
}

/** The keys of a DEL or UNLINK; undefined for any other command. */
export function removedKeys(bytes: Uint8Array): Uint8Array[] | undefined {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, HEAD_BYTES));
  if (!/^\*\d+\r\n\$(?:3\r\ndel|6\r\nunlink)\r\n/i.test(head.toString("latin1"))) return undefined;
  return wordsOf(bytes).slice(1);
}

/** Holds the name of a command of removal. */
const HEAD_BYTES = 40;
