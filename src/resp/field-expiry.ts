import type { Words } from "./absolute-expiry.ts";
import {
  type Around,
  AROUND_FIELD,
  AROUND_SORT,
  FAR_MS,
  type Script,
} from "./field-expiry-scripts.ts";
import type { Verb } from "./verbs.ts";

const HPEXPIREAT = Buffer.from("HPEXPIREAT");
const EVALSHA = Buffer.from("EVALSHA");
const XX = Buffer.from("XX");
const FAR = Buffer.from(String(FAR_MS));
const ONE = Buffer.from("1");
/** The length of HPERSIST, the longest verb or option here. */
const LONGEST_NAME = 8;
/** A copy of what is sorted, which is there for the SORT alone. A random name: a key of the user's can't have it. */
const SORTED_COPY = Buffer.from("replica-sorted-0c1b9a4fd2e84d6a8f5e37c86b1d9a20");

/** What tells whether a log depends on the expiry of hash fields. */
export interface FieldExpirySigns {
  /** The verbs that occur in the log, as far as `Verb` names them. */
  readonly verbs: ReadonlySet<Verb>;
  /** The snapshot's aux fields `redis-ver` and `valkey-ver`: "8.0.2". */
  readonly redisVersion: string | undefined;
  readonly valkeyVersion: string | undefined;
}

/**
 * Whether such a log may replay differently once hash fields are due. Redis knows their expiry since 7.4; an
 * older snapshot doesn't tell, since its primary may have been upgraded. Valkey ignores every expiry while it
 * loads ("Valkey 9.1, expire.c": getExpirationPolicyWithFlags).
 */
export function dependsOnFieldExpiries(signs: FieldExpirySigns): boolean {
  const { verbs } = signs;
  if (signs.valkeyVersion !== undefined) return false;
  if (verbs.has("HPERSIST") || verbs.has("HSETEX")) return true;
  return (verbs.has("HINCRBY") && canRevive(verbs)) || (verbs.has("SORT") && mayExpire(signs));
}

/** Whether a field that was due at some time can live on: by another expiry, or none. */
function canRevive(verbs: ReadonlySet<Verb>): boolean {
  return verbs.has("HPERSIST") || verbs.has("HPEXPIREAT");
}

/** Whether any field can have an expiry. */
function mayExpire({ verbs, redisVersion }: FieldExpirySigns): boolean {
  const [, major = "0", minor = "0"] = /^(\d+)\.(\d+)/.exec(redisVersion ?? "") ?? [];
  const isNewEnough = Number(major) * 1000 + Number(minor) >= 7_004;
  return isNewEnough || verbs.has("HSETEX") || canRevive(verbs);
}

/** Whether a command of this verb, with `args` words, may depend on a field's expiry; only then read its words. */
export function mayDependOnFieldExpiry(verb: Verb | undefined, args: number): boolean {
  switch (verb) {
    case "HINCRBY":
      return args === 4;
    case "HPERSIST":
      return args >= 5;
    case "HSETEX":
      return args >= 7;
    case "SORT":
      return args >= 6;
    default:
      return false;
  }
}

/**
 * Replaces the commands that look at the clock while a server loads them, so that they do what they did on the
 * primary, however late they are replayed. A loading Redis keeps a field that is due, but hides it from
 * HPERSIST, HINCRBY, the FXX of HSETEX, and SORT ("Redis 8.0, t_hash.c": hashTypeGetValue, hpersistCommand).
 * A primary streams a command only where it took effect, so the field that it names was alive:
 *
 * - HPERSIST: first an expiry far ahead, for those fields that have one;
 * - HSETEX with FXX: the same without FXX, which was fulfilled;
 * - HINCRBY, and SORT that reads fields and stores: a script before it lifts the expiry of what is due, and
 *   one after it makes that due again. Nothing but the server knows by then what is due.
 *
 * Scripts are loaded before their first use, so one instance belongs to one log.
 */
export class FieldExpiries {
  readonly #countsRight: boolean;
  readonly #sortsRight: boolean;
  readonly #loaded = new Set<Script>();

