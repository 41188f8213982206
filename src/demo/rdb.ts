import { invariant } from "../base/errors.ts";
import type { Offset, ReplicationId } from "../base/history.ts";
import { Crc64 } from "../rdb/crc64.ts";
import { Random } from "./random.ts";

/** The demo's keys are in databases 0 and 1. */
export const DATABASES = 2;

// Redis 7.0 reads up to version 10; the plain types below are older than every supported version.
const MAGIC = "REDIS0010";
const OPCODE_AUX = 0xfa;
const OPCODE_RESIZEDB = 0xfb;
const OPCODE_EXPIRETIME_MS = 0xfc;
const OPCODE_SELECTDB = 0xfe;
const OPCODE_EOF = 0xff;
const TYPE_STRING = 0;
const TYPE_LIST = 1;
const TYPE_SET = 2;
const TYPE_HASH = 4;
const TYPE_ZSET_2 = 5;
const CHECKSUM_BYTES = 8;

/** The minimum length of a chunk of the payload, except for the last one. */
const CHUNK_BYTES = 256 * 1024;

/** The live keys of one database, as records. */
export interface LiveSection {
  readonly keys: number;
  readonly keysWithExpiry: number;
  readonly records: Uint8Array;
}

/** What a live key may hold; all text is ASCII. */
export type LiveValue =
  | { readonly type: "string"; readonly text: string }
  | { readonly type: "list"; readonly items: readonly string[] }
  | { readonly type: "set"; readonly members: ReadonlySet<string> }
  | { readonly type: "hash"; readonly fields: ReadonlyMap<string, string> }
  | { readonly type: "zset"; readonly scores: ReadonlyMap<string, number> };

/** Collects RDB primitives in a reusable buffer that grows to the largest record. */
export class RdbWriter {
  #buffer = new Uint8Array(2 * CHUNK_BYTES);
  #view = new DataView(this.#buffer.buffer);
  #lengthBytes = 0;

  /** The number of bytes since the last `clear`. */
  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  /** Those bytes, as a view that is valid until the next `clear`. */
  get written(): Uint8Array {
    return this.#buffer.subarray(0, this.#lengthBytes);
  }

  clear(): void {
    this.#lengthBytes = 0;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#lengthBytes] = value;
    this.#lengthBytes += 1;
  }

  /** Raw bytes, without a length. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#lengthBytes);
    this.#lengthBytes += bytes.length;
  }

  /** A length in 1, 2 or 5 bytes, big-endian (Redis, rdb.c, rdbSaveLen). */
  length(value: number): void {
    invariant(value >= 0 && value <= 0xffffffff, `an RDB length of ${value}`);
    this.#reserve(5);
    if (value < 1 << 6) {
      this.#view.setUint8(this.#lengthBytes, value);
      this.#lengthBytes += 1;
    } else if (value < 1 << 14) {
      this.#view.setUint16(this.#lengthBytes, 0x4000 | value);
      this.#lengthBytes += 2;
    } else {
      this.#view.setUint8(this.#lengthBytes, 0x80);
      this.#view.setUint32(this.#lengthBytes + 1, value);
      this.#lengthBytes += 5;
    }
  }

  /** A byte string with its length. */
  string(bytes: Uint8Array): void {
    this.length(bytes.length);
    this.raw(bytes);
  }

  /** ASCII text with its length. */
  text(text: string): void {
    this.length(text.length);
    this.ascii(text);
  }

