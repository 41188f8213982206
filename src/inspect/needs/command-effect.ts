import { printableBytes } from "../../base/printable.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import { type CommandKeys, commandKeys, isIndependent } from "../../store/rewrite/command-keys.ts";
import type { PlacedWords, Writes } from "../../store/rewrite/key-places.ts";
import { bytesOf, MORE, type SeenCommand } from "../../store/rewrite/log-commands.ts";
import { CommandNames, CommandWords, type KnownCommand } from "./command-words.ts";
import { KeySpans } from "./key-spans.ts";

/** What a command of a log does to keys. */
export type Effect =
  /** Nothing. */
  | { readonly on: "nothing" }
  /** It changes one key, from that key alone: the bytes of the command that are its name. */
  | OneKey
  /** It changes each of its keys by itself: any of them may be left out. */
  | SeveralKeys<"each">
  /** It makes some of its keys from others. */
  | (SeveralKeys<"group"> & {
      /** Which of the keys it writes, by number, or all of them. */
      readonly written: "all" | number;
      /** Why it needs more than these keys; undefined where it doesn't. */
      readonly obstacle: string | undefined;
    })
  /** It removes or moves all keys of a database, or of slots. */
  | { readonly on: "database" }
  /** Nobody can say from its words. */
  | { readonly on: "anything"; readonly why: string };

interface OneKey {
  readonly on: "key";
  readonly from: number;
  readonly to: number;
}

interface SeveralKeys<On> {
  readonly on: On;
  readonly keys: KeySpans;
}

const NOTHING: Effect = { on: "nothing" };
const DATABASE: Effect = { on: "database" };
/** HIMPORT SET makes a hash of fields that HIMPORT PREPARE, which has no key, named before on the same link. */
const FIELDS_ELSEWHERE: Effect = {
  on: "anything",
  why: "HIMPORT makes hashes whose fields stand in another command",
};

/** Finds out what commands do to keys. For most it makes nothing: millions come. */
export class EffectReader {
  readonly #names = new CommandNames();
  readonly #words = new CommandWords();
  readonly #one = { on: "key" as const, from: 0, to: 0 };
  readonly #keys = new KeySpans();
  readonly #each = { on: "each" as const, keys: this.#keys };
  readonly #group = {
    on: "group" as const,
    keys: this.#keys,
    written: "all" as "all" | number,
    obstacle: undefined as string | undefined,
  };

  /**
   * Finds out what a command does to keys.
   * @param seen the command, or its beginning; the result tells parts of its bytes.
   * @returns the effect, which is good until the next call; MORE where the beginning doesn't tell.
   */
  read(seen: SeenCommand): Effect | typeof MORE {
    const { bytes } = seen;
    const words = this.#words;
    words.begin(seen);
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
    if (!seen.isWhole) return MORE;
    if (place.at === "words" && touches === "keys") return this.#placed(known, place, bytes);
    const all = wordsOf(bytesOf(seen));
    const keys = commandKeys(all);
    return keys === undefined ? unknownCommand(all[0]!) : this.#effectOn(keys, bytes);
  }

  /** The keys stand at fixed words. */
  #placed({ name, keyed }: KnownCommand, place: PlacedWords, bytes: Uint8Array): Effect {
    const words = this.#words;
    const keys = this.#keys;
    keys.begin(bytes);
    const last = place.last < 0 ? words.count + place.last : place.last;
    for (let at = place.first; at <= last; at += place.step) {
      if (words.seek(at) !== "found") break;
      keys.add(words.from, words.to);
    }
    return this.#decide(keyed.writes, isIndependent(name), undefined);
  }

  #effectOn(keys: CommandKeys, bytes: Uint8Array): Effect {
    if (keys.touches === "database") return DATABASE;
    if (keys.name === "himport") return FIELDS_ELSEWHERE;
    this.#keys.begin(bytes);
    for (const { byteOffset, length } of keys.keys) {
      const from = byteOffset - bytes.byteOffset;
      this.#keys.add(from, from + length);
    }
    const obstacle = keys.touches === "pattern" ? READS_PATTERN : undefined;
    return this.#decide(keys.writes, keys.isIndependent, obstacle);
  }

  #decide(writes: Writes, isEach: boolean, obstacle: string | undefined): Effect {
    if (this.#keys.length === 0) return NOTHING;
    if (this.#keys.length === 1 && obstacle === undefined) {
      this.#one.from = this.#keys.from(0);
      this.#one.to = this.#keys.to(0);
      return this.#one;
    }
    if (isEach) return this.#each;
    // What a primary streams writes something; the rest of this kind would change nothing.
    if (writes === "none") return NOTHING;
    this.#group.written = writes === "all" ? "all" : writes === "first" ? 0 : this.#keys.length - 1;
    this.#group.obstacle = obstacle;
    return this.#group;
  }
}

const READS_PATTERN = "SORT reads keys whose names come from a pattern (BY, GET)";

/** The keys that a command writes, of those that make some from others. */
export function writtenOf({ keys, written }: Extract<Effect, { on: "group" }>): Uint8Array[] {
  return written === "all" ? keys.views() : [keys.view(written)];
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
