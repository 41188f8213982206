import type { RdbHeader } from "./header.ts";

/*
 * Which server loads which snapshot, in this one place. The sources are each release's rdb.h (RDB_VERSION, and Valkey's
 * RDB_FOREIGN_VERSION_MIN) and rdb.c (rdbLoadRio, which takes every version up to its own).
 */

/** A kind of server, and a version of it without the patch. */
export interface Release {
  readonly product: "Redis" | "Valkey";
  readonly major: number;
  readonly minor: number;
}

/** What decides whether a server loads an RDB. */
export type RdbFormat = Pick<RdbHeader, "magic" | "version">;

type Raise = readonly [major: number, minor: number, rdbVersion: number];

/** The releases that raised the version of the RDB, oldest first. */
const REDIS: readonly Raise[] = [
  [2, 6, 6],
  [3, 2, 7],
  [4, 0, 8],
  [5, 0, 9],
  [7, 0, 10],
  [7, 2, 11],
  [7, 4, 12],
  [8, 6, 13],
  [8, 8, 14],
  [8, 10, 15],
];
/** Those of Valkey that write a magic of their own, up to the newest that is known. */
const VALKEY: readonly Raise[] = [
  [9, 0, 80],
  [9, 1, 80],
];
/** The last version that both know. Valkey refuses those above, of Redis, as foreign. */
const COMMON_VERSION = 11;

/** Its name for people: `Redis 8.0`. */
export function releaseName({ product, major, minor }: Release): string {
  return `${product} ${major}.${minor}`;
}

/** Whether a release is this version of its kind, or a later one. */
export function isAtLeast(
  release: Pick<Release, "major" | "minor">,
  major: number,
  minor: number,
): boolean {
  return release.major > major || (release.major === major && release.minor >= minor);
}

/** Whether it is the same kind in the same version. */
export function isSameRelease(one: Release, other: Release): boolean {
  const { product, major, minor } = other;
  return product === one.product && major === one.major && minor === one.minor;
}

/** Whether a server loads such a snapshot; of one that is newer than all that is known here, it may. */
export function loadsRdb(release: Release, { magic, version }: RdbFormat): boolean {
  if (magic === "VALKEY") return release.product === "Valkey" && reaches(release, VALKEY, version);
  if (release.product === "Valkey") return version <= COMMON_VERSION;
  return reaches(release, REDIS, version);
}

function reaches(release: Release, raises: readonly Raise[], version: number): boolean {
  const first = raises.find(([, , rdbVersion]) => rdbVersion >= version);
  const [major, minor] = first ?? raises.at(-1)!;
  const isIt = release.major === major && release.minor === minor;
  return isAtLeast(release, major, minor) && (first !== undefined || !isIt);
}

/** Names the servers that load such a snapshot. */
export function loadersOf({ magic, version }: RdbFormat): string {
  const [raises, product] =
    magic === "VALKEY" ? [VALKEY, "Valkey" as const] : [REDIS, "Redis" as const];
  const first = raises.find(([, , rdbVersion]) => rdbVersion >= version);
  if (first === undefined) {
    const [major, minor] = raises.at(-1)!;
    return `only a ${product} newer than ${major}.${minor}`;
  }
  const since = `${product} ${first[0]}.${first[1]} and later`;
  return magic === "REDIS" && version <= COMMON_VERSION ? `${since} and every Valkey` : since;
}

/** The first version of the RDB that Valkey writes with a magic of its own. */
const VALKEYS_OWN: RdbFormat = { magic: "VALKEY", version: 80 };
const COMMON: RdbFormat = { magic: "REDIS", version: COMMON_VERSION };

/**
 * The form that a Valkey writes a snapshot in where it is told of this server by `REPLCONF version`: its own, or the last one
 * that Redis knows, too ("Valkey 9.0, rdb.h": RDB_VERSION_MAP); undefined where the server loads neither.
 */
export function formFor(release: Release): "own" | "common" | undefined {
  if (loadsRdb(release, VALKEYS_OWN)) return "own";
  return loadsRdb(release, COMMON) ? "common" : undefined;
}

/** What to tell a Valkey with `REPLCONF version`: a Redis is told as the first version that loads what it then gets. */
export function announcedVersion({ product, major, minor }: Release): string {
  return product === "Redis" ? "7.2.0" : `${major}.${minor}.0`;
}
