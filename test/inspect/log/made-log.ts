import type { LogEntry } from "../../../src/inspect/log/log-entry.ts";
import type { Random } from "../../support/fill.ts";
import { naiveFrames } from "../../support/naive-frames.ts";
import { encodeCommand } from "../../support/resp.ts";

type Word = string | number | Uint8Array;

/** A log of one generation: a SELECT, and the stream after it. */
export interface MadeLog {
  readonly baseOffset: number;
  readonly headerBytes: number;
  readonly bytes: Buffer;
}

export function logOf(baseOffset: number, db: number, stream: Uint8Array): MadeLog {
  const header = encodeCommand(["SELECT", db]);
  return { baseOffset, headerBytes: header.length, bytes: Buffer.concat([header, stream]) };
}

/** A stream of many kinds of commands, with transactions, other databases, binary keys and values, and pings. */
export function madeStream(random: Random, commands: number): Buffer {
  const made: Word[][] = [];
  let isOpen = false;
  const key = (): Word =>
    random.below(8) === 0
      ? Uint8Array.from([random.below(256), 255, 10, random.below(256)])
      : `user:${random.below(30)}:${random.below(3) === 0 ? "name" : "age"}`;
  while (made.length < commands || isOpen) {
    switch (random.below(isOpen ? 9 : 12)) {
      case 0:
        made.push(["SET", key(), random.text(random.below(30))]);
        break;
      case 1:
        made.push(["del", key(), key()]);
        break;
      case 2:
        made.push(["MSET", key(), random.bytes(random.below(20)), key(), "v"]);
        break;
      case 3:
        made.push(["RENAME", key(), key()]);
        break;
      case 4:
        made.push(["ZUNIONSTORE", key(), 2, key(), key()]);
        break;
      case 5:
        made.push(["Mod.Set", key(), "*1\r\n$4\r\nEXEC\r\n"]);
        break;
      case 6:
        made.push(["EVAL", "user:1:name", 1, key(), "user:2:name"]);
        break;
      case 7:
        if (isOpen) made.push(["EXEC"]);
        isOpen = false;
        break;
      case 8:
        made.push(["SELECT", random.below(3)]);
        break;
      case 9:
        made.push([["PING"], ["REPLCONF", "GETACK", "*"], ["FLUSHDB"]][random.below(3)]!);
        break;
      default:
        made.push(["MULTI"]);
        isOpen = true;
    }
  }
  return Buffer.concat(made.map((words) => encodeCommand(words)));
}

/** A command of a log as the simplest reader finds it; bytes are latin1. */
export interface SimpleEntry {
  readonly offset: number;
  readonly end: number;
  readonly db: number;
  readonly words: readonly string[];
  readonly transaction: { readonly offset: number; readonly end: number } | undefined;
}

/** All commands of a log but those of a transaction that isn't whole, read in the simplest way. */
export function simpleEntries({ baseOffset, headerBytes, bytes }: MadeLog): SimpleEntry[] {
  const entries: SimpleEntry[] = [];
  let held: SimpleEntry[] | undefined;
  let db = 0;
  for (const { start, end, words } of naiveFrames(bytes)) {
    const at = (byte: number) => baseOffset - headerBytes + byte;
    const verb = words[0]!.toUpperCase();
    if (verb === "SELECT") db = Number(words[1]);
    if (end <= headerBytes) continue;
    const entry = { offset: at(start), end: at(end), db, words, transaction: undefined };
    if (verb === "MULTI") held = [];
    if (held === undefined) entries.push(entry);
    else held.push(entry);
    if (verb !== "EXEC" || held === undefined) continue;
    const transaction = { offset: held[0]!.offset, end: entry.end };
    entries.push(...held.map((one) => ({ ...one, transaction })));
    held = undefined;
  }
  return entries;
}

const LINK = new Set(["PING", "SELECT", "REPLCONF", "MULTI", "EXEC"]);

/** Whether a command is there only for the link, or bounds a transaction. */
export function isOfLink({ words }: SimpleEntry): boolean {
  return LINK.has(words[0]!.toUpperCase());
}

/** What was read, in the form of `SimpleEntry`. */
export function simplified(entry: LogEntry): Omit<SimpleEntry, "transaction"> {
  const { offset, end, db, command, args, transaction } = entry;
  const texts = args.map((arg) => Buffer.from(arg).toString("latin1"));
  return Object.assign({ offset, end, db, words: [command, ...texts] }, { transaction });
}

/** The same with the name as readers give it. */
export function named(entry: SimpleEntry): SimpleEntry {
  const [name, ...args] = entry.words;
  return { ...entry, words: [name!.toUpperCase(), ...args] };
}
