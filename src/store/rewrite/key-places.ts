import { latin1Of } from "../../resp/frame-words.ts";

/** An entry in the list of Redis's commands. Containers have an entry for each subcommand. */
interface Listed {
  /** The word of its first key, the verb being word 0; 0 where it has none, or where that depends on its arguments. */
  readonly keyStart: number;
  /** The word of its last key; -1 is the last word. */
  readonly keyStop: number;
  readonly step: number;
  readonly flags: readonly string[];
  readonly subcommands?: Readonly<Record<string, Listed>>;
}

/** Where a command's keys are. The verb is word 0. */
export type Place =
  | PlacedWords
  /** Behind the number of keys; `target` is a key that stands before it. */
  | {
      readonly at: "counted";
      readonly count: number;
      readonly step: number;
      readonly target?: number;
    }
  /** The first half of what follows STREAMS. */
  | { readonly at: "streams" }
  /** Word 1, and behind an option. */
  | { readonly at: "storing"; readonly options: Options }
  /** Word 3, or where that is empty all words behind KEYS. */
  | { readonly at: "migrate" }
  | { readonly at: "subcommand"; readonly places: ReadonlyMap<string, Keyed> }
  | { readonly at: "none" };

/** From one word on, to another one (from the end where negative: -1 is the last word). */
export interface PlacedWords {
  readonly at: "words";
  readonly first: number;
  readonly last: number;
  readonly step: number;
}

/** The options of a command that writes where one of them says. */
export interface Options {
  /** The first word that may be one. */
  readonly from: number;
  /** Those that the key follows. */
  readonly store: ReadonlySet<string>;
  /** How many words belong to the others; none to those that aren't here. */
  readonly values: ReadonlyMap<string, number>;
}

/** Which of its keys a command writes. Those that it writes it may read as well. */
export type Writes = "all" | "first" | "last" | "none";

/**
 * What a command works on. `keys`: the keys that its words name, and nothing else. `pattern`: other keys as well, whose names
 * come from a pattern and the data. `script`: what the script does with the keys. `database`: all keys of a database, or
 * of slots. `none`: no keys.
 */
export type Touches = "keys" | "pattern" | "script" | "database" | "none";

export interface Keyed {
  readonly place: Place;
  readonly touches: Touches;
  readonly writes: Writes;
}

const NONE: Place = { at: "none" };
const KEYLESS: Keyed = { place: NONE, touches: "none", writes: "none" };
const WHOLE_DATABASE: Keyed = { place: NONE, touches: "database", writes: "all" };
const words = (first: number, last = first, step = 1): Place => ({
  at: "words",
  first,
  last,
  step,
});
const counted = (count: number, step = 1): Place => ({ at: "counted", count, step });

const written = (place: Place): Keyed => ({ place, touches: "keys", writes: "all" });
const read = (place: Place): Keyed => ({ place, touches: "keys", writes: "none" });
const script = (writes: Writes): Keyed => ({ place: counted(2), touches: "script", writes });

function each(names: string, keyed: Keyed): [string, Keyed][] {
  return names.split(" ").map((name) => [name, keyed]);
}

/** GEORADIUS and GEORADIUSBYMEMBER ("Redis, db.c": georadiusGetKeys). */
function storesRadius(from: number): Keyed {
  const values = new Map([["count", 1]]);
  const options = { from, store: new Set(["store", "storedist"]), values };
  return { place: { at: "storing", options }, touches: "keys", writes: "last" };
}

/** SORT ("Redis, db.c": sortGetKeys). */
const SORT: Keyed = {
  place: {
    at: "storing",
    options: {
      from: 2,
      store: new Set(["store"]),
      values: new Map([
        ["limit", 2],
        ["get", 1],
        ["by", 1],
      ]),
    },
  },
  touches: "keys",
  writes: "last",
};

