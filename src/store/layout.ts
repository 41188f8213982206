import { join } from "node:path";

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
