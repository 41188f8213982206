import type { LogEntry } from "bun-replica";
import type { Tables } from "./tables.ts";

type Words = readonly Uint8Array[];

/** What a write does to the tables. A primary streams effects, not calls: what failed, or changed nothing, never comes. */
const WRITES: Readonly<Record<string, (tables: Tables, words: Words) => void>> = {
  SET: (tables, [key, value]) => replace(tables, key!, value!),
  SETNX: (tables, [key, value]) => replace(tables, key!, value!),
  SETEX: (tables, [key, , value]) => replace(tables, key!, value!),
  PSETEX: (tables, [key, , value]) => replace(tables, key!, value!),
  GETSET: (tables, [key, value]) => replace(tables, key!, value!),
  MSET: (tables, words) => pairs(words).forEach(([key, value]) => replace(tables, key, value)),
  APPEND: (tables, [key, more]) =>
    tables.set(key!, Buffer.concat([tables.get(key!) ?? new Uint8Array(), more!])),
  INCR: (tables, [key]) => tables.set(key!, sum(tables.get(key!), 1n)),
  DECR: (tables, [key]) => tables.set(key!, sum(tables.get(key!), -1n)),
  INCRBY: (tables, [key, by]) => tables.set(key!, sum(tables.get(key!), numberIn(by))),
  DECRBY: (tables, [key, by]) => tables.set(key!, sum(tables.get(key!), -numberIn(by))),
  HSET: (tables, [key, ...rest]) =>
    pairs(rest).forEach(([field, value]) => tables.setField(key!, field, value)),
  HMSET: (tables, words) => WRITES["HSET"]!(tables, words),
  HSETNX: (tables, words) => WRITES["HSET"]!(tables, words),
  HINCRBY: (tables, [key, field, by]) =>
    tables.setField(key!, field!, sum(tables.getField(key!, field!), numberIn(by))),
  HDEL: (tables, [key, ...fields]) => fields.forEach((field) => tables.removeField(key!, field)),
  DEL: (tables, keys) => keys.forEach((key) => tables.remove(key)),
  UNLINK: (tables, words) => WRITES["DEL"]!(tables, words),
};
/** They change when a key ends, which the primary streams as a DEL once it does. */
const EXPIRIES = new Set(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "PERSIST"]);

/**
 * Applies a command to the tables, as far as it is about keys of database 0 that begin with `prefix`.
 * @throws Error for a command that this mirror can't follow: to pass over it would make the tables wrong.
 */
export function apply(tables: Tables, entry: LogEntry, prefix: Uint8Array): void {
  const { command, db, keys, args } = entry;
  if (command === "FLUSHALL" || (command === "FLUSHDB" && db === 0)) return tables.removeAll();
  if (command === "SWAPDB") throw new Error(`the mirror can't follow a SWAPDB at ${entry.offset}`);
  const isOurs = (key: Uint8Array) => Buffer.compare(key.subarray(0, prefix.length), prefix) === 0;
  if (db !== 0 || !keys.some(isOurs) || EXPIRIES.has(command)) return;
  const write = WRITES[command];
  if (write === undefined)
    throw new Error(`the mirror doesn't know ${command}, at offset ${entry.offset}`);
  if (command === "MSET")
    write(
      tables,
      pairs(args)
        .filter(([key]) => isOurs(key))
        .flat(),
    );
  else write(tables, keys.length > 1 ? keys.filter(isOurs) : args);
}

function replace(tables: Tables, key: Uint8Array, value: Uint8Array): void {
  tables.remove(key);
  tables.set(key, value);
}

function pairs(words: Words): [Uint8Array, Uint8Array][] {
  return Array.from({ length: words.length / 2 }, (_, at) => [words[2 * at]!, words[2 * at + 1]!]);
}

function numberIn(bytes: Uint8Array = Buffer.from("0")): bigint {
  return BigInt(Buffer.from(bytes).toString());
}

function sum(bytes: Uint8Array | undefined, by: bigint): Uint8Array {
  return Buffer.from(String(numberIn(bytes) + by));
}
