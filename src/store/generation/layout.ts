import { join } from "node:path";
import type { Offset } from "../../base/history.ts";

/** The names inside the data directory; what Redis 7 expects of an append-only directory. */
export const MANIFEST = "appendonly.aof.manifest";
export const BASE = "appendonly.aof.1.base.rdb";
export const LOG = "appendonly.aof.1.incr.aof";
export const CURRENT = "current";

/** `generations/0000000002`, relative to the data directory. */
export function generationPath(id: number): string {
  return join("generations", String(id).padStart(10, "0"));
}

/** The manifest of one base and one log ("Redis 7, aof.c": `file NAME seq N type b|i`). */
export function manifestText(): string {
  return `file ${BASE} seq 1 type b\nfile ${LOG} seq 1 type i\n`;
}

/** Where a generation's stream begins: with which offset, and behind how many bytes of its file. */
interface LogBeginning {
  readonly baseOffset: Offset;
  readonly logHeaderBytes: number;
}

/** The position in the log's file that belongs to an offset. */
export function positionIn({ baseOffset, logHeaderBytes }: LogBeginning, offset: Offset): number {
  return offset - baseOffset + logHeaderBytes;
}

/** The offset that belongs to a position in the log's file. */
export function offsetIn({ baseOffset, logHeaderBytes }: LogBeginning, position: number): Offset {
  return position - logHeaderBytes + baseOffset;
}

/** A generation, and an offset in its log. */
export interface StreamEnd {
  readonly generation: number;
  readonly offset: Offset;
}
