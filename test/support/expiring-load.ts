import type { Random } from "./fill.ts";

type Word = string | number;
export type Command = readonly Word[];

/** What the primary can do, besides Redis 7.0's commands. */
export interface Abilities {
  /** HEXPIRE, HPERSIST and their like. */
  readonly fieldExpiry: boolean;
  /** HSETEX and HGETEX. */
  readonly fieldSetex: boolean;
  /** HGETDEL. */
  readonly fieldGetdel: boolean;
}

/** The longest of the short expiries; whatever lives longer lives until the test is over. */
export const LONGEST_SHORT_MS = 2_000;
const LONG_MS = 10_000_000;
const SHORT_MS = [1, 3, 10, 30, 100, 300, 1_000, LONGEST_SHORT_MS];

export const LIBRARY = `#!lua name=expiring
redis.register_function('touch', function(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return redis.call('PERSIST', keys[1]) end
  return redis.call('SET', keys[1], args[1], 'PX', args[2])
end)`;
const TOUCH = `if redis.call('TTL', KEYS[1]) > -2 then
  redis.call('APPEND', KEYS[1], ARGV[1])
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('SET', KEYS[1], ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[2], 'NX')`;
/** A RESTORE of the key's own dump, with the words of its expiry. */
const RESTORE = `local dump = redis.call('DUMP', KEYS[1])
if not dump then return 0 end
return redis.call('RESTORE', KEYS[2], ARGV[1], dump, 'REPLACE', unpack(ARGV, 2))`;

/**
 * Draws commands whose effect depends on what has expired: on few keys and fields, so that most meet one that
 * is about to.
 */
export class ExpiringLoad {
  readonly #random: Random;
  readonly #can: Abilities;

  constructor(random: Random, can: Abilities) {
    this.#random = random;
    this.#can = can;
  }