/** Those whose keys depend on their arguments, that the list lacks, and that have no keys of data though it says so. */
const SPECIAL: readonly (readonly [name: string, keyed: Keyed])[] = [
  ...each("eval evalsha fcall", script("all")),
  ...each("eval_ro evalsha_ro fcall_ro", script("none")),
  ...each("blmpop bzmpop", written(counted(2))),
  ...each("lmpop zmpop", written(counted(1))),
  ["msetex", written(counted(1, 2))],
  ...each("sdiffcard sintercard sunioncard zdiff zinter zintercard zunion", read(counted(1))),
  ...each("zdiffstore zinterstore zunionstore", {
    place: { at: "counted", count: 2, step: 1, target: 1 },
    touches: "keys",
    writes: "first",
  }),
  ["xread", read({ at: "streams" })],
  ["xreadgroup", written({ at: "streams" })],
  ["sort", SORT],
  ["sort_ro", { ...SORT, writes: "none" }],
  ["georadius", storesRadius(6)],
  ["georadiusbymember", storesRadius(5)],
  ["migrate", written({ at: "migrate" })],
  ["copy", { place: words(1, 2), touches: "keys", writes: "last" }],
  ["delifeq", written(words(1))],
  // Of one key it renews what that caches of its count ("Redis, hyperloglog.c").
  ["pfcount", written(words(1, -1))],
  ["debug", KEYLESS],
  ...each("flushall flushdb swapdb trimslots", WHOLE_DATABASE),
  // Channels, and the word of a service's own command that stands where others have their key.
  ...each("spublish ssubscribe sunsubscribe opinfo", KEYLESS),
];

/** Subcommands that aren't in the list, or are there without what they do to keys. */
const SPECIAL_SUBCOMMANDS: Readonly<Record<string, readonly (readonly [string, Keyed])[]>> = {
  cluster: each("flushslot syncslots", WHOLE_DATABASE),
};

let known: ReadonlyMap<string, Keyed> | undefined;

/**
 * Where the keys of a command are, and what it does with them.
 * @param name in lower case.
 * @returns undefined for a command that isn't known: one of a module, or a newer one.
 */
export function keysOf(name: string): Keyed | undefined {
  // The list is long: it is read once something asks.
  known ??= findKnown();
  return known.get(name);
}

function findKnown(): ReadonlyMap<string, Keyed> {
  const listed = require("@ioredis/commands/built/commands.json") as Record<string, Listed>;
  return new Map([...listedKeys(listed), ...SPECIAL]);
}

function listedKeys(listed: Readonly<Record<string, Listed>>): [string, Keyed][] {
  return Object.entries(listed).map(([name, entry]) => {
    const { keyStart, keyStop, step, flags, subcommands } = entry;
    if (subcommands !== undefined) {
      const places = new Map([...listedKeys(subcommands), ...(SPECIAL_SUBCOMMANDS[name] ?? [])]);
      return [name, { place: { at: "subcommand", places }, touches: "none", writes: "none" }];
    }
    if (keyStart === 0) return [name, KEYLESS];
    const writes = !flags.includes("write") ? "none" : writesFirst(name) ? "first" : "all";
    return [name, { place: words(keyStart, keyStop, step), touches: "keys", writes }];
  });
}

function writesFirst(name: string): boolean {
  return name.endsWith("store") || name === "bitop" || name === "pfmerge";
}

/** How many words belong to an option of XREAD and XREADGROUP ("Redis, db.c": xreadGetKeys). */
export const STREAM_OPTIONS: ReadonlyMap<string, number> = new Map([
  ["block", 1],
  ["claim", 1],
  ["count", 1],
  ["group", 2],
]);

/** How many words belong to an option of MIGRATE ("Redis, db.c": migrateGetKeys). */
export const MIGRATE_OPTIONS: ReadonlyMap<string, number> = new Map([
  ["auth", 1],
  ["auth2", 2],
]);

/** The longest verb, subcommand or option that is looked up. */
const LONGEST_NAME = 32;

/** A word in lower case; undefined where it is too long for a name. */
export function nameOf(word: Uint8Array): string | undefined {
  if (word.length > LONGEST_NAME) return undefined;
  return latin1Of(word).toLowerCase();
}
