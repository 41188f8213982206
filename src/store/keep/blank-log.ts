import * as fs from "node:fs";
import { openToRead } from "../disk/disk.ts";

/** With three sentinels, heartbeats fill as much in a day; a longer log counts as one with writes. */
const MAX_BLANK_BYTES = 16 * 1024 * 1024;
const READ_BYTES = 64 * 1024;

/**
 * What a primary sends without a change of its data: its own heartbeat, and messages, such as those that sentinels
 * publish every other second.
 */
const HARMLESS: ReadonlySet<string> = new Set([
  "PING",
  "REPLCONF",
  "SELECT",
  "PUBLISH",
  "SPUBLISH",
  "MULTI",
  "EXEC",
]);

/**
 * Whether a log changes nothing: whether it holds no more than a primary's heartbeat, and messages.
 * @param path the log's file. One that can't be read counts as one with writes.
 * @param headerBytes the length of the SELECT that it begins with.
 */
export function isBlankLog(path: string, headerBytes: number): boolean {
  let fd: number | undefined;
  try {
    fd = openToRead(path);
    if (fs.fstatSync(fd).size > headerBytes + MAX_BLANK_BYTES) return false;
    const block = Buffer.alloc(READ_BYTES);
    for (let at = headerBytes; ;) {
      const bytes = fs.readSync(fd, block, 0, READ_BYTES, at);
      const end = harmlessBytes(block.subarray(0, bytes).toString("latin1"));
      // What ends the log is half a command: nobody runs it.
      if (end === undefined || (end === 0 && bytes === READ_BYTES)) return false;
      if (bytes < READ_BYTES) return true;
      at += end;
    }
  } catch {
    return false;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** How many bytes at the beginning are whole commands that change nothing; undefined where one changes something. */
export function harmlessBytes(stream: string): number | undefined {
  const number = /([*$])(\d{1,9})\r\n/y;
  let end = 0;
  for (;;) {
    number.lastIndex = end;
    let [, mark, digits] = number.exec(stream) ?? [];
    if (mark === undefined) return mayGoOn(stream.slice(end), "*") ? end : undefined;
    if (mark !== "*") return undefined;
    const words = Number(digits);
    let at = number.lastIndex;
    for (let word = 0; word < words; word++) {
      number.lastIndex = at;
      [, mark, digits] = number.exec(stream) ?? [];
      if (mark === undefined) return mayGoOn(stream.slice(at), "$") ? end : undefined;
      if (mark !== "$") return undefined;
      const from = number.lastIndex;
      at = from + Number(digits) + 2;
      if (word === 0 && at <= stream.length) {
        if (!HARMLESS.has(stream.slice(from, at - 2).toUpperCase())) return undefined;
      }
      if (at > stream.length) return end;
    }
    end = at;
  }
}

/** Whether the rest of a stream may be the beginning of a number behind `mark`. */
function mayGoOn(rest: string, mark: "*" | "$"): boolean {
  return rest === "" || (rest.startsWith(mark) && /^\d{0,9}\r?$/.test(rest.slice(1)));
}
