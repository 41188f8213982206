import type { SourceOptions } from "./common.d.ts";

/** What kind of value a key has, as TYPE names it; a module's own types are all `module`. */
export type KeyKind =
  "string" | "list" | "set" | "zset" | "hash" | "stream" | "module" | "array" | "gcra";

/** A key of an RDB, and what that says of it. Values are passed over. */
export interface KeyEntry {
  readonly db: number;
  readonly key: Uint8Array;
  /** The key as text; bytes that are no UTF-8 become U+FFFD. */
  readonly text: string;
  readonly kind: KeyKind;
  /** The name of a module's type; undefined for all others. */
  readonly module: string | undefined;
  /** As OBJECT ENCODING names it, or as the RDB does where servers don't have it any more. */
  readonly encoding: string;
  /** In milliseconds since 1970; undefined: it doesn't expire. */
  readonly expiresAtMs: number | undefined;
  /** Items, members, fields or stream entries; undefined for strings and modules' values. */
  readonly elements: number | undefined;
  /** The length of a string; undefined for all else. */
  readonly stringBytes: number | undefined;
  /** What it takes in the RDB, with its key and what is said about it. */
  readonly bytes: number;
}

/** An RDB as its bytes come: a response's body, a file's stream, standard input. */
export type RdbStream = AsyncIterable<Uint8Array>;

export interface ReadKeysOptions extends SourceOptions {
  /** Patterns as KEYS takes them; a key is given if one of them matches. Default: all keys. */
  readonly match?: string | readonly string[] | undefined;
  /** This database alone. */
  readonly db?: number | undefined;
  /** Of a data directory or an archive, the snapshot of this generation: an `id` of `snapshots`. Default: the newest. */
  readonly generation?: number | string | undefined;
}

/** A place in a log. */
export interface LogPosition {
  /** Reading goes on behind it: the `end` of the last entry that was taken. */
  readonly offset: number;
  /** The history that it is of, an entry's `replid`: in another one the same offset is another place. */
  readonly replid?: string | undefined;
}

/** A command that a primary streamed. */
export interface LogEntry {
  /** The offset before it: a restore to this offset has everything before the command, and not the command. */
  readonly offset: number;
  /** The offset of its last byte: reading from there goes on behind it. */
  readonly end: number;
  /** The history that it is in; undefined where the primary named none. */
  readonly replid: string | undefined;
  /** When it had arrived, to a second, in milliseconds since 1970; undefined where that is unknown. */
  readonly atMs: number | undefined;
  readonly db: number;
  /** Its name, in upper case. */
  readonly command: string;
  /** Its keys, those that it only reads as well. Of a command that isn't known, the word behind its name. */
  readonly keys: readonly Uint8Array[];
  /** All words behind its name. */
  readonly args: readonly Uint8Array[];
  /**
   * The offsets before its MULTI and at the end of its EXEC, where it is in a transaction; `end` is undefined for one that
   * is too large to be held until then.
   */
  readonly transaction: { readonly offset: number; readonly end: number | undefined } | undefined;
}

export interface ReadLogOptions extends SourceOptions {
  /** Behind this offset, or from this time on. Default: from the beginning of what is kept. */
  readonly from?: number | LogPosition | Date | undefined;
  /** Up to this offset, or as of this time. Default: to the end of what is durable. */
  readonly to?: number | Date | undefined;
  /** Patterns as KEYS takes them: commands of which a key matches one of them, and those that remove all keys. */
  readonly keys?: string | readonly string[] | undefined;
  /** Names of commands. */
  readonly commands?: string | readonly string[] | undefined;
  readonly db?: number | undefined;
  /** Also what writes nothing: PING, SELECT, REPLCONF, MULTI, EXEC. */
  readonly all?: boolean | undefined;
  /** Wait for more at the end, until the signal aborts; of that only what is durable comes. */
  readonly follow?: boolean | undefined;
  /**
   * Called where what comes next is not kept or is of another history, with a sentence; then reading goes on behind that.
   * Default: it ends with a ReplicaError, LOG_GAP.
   */
  readonly onGap?: ((text: string) => void) | undefined;
}