  /** ASCII text without a length. */
  ascii(text: string): void {
    this.#reserve(text.length);
    const { written } = ENCODER.encodeInto(text, this.#buffer.subarray(this.#lengthBytes));
    invariant(written === text.length, "the demo's text is ASCII");
    this.#lengthBytes += written;
  }

  double(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#lengthBytes, value, true);
    this.#lengthBytes += 8;
  }

  unsigned64(value: bigint): void {
    this.#reserve(8);
    this.#view.setBigUint64(this.#lengthBytes, value, true);
    this.#lengthBytes += 8;
  }

  /** One aux field: a name and a value. */
  aux(name: string, value: string): void {
    this.byte(OPCODE_AUX);
    this.text(name);
    this.text(value);
  }

  /** Selects a database, with the counts that let a server size its tables. */
  database(database: number, keys: number, keysWithExpiry: number): void {
    this.byte(OPCODE_SELECTDB);
    this.length(database);
    this.byte(OPCODE_RESIZEDB);
    this.length(keys);
    this.length(keysWithExpiry);
  }

  /** One key with its value; `expiresAtMs` in unix milliseconds. */
  record(key: string, value: LiveValue, expiresAtMs: number | undefined): void {
    if (expiresAtMs !== undefined) {
      this.byte(OPCODE_EXPIRETIME_MS);
      this.unsigned64(BigInt(expiresAtMs));
    }
    switch (value.type) {
      case "string":
        this.#head(TYPE_STRING, key);
        this.text(value.text);
        break;
      case "list":
        this.#head(TYPE_LIST, key, value.items.length);
        for (const item of value.items) this.text(item);
        break;
      case "set":
        this.#head(TYPE_SET, key, value.members.size);
        for (const member of value.members) this.text(member);
        break;
      case "hash":
        this.#head(TYPE_HASH, key, value.fields.size);
        for (const [field, text] of value.fields) {
          this.text(field);
          this.text(text);
        }
        break;
      case "zset":
        this.#head(TYPE_ZSET_2, key, value.scores.size);
        for (const [member, score] of value.scores) {
          this.text(member);
          this.double(score);
        }
        break;
    }
  }

  #head(type: number, key: string, elements?: number): void {
    this.byte(type);
    this.text(key);
    if (elements !== undefined) this.length(elements);
  }

  #reserve(bytes: number): void {
    const needed = this.#lengthBytes + bytes;
    if (needed <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.#buffer.length));
    grown.set(this.written);
    this.#buffer = grown;
    this.#view = new DataView(grown.buffer);
  }
}

const ENCODER = new TextEncoder();

/** The number of elements that a record spreads its bytes over. */
const ELEMENTS = 4;

/**
 * The part of the demo's data that never changes: a pure function of its seed, generated again for each
 * snapshot and never held, so that hundreds of megabytes take no memory.
 */
export class BaseData {
  readonly seed: number;
  readonly valueBytes: number;
  /** The number of keys in database 0 (three quarters) and in database 1 (the rest). */
  readonly keysPerDatabase: readonly number[];
  /** The length of each database's records in an RDB; bytes. */
  readonly recordsBytes: readonly number[];
  readonly #pool: Uint8Array;
  readonly #poolStarts: number;

