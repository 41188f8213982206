import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { type FirstDatabase, FirstDatabaseReader } from "../../rdb/first-database.ts";
import { MAX_HEADER_BYTES, parseRdbHeader, type RdbHeader } from "../../rdb/header.ts";
import { openToRead } from "../disk/disk.ts";

/** The keys of one database. */
export interface DatabaseKeys {
  readonly database: number;
  readonly keys: number;
  /** How many of them have an expiry. */
  readonly expires: number;
}

/** What a snapshot says of its own keys. */
export interface SnapshotKeys {
  /** Its first database; an RDB tells the size of each later one only where that begins. Undefined: it holds no key. */
  readonly first: DatabaseKeys | undefined;
  /** When the primary made it, by its own clock, in milliseconds since 1970; undefined where it doesn't say. */
  readonly savedAtMs: number | undefined;
}

const BLOCK_BYTES = MAX_HEADER_BYTES + 1;
/** Functions come before the keys. Where they take more than this, the count is not looked for. */
const MAX_LOOK_BYTES = 1024 * 1024;

/**
 * Reads from the beginning of a snapshot's file how many keys it holds: some 64 KiB.
 * @returns undefined where it doesn't say, or can't be read.
 */
export function readSnapshotKeys(path: string): SnapshotKeys | undefined {
  return reading(path, readFrom);
}

/**
 * How many bytes of memory the primary used when it made a snapshot, as its file says.
 * @returns undefined where it doesn't say, or can't be read.
 */
export function readUsedMemory(path: string): number | undefined {
  const header = readHeader(path);
  return header && usedMemoryIn(header);
}

/** The same of a snapshot's header. */
export function usedMemoryIn({ aux }: Pick<RdbHeader, "aux">): number | undefined {
  const used = aux.get("used-mem") ?? "";
  return /^[1-9]\d{0,14}$/.test(used) ? Number(used) : undefined;
}

/** Reads the header of a snapshot's file; undefined where it is damaged, or can't be read. */
export function readHeader(path: string): RdbHeader | undefined {
  return reading(path, (fd) => {
    const block = Buffer.alloc(BLOCK_BYTES);
    return parseRdbHeader(block.subarray(0, fs.readSync(fd, block, 0, block.length, 0)));
  });
}

function reading<T>(path: string, read: (fd: number) => T): T | undefined {
  try {
    const fd = openToRead(path);
    try {
      return read(fd);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    // Who reports a number must answer while the disk fails.
    if (error instanceof ReplicaError || (error instanceof Error && "code" in error))
      return undefined;
    throw error;
  }
}

/** As `readSnapshotKeys`, in the words of the database. */
export function readFirstDatabase(path: string): FirstDatabase | undefined {
  const read = readSnapshotKeys(path);
  if (read === undefined) return undefined;
  const { database, keys = 0 } = read.first ?? {};
  return { db: database, keys };
}

function readFrom(fd: number): SnapshotKeys | undefined {
  const block = Buffer.alloc(BLOCK_BYTES);
  const next = (at: number) => block.subarray(0, fs.readSync(fd, block, 0, block.length, at));
  let bytes = next(0);
  const header = parseRdbHeader(bytes);
  if (header === undefined) return undefined;
  const reader = new FirstDatabaseReader();
  reader.push(bytes.subarray(header.headerBytes));
  for (let at = bytes.length; !reader.isDone && at < MAX_LOOK_BYTES; at += bytes.length) {
    bytes = next(at);
    if (bytes.length === 0) break;
    reader.push(bytes);
  }
  const { found, expires } = reader;
  if (found === undefined) return undefined;
  const savedAt = header.aux.get("ctime") ?? "";
  const savedAtMs = /^[1-9]\d{0,11}$/.test(savedAt) ? Number(savedAt) * 1000 : undefined;
  if (found.keys === 0) return { first: undefined, savedAtMs };
  const first = { database: found.db ?? 0, keys: found.keys, expires };
  return Object.values(first).every(Number.isSafeInteger) ? { first, savedAtMs } : undefined;
}
