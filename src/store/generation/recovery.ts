import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import type { Generation, UnfinishedGeneration } from "../ledger/ledger.ts";
import { BASE, generationPath, LOG, MANIFEST, manifestText, positionIn } from "./layout.ts";

/**
 * Holds the files of a generation against what was promised of them.
 * @param dir the data directory.
 * @throws ReplicaError DIRECTORY_DAMAGED for one that is missing or shorter; DISK_FAILED.
 */
export function refuseDamaged(
  disk: Disk,
  dir: string,
  generation: Generation,
  durableOffset: Offset,
): void {
  const pathOf = (name: string) => join(dir, generationPath(generation.id), name);
  const damaged = (name: string, what: string) =>
    new ReplicaError("DIRECTORY_DAMAGED", {
      retry: "never",
      message: `${pathOf(name)} ${what}: restore ${dir} from a copy, or start with a new --dir`,
    });
  const sizeOf = (name: string): number => {
    try {
      return disk.sizeOf(pathOf(name));
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
        throw damaged(name, "is missing");
      }
      throw diskError("looking at", pathOf(name), cause);
    }
  };
  if (sizeOf(MANIFEST) !== manifestText().length) {
    throw damaged(MANIFEST, "is not the one that was written");
  }
  const base = sizeOf(BASE);
  if (base !== generation.rdbBytes) {
    throw damaged(BASE, `has ${base} bytes, ${generation.rdbBytes} were kept`);
  }
  const promised = positionIn(generation, durableOffset);
  const logBytes = sizeOf(LOG);
  if (logBytes < promised) {
    throw damaged(LOG, `has ${logBytes} bytes, ${promised} were durable`);
  }
}

/** What the database says of a folder's generations, to be held against their files. */
export interface Claims {
  readonly database: string;
  /** Of the generations whose folders are there. */
  readonly folders: readonly number[];
  readonly known: ReadonlySet<number>;
  readonly unfinished: readonly UnfinishedGeneration[];
  readonly current: Generation | undefined;
}

/**
 * Refuses a database that has lost a generation which its files show to be whole: nothing is touched then.
 * @param dir the data directory.
 * @throws ReplicaError DIRECTORY_DAMAGED.
 */
export function refuseLostRows(dir: string, claims: Claims): void {
  const { database, folders, known, unfinished, current } = claims;
  const dirOf = (id: number) => join(dir, generationPath(id));
  const isWhole = (id: number) => fs.existsSync(join(dirOf(id), MANIFEST));
  const lost = [
    ...folders.filter((id) => !known.has(id) && isWhole(id)),
    ...unfinished
      .filter((one) => isWhole(one.id) && wasFollowed(one, current, dirOf))
      .map(({ id }) => id),
  ];
  if (lost.length === 0) return;
  throw new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${database} has lost that generation ${lost.join(", ")} is whole: move it and its -wal away to restore what the files hold (replica restore), or start with a new --dir`,
  });
}

/** Whether its log holds what the one before it does not: then it had become current. */
function wasFollowed(
  { id, sealedAtMs, baseOffset, logHeaderBytes }: UnfinishedGeneration,
  current: Generation | undefined,
  dirOf: (id: number) => string,
): boolean {
  if (sealedAtMs !== null) return false;
  // Before its manifest is written, the database knows where its log begins.
  if (baseOffset === null || logHeaderBytes === null) return true;
  const bytes = (one: number) =>
    fs.statSync(join(dirOf(one), LOG), { throwIfNoEntry: false })?.size ?? 0;
  const streamBytes = bytes(id) - logHeaderBytes;
  if (streamBytes <= 0) return false;
  if (current === undefined) return true;
  // One that was about to take its place ends where that does.
  const end = current.baseOffset + bytes(current.id) - current.logHeaderBytes;
  return baseOffset < current.baseOffset || baseOffset + streamBytes > end;
}
