import { ReplicaError } from "../../base/errors.ts";
import { isAtLeast, type Release } from "../../rdb/releases.ts";
import { wordsOf } from "../../resp/frame-words.ts";
import type { Verb } from "../../resp/verbs.ts";
import { bytesOf, chosenCommands, type LogPart, MORE, type SeenCommand } from "./log-commands.ts";

/*
 * Which server knows which command of a stream, in this one place: the commands that write, as primaries stream them, and that
 * came after Redis 4.0, before which no server loads a restore. The sources are COMMAND DOCS ("since") of Redis 8.0 and
 * Valkey 9.1, and the release notes of Redis 8.2 and 8.4. A server ends at start on a command that it doesn't know, and passes
 * over one with an option that it doesn't know, with a changed key for all trace ("Redis, aof.c": loadSingleAppendOnlyFile).
 */

type Version = readonly [major: number, minor: number];

/** Since which version each kind knows it; undefined: in no version that is known here. */
interface Since {
  readonly redis?: Version;
  readonly valkey?: Version;
}

/** Every Valkey has what Redis 7.2 has. */
const FIRST_VALKEY: Version = [7, 2];

function names(words: string, since: Since): [string, Since][] {
  return words.split(" ").map((name) => [name, since]);
}

const redis = (major: number, minor: number): Since => ({
  redis: [major, minor],
  valkey: FIRST_VALKEY,
});

const COMMANDS: ReadonlyMap<string, Since> = new Map([
  ...names(
    "BZPOPMAX BZPOPMIN XACK XADD XCLAIM XDEL XGROUP XREADGROUP XSETID XTRIM ZPOPMAX ZPOPMIN",
    redis(5, 0),
  ),
  ...names(
    "BLMOVE COPY GEOSEARCHSTORE GETDEL GETEX LMOVE XAUTOCLAIM ZDIFFSTORE ZRANGESTORE",
    redis(6, 2),
  ),
  ...names("BLMPOP BZMPOP FCALL FUNCTION LMPOP SPUBLISH ZMPOP", redis(7, 0)),
  ...names("HEXPIRE HEXPIREAT HPERSIST HPEXPIRE HPEXPIREAT", { redis: [7, 4], valkey: [9, 0] }),
  ...names("HGETEX HSETEX", { redis: [8, 0], valkey: [9, 0] }),
  ...names("HGETDEL", { redis: [8, 0], valkey: [9, 1] }),
  ...names("VADD VREM VSETATTR", { redis: [8, 0] }),
  ...names("XACKDEL XDELEX", { redis: [8, 2] }),
  ...names("DELEX", { redis: [8, 4] }),
  ...names("MSETEX", { redis: [8, 4], valkey: [9, 1] }),
  ...names("DELIFEQ", { valkey: [9, 0] }),
]);

/** Options of SET behind the value. */
const SET_OPTIONS: ReadonlyMap<string, Since> = new Map([
  ...names("IFEQ", { redis: [8, 4], valkey: [8, 1] }),
  ...names("IFDEQ IFDNE IFNE", { redis: [8, 4] }),
]);
/** Options of SET that a value of their own follows. */
const WITH_VALUE: ReadonlySet<string> = new Set(["EX", "EXAT", "PX", "PXAT"]);
/** Operations of BITOP. */
const BIT_OPERATIONS: ReadonlyMap<string, Since> = new Map(
  names("ANDOR DIFF DIFF1 ONE", { redis: [8, 2] }),
);

/** Every name that is looked for; EXEC ends a transaction. */
const LOOKED_AT: ReadonlySet<string> = new Set([...COMMANDS.keys(), "SET", "BITOP", "EXEC"]);
/** A transaction ends. */
const COMMITTED = Symbol("committed");

const LONGEST_NAME = Math.max(...[...COMMANDS.keys()].map((name) => name.length));

/** A command of a log that a server doesn't know, with its option where that is what it doesn't know. */
export interface NewerCommand {
  /** `HSETEX`, `SET … IFEQ`. */
  readonly name: string;
  readonly since: Since;
  /** The byte of the log at which the first one begins, and how many there are. */
  readonly firstByte: number;
  count: number;
}

/**
 * Finds the commands of a log that a server doesn't know: those that would make it end at start, or load other data. What
 * no kind of server has by itself (a module's, a service's own) isn't among them.
 * @param part may end inside a command, which then doesn't count; nor does a transaction that isn't whole.
 * @returns each once, in the order in which they first come.
 * @throws ReplicaError DISK_FAILED; the signal's reason.
 */
