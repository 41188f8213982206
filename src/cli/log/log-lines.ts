import { jsonLine, printable } from "../../base/printable.ts";
import type { Offset } from "../../base/history.ts";
import type { LogEntry, Transaction } from "../../inspect/log/log-entry.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import { beginningOf, type Write, writeJsonWord, writeShownWord } from "./word-text.ts";

/** Writes commands of a log, a line each. */
export type WriteEntry = (entry: LogEntry) => void;

/** On a terminal, what is longer is cut: whoever wants it whole pipes it. */
const SHOWN_BYTES = 200;
const SHOWN_WORDS = 20;

/** One object a line, for programs. */
export function jsonLines(write: Write): WriteEntry {
  const timeOf = rememberingTime((atMs) => JSON.stringify(shownTime(atMs)));
  return ({ offset, end, atMs, db, command, keys, args, transaction }) => {
    const time = atMs === undefined ? "null" : timeOf(atMs);
    write(`{"offset":${offset},"end":${end},"time":${time},"db":${db},"command":`);
    write(`${jsonLine(command)},"keys":`);
    writeWords(keys, write);
    write(',"args":');
    writeWords(args, write);
    write(transaction === undefined ? "}\n" : `,"transaction":${jsonOf(transaction)}}\n`);
  };
}

/** Many commands come between two marks. */
function rememberingTime(shown: (atMs: number) => string): (atMs: number) => string {
  let last = { atMs: NaN, text: "" };
  return (atMs) => {
    if (atMs !== last.atMs) last = { atMs, text: shown(atMs) };
    return last.text;
  };
}

function jsonOf({ offset, end }: Transaction): string {
  return JSON.stringify({ offset, end: end ?? null });
}

function writeWords(words: readonly Uint8Array[], write: Write): void {
  write("[");
  words.forEach((word, index) => {
    if (index > 0) write(",");
    writeJsonWord(word, write);
  });
  write("]");
}

const TIME_WIDTH = shownTime(0).length;

/**
 * Aligned columns under titles, for people. The commands of a transaction have a line at their left, which begins with the
 * first one that is shown.
 * @param options.lastOffset offsets get a column that is as wide as this one.
 * @param options.isCut whether long words are cut.
 */
export function shownLines(
  write: Write,
  { lastOffset, isCut }: { readonly lastOffset: Offset; readonly isCut: boolean },
): WriteEntry {
  const offsetWidth = Math.max("offset".length, String(lastOffset).length);
  const timeOf = rememberingTime(shownTime);
  let isFirst = true;
  let openOffset: Offset | undefined;
  return ({ atMs, offset, db, command, args, transaction }) => {
    if (isFirst) {
      write(`${"time".padEnd(TIME_WIDTH)}  ${"offset".padStart(offsetWidth)}  db  command\n`);
    }
    const time = (atMs === undefined ? "unknown" : timeOf(atMs)).padEnd(TIME_WIDTH);
    const isOpening = openOffset !== transaction?.offset;
    const line = transaction === undefined ? "" : isOpening ? "┌ " : "│ ";
    write(`${time}  ${String(offset).padStart(offsetWidth)}  ${String(db).padStart(2)}  ${line}`);
    write(printable(command));
    writeShown(args, isCut, write);
    write("\n");
    isFirst = false;
    openOffset = transaction?.offset;
  };
}

function writeShown(args: readonly Uint8Array[], isCut: boolean, write: Write): void {
  const shown = isCut ? args.slice(0, SHOWN_WORDS) : args;
  for (const word of shown) {
    write(" ");
    const isWhole = !isCut || word.length <= SHOWN_BYTES;
    writeShownWord(isWhole ? word : beginningOf(word, SHOWN_BYTES), write);
    if (!isWhole) write(`… (${word.length} bytes)`);
  }
  if (shown.length < args.length) write(` … (${args.length - shown.length} more words)`);
}
