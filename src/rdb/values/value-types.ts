import type { RdbHeader } from "../header.ts";
import { PACKED_KINDS, type PackedKind } from "./packed.ts";
import {
  ARRAY_ITEM,
  asMany,
  bytes,
  elements,
  ELEMENTS,
  fieldNames,
  fields,
  INTSET,
  LENGTH,
  LISTPACK,
  MODULE_DATA,
  MODULE_ID,
  NODE,
  OPTIONAL_LENGTH,
  packed,
  program,
  repeat,
  STRING,
  TEMPLATE_LISTPACK,
  TEXT,
  TEXT_SCORE,
  ZIPLIST,
  ZIPMAP,
} from "./program.ts";

/*
 * The types of values, each with what it consists of. The source is each release's rdb.h (RDB_TYPE_…) and rdb.c
 * (rdbLoadObject). Redis and Valkey number them alike up to 21.
 */

/** The kind of a value, as TYPE names it; a module's own types are all "module". */
export type ValueKind = "string" | "list" | "set" | "zset" | "hash" | "stream" | "module" | "array";

/** A type of values. */
export interface ValueType {
  readonly kind: ValueKind;
  /** What it is called unless its content decides. */
  readonly encoding: string;
  readonly program: Uint8Array;
  /** What the whole value is packed as, where that is all of it. */
  readonly packed?: { readonly kind: PackedKind; readonly perElement: number };
}

const string = [STRING];
const length = [LENGTH];
/** A double or a time in milliseconds. */
const eightBytes = bytes(8);
/** The id of a stream entry as its 16 bytes, and as two numbers. */
const rawId = bytes(16);
const id = [LENGTH, LENGTH];

/** What the versions of a stream's form have added ("Redis, rdb.h": RDB_TYPE_STREAM_LISTPACKS_2 and following). */
function stream(version: number): Uint8Array {
  const since = (first: number, steps: readonly number[]) => (version >= first ? steps : []);
  const pending = repeat(rawId, eightBytes, length);
  const consumer = [string, eightBytes, since(3, eightBytes), repeat(rawId)].flat();
  const nacked = since(5, repeat(rawId));
  return program(
    repeat(string, string),
    [ELEMENTS],
    id,
    // The first id, the largest that was deleted, how many entries were ever added.
    since(2, [...id, ...id, LENGTH]),
    repeat(string, id, since(2, length), pending, repeat(consumer), nacked),
    // Idempotent producers: how long and how many are kept, for each its messages with their ids, two counters.
    since(4, [...id, ...repeat(string, repeat(string, id)), ...id]),
  );
}

/** A value that is packed as a whole. */
function whole(kind: ValueKind, encoding: string, packing: number, perElement: number): ValueType {
  const packedAs = { kind: PACKED_KINDS[packing]!, perElement };
  return { kind, encoding, program: program(packed(packing, perElement)), packed: packedAs };
}

/** What Redis and Valkey have in common. */
const COMMON: Readonly<Record<number, ValueType>> = {
  0: { kind: "string", encoding: "raw", program: program([TEXT]) },
  1: { kind: "list", encoding: "linkedlist", program: program(elements(string)) },
  2: { kind: "set", encoding: "hashtable", program: program(elements(string)) },
  3: { kind: "zset", encoding: "skiplist", program: program(elements(string, [TEXT_SCORE])) },
  4: { kind: "hash", encoding: "hashtable", program: program(elements(string, string)) },
  5: { kind: "zset", encoding: "skiplist", program: program(elements(string, eightBytes)) },
  // A module's value has no encoding of the server's; it says so of it.
  7: { kind: "module", encoding: "raw", program: program([MODULE_ID, MODULE_DATA]) },
  9: whole("hash", "zipmap", ZIPMAP, 2),
  10: whole("list", "ziplist", ZIPLIST, 1),
  11: whole("set", "intset", INTSET, 1),
  12: whole("zset", "ziplist", ZIPLIST, 2),
  13: whole("hash", "ziplist", ZIPLIST, 2),
  14: { kind: "list", encoding: "quicklist", program: program(repeat(packed(ZIPLIST, 1))) },
  15: { kind: "stream", encoding: "stream", program: stream(1) },
  16: whole("hash", "listpack", LISTPACK, 2),
  17: whole("zset", "listpack", LISTPACK, 2),
  18: { kind: "list", encoding: "quicklist", program: program(repeat([NODE])) },
  19: { kind: "stream", encoding: "stream", program: stream(2) },
  20: whole("set", "listpack", LISTPACK, 1),
  21: { kind: "stream", encoding: "stream", program: stream(3) },
};

/** Redis's own: hashes whose fields expire (7.4), and what 8.6 to 8.10 added. */
const REDIS: Readonly<Record<number, ValueType>> = {
  // The forms of the release candidates, without the smallest expiry before.
  22: { kind: "hash", encoding: "hashtable", program: program(elements(length, string, string)) },
  23: whole("hash", "listpackex", LISTPACK, 3),
  24: {
    kind: "hash",
    encoding: "hashtable",
    program: program(eightBytes, elements(length, string, string)),
  },
  25: { kind: "hash", encoding: "listpackex", program: program(eightBytes, packed(LISTPACK, 3)) },
  26: { kind: "stream", encoding: "stream", program: stream(4) },
  27: { kind: "stream", encoding: "stream", program: stream(5) },
  28: {
    kind: "array",
    encoding: "sliced-array",
    // Count, whether an insertion point follows, and for each item its index.
    program: program([ELEMENTS, OPTIONAL_LENGTH], asMany(length, [ARRAY_ITEM])),
  },
  // The forms that RESTORE takes, with the names of the fields.
  29: {
    kind: "hash",
    encoding: "template-listpack",
    program: program(fieldNames(), string),
  },
  31: {
    kind: "hash",
    encoding: "template-array",
    program: program(fieldNames(), asMany(string)),
  },
  30: { kind: "hash", encoding: "template-listpack", program: program([TEMPLATE_LISTPACK]) },
  32: { kind: "hash", encoding: "template-array", program: program(fields(string)) },
};

/** Valkey's own: a hash whose fields expire has the time behind each value (9.0). */
const VALKEY: Readonly<Record<number, ValueType>> = {
  22: {
    kind: "hash",
    encoding: "hashtable",
    program: program(elements(string, string, eightBytes)),
  },
};

/** The types that an RDB of this magic may hold, by their number. */
export function valueTypesOf(magic: RdbHeader["magic"]): readonly (ValueType | undefined)[] {
  const known = { ...COMMON, ...(magic === "VALKEY" ? VALKEY : REDIS) };
  return Array.from({ length: 256 }, (_, opcode) => known[opcode]);
}