export async function newerCommands(part: LogPart, release: Release): Promise<NewerCommand[]> {
  const found = new Map<string, NewerCommand>();
  const add = ({ value, firstByte }: Found) => {
    const known = found.get(value.name);
    if (known === undefined) found.set(value.name, { ...value, firstByte, count: 1 });
    else known.count++;
  };
  const choice = {
    // Most of them are no `Verb`: their names are read from the bytes.
    concerns: (verb: Verb | undefined) => verb === undefined || LOOKED_AT.has(verb),
    look: (seen: SeenCommand) =>
      seen.verb === "EXEC" ? COMMITTED : newerIn(bytesOf(seen), seen.isWhole, release),
    withBytes: false,
  };
  /** Those of a transaction count once it has ended: what is restored ends outside of one. */
  let open: Found[] = [];
  try {
    for await (const { command, value } of chosenCommands(part, choice)) {
      if (value === COMMITTED) {
        open.forEach(add);
        open = [];
      } else if (command.inTransaction) open.push({ value, firstByte: command.start });
      else add({ value, firstByte: command.start });
    }
  } catch (error) {
    // It ends inside a command, or is damaged there: whoever restores it finds out which.
    if (!(error instanceof ReplicaError && error.code === "BAD_FRAME")) throw error;
  }
  return [...found.values()];
}

interface Found {
  readonly value: Newer;
  readonly firstByte: number;
}

interface Newer {
  readonly name: string;
  readonly since: Since;
}

function newerIn(
  bytes: Uint8Array,
  isWhole: boolean,
  release: Release,
): Newer | undefined | typeof MORE {
  const name = nameOf(bytes);
  if (name === undefined || name === "EXEC") return undefined;
  const since = COMMANDS.get(name);
  if (since !== undefined) return knows(release, since) ? undefined : { name, since };
  if (name === "SET" && countOf(bytes) < LEAST_WITH_OPTION) return undefined;
  // Its options come last.
  if (!isWhole) return MORE;
  const words = wordsOf(bytes);
  const [option, isSince] = (name === "SET" ? newerOption(words, release) : operation(words)) ?? [];
  if (option === undefined || isSince === undefined || knows(release, isSince)) return undefined;
  return { name: `${name} … ${option}`, since: isSince };
}

const CR = 0x0d;
const ZERO = 0x30;
/** Makes a capital of a small letter. */
const CAPITAL = 0xdf;
/** SET, a key, a value, an option and its value. */
const LEAST_WITH_OPTION = 5;

/** The names that are looked for, by their length. */
const NAMES = Array.from({ length: LONGEST_NAME + 1 }, (_, length) =>
  [...LOOKED_AT]
    .filter((name) => name.length === length)
    .map((name) => ({ name, bytes: Buffer.from(name) })),
);

/** How many words a command has: the number in its first line. */
function countOf(bytes: Uint8Array): number {
  let count = 0;
  for (let at = 1; bytes[at] !== CR; at++) count = 10 * count + bytes[at]! - ZERO;
  return count;
}

/**
 * The first word of a command, if it is one that is looked for, in capitals. It stands behind two lines of numbers:
 * "*3\r\n$6\r\nHSETEX\r\n".
 */
function nameOf(bytes: Uint8Array): string | undefined {
  let at = bytes.indexOf(CR) + 3;
  let length = 0;
  for (; bytes[at] !== CR && at < bytes.length; at++) length = 10 * length + bytes[at]! - ZERO;
  at += 2;
  return NAMES[length]?.find((one) => isAt(bytes, at, one.bytes))?.name;
}

/** Whether a word of letters and digits in capitals stands there, in letters of any size. */
function isAt(bytes: Uint8Array, at: number, word: Uint8Array): boolean {
  for (let index = 0; index < word.length; index++) {
    const wanted = word[index]!;
    const byte = bytes[at + index]!;
    if (byte !== wanted && (wanted < 0x41 || (byte & CAPITAL) !== wanted)) return false;
  }
  return true;
}

function newerOption(words: readonly Uint8Array[], release: Release): [string, Since] | undefined {
  for (let at = 3; at < words.length; at++) {
    const option = optionOf(words[at]);
    const since = SET_OPTIONS.get(option);
    if (since !== undefined && !knows(release, since)) return [option, since];
    if (since !== undefined || WITH_VALUE.has(option)) at++;
  }
  return undefined;
}

function operation(words: readonly Uint8Array[]): [string, Since] | undefined {
  const name = optionOf(words[1]);
  const since = BIT_OPERATIONS.get(name);
  return since && [name, since];
}

/** A word that may be an option, which has a few characters. */
function optionOf(word: Uint8Array | undefined): string {
  return word === undefined || word.length > LONGEST_NAME ? "" : textOf(word);
}

function textOf(word: Uint8Array): string {
  return Buffer.from(word).toString("latin1").toUpperCase();
}

function knows(release: Release, since: Since): boolean {
  const first = release.product === "Redis" ? since.redis : since.valkey;
  return first !== undefined && isAtLeast(release, ...first);
}

/** Names the servers that know a command: `Redis 8.4 and later, Valkey 9.1 and later`. */
export function knowersOf(since: Since): string {
  const kinds = [
    ["Redis", since.redis],
    ["Valkey", since.valkey],
  ] as const;
  return kinds
    .flatMap(([product, first]) =>
      first === undefined ? [] : [`${product} ${first.join(".")} and later`],
    )
    .join(", ");
}
