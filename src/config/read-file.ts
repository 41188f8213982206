import { closeSync, constants, openSync, readSync, statSync } from "node:fs";
import { ReplicaError, usageError } from "../base/errors.ts";

/** How long a pipe may have no writer, and how long a writer may take: nothing is answered meanwhile, not even a signal. */
const PIPE_WAITS = { writerMs: 3_000, wholeMs: 30_000 };
const PIPE_LOOK_MS = 10;

/**
 * Reads a small file of settings, passwords or certificates.
 * @param source how errors begin: the flag, variable or setting that names the file.
 * @param pipeWaits how long to wait for a pipe's writer, and for its end; milliseconds.
 * @throws ReplicaError USAGE if it can't be read or is larger than `maxBytes`, or if a pipe has no writer, or one that
 * doesn't end; the message never quotes its content.
 */
export function readSmallFile(
  name: string,
  maxBytes: number,
  source: string,
  pipeWaits = PIPE_WAITS,
): Buffer {
  let content: Buffer;
  try {
    const about = statSync(name);
    // A pipe or /dev/stdin has no size, and may have no end: it is checked again after reading.
    if (about.size > maxBytes)
      throw usageError(`${source}: ${name} is larger than ${maxBytes} bytes`);
    content = about.isFIFO()
      ? readPipe(name, maxBytes, source, pipeWaits)
      : readUpTo(name, maxBytes);
  } catch (cause) {
    if (cause instanceof ReplicaError) throw cause;
    throw usageError(`${source}: can't read ${name}: ${systemReason(cause)}`, cause);
  }
  if (content.length > maxBytes)
    throw usageError(`${source}: ${name} is larger than ${maxBytes} bytes`);
  return content;
}

/** Reads a file up to its end, or one byte more than `maxBytes`. */
function readUpTo(name: string, maxBytes: number): Buffer {
  const fd = openSync(name, constants.O_RDONLY);
  try {
    const content = Buffer.alloc(maxBytes + 1);
    for (let length = 0; ;) {
      const count = readSync(fd, content, length, content.length - length, null);
      if (count === 0) return content.subarray(0, length);
      length += count;
    }
  } finally {
    closeSync(fd);
  }
}

/** Reads a pipe up to its end, or up to more than `maxBytes`. Opening one that nobody writes to would wait for ever. */
function readPipe(name: string, maxBytes: number, source: string, waits: typeof PIPE_WAITS) {
  const fd = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const content = Buffer.alloc(maxBytes + 1);
    const beganMs = performance.now();
    let hasWriter = false;
    for (let length = 0; ; Bun.sleepSync(PIPE_LOOK_MS)) {
      // 0: no writer yet, or none any more. Undefined: there is one, which has written no more so far.
      let count = readWaiting(fd, content, length);
      for (; count !== undefined && count > 0; count = readWaiting(fd, content, length)) {
        hasWriter = true;
        length += count;
      }
      if ((count === 0 && hasWriter) || length > maxBytes) return content.subarray(0, length);
      hasWriter ||= count === undefined;
      const waitedMs = performance.now() - beganMs;
      if (!hasWriter && waitedMs > waits.writerMs)
        throw usageError(`${source}: ${name} is a pipe, and nobody has written to it`);
      if (waitedMs > waits.wholeMs)
        throw usageError(`${source}: ${name} is a pipe, and its writer has not closed it`);
    }
  } finally {
    closeSync(fd);
  }
}

/** Reads what is there; undefined where nothing is so far. */
function readWaiting(fd: number, into: Buffer, at: number): number | undefined {
  if (at === into.length) return 0;
  try {
    return readSync(fd, into, at, into.length - at, null);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "EAGAIN") return undefined;
    throw cause;
  }
}

/** As `readSmallFile`, for a file that must be UTF-8 text. */
export function readSmallText(name: string, maxBytes: number, source: string): string {
  const content = readSmallFile(name, maxBytes, source);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch (cause) {
    throw usageError(`${source}: ${name} is not UTF-8 text`, cause);
  }
}

function systemReason(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : undefined;
  switch (code) {
    case "ENOENT":
      return "there is no such file";
    case "EACCES":
      return "permission denied";
    case "EISDIR":
      return "it is a directory";
    default:
      return code ?? "reading it failed";
  }
}