  /** One command, or a whole transaction. */
  next(): Command[] {
    if (this.#oneIn(12)) {
      const inner = Array.from({ length: 2 + this.#random.below(3) }, () => this.#command());
      return [["MULTI"], ...inner, ["EXEC"]];
    }
    if (this.#oneIn(60)) return [["SELECT", this.#random.below(2)]];
    if (this.#can.fieldExpiry && this.#oneIn(8)) return this.#revival();
    return [this.#command()];
  }

  #command(): Command {
    const onFields = this.#can.fieldExpiry ? 5 : 2;
    const kind = this.#random.below(10);
    if (kind < onFields) return this.#onHash();
    return kind < 9 ? this.#onString() : this.#onAny();
  }

  /** A field that lives only because of its last command: what happens to it before is seen in the end. */
  #revival(): Command[] {
    const [key, field] = [this.#hash(), this.#field()];
    const one = ["FIELDS", 1, field];
    const use: Command[] = [
      ["HINCRBY", key, field, 1 + this.#random.below(9)],
      ["COPY", key, this.#hash(), "REPLACE"],
      this.#sort(),
    ];
    if (this.#can.fieldSetex) {
      const value = this.#random.below(1000);
      use.push(["HSETEX", key, "FXX", "KEEPTTL", ...one, value]);
      use.push(["HSETEX", key, "FXX", "PX", this.#pick(100, 1_000), ...one, value]);
    }
    const revive: Command[] = [
      ["HPERSIST", key, ...one],
      ["HPEXPIRE", key, LONG_MS, ...this.#maybe("GT", "XX"), ...one],
    ];
    return [
      ["HPEXPIRE", key, this.#pick(100, 1_000), ...one],
      this.#pick(...use),
      this.#pick(...revive),
    ];
  }

  #onString(): Command {
    const key = this.#pick("s1", "s2", "s3", "s4", "s5", "s6");
    const value = this.#random.below(1000);
    switch (this.#random.below(20)) {
      case 0:
        return ["SET", key, value];
      case 1:
        return ["SET", key, value, "PX", this.#ms()];
      case 2:
        return ["SET", key, value, "EX", this.#pick(1, 2), ...this.#maybe("GET")];
      case 3:
        return ["SET", key, value, "PXAT", this.#at(), ...this.#maybe("XX")];
      case 4:
      case 5:
        return ["SET", key, value, "KEEPTTL", ...this.#maybe("XX")];
      case 6:
        return ["SET", key, value, "NX", "PX", this.#ms()];
      case 7:
        return ["PSETEX", key, this.#ms(), value];
      case 8:
        return ["GETEX", key, "PX", this.#ms()];
      case 9:
        return ["GETEX", key, "PXAT", this.#at()];
      case 10:
        return ["GETEX", key, "PERSIST"];
      case 11:
        return ["GETDEL", key];
      case 12:
      case 13:
        return [this.#pick("INCR", "DECR"), key];
      case 14:
        return ["APPEND", key, this.#random.below(10)];
      case 15:
        return ["INCRBYFLOAT", key, "0.5"];
      case 16:
        return ["EVAL", TOUCH, 1, key, value, this.#ms()];
      case 17:
        return ["FCALL", "touch", 1, key, value, this.#ms()];
      case 18:
        return ["BITOP", "OR", key, "s1", "s2"];
      default:
        return ["GET", key];
    }
  }

  /** On keys of every type. */
  #onAny(): Command {
    const key = this.#key();
    const other = this.#key();
    switch (this.#random.below(18)) {
      case 0:
      case 1:
        return ["PEXPIRE", key, this.#ms(), ...this.#maybe("NX", "XX", "GT", "LT")];
      case 2:
        return ["PEXPIREAT", key, this.#at(), ...this.#maybe("NX", "XX", "GT", "LT")];
      case 3:
        return ["EXPIRE", key, this.#pick(1, 2, -1), ...this.#maybe("NX", "XX", "GT", "LT")];
      case 4:
      case 5:
        return ["PERSIST", key];
      case 6:
        return [
          "COPY",
          key,
          other,
          ...this.#maybe("REPLACE"),
          ...(this.#oneIn(3) ? ["DB", 1] : []),
        ];
      case 7:
        return [this.#pick("RENAME", "RENAMENX"), key, other];
      case 8:
        return ["MOVE", key, this.#random.below(2)];
      case 9:
        return ["EVAL", RESTORE, 2, key, other, this.#ms()];
      case 10:
        return ["EVAL", RESTORE, 2, key, other, this.#at(), "ABSTTL"];
      case 11:
        return [this.#pick("DEL", "UNLINK"), key];
      case 12:
        return ["RPUSH", "list", this.#random.below(6), this.#random.below(6)];
      case 13:
        return ["SADD", this.#pick("set1", "set2"), this.#random.below(6)];
      case 14:
        return ["SUNIONSTORE", "set3", "set1", "set2"];
      case 15:
        return ["ZADD", "zset", this.#random.below(9), this.#random.below(6)];
      case 16:
        return this.#sort();
      default:
        return this.#oneIn(20) ? ["SWAPDB", 0, 1] : ["EXISTS", key, other];
    }
  }

  /** By numbers: with ALPHA, the order of equal elements would be each server's own. */
  #sort(): Command {
    const by = this.#oneIn(2) ? ["BY", this.#pick("h*->f1", "h*->f2")] : [];
    const source = this.#pick("list", "set1", "zset");
    const get = ["GET", this.#pick("h*->f1", "s*"), "GET", "#", "GET", "h*->f3"];
    return ["SORT", source, ...by, ...get, "STORE", this.#pick("sorted1", "sorted2")];
  }

  #onHash(): Command {
    const key = this.#hash();
    const field = this.#field();
    const value = this.#random.below(1000);
    const fields = this.#fields();
    if (!this.#can.fieldExpiry)
      return this.#pick<Command>(["HSET", key, field, value], ["HINCRBY", key, field, 5]);
    switch (this.#random.below(this.#can.fieldSetex ? 20 : 14)) {
      case 0:
        return ["HSET", key, field, value, this.#field(), value];
      case 1:
        return ["HSETNX", key, field, value];
      case 2:
      case 3:
        return ["HINCRBY", key, field, 1 + this.#random.below(9)];
      case 4:
        return this.#oneIn(3) ? ["HINCRBYFLOAT", key, field, "0.5"] : ["HGET", key, field];
      case 5:
        return ["HDEL", key, field];
      case 6:
      case 7:
        return ["HPEXPIRE", key, this.#ms(), ...this.#condition(), ...fields];
      case 8:
        return ["HPEXPIREAT", key, this.#at(), ...this.#condition(), ...fields];
      case 9:
        return ["HEXPIRE", key, this.#pick(1, 2), ...this.#condition(), ...fields];
      case 10:
      case 11:
      case 12:
        return ["HPERSIST", key, ...fields];
      case 13:
        return ["HGETALL", key];
      case 14:
        return ["HSETEX", key, ...this.#maybe("FNX"), "PX", this.#ms(), "FIELDS", 1, field, value];
      case 15:
        return ["HSETEX", key, "FXX", "PXAT", this.#at(), "FIELDS", 1, field, value];
      case 16:
        return ["HSETEX", key, "KEEPTTL", ...this.#maybe("FXX"), "FIELDS", 1, field, value];
      case 17:
        return ["HGETEX", key, this.#pick("PX", "PX", "PX"), this.#ms(), ...fields];
      case 18:
        return ["HGETEX", key, "PERSIST", ...fields];
      default:
        return this.#can.fieldGetdel
          ? ["HGETDEL", key, ...fields]
          : ["HSETEX", key, "FXX", "FIELDS", 1, field, value];
    }
  }

  #hash(): string {
    return this.#pick("h0", "h1", "h2", "h3", "h4", "h5");
  }

  #field(): string {
    return this.#pick("f1", "f2", "f3", "f4", "f5");
  }

  /** `FIELDS 1 f2`, seldom more than one. */
  #fields(): Word[] {
    const count = this.#oneIn(3) ? 2 : 1;
    const names = new Set(Array.from({ length: count }, () => this.#field()));
    return ["FIELDS", names.size, ...names];
  }

  #condition(): Word[] {
    return this.#maybe("NX", "XX", "GT", "LT");
  }

  #key(): string {
    return this.#pick(
      "s1",
      "s2",
      "s3",
      "h0",
      "h1",
      "h2",
      "h3",
      "list",
      "set1",
      "set2",
      "zset",
      "sorted1",
    );
  }

  /** A time to live; one in six outlasts the test. */
  #ms(): number {
    return this.#oneIn(6) ? LONG_MS + this.#random.below(1000) : this.#pick(...SHORT_MS);
  }

  /** A point in time, which may be over. */
  #at(): number {
    return Date.now() + (this.#oneIn(5) ? -this.#random.below(50) : this.#ms());
  }

  /** None of these words as often as any of them. */
  #maybe(...words: string[]): string[] {
    return this.#oneIn(2) ? [] : [this.#pick(...words)];
  }

  #pick<T>(...from: T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  #oneIn(count: number): boolean {
    return this.#random.below(count) === 0;
  }
}