  constructor(shape: { seed: number; keys: number; valueBytes: number }) {
    invariant(Number.isSafeInteger(shape.keys) && shape.keys >= 0, "the demo's keys: 0 or more");
    invariant(
      Number.isSafeInteger(shape.valueBytes) && shape.valueBytes >= 1,
      "the demo's values have 1 byte or more",
    );
    this.seed = shape.seed;
    this.valueBytes = shape.valueBytes;
    const first = Math.ceil((shape.keys * 3) / 4);
    this.keysPerDatabase = [first, shape.keys - first];
    this.#poolStarts = 64 * 1024;
    this.#pool = new Uint8Array(this.#poolStarts + shape.valueBytes);
    new Random(shape.seed).fillText(this.#pool);
    this.recordsBytes = this.keysPerDatabase.map((_, database) => this.#measure(database));
  }

  /** Writes the records of one database, and yields after each. */
  *writeRecords(database: number, writer: RdbWriter): Generator<void> {
    const random = new Random(this.seed + 1 + database);
    const keys = this.keysPerDatabase[database] ?? 0;
    for (let at = 0; at < keys; at += 1) {
      this.#writeRecord(writer, random, at);
      yield;
    }
  }

  // The length precedes the payload, so the records are generated once just to measure them.
  #measure(database: number): number {
    const writer = new RdbWriter();
    let bytes = 0;
    for (const _ of this.writeRecords(database, writer)) {
      bytes += writer.lengthBytes;
      writer.clear();
    }
    return bytes;
  }

  #writeRecord(writer: RdbWriter, random: Random, at: number): void {
    const elementBytes = Math.max(1, Math.floor(this.valueBytes / ELEMENTS));
    switch (at % 8) {
      case 4:
        writer.byte(TYPE_LIST);
        writer.text(`queue:${at}`);
        writer.length(ELEMENTS);
        for (let n = 0; n < ELEMENTS; n += 1) writer.string(this.#value(random, elementBytes));
        return;
      case 5:
        writer.byte(TYPE_SET);
        writer.text(`tags:${at}`);
        writer.length(ELEMENTS);
        for (let n = 0; n < ELEMENTS; n += 1) this.#writeMember(writer, random, n, elementBytes);
        return;
      case 6:
        writer.byte(TYPE_HASH);
        writer.text(`user:${at}`);
        writer.length(ELEMENTS);
        for (let n = 0; n < ELEMENTS; n += 1) {
          writer.text(`field:${n}`);
          writer.string(this.#value(random, elementBytes));
        }
        return;
      case 7:
        writer.byte(TYPE_ZSET_2);
        writer.text(`board:${at}`);
        writer.length(ELEMENTS);
        for (let n = 0; n < ELEMENTS; n += 1) {
          this.#writeMember(writer, random, n, elementBytes);
          writer.double(random.below(1_000_000) / 4);
        }
        return;
      default:
        writer.byte(TYPE_STRING);
        writer.text(`session:${at}`);
        writer.string(this.#value(random, this.valueBytes));
    }
  }

  // Members of a set must differ, so each begins with its own number.
  #writeMember(writer: RdbWriter, random: Random, n: number, bytes: number): void {
    writer.length(2 + bytes);
    writer.ascii(`${n}:`);
    writer.raw(this.#value(random, bytes));
  }

  #value(random: Random, bytes: number): Uint8Array {
    const start = random.below(this.#poolStarts);
    return this.#pool.subarray(start, start + bytes);
  }
}

/** An RDB file that is generated while it is read; its length is known in advance. */
export class DemoSnapshot {
  readonly lengthBytes: number;
  readonly #base: BaseData;
  readonly #live: readonly LiveSection[];
  readonly #header: Uint8Array;

  constructor(options: {
    base: BaseData;
    /** One section per database, captured at `offset`. */
    live: readonly LiveSection[];
    replid: ReplicationId;
    offset: Offset;
    /** The database selected in the stream at `offset`. */
    streamDatabase: number;
    createdUnixSeconds: number;
  }) {
    this.#base = options.base;
    this.#live = options.live;

    const header = new RdbWriter();
    header.ascii(MAGIC);
    header.aux("redis-ver", "7.0.0");
    header.aux("redis-bits", "64");
    header.aux("ctime", String(options.createdUnixSeconds));
    header.aux("used-mem", String(1024 * 1024));
    header.aux("repl-stream-db", String(options.streamDatabase));
    header.aux("repl-id", options.replid);
    header.aux("repl-offset", String(options.offset));
    header.aux("aof-base", "0");
    this.#header = header.written.slice();

    let bytes = this.#header.length + 1 + CHECKSUM_BYTES;
    const preface = new RdbWriter();
    for (let database = 0; database < DATABASES; database += 1) {
      this.#writePreface(preface, database);
      bytes += this.#base.recordsBytes[database] ?? 0;
      bytes += this.#live[database]?.records.length ?? 0;
    }
    this.lengthBytes = bytes + preface.lengthBytes;
  }

  /**
   * The whole file in chunks. A chunk is a view of a reused buffer: it is valid until the next one is
   * requested.
   */
  *chunks(): Generator<Uint8Array> {
    const checksum = new Crc64();
    const writer = new RdbWriter();
    writer.raw(this.#header);
    for (let database = 0; database < DATABASES; database += 1) {
      this.#writePreface(writer, database);
      for (const _ of this.#base.writeRecords(database, writer)) {
        if (writer.lengthBytes < CHUNK_BYTES) continue;
        checksum.update(writer.written);
        yield writer.written;
        writer.clear();
      }
      const live = this.#live[database];
      if (live !== undefined) writer.raw(live.records);
    }
    writer.byte(OPCODE_EOF);
    checksum.update(writer.written);
    writer.unsigned64(checksum.value);
    yield writer.written;
  }

  #writePreface(writer: RdbWriter, database: number): void {
    const live = this.#live[database];
    const keys = (this.#base.keysPerDatabase[database] ?? 0) + (live?.keys ?? 0);
    if (keys > 0) writer.database(database, keys, live?.keysWithExpiry ?? 0);
  }
}
