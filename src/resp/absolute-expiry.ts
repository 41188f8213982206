import type { Verb } from "./verbs.ts";

const SET = Buffer.from("SET");
const PEXPIREAT = Buffer.from("PEXPIREAT");
/** What RESTORE takes for "never expires". */
const NO_EXPIRY = Buffer.from("0");
const SECOND_MS = 1000n;
const UNITS_MS = new Map([
  ["EX", SECOND_MS],
  ["PX", 1n],
]);
/** The most digits of a server's long long, and its maximum. */
const MAX_DIGITS = 19;
const MAX_MS = 2n ** 63n - 1n;
/** The length of RESTORE-ASKING, the longest verb or option here. */
const LONGEST_NAME = 14;

/** One command: its verb and arguments. */
export type Words = readonly Uint8Array[];

/**
 * Whether a primary of this version streams expiries relative to the time at which a command runs: Redis
 * before 7.0 does, Valkey never did ("Redis 7.0, Always replicate TTLs as absolute timestamps"). An unknown
 * version counts as old: `absoluteExpiry` leaves absolute expiries alone anyway.
 * @param redisVersion the snapshot's aux field `redis-ver` or `valkey-ver`: "6.2.14".
 */
export function streamsRelativeExpiries(redisVersion: string | undefined): boolean {
  const major = /^\d+(?=\.)/.exec(redisVersion ?? "")?.[0];
  return major === undefined || Number(major) < 7;
}

/** Whether a command of this verb, with `args` words, may have a relative expiry; only then read its words. */
export function mayExpireRelatively(verb: Verb | undefined, args: number): boolean {
  switch (verb) {
    case "EXPIRE":
    case "PEXPIRE":
      return args >= 3;
    case "SETEX":
    case "PSETEX":
    case "GETEX":
    case "RESTORE":
    case "RESTORE-ASKING":
      return args >= 4;
    case "SET":
      return args >= 5;
    default:
      return false;
  }
}

/**
 * Turns a relative expiry into the absolute one that it had on the primary, so that the command expires no
 * later when it is replayed later. Every server since 2.6 knows the commands that result. Redis 4.0 to 6.0
 * wrote the same ones into their own append-only file, except for RESTORE, which they left as it was
 * ("Redis 6.0, aof.c": feedAppendOnlyFile):
 *
 * - EXPIRE, PEXPIRE, GETEX with EX or PX: PEXPIREAT;
 * - SETEX, PSETEX, SET with EX or PX: SET, with its other options, then PEXPIREAT;
 * - RESTORE without ABSTTL: RESTORE without an expiry, then PEXPIREAT.
 *
 * PEXPIREAT follows whatever the options (NX, XX): a primary streams a command only where it took effect.
 * EVAL is left alone: primaries before 5.0, and up to 6.2 by configuration, stream their scripts whole.
 * @param unixMs when the command ran on the primary, in whole milliseconds.
 * @returns the commands that replace it, made of the words given wherever those stay the same; `undefined`
 * where there is nothing to change: no relative expiry, one that no server accepts (too large, not a
 * number), or one that is over at once (zero, negative).
 */
export function absoluteExpiry(words: Words, unixMs: number): Words[] | undefined {
  switch (capitals(words[0])) {
    case "EXPIRE":
      return fromExpire(words, deadline(words[2], SECOND_MS, unixMs));
    case "PEXPIRE":
      return fromExpire(words, deadline(words[2], 1n, unixMs));
    case "SETEX":
      return fromSetex(words, deadline(words[2], SECOND_MS, unixMs));
    case "PSETEX":
      return fromSetex(words, deadline(words[2], 1n, unixMs));
    case "SET":
      return fromSet(words, unixMs);
    case "GETEX":
      return fromGetex(words, unixMs);
    case "RESTORE":
    case "RESTORE-ASKING":
      return fromRestore(words, deadline(words[2], 1n, unixMs));
    default:
      return undefined;
  }
}

/** The options of EXPIRE (NX, XX, GT, LT: since 7.0) mean the same to PEXPIREAT. */
function fromExpire(words: Words, at: Uint8Array | undefined): Words[] | undefined {
  const [, key, , ...options] = words;
  return key && at && [[PEXPIREAT, key, at, ...options]];
}

function fromSetex(words: Words, at: Uint8Array | undefined): Words[] | undefined {
  const [, key, , value] = words;
  if (key === undefined || value === undefined || words.length !== 4) return undefined;
  return (
    at && [
      [SET, key, value],
      [PEXPIREAT, key, at],
    ]
  );
}

function fromSet(words: Words, unixMs: number): Words[] | undefined {
  const [verb, key, value, ...options] = words;
  if (verb === undefined || key === undefined || value === undefined) return undefined;
  const { at, others } = takeExpiry(options, unixMs);
  return (
    at && [
      [verb, key, value, ...others],
      [PEXPIREAT, key, at],
    ]
  );
}

function fromGetex(words: Words, unixMs: number): Words[] | undefined {
  const [, key, ...options] = words;
  const { at, others } = takeExpiry(options, unixMs);
  return key && at && others.length === 0 ? [[PEXPIREAT, key, at]] : undefined;
}

function fromRestore(words: Words, at: Uint8Array | undefined): Words[] | undefined {
  const [verb, key, , value, ...options] = words;
  if (verb === undefined || key === undefined || value === undefined) return undefined;
  if (options.some((option) => capitals(option) === "ABSTTL")) return undefined;
  return (
    at && [
      [verb, key, NO_EXPIRY, value, ...options],
      [PEXPIREAT, key, at],
    ]
  );
}

/** Separates the last EX or PX, as a deadline, from the other options, which keep their order. */
function takeExpiry(
  options: Words,
  unixMs: number,
): { at: Uint8Array | undefined; others: Uint8Array[] } {
  const others: Uint8Array[] = [];
  let at: Uint8Array | undefined;
  for (let index = 0; index < options.length; index++) {
    const option = options[index]!;
    const unitMs = UNITS_MS.get(capitals(option) ?? "");
    if (unitMs === undefined) others.push(option);
    else at = deadline(options[++index], unitMs, unixMs);
  }
  return { at, others };
}

/** The unix time, in milliseconds, `word` units after `unixMs`. */
function deadline(
  word: Uint8Array | undefined,
  unitMs: bigint,
  unixMs: number,
): Uint8Array | undefined {
  const digits = word && word.length <= MAX_DIGITS ? text(word) : "";
  if (!/^[1-9]\d*$/.test(digits)) return undefined;
  const at = BigInt(unixMs) + BigInt(digits) * unitMs;
  return at <= MAX_MS ? Buffer.from(String(at)) : undefined;
}

function capitals(word: Uint8Array | undefined): string | undefined {
  return word && word.length <= LONGEST_NAME ? text(word).toUpperCase() : undefined;
}

function text(word: Uint8Array): string {
  return Buffer.from(word.buffer, word.byteOffset, word.byteLength).toString("latin1");
}
