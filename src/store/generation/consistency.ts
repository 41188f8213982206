import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";
import { counted } from "../../base/quantity.ts";
import { type Disk, diskError } from "../disk/disk.ts";
import type { Generation, Ledger } from "../ledger/ledger.ts";
import type { UnfinishedGeneration } from "../ledger/keep-tables.ts";
import {
  DATABASE,
  filesOf,
  generationIds,
  generationPath,
  MANIFEST,
  offsetOfByte,
  fileByteOf,
} from "./layout.ts";

/**
 * Refuses a generation whose files are missing, or hold less than the ledger says is durable.
 * @param dir the data directory.
 * @throws ReplicaError DIRECTORY_DAMAGED, DISK_FAILED.
 */
export function refuseDamagedFiles(
  disk: Disk,
  dir: string,
  generation: Generation,
  durableOffset: Offset,
): void {
  const { id } = generation;
  const { manifest, manifestText, base, log } = filesOf({ id, dir: join(dir, generationPath(id)) });
  const damaged = (path: string, what: string) =>
    new ReplicaError("DIRECTORY_DAMAGED", {
      retry: "never",
      message: `${path} ${what}: restore ${dir} from a copy, or start with a new --dir`,
    });
  const sizeOf = (path: string): number => {
    try {
      return disk.sizeOf(path);
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
        throw damaged(path, "is missing");
      }
      throw diskError("checking", path, cause);
    }
  };
  if (sizeOf(manifest) !== manifestText.length) {
    throw damaged(manifest, "is not the manifest that was written");
  }
  const rdbBytes = sizeOf(base);
  if (rdbBytes !== generation.rdbBytes) {
    throw damaged(base, `has ${counted(rdbBytes, "byte")} instead of ${generation.rdbBytes}`);
  }
  if (fs.lstatSync(log, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
    throw damaged(log, "is a link, which may lead out of the data directory");
  }
  const durableBytes = fileByteOf(generation, durableOffset);
  const logBytes = sizeOf(log);
  if (logBytes < durableBytes) {
    throw damaged(log, `has ${counted(logBytes, "byte")}, though ${durableBytes} were durable`);
  }
}

/**
 * Refuses a database that has lost the record of a generation whose folder is whole: a start would remove
 * that folder.
 * @param dir the data directory.
 * @throws ReplicaError DIRECTORY_DAMAGED, DISK_FAILED; nothing was touched.
 */
export function refuseLostRows(dir: string, ledger: Ledger, current: Generation | undefined): void {
  const database = join(dir, DATABASE);
  const lost = lostIds(dir, ledger, current);
  if (lost.length === 0) return;
  throw new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${database} has lost the record of generation ${lost.join(", ")}, whose folder is whole: move ${database} and its -wal away and restore from the files (replica restore), or start with a new --dir`,
  });
}

/** What tells which log was followed: the generation that is current, and where its log begins. */
type Followed = Pick<Generation, "id" | "baseOffset" | "logHeaderBytes">;

/**
 * The generations whose folders are whole, and were followed or may have been, but are not so to the ledger's
 * knowledge.
 * @throws ReplicaError of the ledger; Error of the disk.
 */
export function lostIds(
  dir: string,
  ledger: Pick<Ledger, "ids" | "unfinished">,
  current: Followed | undefined,
): number[] {
  // Before the folders: a generation that begins meanwhile has its row first.
  const [known, unfinished] = [new Set(ledger.ids()), ledger.unfinished()];
  const dirOf = (id: number) => join(dir, generationPath(id));
  const isWhole = (id: number) => fs.existsSync(join(dirOf(id), MANIFEST));
  return [
    ...generationIds(dir).filter((id) => !known.has(id) && isWhole(id)),
    ...unfinished
      .filter((one) => isWhole(one.id) && wasFollowed(one, current, dirOf))
      .map(({ id }) => id),
  ];
}

/** Whether a generation's log holds bytes that the one before it lacks: then it had become current. */
function wasFollowed(
  { id, sealedAtMs, baseOffset, logHeaderBytes, writtenOffset }: UnfinishedGeneration,
  current: Followed | undefined,
  dirOf: (id: number) => string,
): boolean {
  if (sealedAtMs !== null) return false;
  // The ledger knows where a log begins before its manifest is written.
  if (baseOffset === null || logHeaderBytes === null) return true;
  const logBytes = (one: number) =>
    fs.statSync(filesOf({ id: one, dir: dirOf(one) }).log, { throwIfNoEntry: false })?.size ?? 0;
  const end = offsetOfByte({ baseOffset, logHeaderBytes }, logBytes(id));
  // What came beside the snapshot is in the log before anything follows it.
  if (end <= Math.max(baseOffset, writtenOffset ?? 0)) return false;
  if (current === undefined) return true;
  // A log that was about to take over ends where the current one does.
  return baseOffset < current.baseOffset || end > offsetOfByte(current, logBytes(current.id));
}
