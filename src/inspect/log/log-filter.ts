import { Glob, longestLiteral } from "../../base/glob.ts";
import { latin1Of } from "../../resp/frame-words.ts";
import { type CommandKeys, commandKeys } from "../../store/rewrite/command-keys.ts";
import { onlyKey } from "../../store/rewrite/first-key.ts";
import { CommandNames } from "./command-names.ts";
import { NeedleSearch } from "./needle-search.ts";

/** Which commands of a log are wanted; all of what is given must fit. */
export interface LogFilter {
  /** Redis globs, as UTF-8: one of its keys matches one of them, or it removes all keys of a database. */
  readonly keys?: readonly string[];
  /** Names, in letters of any size. */
  readonly commands?: readonly string[];
  /** Those that run in this database, and those that change it from another one: FLUSHALL, SWAPDB, MOVE, COPY … DB. */
  readonly db?: number;
  /** Whether commands that write nothing are wanted too: those of the link, and the bounds of transactions. */
  readonly isAll?: boolean;
}

/** What a primary streams besides what was written. */
const NOT_WRITTEN = new Set(["PING", "SELECT", "REPLCONF", "MULTI", "EXEC"]);
/** Holds the name and the key of most commands, and what stands before the key. */
export const HEAD_BYTES = 64 * 1024;

const SMALL = 0x20;
/** "*1\r\n$8\r\n": so many bytes stand before a name of up to 9 bytes, where the command has up to 9 words. */
const BEFORE_NAME = 8;
/** How the names of those begin that concern all keys: CLUSTER, FLUSHALL, FLUSHDB, SWAPDB, TRIMSLOTS. */
const OF_ALL_KEYS = beginnings("cl", "fl", "sw", "tr");
/** And of those that change another database than the selected one: COPY, FLUSHALL, MOVE, SWAPDB. */
const OF_OTHER_DATABASES = beginnings("co", "fl", "mo", "sw");

function beginnings(...names: string[]): number[] {
  return names.map((two) => (two.charCodeAt(0) << 8) | two.charCodeAt(1));
}

/** A command that is wanted. */
export interface Wanted {
  /** In upper case. */
  readonly command: string;
  readonly keys: readonly Uint8Array[];
}

/** Chooses the commands of a log, block by block. Most are passed over by a look at few of their bytes. */
export class LogChooser {
  readonly #globs: readonly Glob[] | undefined;
  /** A star alone: Redis's matching says that it doesn't match an empty key. */
  readonly #isAnyKey: boolean;
  readonly #names: CommandNames | undefined;
  readonly #db: number | undefined;
  readonly #isAll: boolean;
  readonly #needles: NeedleSearch | undefined;
  #block: Uint8Array = new Uint8Array(0);

  constructor({ keys, commands, db, isAll }: LogFilter) {
    const patterns = keys?.map((pattern) => Buffer.from(pattern).toString("latin1"));
    this.#globs = patterns?.map((pattern) => new Glob(pattern));
    this.#isAnyKey = patterns?.some((pattern) => /^\*+$/.test(pattern)) ?? false;
    this.#names = commands && new CommandNames(commands);
    this.#db = db;
    this.#isAll = isAll ?? false;
    this.#needles = NeedleSearch.of(
      (patterns ?? []).map((pattern) => Buffer.from(longestLiteral(pattern), "latin1")),
    );
  }

  /** Begins with another block, which must not change meanwhile. */
  begin(block: Uint8Array): void {
    this.#block = block;
    this.#needles?.begin(block);
  }

  /** Whether a command that lies whole in the block may be wanted. They are asked for in their order. */
  mayWant(start: number, end: number, db: number): boolean {
    if (!this.#isOfDatabase(db) && !beginsLike(this.#block, start, OF_OTHER_DATABASES))
      return false;
    if (this.#names !== undefined && !this.#names.isAt(this.#block, start)) return false;
    if (this.#globs === undefined) return true;
    if (this.#needles === undefined) return this.#mayHaveKey(this.#block.subarray(start, end));
    return this.#needles.isIn(start, end) || beginsLike(this.#block, start, OF_ALL_KEYS);
  }

  /** Whether a command may be wanted of which only a beginning is there: HEAD_BYTES at most. */
  mayWantLong(beginning: Uint8Array, db: number): boolean {
    // A short one may be a SELECT, whose database isn't known before its end.
    if (beginning.length < HEAD_BYTES) return true;
    if (!this.#isOfDatabase(db) && !beginsLike(beginning, 0, OF_OTHER_DATABASES)) return false;
    if (this.#names !== undefined && !this.#names.isAt(beginning, 0)) return false;
    return this.#globs === undefined || this.#mayHaveKey(beginning);
  }

  /** Most commands have one key at most, which stands near their beginning. */
  #mayHaveKey(beginning: Uint8Array): boolean {
    const key = onlyKey(beginning);
    if (typeof key !== "string") return this.#wantsKey(key);
    return key !== "none" || beginsLike(beginning, 0, OF_ALL_KEYS);
  }

  /** Whether a whole command is wanted. */
  choose(words: readonly Uint8Array[], db: number): Wanted | undefined {
    const command = latin1Of(words[0]!).toUpperCase();
    if (
      this.#names === undefined
        ? !this.#isAll && NOT_WRITTEN.has(command)
        : !this.#names.has(command)
    ) {
      return undefined;
    }
    const known = commandKeys(words);
    if (!this.#isOfDatabase(db) && !changesDatabase(this.#db!, words, known)) return undefined;
    const keys = known?.keys ?? words.slice(1, 2);
    const isWanted =
      this.#globs === undefined ||
      known?.touches === "database" ||
      keys.some((key) => this.#wantsKey(key));
    return isWanted ? { command, keys } : undefined;
  }

  #isOfDatabase(db: number): boolean {
    return this.#db === undefined || db === this.#db;
  }

  #wantsKey(key: Uint8Array): boolean {
    return this.#isAnyKey || this.#globs!.some((glob) => glob.matchesBytes(key));
  }
}

const SWAPPED = [1, 2];

/** Whether a command that runs in another database changes this one. */
function changesDatabase(
  db: number,
  words: readonly Uint8Array[],
  known: CommandKeys | undefined,
): boolean {
  switch (known?.name) {
    case "flushall":
      return true;
    case "swapdb":
      return SWAPPED.some((at) => words[at] !== undefined && latin1Of(words[at]) === String(db));
    default:
      return known?.intoDb === db;
  }
}

const LF = 0x0a;
const DOLLAR = 0x24;

/** Whether a command's name begins like one of some, by a look at two bytes: others are looked at for nothing. */
function beginsLike(block: Uint8Array, start: number, names: readonly number[]): boolean {
  let at = start + BEFORE_NAME;
  // The first line ends there at the earliest where the command has very many words.
  while (at + 1 < block.length && (block[at - 1] !== LF || block[at] === DOLLAR)) at++;
  if (at + 1 >= block.length) return false;
  const two = ((block[at]! | SMALL) << 8) | (block[at + 1]! | SMALL);
  return names.includes(two);
}
