import { readFileSync, statSync } from "node:fs";
import { ReplicaError, usageError } from "../base/errors.ts";

/**
 * Reads a small file of settings, passwords or certificates.
 * @param source how errors begin: the flag, variable or setting that names the file.
 * @throws ReplicaError USAGE if it can't be read or is larger than `maxBytes`; the message never quotes its content.
 */
export function readSmallFile(name: string, maxBytes: number, source: string): Buffer {
  let content: Buffer;
  try {
    // A pipe or /dev/stdin has no size, so it is checked again after reading.
    if (statSync(name).size > maxBytes)
      throw usageError(`${source}: ${name} is larger than ${maxBytes} bytes`);
    content = readFileSync(name);
  } catch (cause) {
    if (cause instanceof ReplicaError) throw cause;
    throw usageError(`${source}: can't read ${name}: ${systemReason(cause)}`, cause);
  }
  if (content.length > maxBytes)
    throw usageError(`${source}: ${name} is larger than ${maxBytes} bytes`);
  return content;
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
