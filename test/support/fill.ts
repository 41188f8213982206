import type { RespClient } from "./resp-client.ts";
import { ReplyError, encodeCommand } from "./resp.ts";
import type { RealServer } from "./servers.ts";

export interface FillOptions {
  /** Number of keys over all databases. 2,000 give at least one of each type in each database. */
  readonly keys: number;
  /** Database numbers. Default: 0, 1 and 9. */
  readonly databases?: readonly number[];
  /** The same seed, server and numbers give the same data. */
  readonly seed?: number;
  /** Whether hash fields get an expiry where the server knows that. Default: yes. */
  readonly fieldExpiries?: boolean;
}

type Word = string | number | Uint8Array;

const FLUSH_BYTES = 512 * 1024;
/** 2100-01-01: nothing expires during a test. */
const FAR_FUTURE_S = 4_102_444_800;
const LIBRARY = `#!lua name=filled
redis.register_function('filled_get', function(keys) return redis.call('GET', keys[1]) end)`;

/** A small seeded generator (mulberry32): equal seeds give equal data. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * limit);
  }

  /** Printable text that compresses badly. */
  text(length: number): string {
    let text = "";
    while (text.length < length) text += this.below(0x7fff_ffff).toString(36);
    return text.slice(0, length);
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** Sends commands in large batches, at most two of them unanswered. Fails on an error reply. */
class Pipeline {
  readonly #client: RespClient;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #count = 0;
  #inFlight: Promise<void> = Promise.resolve();

  constructor(client: RespClient) {
    this.#client = client;
  }

  /** Returns true when a batch is full: then `flush` before adding more. */
  add(words: readonly Word[]): boolean {
    const bytes = encodeCommand(words);
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    this.#count++;
    return this.#bytes >= FLUSH_BYTES;
  }

  async flush(): Promise<void> {
    const replies = this.#client.exchangeBytes(Buffer.concat(this.#pieces), this.#count);
    this.#pieces = [];
    this.#bytes = 0;
    this.#count = 0;
    const before = this.#inFlight;
    this.#inFlight = replies.then((received) => {
      const error = received.find((reply) => reply instanceof ReplyError);
      if (error instanceof ReplyError) throw error;
    });
    this.#inFlight.catch(() => undefined);
    await before;
  }

  async finish(): Promise<void> {
    await this.flush();
    await this.#inFlight;
  }
}

/** Features that only newer servers have. */
interface Abilities {
  readonly hashFieldExpiry: boolean;
}

/**
 * Yields the commands that create key number `i`. Of twenty consecutive keys half are plain strings; the
 * others are of the remaining kinds.
 */
function* commandsFor(
  i: number,
  random: Random,
  can: Abilities,
): Generator<readonly Word[], void, undefined> {
  const key = (type: string): string => `${type}:${i}`;
  switch (i % 20) {
    case 0:
      yield ["SET", key("int"), random.below(2_000_000_000) - 1_000_000_000];
      return;
    case 1: {
      // Some are larger than any buffer on the way.
      const length = random.below(500) === 0 ? 300_000 : 100 + random.below(400);
      yield ["SET", key("long"), random.text(length)];
      return;
    }
    case 2:
      yield ["SET", key("binary"), random.bytes(32)];
      return;
    case 3:
      yield ["SET", key("expiring"), random.text(12), "PXAT", (FAR_FUTURE_S + i) * 1000];
      return;
    case 4: {
      const large = random.below(50) === 0;
      const items = Array.from({ length: large ? 300 : 5 }, () => random.text(large ? 60 : 8));
      yield ["RPUSH", key("list"), ...items];
      return;
    }
    case 5:
      yield ["SADD", key("intset"), ...Array.from({ length: 6 }, () => random.below(100_000))];
      return;
    case 6: {
      const length = random.below(50) === 0 ? 200 : 6;
      yield ["SADD", key("set"), ...Array.from({ length }, () => random.text(10))];
      return;
    }
    case 7:
    case 8: {
      const length = random.below(50) === 0 ? 200 : 4;
      const fields = Array.from({ length }, (_, n) => [`field${n}`, random.text(10)]).flat();
      yield ["HSET", key("hash"), ...fields];
      if (i % 20 === 8) yield ["EXPIREAT", key("hash"), FAR_FUTURE_S + random.below(1000)];
      else if (can.hashFieldExpiry) {
        yield ["HPEXPIREAT", key("hash"), FAR_FUTURE_S * 1000 + i, "FIELDS", 1, "field0"];
      }
      return;
    }
    case 9: {
      const length = random.below(50) === 0 ? 200 : 4;
      const members = Array.from({ length }, (_, n) => [random.below(1e6) / 8, `member${n}`]);
      yield ["ZADD", key("zset"), "-inf", "first", ...members.flat()];
      return;
    }
    case 10:
      for (let n = 1; n <= 3; n++) {
        yield ["XADD", key("stream"), `${i + n}-${n}`, "field", random.text(8), "n", n];
      }
      yield ["XGROUP", "CREATE", key("stream"), "group", "0"];
      yield ["XGROUP", "CREATECONSUMER", key("stream"), "group", "consumer"];
      yield ["XREADGROUP", "GROUP", "group", "consumer", "COUNT", 1, "STREAMS", key("stream"), ">"];
      yield ["XDEL", key("stream"), `${i + 2}-2`];
      return;
    case 11:
      yield ["PFADD", key("hll"), ...Array.from({ length: 5 }, () => random.text(6))];
      return;
    case 12:
      yield ["SETBIT", key("bitmap"), random.below(2000), 1];
      return;
    case 13: {
      const longitude = random.below(360_000) / 1000 - 180;
      const latitude = random.below(170_000) / 1000 - 85;
      yield ["GEOADD", key("geo"), longitude, latitude, "here", 13.361389, 38.115556, "Palermo"];
      return;
    }
    case 14:
      // A key name that isn't text.
      yield ["SET", Buffer.concat([Buffer.from(`raw:${i}:`), random.bytes(4)]), "\r\n$5\r\n*1"];
      return;
    default:
      yield ["SET", key("string"), random.text(10 + random.below(30))];
  }
}

/**
 * Fills a server with keys of all its types, encodings and expiries, in several databases, and a
 * function library. A million keys take some 10 s.
 * @returns how many keys lie in each database.
 */
export async function fillAllTypes(
  server: RealServer,
  { keys, databases = [0, 1, 9], seed = 1, fieldExpiries = true }: FillOptions,
): Promise<Map<number, number>> {
  const random = new Random(seed);
  await using client = await server.connect();
  const known = await client.send("COMMAND", "INFO", "HPEXPIREAT");
  const knowsIt = Array.isArray(known) && known[0] !== null;
  const can: Abilities = { hashFieldExpiry: knowsIt && fieldExpiries };
  await client.send("FUNCTION", "LOAD", "REPLACE", LIBRARY);
  const counts = new Map<number, number>();
  const pipeline = new Pipeline(client);
  for (const [place, database] of databases.entries()) {
    const count = Math.floor((keys + databases.length - 1 - place) / databases.length);
    counts.set(database, count);
    if (count === 0) continue;
    pipeline.add(["SELECT", database]);
    for (let i = 0; i < count; i++) {
      let full = false;
      for (const words of commandsFor(i, random, can)) full = pipeline.add(words) || full;
      if (full) await pipeline.flush();
    }
  }
  await pipeline.finish();
  return counts;
}
