import { Random } from "./fill.ts";
import { ReplyError } from "./resp.ts";
import type { RealServer } from "./servers.ts";

type Word = string | number | Uint8Array;

/** 2100-01-01: nothing expires during a test. */
const FAR_FUTURE_MS = 4_102_444_800_000;
const BATCH_BYTES = 256 * 1024;
const LETTERS = "abcdefgh";

/** What one kind of key is made with: its commands take the key's name, and the kind's own random numbers. */
type Maker = (key: Word, random: Random) => readonly (readonly Word[])[];

const numbers = (random: Random, count: number, below: number): number[] =>
  Array.from({ length: count }, () => random.below(below));
const texts = (random: Random, count: number, length: number): string[] =>
  Array.from({ length: count }, (_, n) => `${n}:${random.text(length)}`);
const compressible = (random: Random, length: number): string =>
  LETTERS[random.below(LETTERS.length)]!.repeat(length);
const set = (value: (random: Random) => Word): Maker => {
  return (key, random) => [["SET", key, value(random)]];
};

const STRINGS: Readonly<Record<string, Maker>> = {
  empty: set(() => ""),
  int8: set((random) => random.below(256) - 128),
  int16: set((random) => random.below(65_536) - 32_768),
  int32: set((random) => random.below(4_000_000_000) - 2_000_000_000),
  int64: set(
    (random) => `${random.below(2) === 0 ? "-" : ""}92${random.below(1e9)}17${random.below(1e6)}`,
  ),
  largest: set(() => "9223372036854775807"),
  tooLarge: set(() => "9223372036854775808"),
  smallest: set(() => "-9223372036854775808"),
  tooSmall: set(() => "-9223372036854775809"),
  zeros: set(() => "007"),
  minusZero: set(() => "-0"),
  plus: set(() => "+5"),
  text: set((random) => random.text(1 + random.below(44))),
  at44: set((random) => random.text(44)),
  at45: set((random) => random.text(45)),
  at63: set((random) => random.text(63)),
  at64: set((random) => random.text(64)),
  compressed: set((random) => compressible(random, 21 + random.below(300))),
  long: set((random) => random.text(16_380 + random.below(10))),
  longer: set((random) => random.bytes(70_000)),
};

const LISTS: Readonly<Record<string, Maker>> = {
  short: (key, random) => [["RPUSH", key, ...texts(random, 1 + random.below(10), 6)]],
  numbers: (key, random) => [["RPUSH", key, ...numbers(random, 5, 2 ** 32)]],
  nodes: (key, random) => [["RPUSH", key, ...texts(random, 400, 60)]],
  compressed: (key, random) => [["RPUSH", key, ...Array(500).fill(compressible(random, 50))]],
  plain: (key, random) => [["RPUSH", key, random.text(9000), "between", random.text(20_000)]],
  onePlain: (key, random) => [["RPUSH", key, random.text(12_000)]],
};

const SETS: Readonly<Record<string, Maker>> = {
  int16: (key, random) => [["SADD", key, ...numbers(random, 6, 30_000)]],
  int32: (key, random) => [["SADD", key, 100_000, ...numbers(random, 6, 2 ** 31)]],
  int64: (key, random) => [["SADD", key, "-9223372036854775808", ...numbers(random, 6, 2 ** 40)]],
  packed: (key, random) => [["SADD", key, ...texts(random, 10, 5)]],
  large: (key, random) => [["SADD", key, ...texts(random, 600, 5)]],
  wide: (key, random) => [["SADD", key, random.text(100), "short", 5]],
};

const HASHES: Readonly<Record<string, Maker>> = {
  packed: (key, random) => [["HSET", key, ...texts(random, 20, 8)]],
  numbers: (key, random) => [
    ["HSET", key, ...numbers(random, 10, 2 ** 31).map((n, i) => (i % 2 === 0 ? i : n))],
  ],
  compressed: (key, random) => [
    ["HSET", key, "a", compressible(random, 60), "b", compressible(random, 60)],
  ],
  large: (key, random) => [["HSET", key, ...texts(random, 1200, 5)]],
  wide: (key, random) => [["HSET", key, "field", random.text(100), random.text(80), 5]],
};

