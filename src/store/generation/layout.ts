import * as fs from "node:fs";
import { join } from "node:path";
import { usageError } from "../../base/errors.ts";
import type { Offset } from "../../base/history.ts";

/** The names inside the data directory. */
export const DATABASE = "replica.db";
export const CURRENT = "current";
export const GENERATIONS = "generations";

/** What a cluster's directory has in place of all that. */
const CLUSTER_DATABASE = "cluster.db";

/** @throws ReplicaError USAGE where a directory follows a whole cluster: it is no data directory. */
export function refuseCluster(dir: string): void {
  if (!fs.existsSync(join(dir, CLUSTER_DATABASE))) return;
  throw usageError(
    `${dir} keeps a whole cluster (${CLUSTER_DATABASE}): follow that with redis+cluster://host:port, or give this primary a --dir of its own`,
  );
}

/** The manifest of an append-only folder, in every generation and every restore ("Redis 7, aof.c"). */
export const MANIFEST = "appendonly.aof.manifest";

/** The names of an append-only folder's files, and the text of the manifest that names them. */
export interface FileNames {
  readonly base: string;
  readonly log: string;
  readonly manifestText: string;
}

/** The names that Redis 7 gives to a base and a log with this sequence number (`file NAME seq N type b|i`). */
export function fileNames(seq: number): FileNames {
  const base = `appendonly.aof.${seq}.base.rdb`;
  const log = `appendonly.aof.${seq}.incr.aof`;
  const manifestText = `file ${base} seq ${seq} type b\nfile ${log} seq ${seq} type i\n`;
  return { base, log, manifestText };
}

/** The paths of a generation's files, and the text of its manifest. */
export interface GenerationFiles extends FileNames {
  readonly manifest: string;
}

/**
 * The files of a generation. They bear its number: so a copy that was made while another generation became
 * current has no manifest that names what it holds, and a server refuses it. Earlier versions numbered the
 * files of every generation 1: such a folder stays as it is.
 * @param dir the generation's folder.
 */
export function filesOf({
  id,
  dir,
}: {
  readonly id: number;
  readonly dir: string;
}): GenerationFiles {
  const numbered = fileNames(id);
  const first = fileNames(1);
  const holds = ({ base, log }: FileNames) =>
    fs.existsSync(join(dir, base)) || fs.existsSync(join(dir, log));
  const names = !holds(numbered) && holds(first) ? first : numbered;
  const { base, log, manifestText } = names;
  return {
    base: join(dir, base),
    log: join(dir, log),
    manifest: join(dir, MANIFEST),
    manifestText,
  };
}

/** `generations/0000000002`, relative to the data directory. */
export function generationPath(id: number): string {
  return join(GENERATIONS, String(id).padStart(10, "0"));
}

/** The ids of the generations whose folders exist, whole or not, in rising order. @throws Error of the disk. */
export function generationIds(dir: string): number[] {
  return fs
    .readdirSync(join(dir, GENERATIONS))
    .filter((name) => /^\d{10}$/.test(name))
    .map(Number)
    .toSorted((a, b) => a - b);
}

/** Where a generation's stream begins: the offset before its first byte, and the length of the file's SELECT. */
export interface LogBeginning {
  readonly baseOffset: Offset;
  readonly logHeaderBytes: number;
}

/** The byte of the log's file at which what follows `offset` begins. */
export function fileByteOf({ baseOffset, logHeaderBytes }: LogBeginning, offset: Offset): number {
  return offset - baseOffset + logHeaderBytes;
}

/** The offset of the last stream byte before `byte` of the log's file. */
export function offsetOfByte({ baseOffset, logHeaderBytes }: LogBeginning, byte: number): Offset {
  return byte - logHeaderBytes + baseOffset;
}

/** A generation, and an offset in its log. */
export interface StreamEnd {
  readonly generation: number;
  readonly offset: Offset;
}
