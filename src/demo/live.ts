import { Random } from "./random.ts";
import { type LiveSection, type LiveValue, RdbWriter } from "./rdb.ts";

/** One write of the made-up traffic: commands that enter the stream together. */
export interface LiveWrite {
  readonly database: number;
  readonly commands: readonly (readonly string[])[];
}

interface LiveKey {
  readonly value: LiveValue;
  readonly expiresAtMs: number | undefined;
}

const LIST_ITEMS = 100;
const EXPIRES_AFTER_SECONDS = 3600;

/**
 * The part of the demo's data that changes: a bounded number of keys, all named `live:…`, and the
 * commands that change them. It is held in memory, so that a later snapshot includes the effects of the
 * stream, as with a real primary.
 */
export class LiveData {
  readonly #random: Random;
  readonly #databases: readonly Map<string, LiveKey>[] = [new Map(), new Map()];
  // In order of expiry: all keys live equally long, and a key that is set again moves to the end.
  readonly #expiries = new Map<string, number>();

  constructor(seed: number) {
    this.#random = new Random(seed ^ 0x11fe);
  }

  /** The number of live keys in the database. */
  keysIn(database: number): number {
    return this.#databases[database]?.size ?? 0;
  }

  /** Makes up the next write and applies it. @param nowMs unix time. */
  next(nowMs: number): LiveWrite {
    const random = this.#random;
    switch (random.below(10)) {
      case 0:
      case 1:
        return this.#countVisit(`live:visits:${random.below(16)}`);
      case 2:
        return this.#pushEvent(`live:events:${random.below(8)}`);
      case 3:
        return this.#openSession(`live:session:${random.below(256)}`, nowMs);
      case 4:
        return this.#deletePage(`live:page:${random.below(512)}`);
      case 5:
        return this.#changeUser(`live:user:${random.below(128)}`);
      case 6:
        return this.#score(`live:board:${random.below(4)}`);
      case 7:
        return this.#tag(`live:tags:${random.below(32)}`);
      default:
        return this.#setPage(`live:page:${random.below(512)}`);
    }
  }

  /** Deletes what has expired by `nowMs`: replicas expire nothing themselves, the primary sends DEL. */
  expire(nowMs: number): LiveWrite[] {
    const writes: LiveWrite[] = [];
    for (const [key, expiresAtMs] of this.#expiries) {
      if (expiresAtMs > nowMs) break;
      this.#expiries.delete(key);
      this.#databases[0]?.delete(key);
      writes.push({ database: 0, commands: [["DEL", key]] });
    }
    return writes;
  }

  /** The current state of the database, as records for a snapshot. */
  section(database: number): LiveSection {
    const keys = this.#databases[database] ?? new Map<string, LiveKey>();
    const writer = new RdbWriter();
    let keysWithExpiry = 0;
    for (const [key, { value, expiresAtMs }] of keys) {
      writer.record(key, value, expiresAtMs);
      if (expiresAtMs !== undefined) keysWithExpiry += 1;
    }
    return { keys: keys.size, keysWithExpiry, records: writer.written.slice() };
  }

  #value(database: number, key: string): LiveValue | undefined {
    return this.#databases[database]?.get(key)?.value;
  }

  #store(database: number, key: string, value: LiveValue): void {
    this.#databases[database]?.set(key, { value, expiresAtMs: undefined });
  }

  #countVisit(key: string): LiveWrite {
    const before = this.#value(0, key);
    const count = before?.type === "string" ? Number(before.text) : 0;
    this.#store(0, key, { type: "string", text: String(count + 1) });
    return { database: 0, commands: [["INCR", key]] };
  }

  #setPage(key: string): LiveWrite {
    const text = this.#random.text(16 + this.#random.below(64));
    this.#store(0, key, { type: "string", text });
    return { database: 0, commands: [["SET", key, text]] };
  }

  #deletePage(key: string): LiveWrite {
    // A primary sends no DEL for a key that it doesn't have.
    if (this.#databases[0]?.delete(key) !== true) return this.#setPage(key);
    return { database: 0, commands: [["DEL", key]] };
  }

  #pushEvent(key: string): LiveWrite {
    const before = this.#value(0, key);
    const item = this.#random.text(24);
    const items = [item, ...(before?.type === "list" ? before.items : [])].slice(0, LIST_ITEMS);
    this.#store(0, key, { type: "list", items });
    return {
      database: 0,
      commands: [
        ["MULTI"],
        ["LPUSH", key, item],
        ["LTRIM", key, "0", String(LIST_ITEMS - 1)],
        ["EXEC"],
      ],
    };
  }

  #openSession(key: string, nowMs: number): LiveWrite {
    const text = this.#random.text(32);
    const expiresAtSeconds = Math.floor(nowMs / 1000) + EXPIRES_AFTER_SECONDS;
    const expiresAtMs = expiresAtSeconds * 1000;
    this.#databases[0]?.set(key, { value: { type: "string", text }, expiresAtMs });
    this.#expiries.delete(key);
    this.#expiries.set(key, expiresAtMs);
    return {
      database: 0,
      commands: [
        ["SET", key, text],
        ["EXPIREAT", key, String(expiresAtSeconds)],
      ],
    };
  }

  #changeUser(key: string): LiveWrite {
    const before = this.#value(1, key);
    const field = `field:${this.#random.below(8)}`;
    const text = this.#random.text(12);
    const fields = new Map(before?.type === "hash" ? before.fields : []);
    this.#store(1, key, { type: "hash", fields: fields.set(field, text) });
    return { database: 1, commands: [["HSET", key, field, text]] };
  }

  #score(key: string): LiveWrite {
    const before = this.#value(1, key);
    const member = `player:${this.#random.below(64)}`;
    const score = this.#random.below(100_000);
    const scores = new Map(before?.type === "zset" ? before.scores : []);
    this.#store(1, key, { type: "zset", scores: scores.set(member, score) });
    return { database: 1, commands: [["ZADD", key, String(score), member]] };
  }

  #tag(key: string): LiveWrite {
    const before = this.#value(1, key);
    const member = `tag:${this.#random.below(64)}`;
    const members = new Set(before?.type === "set" ? before.members : []);
    this.#store(1, key, { type: "set", members: members.add(member) });
    return { database: 1, commands: [["SADD", key, member]] };
  }
}
