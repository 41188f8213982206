import { Glob } from "../../base/glob.ts";
import { latin1At, latin1Of } from "../../resp/frame-words.ts";
import { NameSet } from "./name-set.ts";

/** Which keys are wanted. */
export interface Selection {
  /** Redis globs; a key is wanted if any of them matches. Text: its bytes in UTF-8 are what is matched. */
  readonly patterns: readonly string[];
  /** The one database to look in; undefined: all of them. */
  readonly db: number | undefined;
  /** The only keys that may be wanted, whatever the patterns; undefined: any. */
  readonly among?: KeyNames | undefined;
}

/** Names of keys, in whatever database. */
export interface KeyNames {
  has(key: Uint8Array): boolean;
}

/** A pattern that is more than a name, and the bytes that every key which it matches begins and ends with. */
interface Pattern {
  /** Its bytes, one character each. */
  readonly name: string;
  readonly glob: Glob;
  readonly prefix: Uint8Array;
  readonly suffix: Uint8Array;
  /** A star alone: servers list an empty key then, though their matching says that it doesn't match one. */
  readonly isAny: boolean;
}

/** Matches keys, byte by byte, against several patterns, and remembers which of them matched anything. */
export class KeyMatcher {
  readonly #texts: readonly string[];
  /** Patterns that are the name of one key: there may be thousands. */
  readonly #literals = new NameSet();
  readonly #patterns: readonly Pattern[];
  readonly #db: number | undefined;
  readonly #among: KeyNames | undefined;
  /** The patterns that a key has met, as their bytes, one character each. */
  readonly #met = new Set<string>();

  constructor({ patterns, db, among }: Selection) {
    this.#db = db;
    this.#among = among;
    this.#texts = patterns;
    const others: Pattern[] = [];
    for (const text of new Set(patterns)) {
      const bytes = Buffer.from(text);
      const special = bytes.findIndex((byte) => SPECIAL.has(byte));
      if (special === -1) this.#literals.add(bytes);
      else others.push(patternOf(bytes, special));
    }
    this.#patterns = others;
  }

  /** Whether a key is chosen. */
  chooses(db: number, key: Uint8Array): boolean {
    return (this.#db === undefined || this.#db === db) && this.matches(key);
  }

  /** Whether any pattern matches, in whatever database. */
  matches(key: Uint8Array): boolean {
    return this.matchesAt(key, 0, key.length);
  }

  /** The same for a key that is a part of some bytes. */
  matchesAt(bytes: Uint8Array, from: number, to: number): boolean {
    if (!this.#matchesPattern(bytes, from, to)) return false;
    return this.#among === undefined || this.#among.has(bytes.subarray(from, to));
  }

  #matchesPattern(bytes: Uint8Array, from: number, to: number): boolean {
    if (this.#literals.hasAt(bytes, from, to)) return true;
    let text: string | undefined;
    for (const { isAny, prefix, suffix, glob } of this.#patterns) {
      if (isAny) return true;
      if (!beginsWith(bytes, from, to, prefix)) continue;
      if (!beginsWith(bytes, to - suffix.length, to, suffix)) continue;
      if (glob.matches((text ??= latin1At(bytes, from, to)))) return true;
    }
    return false;
  }

  /** Remembers which patterns match a key that was found; see `unmet`. */
  meet(key: Uint8Array): void {
    const text = latin1Of(key);
    if (this.#literals.hasAt(key, 0, key.length)) this.#met.add(text);
    for (const { name, prefix, glob, isAny } of this.#patterns) {
      if (!isAny && !beginsWith(key, 0, key.length, prefix)) continue;
      if (!this.#met.has(name) && (isAny || glob.matches(text))) this.#met.add(name);
    }
  }

  /** The patterns that no key has met. */
  get unmet(): string[] {
    return this.#texts.filter((text) => !this.#met.has(latin1Of(Buffer.from(text))));
  }
}

function patternOf(bytes: Buffer, prefixBytes: number): Pattern {
  const name = latin1Of(bytes);
  const prefix = bytes.subarray(0, prefixBytes);
  // What stands behind a bracket or a backslash needn't be what it is.
  const literal = /[[\\]/.test(name) ? "" : /[^*?]*$/.exec(name)![0];
  const suffix = bytes.subarray(bytes.length - literal.length);
  return { name, glob: new Glob(name), prefix, suffix, isAny: /^\*+$/.test(name) };
}

/** The bytes that a pattern gives a meaning of their own: `* ? [ \`. */
const SPECIAL = new Set(Buffer.from("*?[\\"));

function beginsWith(bytes: Uint8Array, from: number, to: number, prefix: Uint8Array): boolean {
  if (from < 0 || to - from < prefix.length) return false;
  for (let at = 0; at < prefix.length; at++) if (bytes[from + at] !== prefix[at]) return false;
  return true;
}
