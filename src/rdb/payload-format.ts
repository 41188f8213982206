import { loadsRdb, type RdbFormat, type Release } from "./releases.ts";

/*
 * Which server takes one value by RESTORE. A payload names the version of the RDB that its type belongs to, and a server
 * refuses one above its own; the bytes of a type never change, so a value goes to every server that knows the type. The
 * sources are each release's rdb.h (RDB_TYPE_…) and cluster.c (verifyDumpPayload).
 */

/** The first type of each RDB version that brought some, newest first. What is older came before RESTORE did. */
const REDIS_TYPES: readonly (readonly [firstType: number, rdbVersion: number])[] = [
  // Listpacks of sets, and streams whose consumers have two times (Redis 7.2).
  [20, 11],
  // Listpacks of hashes, sorted sets and lists, and streams that count what they had (Redis 7.0).
  [16, 10],
  // Streams (Redis 5.0).
  [15, 9],
  // Quicklists (Redis 3.2).
  [14, 7],
  [9, 6],
  // Modules, and scores as binary doubles (Redis 4.0).
  [5, 8],
  [0, 6],
];

/** Redis's own beyond what Valkey shares: hash fields with an expiry (Redis 7.4). */
const REDIS_OWN_TYPES: readonly (readonly [firstType: number, rdbVersion: number])[] = [[22, 12]];
/** The last of these that is known: what comes after it belongs to the file's own version. */
const LAST_REDIS_TYPE = 25;
/** Hash fields with an expiry, as Valkey 9.0 writes them; its numbers above Redis's common ones are its own. */
const FIRST_VALKEY_TYPE = 22;

/** The oldest format that holds a value of this type; of a type that isn't known, the file's own. */
export function formatOfType(type: number, file: RdbFormat): RdbFormat {
  if (file.magic === "VALKEY" && type >= FIRST_VALKEY_TYPE) return file;
  if (type > LAST_REDIS_TYPE) return file;
  const found = [...REDIS_OWN_TYPES, ...REDIS_TYPES].find(([firstType]) => type >= firstType);
  return { magic: "REDIS", version: found?.[1] ?? file.version };
}

/**
 * The RDB version that a value's payload names, so that the server takes it: the file's own where it loads that, else
 * the type's.
 * @returns undefined where the server doesn't know the type.
 */
export function payloadVersion(type: number, file: RdbFormat, server: Release): number | undefined {
  if (loadsRdb(server, file)) return Math.max(file.version, FIRST_VERSION);
  const own = formatOfType(type, file);
  return loadsRdb(server, own) ? own.version : undefined;
}

/** The first version that DUMP wrote (Redis 2.6). Older files have no type that it lacks. */
const FIRST_VERSION = 6;
