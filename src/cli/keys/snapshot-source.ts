import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { hex64 } from "../../base/hex64.ts";
import { counted } from "../../base/quantity.ts";
import type { RdbReaderSummary } from "../../rdb/reader/entry.ts";
import { readBlocks } from "../../store/disk/blocks.ts";
import { diskError, realDisk } from "../../store/disk/disk.ts";
import { filesOf } from "../../store/generation/layout.ts";
import { type Catalogue, isGone } from "../../store/restore/catalogue.ts";
import { damageError } from "../../store/restore/damage.ts";
import type { RestorePoint } from "../../store/restore/restore-point.ts";

/** A snapshot that can be read, wherever it lies. */
export interface SnapshotSource {
  /** What people call it: a path, a URL. */
  readonly place: string;
  /** The shard of a cluster that it is of. */
  readonly shard?: string;
  /** The generation that it begins. */
  readonly generation: string | number | undefined;
  /** The replication offset that it is of. */
  readonly offset: number | undefined;
  /** How many bytes of the log come between it and the moment that was asked for. */
  readonly logBytes: number | undefined;
  /** When it was taken, in milliseconds since 1970, if it doesn't say so itself. */
  readonly atMs: number | undefined;
  /** Undefined: unknown. */
  readonly rdbBytes: number | undefined;
  /**
   * Gives all its bytes, in their order; a view is gone once the call returns.
   * @throws ReplicaError; what `onBytes` throws; the signal's reason.
   */
  read(onBytes: (bytes: Uint8Array) => void, signal: AbortSignal): Promise<void>;
  /** In what it differs from what was recorded of it, for people; undefined where it doesn't. */
  complaint(summary: RdbReaderSummary): string | undefined;
  /** The error that reaches people where the RDB is damaged. @param what says how. @param keys that were counted before. */
  damaged(what: string, keys: number, cause: unknown): ReplicaError;
}

/** What a damage means here. @param keys that were counted before. */
export function countedSoFar(keys: number): string {
  if (keys === 0) return "no key was counted";
  return `${counted(keys, "key")} ${keys === 1 ? "was" : "were"} counted before`;
}

/** An RDB file. @throws ReplicaError DISK_FAILED. */
export function fileSource(path: string): SnapshotSource {
  return {
    place: path,
    generation: undefined,
    offset: undefined,
    logBytes: undefined,
    atMs: undefined,
    rdbBytes: sizeOf(path),
    read: async (onBytes, signal) => await readFile(path, onBytes, signal),
    complaint: () => undefined,
    damaged: (what, keys) =>
      damageError({ file: path, byte: undefined, what, meaning: countedSoFar(keys) }),
  };
}

/** The snapshot of a generation of a data directory. */
export function generationSource(
  catalogue: Catalogue,
  { generation, offset }: RestorePoint,
): SnapshotSource {
  const { id, baseOffset, first, rdbBytes, rdbCrc64 } = generation;
  const file = filesOf(generation).base;
  const damaged = (what: string, keys: number) =>
    damageError({ file, byte: undefined, what, meaning: countedSoFar(keys) });
  return {
    place: file,
    generation: id,
    offset: baseOffset,
    logBytes: offset - baseOffset,
    atMs: first?.atMs,
    rdbBytes,
    read: async (onBytes, signal) => {
      try {
        await readFile(file, onBytes, signal);
      } catch (error) {
        if (fs.existsSync(file)) throw error;
        if (isGone(catalogue.path, id)) throw removed(`generation ${id}`, catalogue.path, error);
        throw damaged("it is missing", 0);
      }
    },
    complaint: ({ bytes, crc64 }) => {
      if (bytes !== rdbBytes)
        return `it has ${counted(bytes, "byte")}, though it had ${counted(rdbBytes, "byte")}`;
      if (rdbCrc64 === undefined || rdbCrc64 === hex64(crc64)) return undefined;
      return `it has the checksum ${hex64(crc64)}; recorded was ${rdbCrc64}`;
    },
    damaged,
  };
}

function removed(what: string, where: string, cause: unknown): ReplicaError {
  return new ReplicaError("DISK_FAILED", {
    retry: "never",
    message: `${what} was removed from ${where} meanwhile: run it again for a newer one`,
    cause,
  });
}

async function readFile(
  path: string,
  onBytes: (bytes: Uint8Array) => void,
  signal: AbortSignal,
): Promise<void> {
  await readBlocks(realDisk, path, { from: 0, to: Infinity }, onBytes, signal);
}

function sizeOf(path: string): number {
  try {
    return realDisk.sizeOf(path);
  } catch (cause) {
    throw diskError("reading", path, cause);
  }
}
