import type { Random } from "./fill.ts";

type Word = string | number | Uint8Array;
export type Command = readonly Word[];

/** What the primary can do, besides Redis 7.0's commands. */
export interface Abilities {
  readonly fieldExpiry: boolean;
  readonly msetex: boolean;
}

const TYPES = ["str", "list", "set", "zset", "hash", "stream"] as const;
type Type = (typeof TYPES)[number];
/** A key's name is its type, in most cases, and a number up to here. */
const EACH = 8;
/** Names that are no text for a line, or no text at all. */
const ODD: readonly Uint8Array[] = [
  Buffer.from("odd\r\nname"),
  Uint8Array.of(0xff, 0x00, 0x2a, 0x0a),
];

/**
 * Draws commands of all kinds on few keys in three databases, so that many make some keys from others: also such as are gone,
 * of another type, or in another database.
 */
export class KeyLoad {
  readonly #random: Random;
  readonly #can: Abilities;

  constructor(random: Random, can: Abilities) {
    this.#random = random;
    this.#can = can;
  }

  /** One command, or a whole transaction. */
  next(): Command[] {
    if (this.#oneIn(20)) {
      const inner = Array.from({ length: 2 + this.#random.below(4) }, () => this.#command());
      return [["MULTI"], ...inner, ["EXEC"]];
    }
    if (this.#oneIn(15)) return [["SELECT", this.#db()]];
    return [this.#command()];
  }

  #command(): Command {
    const kind = this.#random.below(100);
    if (kind < 60) return this.#write(this.#pick(...TYPES));
    if (kind < 80) return this.#fromOthers();
    return this.#onAny();
  }

  /** Makes or changes one key. */
  #write(type: Type): Command {
    const key = this.#key(type);
    const value = this.#random.below(1000);
    const few = Array.from({ length: 1 + this.#random.below(4) }, () => this.#random.below(20));
    switch (type) {
      case "str":
        return this.#pick<Command>(
          ["SET", key, this.#random.text(1 + this.#random.below(60))],
          ["SET", key, value, "PX", this.#ms()],
          ["SET", key, value, "KEEPTTL"],
          ["APPEND", key, value],
          ["INCR", key],
          ["SETBIT", key, this.#random.below(200), 1],
          ["PFADD", key, ...few],
          ["PFCOUNT", key],
          ["GETEX", key, "PX", this.#ms()],
          ["GETDEL", key],
        );
      case "list":
        return this.#pick<Command>(
          ["RPUSH", key, ...few],
          ["LPUSH", key, ...few],
          ["LPOP", key],
          ["LTRIM", key, 0, 5],
          ["LINSERT", key, "BEFORE", 3, value],
        );
      case "set":
        return this.#pick<Command>(["SADD", key, ...few], ["SREM", key, few[0]!], ["SPOP", key]);
      case "zset":
        return this.#pick<Command>(
          ["ZADD", key, ...few.flatMap((one) => [value, one])],
          ["ZINCRBY", key, 1.5, few[0]!],
          ["ZPOPMIN", key],
          ["GEOADD", key, value / 10, few[0]!, `place${few[0]!}`],
        );
      case "hash":
        return this.#onHash(key, few, value);
      case "stream":
        return this.#pick<Command>(
          ["XADD", key, "*", "f", value],
          ["XADD", key, "MAXLEN", 5, "*", "f", value],
          ["XGROUP", "CREATE", key, "group", "0", "MKSTREAM"],
          ["XREADGROUP", "GROUP", "group", "one", "COUNT", 1, "STREAMS", key, ">"],
          ["XTRIM", key, "MAXLEN", 3],
        );
    }
  }

  #onHash(key: Word, few: readonly number[], value: number): Command {
    const commands: Command[] = [
      ["HSET", key, ...few.flatMap((one) => [`f${one}`, value])],
      ["HINCRBY", key, `f${few[0]!}`, 2],
      ["HDEL", key, `f${few[0]!}`],
    ];
    if (this.#can.fieldExpiry) {
      const field = ["FIELDS", 1, `f${few[0]!}`] as const;
      commands.push(["HPEXPIRE", key, this.#ms(), ...field], ["HPERSIST", key, ...field]);
    }
    return this.#pick(...commands);
  }

  /** Makes keys from others. */
  #fromOthers(): Command {
    const [a, b, c] = [this.#any(), this.#any(), this.#any()];
    const of = (type: Type) => this.#key(type);
    return this.#pick<Command>(
      ["RENAME", a, b],
      ["RENAMENX", a, b],
      ["COPY", a, b, "REPLACE"],
      ["COPY", a, b, "DB", this.#db(), "REPLACE"],
      ["LMOVE", of("list"), of("list"), "LEFT", "RIGHT"],
      ["RPOPLPUSH", of("list"), of("list")],
      ["LMPOP", 2, of("list"), of("list"), "LEFT"],
      ["SMOVE", of("set"), of("set"), this.#random.below(20)],
      ["SUNIONSTORE", of("set"), of("set"), of("set")],
      ["SDIFFSTORE", of("set"), of("set"), of("set")],
      ["ZUNIONSTORE", of("zset"), 2, of("zset"), of("set"), "WEIGHTS", 2, 1],
      ["ZRANGESTORE", of("zset"), of("zset"), 0, 3],
      ["BITOP", "OR", of("str"), of("str"), of("str")],
      ["PFMERGE", of("str"), of("str"), of("str")],
      ["SORT", this.#pick(of("list"), of("set")), "ALPHA", "STORE", of("list")],
      ["GEOSEARCHSTORE", of("zset"), of("zset"), "FROMLONLAT", 9, 9, "BYRADIUS", 900, "km"],
      ["MSET", of("str"), 1, a, 2, of("str"), 3],
      ["MSETNX", of("str"), 1, of("str"), 2],
      ["DEL", a, b, c],
      ["UNLINK", a, b],
      ["SET", a, 1],
      ["EVAL", "return redis.call('RENAME', KEYS[1], KEYS[2])", 2, a, b],
      ...(this.#can.msetex ? [["MSETEX", 2, a, 1, b, 2, "PX", this.#ms()]] : []),
    );
  }

  #onAny(): Command {
    const key = this.#any();
    if (this.#oneIn(12)) return ["SWAPDB", 0, 1];
    if (this.#oneIn(120)) return this.#pick<Command>(["FLUSHDB"], ["FLUSHALL"]);
    return this.#pick<Command>(
      ["PEXPIRE", key, this.#ms()],
      ["PEXPIREAT", key, Date.now() + this.#ms()],
      ["PERSIST", key],
      ["DEL", key],
      ["MOVE", key, this.#db()],
    );
  }

  #key(type: Type): Word {
    return `${type}:${this.#random.below(EACH)}`;
  }

  #any(): Word {
    return this.#oneIn(8) ? this.#pick(...ODD) : this.#key(this.#pick(...TYPES));
  }

  #db(): number {
    return this.#random.below(3);
  }

  /** A time to live: some outlast the test. */
  #ms(): number {
    return this.#pick(1, 20, 300, 5_000, 10_000_000);
  }

  #pick<T>(...from: T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  #oneIn(count: number): boolean {
    return this.#random.below(count) === 0;
  }
}

/** Draws patterns that match a few of these keys, or many, or none. */
export function drawPatterns(random: Random): string[] {
  const one = () => {
    const type = [...TYPES, "odd", "none"][random.below(TYPES.length + 2)]!;
    const number = random.below(EACH);
    switch (random.below(9)) {
      case 0:
        return `${type}:*`;
      case 1:
        return `*:${number}`;
      case 2:
        return `${type}:[${number}-${number + 1}]`;
      case 3:
        return `?????`;
      case 4:
        return "odd*";
      case 5:
        return "*";
      default:
        return `${type}:${number}`;
    }
  };
  return Array.from({ length: 1 + random.below(3) }, one);
}
