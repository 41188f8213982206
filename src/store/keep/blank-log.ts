import * as fs from "node:fs";

/** A primary's heartbeats fill no more in a week: a longer log holds writes. */
const MAX_BLANK_BYTES = 1024 * 1024;

/** What a primary sends of itself: PING, REPLCONF GETACK, and the SELECT before them. */
const HEARTBEAT =
  /\*1\r\n\$4\r\nPING\r\n|\*3\r\n\$8\r\nREPLCONF\r\n\$6\r\nGETACK\r\n\$1\r\n\*\r\n|\*2\r\n\$6\r\nSELECT\r\n\$\d\r\n\d+\r\n/iy;

/**
 * Whether a log holds nothing but a primary's heartbeat.
 * @param path the log's file. One that can't be read counts as one with writes.
 * @param headerBytes the length of the SELECT that it begins with.
 */
export function isBlankLog(path: string, headerBytes: number): boolean {
  try {
    if (fs.statSync(path).size > headerBytes + MAX_BLANK_BYTES) return false;
    return isHeartbeat(fs.readFileSync(path, "latin1").slice(headerBytes));
  } catch {
    return false;
  }
}

/** Whether a stream holds nothing but a primary's heartbeat; its last command may be cut. */
export function isHeartbeat(stream: string): boolean {
  HEARTBEAT.lastIndex = 0;
  let end = 0;
  while (HEARTBEAT.test(stream)) end = HEARTBEAT.lastIndex;
  const rest = stream.slice(end).toUpperCase();
  return ["*1\r\n$4\r\nPING\r\n", "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"].some(
    (one) => one.startsWith(rest),
  );
}
