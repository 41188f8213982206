import { createHash } from "node:crypto";
import type { Words } from "./absolute-expiry.ts";

/**
 * 3000-01-01 in unix milliseconds: no field expires by then. Redis takes times up to the year 4199
 * ("Redis 8.0, server.h": HFE_MAX_ABS_TIME_MSEC).
 */
export const FAR_MS = 32_503_680_000_000;

/**
 * Lifts a field that is due; what is not due, or has no expiry, stays as it is. A field that a loading Redis
 * hides (HGET), though it can be given another expiry (XX), is due. A listpack has no expiries, and HPEXPIREAT
 * would change its encoding.
 *
 * A server that loads runs scripts as its default user, and crashes where that may not run a command
 * ("Redis 8.0, script.c": scriptVerifyACL). So it is asked first, and where it may not, nothing is changed.
 */
const LIFT = `local may = redis.acl_check_cmd
local function change(key, field)
  if not may('HGET', key, field) or redis.call('HGET', key, field) then return end
  if not may('OBJECT', 'ENCODING', key) or not may('HPEXPIREAT', key, '${FAR_MS}', 'FIELDS', 1, field)
    or not may('HPEXPIRETIME', key, 'FIELDS', 1, field) then return end
  if redis.call('OBJECT', 'ENCODING', key) == 'listpack' then return end
  redis.call('HPEXPIREAT', key, '${FAR_MS}', 'XX', 'FIELDS', 1, field)
end`;

/** Makes a field due again that was lifted. When exactly it was due doesn't matter any more. */
const LOWER = `local may = redis.acl_check_cmd
local function change(key, field)
  if not may('HPEXPIRETIME', key, 'FIELDS', 1, field) then return end
  if redis.call('HPEXPIRETIME', key, 'FIELDS', 1, field)[1] ~= ${FAR_MS} then return end
  redis.call('HPEXPIREAT', key, 1, 'FIELDS', 1, field)
end`;

const ONE_FIELD = "change(KEYS[1], ARGV[1])";

const SORTED_FIELDS = `local range = { list = { 'LRANGE', 0, -1 }, set = { 'SMEMBERS' }, zset = { 'ZRANGE', 0, -1 } }
local function typeOf(key) return may('TYPE', key) and redis.call('TYPE', key)['ok'] end
local read = range[typeOf(KEYS[1])]
if not read or not may(read[1], KEYS[1], unpack(read, 2)) then return end
for _, element in ipairs(redis.call(read[1], KEYS[1], unpack(read, 2))) do
  for at = 1, #ARGV, 3 do
    local key = ARGV[at] .. element .. ARGV[at + 1]
    if typeOf(key) == 'hash' then change(key, ARGV[at + 2]) end
  end
end`;

export interface Script {
  /** The command that loads it. */
  readonly load: Words;
  /** What EVALSHA calls it. */
  readonly sha1: Uint8Array;
}

/** What is run before and after a command. */
export interface Around {
  readonly before: Script;
  readonly after: Script;
}

/** KEYS: the hash. ARGV: the field. */
export const AROUND_FIELD: Around = {
  before: script(LIFT, ONE_FIELD),
  after: script(LOWER, ONE_FIELD),
};
/** KEYS: what is sorted. ARGV: of each pattern the text before and behind the element, and the field. */
export const AROUND_SORT: Around = {
  before: script(LIFT, SORTED_FIELDS),
  after: script(LOWER, SORTED_FIELDS),
};

function script(...parts: string[]): Script {
  const text = parts.join("\n");
  const sha1 = createHash("sha1").update(text).digest("hex");
  return {
    load: ["SCRIPT", "LOAD", text].map((word) => Buffer.from(word)),
    sha1: Buffer.from(sha1),
  };
}
