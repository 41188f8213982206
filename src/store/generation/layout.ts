import * as fs from "node:fs";
import { join } from "node:path";
import type { Offset } from "../../base/history.ts";

/** The names inside the data directory. */
export const DATABASE = "replica.db";
export const CURRENT = "current";
export const GENERATIONS = "generations";

/** The names inside a generation's folder: what Redis 7 expects of an append-only directory. */
export const MANIFEST = "appendonly.aof.manifest";
export const BASE = "appendonly.aof.1.base.rdb";
export const LOG = "appendonly.aof.1.incr.aof";

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

/** The manifest of one base and one log ("Redis 7, aof.c": `file NAME seq N type b|i`). */
export function manifestText(): string {
  return `file ${BASE} seq 1 type b\nfile ${LOG} seq 1 type i\n`;
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