const SORTED_SETS: Readonly<Record<string, Maker>> = {
  packed: (key, random) => [["ZADD", key, ...texts(random, 8, 5).flatMap((m, i) => [i / 8, m])]],
  infinite: (key) => [["ZADD", key, "-inf", "first", "+inf", "last", 0, "zero"]],
  large: (key, random) => [
    ["ZADD", key, ...texts(random, 200, 5).flatMap((m) => [random.below(1e6) / 3, m])],
  ],
  wide: (key, random) => [["ZADD", key, 1.5, random.text(100), "inf", "far"]],
  places: (key) => [
    ["GEOADD", key, 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"],
  ],
};

const STREAMS: Readonly<Record<string, Maker>> = {
  plain: (key, random) =>
    texts(random, 5, 6).map((text, n) => ["XADD", key, `${n + 1}-1`, "field", text]),
  nodes: (key, random) =>
    texts(random, 250, 40).map((text, n) => ["XADD", key, `${n + 1}-1`, `field${n % 3}`, text]),
  emptied: (key) => [
    ["XADD", key, "5-5", "a", "b"],
    ["XDEL", key, "5-5"],
  ],
  groups: (key, random) => [
    ...texts(random, 6, 6).map((text, n) => ["XADD", key, `${n + 1}-0`, "field", text, "n", n]),
    ["XGROUP", "CREATE", key, "first", "0"],
    ["XGROUP", "CREATE", key, "second", "3-0"],
    ["XGROUP", "CREATECONSUMER", key, "first", "idle"],
    ["XREADGROUP", "GROUP", "first", "busy", "COUNT", 4, "STREAMS", key, ">"],
    ["XREADGROUP", "GROUP", "second", "other", "COUNT", 1, "STREAMS", key, ">"],
    ["XDEL", key, "2-0"],
  ],
};

const FIELD_EXPIRIES: Readonly<Record<string, Maker>> = {
  packed: (key, random) => [
    ["HSET", key, "a", random.text(8), "b", 2, "c", 3],
    ["HPEXPIREAT", key, FAR_FUTURE_MS + random.below(1e9), "FIELDS", 1, "a"],
    ["HPEXPIREAT", key, FAR_FUTURE_MS + random.below(1e9), "FIELDS", 1, "c"],
  ],
  large: (key, random) => [
    ["HSET", key, ...texts(random, 1200, 5)],
    ["HSET", key, "kept", 1, "wide", random.text(90)],
    ["HPEXPIREAT", key, FAR_FUTURE_MS + random.below(1e9), "FIELDS", 1, "wide"],
  ],
};

/** Names of keys in all the forms that an RDB has for a string. */
function keyName(kind: string, n: number, random: Random): Word {
  switch (n % 12) {
    case 0:
      return String(n);
    case 1:
      return String(1_000_000 + n);
    case 2:
      return `${kind}:${n}:${compressible(random, 30 + random.below(200))}`;
    case 3:
      return Buffer.concat([Buffer.from(`${kind}:${n}:\r\n\0`), random.bytes(5)]);
    case 4:
      return `${kind}:${n}:${random.text(50)}`
        .padEnd(64, ".")
        .slice(0, 63 + (n % 24 === 4 ? 1 : 0));
    default:
      return `${kind}:${n}`;
  }
}

/** A kind of each, by its name: `string:int8`, `list:nodes`. */
function makers(knowsFieldExpiries: boolean): [string, Maker][] {
  const all = {
    string: STRINGS,
    list: LISTS,
    set: SETS,
    hash: HASHES,
    zset: SORTED_SETS,
    stream: STREAMS,
    ...(knowsFieldExpiries ? { expiring: FIELD_EXPIRIES } : {}),
  };
  return Object.entries(all).flatMap(([kind, those]) =>
    Object.entries(those).map(([name, maker]): [string, Maker] => [`${kind}:${name}`, maker]),
  );
}

/**
 * Fills a server with keys of every encoding that it has, long and short, with names in every form, a third of them with
 * an expiry, in three databases, and with two libraries of functions.
 * @param keys how many at most; 200 give every kind several times.
 */
export async function fillEncodings(
  server: RealServer,
  { keys, seed }: { readonly keys: number; readonly seed: number },
): Promise<void> {
  await using client = await server.connect();
  const known = await client.send("COMMAND", "INFO", "HPEXPIREAT");
  const kinds = makers(Array.isArray(known) && known[0] !== null);
  const random = new Random(seed);
  for (const name of ["one", "two"]) {
    const code = `#!lua name=${name}\nredis.register_function('f_${name}', function() return 1 end)`;
    await client.send("FUNCTION", "LOAD", "REPLACE", code);
  }
  let batch: (readonly Word[])[] = [];
  let batchBytes = 0;
  const flush = async () => {
    const failed = (await client.exchange(batch)).find((reply) => reply instanceof ReplyError);
    if (failed instanceof ReplyError) throw failed;
    batch = [];
    batchBytes = 0;
  };
  for (const db of [0, 3, 12]) {
    batch.push(["SELECT", db]);
    for (let n = db; n < db + keys / 3; n++) {
      // The costly kinds are rare once each has come some times.
      const [kind, maker] = kinds[n < db + 300 ? n % kinds.length : random.below(STRING_KINDS)]!;
      const key = keyName(kind, n, random);
      const commands = [...maker(key, random)];
      if (n % 3 === 0) commands.push(["PEXPIREAT", key, FAR_FUTURE_MS + random.below(1e9)]);
      for (const words of commands) {
        batch.push(words);
        for (const word of words)
          batchBytes += word instanceof Uint8Array ? word.length : String(word).length;
      }
      if (batchBytes > BATCH_BYTES) await flush();
    }
  }
  await flush();
}

const STRING_KINDS = Object.keys(STRINGS).length;
