import { type Command, DATABASES, nextCommands } from "../faults/seeded-load.ts";
import type { Random } from "../support/fill.ts";

/** Few, so that every kind of command meets each key again and again. */
const KEYS = 100;
/** Number of short-lived keys of each type; `SHORT_KEYS` lists them. */
const SHORT = 60;
/** More than fit in memory, so that some are always being evicted. */
const BULK_KEYS = 20_000;
/** The longest life of a short-lived key. */
export const SHORT_LIFE_MS = 1_200;

/** The names of all short-lived keys. */
export const SHORT_KEYS: readonly string[] = Array.from({ length: SHORT }, (_, n) => [
  `short:${n}`,
  `short-hash:${n}`,
]).flat();

type Move = (random: Random, n: number) => Command[];

const CONSUMERS = ["ann", "bob", "cid"];

function consumer(random: Random): string {
  return CONSUMERS[random.below(CONSUMERS.length)]!;
}

/** Batches that a client sends, by data type. Their errors don't matter. */
const MOVES: readonly Move[] = [
  (random, n) => [["APPEND", `text:${n}`, random.text(12)]],
  (random, n) => [["SETRANGE", `text:${n}`, random.below(300), random.text(5)]],
  (random, n) => [["INCRBYFLOAT", `float:${n}`, `${random.below(1000) / 7}`]],
  (random, n) => [["MSET", `string:${n}`, random.text(9), `string:${n + 1}`, random.text(9)]],
  (_random, n) => [["GETDEL", `string:${n}`]],
  (random, n) => [["RPUSH", `list:${n}`, random.text(9), random.text(random.below(90))]],
  (random, n) => [["LMOVE", `list:${n}`, `list:${random.below(KEYS)}`, "LEFT", "RIGHT"]],
  (random, n) => [["LINSERT", `list:${n}`, "BEFORE", random.text(6), random.text(7)]],
  (random, n) => [["HINCRBY", `hash:${n}`, "count", random.below(50)]],
  (random, n) => [["HINCRBYFLOAT", `hash:${n}`, "share", `${random.below(500) / 3}`]],
  (random, n) => [["HDEL", `hash:${n}`, `field${random.below(20)}`]],
  (random, n) => [["SPOP", `set:${n}`, random.below(4)]],
  (random, n) => [["SMOVE", `set:${n}`, `set:${random.below(KEYS)}`, random.below(50)]],
  (random, n) => [["SUNIONSTORE", `union:${n % 10}`, `set:${n}`, `set:${random.below(KEYS)}`]],
  (random, n) => [["ZADD", `zset:${n}`, "GT", random.below(900), `member${random.below(20)}`]],
  (_random, n) => [["ZPOPMIN", `zset:${n}`]],
  (random, n) => [["ZUNIONSTORE", `best:${n % 10}`, 2, `zset:${n}`, `zset:${random.below(KEYS)}`]],
  (random, n) => [["ZREMRANGEBYRANK", `best:${n % 10}`, 0, random.below(3)]],
  // Streams and consumer groups.
  (_random, n) => [["XGROUP", "CREATE", `stream:${n}`, "readers", "0", "MKSTREAM"]],
  (random, n) => [
    ["XADD", `stream:${n}`, "*", "field", random.text(20)],
    ["XREADGROUP", "GROUP", "readers", consumer(random), "COUNT", 2, "STREAMS", `stream:${n}`, ">"],
  ],
  (random, n) => [["XAUTOCLAIM", `stream:${n}`, "readers", consumer(random), 0, "0", "COUNT", 2]],
  (_random, n) => [["XTRIM", `stream:${n}`, "MAXLEN", 12]],
  (_random, n) => [["XGROUP", "DELCONSUMER", `stream:${n}`, "readers", CONSUMERS[n % 3]!]],
  (random, n) => [["PFADD", `hll:${n}`, random.text(4), random.text(5)]],
  (random, n) => [["PFMERGE", `hll:${n}`, `hll:${random.below(KEYS)}`]],
  (_random, n) => [["PFCOUNT", `hll:${n}`]],
  (random, n) => [["SETBIT", `bitmap:${n}`, random.below(20_000), random.below(2)]],
  (random, n) => [
    ["BITOP", "XOR", `bitmap:${n % 10}`, `bitmap:${n}`, `bitmap:${random.below(KEYS)}`],
  ],
  (random, n) => [["BITFIELD", `bitmap:${n}`, "INCRBY", "u8", `#${random.below(90)}`, 3]],
  (random, n) => [
    ["GEOADD", `geo:${n}`, random.below(360) - 180, random.below(170) - 85, `at${n}`],
  ],
  (_random, n) => [
    ["GEOSEARCHSTORE", `near:${n % 10}`, `geo:${n}`, "FROMLONLAT", 13, 38, "BYRADIUS", 9000, "km"],
  ],
  // A script's effects are streamed, not the script; of a failing script, the effects until then.
  (random, n) => [
    [
      "EVAL",
      "redis.call('SET', KEYS[1], ARGV[1]); redis.call('ZADD', KEYS[2], #ARGV[1], ARGV[1]); return redis.call('SPOP', KEYS[3])",
      3,
      `scripted:${n}`,
      `zset:${n}`,
      `set:${n}`,
      random.text(4),
    ],
  ],
  (random, n) => [
    [
      "EVAL",
      "redis.call('APPEND', KEYS[1], ARGV[1]); error('half of it is done')",
      1,
      `scripted:${n}`,
      random.text(6),
    ],
  ],
  (random, n) => [["FCALL", "soak_put", 2, `called:${n}`, `called-list:${n}`, random.text(8)]],
  (random, n) => [
    ["MULTI"],
    ["SELECT", DATABASES[random.below(DATABASES.length)]!],
    ["SADD", `set:${n}`, random.below(50)],
    ["XADD", `stream:${n}`, "MAXLEN", 20, "*", "in", "transaction"],
    ["RENAME", `text:${n}`, `text:${random.below(KEYS)}`],
    ["EXEC"],
  ],
  (random) => [["MULTI"], ["INCR", "never"], [random.below(2) === 0 ? "DISCARD" : "EXEC"]],
  // These expire during the run; every way to set an expiry.
  (random, n) => [["SET", `short:${n % SHORT}`, random.text(30), "PX", shortLife(random)]],
  (random, n) => [["PSETEX", `short:${n % SHORT}`, shortLife(random), random.text(10)]],
  (random, n) => [["SET", `short:${n % SHORT}`, "x", "PXAT", Date.now() + shortLife(random)]],
  (random, n) => [["GETEX", `short:${n % SHORT}`, "PX", shortLife(random)]],
  (random, n) => [
    ["MULTI"],
    ["HSET", `short-hash:${n % SHORT}`, `field${random.below(9)}`, random.text(9)],
    ["PEXPIRE", `short-hash:${n % SHORT}`, shortLife(random)],
    ["EXEC"],
  ],
  (_random, n) => [["EXPIRE", `expiring:${n}`, 900_000, "GT"]],
  (_random, n) => [["PERSIST", `expiring:${n}`]],
  (random, n) => [["COPY", `hash:${n}`, `hash:${random.below(KEYS)}`, "REPLACE"]],
  (random, n) => [["MOVE", `list:${n}`, DATABASES[random.below(DATABASES.length)]!]],
  (_random, n) => [["UNLINK", `set:${n}`, `union:${n % 10}`, `bitmap:${n}`]],
  (random) => [["PUBLISH", "soak", random.text(10)]],
  (random) => [
    ["SET", `bulk:${random.below(BULK_KEYS)}`, random.text(2_000 + random.below(4_000))],
  ],
  (random) => [
    ["SET", `bulk:${random.below(BULK_KEYS)}`, random.text(2_000 + random.below(4_000))],
  ],
];

