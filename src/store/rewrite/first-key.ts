import { unreachable } from "../../base/errors.ts";
import { keysOf, MIGRATE_OPTIONS, nameOf, type Place, STREAM_OPTIONS } from "./key-places.ts";

const CR = 0x0d;
const ZERO = 0x30;

/** How many words of XREADGROUP stand before STREAMS, at most. */
const MAX_STREAMS_AT = 12;

const FIRST: Place = { at: "words", first: 1, last: 1, step: 1 };

/** What became of the search for a key: a view of it; none; or its bytes have not all come. */
export type FoundKey = Uint8Array | "none" | "more";

/**
 * Finds the first key of a command. In a cluster all keys of a command are in one slot, so the first tells it. A command
 * that isn't listed is one of a module or newer, and has its first key behind its name, as all of these have.
 * @param command one command, as FrameScanner found it, or its beginning.
 */
export function firstKey(command: Uint8Array): FoundKey {
  const words = new WordReader(command);
  const verb = words.word(0);
  return typeof verb === "string" ? verb : keyAt(words, placeOf(verb));
}

/**
 * Finds the key of a command that has one at most, by its name.
 * @param command as for `firstKey`.
 * @returns "unknown" for a command that may have more, or that isn't known.
 */
export function onlyKey(command: Uint8Array): FoundKey | "unknown" {
  const words = new WordReader(command);
  const verb = words.word(0);
  if (typeof verb === "string") return verb;
  const place = placeOf(verb);
  const isOnly = place !== FIRST && place.at === "words" && place.first === place.last;
  return isOnly ? words.word(place.first) : "unknown";
}

/** The name of a command, in lower case; undefined where it is too long for one. */
export function commandName(command: Uint8Array): string | undefined {
  return new WordReader(command).name(0);
}

/** What was asked for last: most commands have the verb of the one before. */
let last: { readonly verb: Uint8Array; readonly place: Place } | undefined;

function placeOf(verb: Uint8Array): Place {
  if (last !== undefined && areEqual(last.verb, verb)) return last.place;
  const name = nameOf(verb);
  const place = (name === undefined ? undefined : keysOf(name)?.place) ?? FIRST;
  if (name !== undefined) last = { verb: Uint8Array.from(verb), place };
  return place;
}

function areEqual(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false;
  return true;
}

function keyAt(words: WordReader, place: Place): FoundKey {
  switch (place.at) {
    case "none":
      return "none";
    case "words":
      return words.word(place.first);
    case "storing":
      return words.word(1);
    case "counted": {
      if (place.target !== undefined) return words.word(place.target);
      const count = words.word(place.count);
      if (typeof count === "string") return count;
      return count.length === 1 && count[0] === ZERO ? "none" : words.word(place.count + 1);
    }
    case "streams":
      return keyBehindStreams(words);
    case "migrate":
      return keyToMigrate(words);
    case "subcommand": {
      const name = words.name(1);
      if (name === "more") return "more";
      const inner = name === undefined ? undefined : place.places.get(name);
      return inner === undefined ? "none" : keyAt(words, inner.place);
    }
    default:
      return unreachable(place);
  }
}

function keyBehindStreams(words: WordReader): FoundKey {
  for (let at = 1; at <= MAX_STREAMS_AT; at++) {
    const name = words.name(at);
    if (name === "more") return "more";
    if (name === "streams") return words.word(at + 1);
    at += (name === undefined ? undefined : STREAM_OPTIONS.get(name)) ?? 0;
  }
  return "none";
}

function keyToMigrate(words: WordReader): FoundKey {
  const key = words.word(3);
  if (typeof key === "string" || key.length > 0) return key;
  for (let at = 6; ; at++) {
    const name = words.name(at);
    if (name === "more") return "more";
    if (name === undefined) return "none";
    if (name === "keys") return words.word(at + 1);
    at += MIGRATE_OPTIONS.get(name) ?? 0;
  }
}

/** Reads words of a command in ascending order, as views. */
class WordReader {
  readonly #command: Uint8Array;
  readonly #count: number;
  #at = 0;
  /** The word that begins at `#at`. */
  #next = 0;

  constructor(command: Uint8Array) {
    this.#command = command;
    const count = this.#number();
    // Of a line that hasn't all come nobody knows the number.
    this.#count = this.#at > command.length ? Infinity : count;
  }

  /** The word at an index that is higher than those asked for before. */
  word(index: number): FoundKey {
    if (index >= this.#count) return "none";
    const command = this.#command;
    for (;;) {
      const bytes = this.#number();
      const from = this.#at;
      if (from > command.length || from + bytes > command.length) return "more";
      this.#at = from + bytes + 2;
      if (this.#next++ === index) return command.subarray(from, from + bytes);
    }
  }

  /** A word in lower case; undefined where it is missing or too long for a name. */
  name(index: number): string | undefined {
    const word = this.word(index);
    if (word === "more") return "more";
    return word === "none" ? undefined : nameOf(word);
  }

  /** The number of a head (`*3`, `$5`) and what is behind its line end. */
  #number(): number {
    const command = this.#command;
    let value = 0;
    let at = this.#at + 1;
    for (; at < command.length && command[at] !== CR; at++) {
      value = value * 10 + command[at]! - ZERO;
    }
    this.#at = at + 2;
    return value;
  }
}
