import type { RdbHeader } from "./header.ts";

/** What a server calls its version; whoever made the snapshot chose it. */
const VERSION = /^[\w.+-]{1,40}$/;

/**
 * The server that made an RDB, as the RDB says: `redis 8.0.2`, `valkey 9.1.0`. Undefined where it doesn't: before
 * Redis 3.2.
 */
export function serverOf({ aux }: Pick<RdbHeader, "aux">): string | undefined {
  const valkey = aux.get("valkey-ver");
  const version = valkey ?? aux.get("redis-ver");
  if (version === undefined || !VERSION.test(version)) return undefined;
  return `${valkey === undefined ? "redis" : "valkey"} ${version}`;
}

/** The first bytes of an RDB, which name its format: `REDIS0011`, `VALKEY080`. */
export function formatOf({ magic, version }: Pick<RdbHeader, "magic" | "version">): string {
  return magic + String(version).padStart(9 - magic.length, "0");
}

/** Reads what `formatOf` returns; undefined for anything else. */
export function parseFormat(text: string): Pick<RdbHeader, "magic" | "version"> | undefined {
  const [, magic, digits] = /^(REDIS|VALKEY)(\d{3,4})$/.exec(text) ?? [];
  if (magic === undefined || text.length !== 9) return undefined;
  return { magic: magic === "REDIS" ? "REDIS" : "VALKEY", version: Number(digits) };
}
