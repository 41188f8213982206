import { printableBytes } from "../../base/printable.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import { type CommandKeys, commandKeys } from "../../store/rewrite/command-keys.ts";
import { MORE } from "../../store/rewrite/log-commands.ts";
import { CommandNames, CommandWords } from "./command-words.ts";

/** What a command of a log does to keys. */
export type Effect =
  /** Nothing. */
  | { readonly on: "nothing" }
  /** It changes one key, from that key alone: the bytes of the command that are its name. */
  | OneKey
  /** It changes each of its keys by itself: any of them may be left out. */
  | { readonly on: "each"; readonly keys: CommandKeys; readonly words: readonly Uint8Array[] }
  /** It makes some of its keys from others. */
  | {
      readonly on: "group";
      readonly written: readonly Uint8Array[];
      readonly all: readonly Uint8Array[];
      /** Why it needs more than these keys; undefined where it doesn't. */
      readonly obstacle: string | undefined;
    }
  /** It removes or moves all keys of a database, or of slots. */
  | { readonly on: "database" }
  /** Nobody can say from its words. */
  | { readonly on: "anything"; readonly why: string };

interface OneKey {
  readonly on: "key";
  readonly from: number;
  readonly to: number;
}

const NOTHING: Effect = { on: "nothing" };
const DATABASE: Effect = { on: "database" };
/** HIMPORT SET makes a hash of fields that HIMPORT PREPARE, which has no key, named before on the same link. */
const FIELDS_ELSEWHERE: Effect = {
  on: "anything",
  why: "HIMPORT makes hashes whose fields stand in another command",
};

/** Finds out what commands do to keys. Most have one key, and for those it makes nothing: millions come. */
export class EffectReader {
  readonly #names = new CommandNames();
  readonly #words = new CommandWords();
  readonly #one = { on: "key" as const, from: 0, to: 0 };

  /**
   * Finds out what a command does to keys.
   * @param bytes one command, as FrameScanner found it, or its beginning; the result holds views of it.
   * @returns the effect, which is good until the next call; MORE where the beginning doesn't tell.
   */
  read(bytes: Uint8Array, isWhole: boolean): Effect | typeof MORE {
    const words = this.#words;
    words.begin(bytes);
    if (words.seek(0) !== "found") return MORE;
    const known = this.#names.find(bytes, words.from, words.to);
    if (known === undefined) return unknownCommand(bytes.subarray(words.from, words.to));
    const { name, keyed } = known;
    const { touches, place } = keyed;
    if (touches === "database") return DATABASE;
    if (touches === "script") return keyed.writes === "none" ? NOTHING : scriptCommand(name);
    if (place.at === "none") return NOTHING;
    // DEL with one key is such a command, too.
    const last = place.at !== "words" || place.last >= 0 ? undefined : words.count + place.last;
    if (place.at === "words" && (last ?? place.last) === place.first) {
      const sought = words.seek(place.first);
      if (sought !== "found") return sought === "none" ? NOTHING : MORE;
      this.#one.from = words.from;
      this.#one.to = words.to;
      return this.#one;
    }
    if (!isWhole) return MORE;
    const all = wordsOf(bytes);
    const keys = commandKeys(all);
    return keys === undefined ? unknownCommand(all[0]!) : this.#effectOn(keys, all, bytes);
  }

  #effectOn(keys: CommandKeys, words: readonly Uint8Array[], bytes: Uint8Array): Effect {
    if (keys.touches === "database") return DATABASE;
    if (keys.name === "himport") return FIELDS_ELSEWHERE;
    const [first] = keys.keys;
    if (first === undefined) return NOTHING;
    if (keys.keys.length === 1 && keys.touches === "keys") {
      this.#one.from = first.byteOffset - bytes.byteOffset;
      this.#one.to = this.#one.from + first.length;
      return this.#one;
    }
    return keys.isIndependent ? { on: "each", keys, words } : groupOf(keys);
  }
}

function groupOf(keys: CommandKeys): Effect {
  const written = writtenOf(keys);
  // What a primary streams writes something; the rest of this kind would change nothing.
  if (written.length === 0) return NOTHING;
  const obstacle =
    keys.touches === "pattern"
      ? "SORT reads keys whose names come from a pattern (BY, GET)"
      : undefined;
  return { on: "group", written, all: keys.keys, obstacle };
}

function writtenOf({ keys, writes }: CommandKeys): readonly Uint8Array[] {
  if (writes === "all") return keys;
  if (writes === "none") return [];
  return writes === "first" ? keys.slice(0, 1) : keys.slice(-1);
}

/** A script may touch keys that it doesn't name. */
function scriptCommand(name: string): Effect {
  return {
    on: "anything",
    why: `${name.toUpperCase()} runs a script, which may touch keys that it doesn't name`,
  };
}

const MAX_SHOWN = 40;

function unknownCommand(name: Uint8Array): Effect {
  const why = `${printableBytes(name, MAX_SHOWN)} isn't known here, so neither are the keys that it touches`;
  return { on: "anything", why };
}

/** The words that follow a key of MSET and its like, the key included. */
const PAIRED = new Set(["mset", "msetnx", "msetex"]);
/** The word that counts the keys of MSETEX. */
const COUNT_AT = 1;

/**
 * The same command with some of its keys.
 * @returns undefined where none of them is wanted.
 */
export function withKeys(
  { name, keys, words: indexes }: CommandKeys,
  words: readonly Uint8Array[],
  isWanted: (key: Uint8Array) => boolean,
): readonly Uint8Array[] | undefined {
  const wordsEach = PAIRED.has(name) ? 2 : 1;
  const out = new Set<number>();
  let left = 0;
  keys.forEach((key, at) => {
    if (isWanted(key)) return;
    left++;
    for (let word = 0; word < wordsEach; word++) out.add(indexes[at]! + word);
  });
  if (left === keys.length) return undefined;
  if (left === 0) return words;
  const kept = words.filter((_, index) => !out.has(index));
  if (name === "msetex") kept[COUNT_AT] = Buffer.from(String(keys.length - left));
  return kept;
}
