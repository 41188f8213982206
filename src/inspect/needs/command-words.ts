import { type Keyed, keysOf, nameOf } from "../../store/rewrite/key-places.ts";
import type { SeenCommand } from "../../store/rewrite/log-commands.ts";

const CR = 0x0d;
const ZERO = 0x30;
/** Makes a small letter of a capital. Other bytes than letters may change: the name is compared after all. */
const SMALL = 0x20;

/** What came of the search for a word. */
type Sought = "found" | "none" | "more";

/** Finds words of one command after the other, without making anything: millions are looked at, and few are wanted. */
export class CommandWords {
  #bytes: Uint8Array = new Uint8Array(0);
  #end = 0;
  /** Where the head of the next word begins, and which one that is. */
  #at = 0;
  #next = 0;
  /** How many words the command has; 0 where its first line hasn't all come. */
  count = 0;
  /** Where the word that was found last begins and ends. */
  from = 0;
  to = 0;

  /** @param command as FrameScanner found it, or its beginning. */
  begin({ bytes, from, to }: Pick<SeenCommand, "bytes" | "from" | "to">): void {
    this.#bytes = bytes;
    this.#end = to;
    this.#at = from;
    this.#next = 0;
    const count = this.#number();
    this.count = this.#at > to ? 0 : count;
  }

  /** Finds a word that stands behind those that were found before. */
  seek(index: number): Sought {
    const end = this.#end;
    if (this.count === 0) return "more";
    if (index >= this.count) return "none";
    for (;;) {
      const length = this.#number();
      this.from = this.#at;
      this.to = this.from + length;
      if (this.from > end || this.to > end) return "more";
      this.#at = this.to + 2;
      if (this.#next++ === index) return "found";
    }
  }

  /** The number of a head (`*3`, `$5`), and what is behind its line end. */
  #number(): number {
    const bytes = this.#bytes;
    const end = this.#end;
    let value = 0;
    let at = this.#at + 1;
    for (; at < end && bytes[at] !== CR; at++) value = value * 10 + bytes[at]! - ZERO;
    this.#at = at + 2;
    return value;
  }
}

/** A command by its name. */
export interface KnownCommand {
  /** In lower case. */
  readonly name: string;
  readonly keyed: Keyed;
}

/** Finds out what commands do with their keys, by their names, as they are spelled. */
export class CommandNames {
  /** By a sum of the name's bytes. Two names with one sum take turns. */
  readonly #met = new Map<number, KnownCommand & { readonly spelled: Uint8Array }>();

  /** The command whose name stands there; undefined where it isn't known. */
  find(bytes: Uint8Array, from: number, to: number): KnownCommand | undefined {
    let sum = to - from;
    for (let at = from; at < to; at++) sum = (Math.imul(sum, 31) + (bytes[at]! | SMALL)) | 0;
    const met = this.#met.get(sum);
    if (met !== undefined && isSpelled(met.spelled, bytes, from, to)) return met;
    const spelled = bytes.slice(from, to);
    const name = nameOf(spelled);
    const keyed = name === undefined ? undefined : keysOf(name);
    if (name === undefined || keyed === undefined) return undefined;
    const found = { name, keyed, spelled };
    this.#met.set(sum, found);
    return found;
  }
}

function isSpelled(spelled: Uint8Array, bytes: Uint8Array, from: number, to: number): boolean {
  if (spelled.length !== to - from) return false;
  for (let at = 0; at < spelled.length; at++) {
    if (spelled[at] !== bytes[from + at]) return false;
  }
  return true;
}