  /**
   * @param signs of the log. HINCRBY counts wrong on a field that is due, but that shows only if the field
   * lives on; where none can, it stays as it is, and the log needs no script.
   */
  constructor(signs: FieldExpirySigns) {
    this.#countsRight = !canRevive(signs.verbs);
    this.#sortsRight = !mayExpire(signs);
  }

  /** @returns the commands that replace it; `undefined` where there is nothing to change. */
  clockless(words: Words): Words[] | undefined {
    switch (capitals(words[0])) {
      case "HPERSIST":
        return fromPersist(words);
      case "HSETEX":
        return fromSetex(words);
      case "HINCRBY":
        if (this.#countsRight) return undefined;
        return this.#around(AROUND_FIELD, words[1]!, [words[2]!], words);
      case "SORT":
        return this.#sortsRight ? undefined : this.#fromSort(words);
      default:
        return undefined;
    }
  }

  /** The destination may replace what is sorted, which names the hashes, so a copy of it is kept. */
  #fromSort(words: Words): Words[] | undefined {
    const patterns = storedPatterns(words);
    if (patterns.length === 0) return undefined;
    return this.#around(AROUND_SORT, SORTED_COPY, patterns.flat(), words, {
      first: [Buffer.from("COPY"), words[1]!, SORTED_COPY, Buffer.from("REPLACE")],
      last: [Buffer.from("DEL"), SORTED_COPY],
    });
  }

  /** The command, between lifting and lowering, and those between two others. */
  #around(
    { before, after }: Around,
    key: Uint8Array,
    args: Words,
    words: Words,
    outer?: { readonly first: Words; readonly last: Words },
  ): Words[] {
    const run = ({ sha1 }: Script) => [EVALSHA, sha1, ONE, key, ...args];
    const inner = [run(before), words, run(after)];
    const commands = outer === undefined ? inner : [outer.first, ...inner, outer.last];
    const missing = [before, after].filter((script) => !this.#loaded.has(script));
    for (const script of missing) this.#loaded.add(script);
    return [...missing.map(({ load }) => load), ...commands];
  }
}

function fromPersist(words: Words): Words[] | undefined {
  const [, key, ...fields] = words;
  return key && [[HPEXPIREAT, key, FAR, XX, ...fields], words];
}

/** The conditions stand between the key and FIELDS; behind that, FXX is a field's name or value. */
function fromSetex(words: Words): Words[] | undefined {
  const end = words.findIndex((word, index) => index >= 2 && capitals(word) === "FIELDS");
  const at = words.findIndex((word, index) => index >= 2 && capitals(word) === "FXX");
  if (at < 0 || at > end) return undefined;
  return [words.filter((_, index) => index !== at)];
}

/** The parts of the patterns that read fields, of a SORT that stores; of any other, none. */
function storedPatterns(words: Words): Uint8Array[][] {
  const patterns: Uint8Array[][] = [];
  let stores = false;
  for (let index = 2; index < words.length; index++) {
    switch (capitals(words[index])) {
      case "STORE":
        stores = true;
        index++;
        break;
      case "LIMIT":
        index += 2;
        break;
      case "BY":
      case "GET": {
        const parts = partsOfPattern(words[++index]);
        if (parts !== undefined) patterns.push(parts);
        break;
      }
      default:
    }
  }
  return stores ? patterns : [];
}

/** Splits `before*behind->field` ("Redis, sort.c": lookupKeyByPattern); undefined where it names no field. */
function partsOfPattern(pattern: Uint8Array | undefined): Uint8Array[] | undefined {
  if (pattern === undefined) return undefined;
  const bytes = Buffer.from(pattern.buffer, pattern.byteOffset, pattern.byteLength);
  const star = bytes.indexOf("*");
  const arrow = star < 0 ? -1 : bytes.indexOf("->", star + 1);
  if (arrow < 0 || arrow + 2 === bytes.length) return undefined;
  return [bytes.subarray(0, star), bytes.subarray(star + 1, arrow), bytes.subarray(arrow + 2)];
}

function capitals(word: Uint8Array | undefined): string | undefined {
  if (word === undefined || word.length > LONGEST_NAME) return undefined;
  return Buffer.from(word.buffer, word.byteOffset, word.byteLength)
    .toString("latin1")
    .toUpperCase();
}