/** Rare moves: one in `oneIn`. */
const RARE: readonly (readonly [oneIn: number, move: Move])[] = [
  [1_500, (random) => [["FUNCTION", "LOAD", "REPLACE", library(random.below(1000))]]],
  [
    2_500,
    (random) => [["SET", `big:${random.below(4)}`, random.text(200_000 + random.below(800_000))]],
  ],
  [8_000, (random) => [["SWAPDB", DATABASES[random.below(3)]!, DATABASES[random.below(3)]!]]],
  [30_000, () => [["FLUSHDB"]]],
];

function shortLife(random: Random): number {
  return 20 + random.below(SHORT_LIFE_MS - 20);
}

/** The library that `FCALL` calls; each number makes a different version of it. */
export function library(number: number): string {
  return `#!lua name=soak
redis.register_function('soak_put', function(keys, args)
  redis.call('SET', keys[1], args[1] .. ${number})
  redis.call('LPUSH', keys[2], args[1])
  return redis.call('LTRIM', keys[2], 0, 20)
end)`;
}

/** The next commands, which belong together. */
export function nextMove(random: Random): Command[] {
  for (const [oneIn, move] of RARE) {
    if (random.below(oneIn) === 0) return move(random, 0);
  }
  if (random.below(3) === 0) return nextCommands(random);
  return MOVES[random.below(MOVES.length)]!(random, random.below(KEYS));
}
