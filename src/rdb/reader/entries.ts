import type { RdbHeader } from "../header.ts";
import { INT8, LZF, lengthRead, readInteger, readLength, TOO_FEW } from "../values/length.ts";
import type { Fail } from "../values/packed-string.ts";
import { type ValueType, valueTypesOf } from "../values/value-types.ts";
import { MAX_PACKED_HEAD_BYTES, packedCount } from "../values/packed.ts";
import { decimalLength, textEncoding } from "../values/text.ts";
import { ValueWalk } from "../values/value-walk.ts";
import { RdbEntry, type RdbHandlers } from "./entry.ts";
import type { HashTemplates } from "./hash-templates.ts";
import { HeldString } from "./held-string.ts";
import * as opcodes from "./opcodes.ts";
import { WantedValue } from "./wanted-value.ts";

/** From this version of Redis's format on (7.2) a short list is a listpack. */
const FIRST_VERSION_WITH_SHORT_LISTS = 11;

/** The type of a value that is a string. */
const STRING = 0;

export interface EntryLimits {
  readonly maxKeyBytes: number;
  readonly maxValueBytes: number;
}

/** Reads keys with what stands before them and the values behind them, one after the other. */
export class Entries {
  readonly #handlers: RdbHandlers;
  readonly #limits: EntryLimits;
  readonly #fail: Fail;
  readonly #templates: HashTemplates;
  readonly #walk: ValueWalk;
  readonly #held: HeldString;
  readonly #wanted: WantedValue;
  readonly #entry = new RdbEntry();
  #types: readonly (ValueType | undefined)[] = [];
  #knowsShortLists = false;
  #type: ValueType | undefined;
  #isKeyRead = false;
  #entryByte = -1;
  #valueByte = 0;

  /** The position in the RDB of the first byte of the buffer that is read. */
  bufferByte = 0;
  keys = 0;
  expires = 0;

  constructor(handlers: RdbHandlers, limits: EntryLimits, fail: Fail, templates: HashTemplates) {
    this.#handlers = handlers;
    this.#limits = limits;
    this.#fail = fail;
    this.#templates = templates;
    this.#walk = new ValueWalk(fail, templates.counts);
    this.#held = new HeldString(fail);
    this.#wanted = new WantedValue(fail, limits.maxValueBytes);
  }

  /** Sets which types of values may come. */
  expect({ magic, version }: Pick<RdbHeader, "magic" | "version">): void {
    this.#types = valueTypesOf(magic);
    this.#knowsShortLists = version >= FIRST_VERSION_WITH_SHORT_LISTS;
  }

  selectDb(db: number): void {
    this.#entry.db = db;
  }

  /** Begins a key if this is the type of a value. */
  begin(opcode: number, at: number): boolean {
    const type = this.#types[opcode];
    if (type === undefined) return false;
    this.beginAt(at);
    this.#type = type;
    this.#entry.opcode = opcode;
    this.#isKeyRead = false;
    this.#held.start();
    return true;
  }

  /** Notes where the first opcode that is about a key stands. */
  beginAt(at: number): void {
    if (this.#entryByte < 0) this.#entryByte = this.bufferByte + at;
  }

  /** Reads an opcode about the key that follows. @returns where it ends, or TOO_FEW. */
  about(opcode: number, buffer: Uint8Array, at: number, to: number): number {
    const entry = this.#entry;
    const start = at + 1;
    if (opcode === opcodes.IDLE) {
      const end = readLength(buffer, start, to);
      if (end < 0) return end;
      this.beginAt(at);
      entry.idleSeconds = lengthRead.value;
      return end;
    }
    const bytes = opcode === opcodes.EXPIRETIME_MS ? 8 : opcode === opcodes.EXPIRETIME ? 4 : 1;
    if (start + bytes > to) return TOO_FEW;
    this.beginAt(at);
    if (opcode === opcodes.FREQ) entry.frequency = buffer[start]!;
    else if (opcode === opcodes.EXPIRETIME) entry.expiresAtMs = int32(buffer, start) * 1000;
    else {
      entry.expiresAtMs = milliseconds(buffer, start);
    }
    return start + bytes;
  }

  /**
   * Reads keys whose values are short strings or packed entries, as long as they lie in the buffer whole: most keys of most
   * RDBs, in one step each.
   * @returns where what is left to the other steps begins.
   */
  quick(buffer: Uint8Array, from: number, to: number, until: number): number {
    if (this.#entryByte >= 0) return from;
    const handlers = this.#handlers;
    const entry = this.#entry;
    // A longer length has more than one byte.
    const quickKeyBytes = Math.min(0x3f, this.#limits.maxKeyBytes);
    let at = from;
    // An expiry, a type, and two lengths of at most two bytes: within that nothing need be checked.
    while (at < until && at + 9 + 1 + 2 <= to) {
      const isExpiring = buffer[at] === opcodes.EXPIRETIME_MS;
      const typeAt = isExpiring ? at + 9 : at;
      const opcode = buffer[typeAt]!;
      const keyLength = buffer[typeAt + 1]!;
      if (keyLength > quickKeyBytes) break;
      const keyStart = typeAt + 2;
      const valueAt = keyStart + keyLength;
      if (valueAt + 2 > to) break;
      const end = this.#quickValue(opcode, buffer, valueAt, to);
      if (end < 0) break;
      if (isExpiring) {
        entry.expiresAtMs = milliseconds(buffer, at + 1);
        this.expires++;
      } else entry.expiresAtMs = undefined;
      this.keys++;
      entry.opcode = opcode;
      entry.keyBuffer = buffer;
      entry.keyStart = keyStart;
      entry.keyEnd = valueAt;
      entry.startByte = this.bufferByte + at;
      entry.endByte = this.bufferByte + end;
      entry.valueBytes = end - valueAt;
      at = end;
      handlers.entry(entry, this.#quickWanted(buffer, valueAt, end));
    }
    entry.expiresAtMs = undefined;
    return at;
  }

  /** The value of the key that was just read, if it is wanted. */
  #quickWanted(buffer: Uint8Array, from: number, to: number): Uint8Array | undefined {
    const { wants } = this.#handlers;
    if (wants === undefined) return undefined;
    const { db, key, opcode } = this.#entry;
    if (!wants.call(this.#handlers, db, key, opcode)) return undefined;
    this.#wanted.start(from);
    return this.#wanted.end(buffer, to);
  }

  /** Fills in what a short value says of itself. @returns where it ends; -1 where it isn't short. */
  #quickValue(opcode: number, buffer: Uint8Array, at: number, to: number): number {
    const type = this.#types[opcode];
    if (type === undefined) return -1;
    const first = buffer[at]!;
    const entry = this.#entry;
    let start = at + 1;
    let length = first;
    if (first >= 0x40) {
      if (first < 0x80) {
        length = ((first & 0x3f) << 8) | buffer[start]!;
        start++;
      } else if (first >= INT8 && first < LZF) length = 1 << (first - INT8);
      else return -1;
    }
    const end = start + length;
    if (end > to) return -1;
    if (first >= INT8) {
      if (opcode !== STRING) return -1;
      entry.encoding = "int";
      entry.elements = undefined;
      entry.stringBytes = decimalLength(readInteger(first, buffer, start));
    } else if (opcode === STRING) {
      entry.encoding = textEncoding(buffer, start, end);
      entry.elements = undefined;
      entry.stringBytes = length;
    } else {
      if (type.packed === undefined || length < MAX_PACKED_HEAD_BYTES) return -1;
      const count = packedCount(type.packed.kind, buffer, start, length) / type.packed.perElement;
      if (count < 0 || count !== Math.floor(count)) return -1;
      entry.encoding = type.encoding;
      entry.elements = count;
      entry.stringBytes = undefined;
    }
    entry.kind = type.kind;
    entry.module = undefined;
    return end;
  }

  /**
   * Reads what is there of a key and its value.
   * @returns how far; TOO_FEW where more bytes are needed. `isDone` tells whether that is all.
   */
  run(buffer: Uint8Array, at: number, to: number): number {
    return this.#isKeyRead ? this.#value(buffer, at, to) : this.#key(buffer, at, to);
  }

  /** Whether no key is being read. */
  get isDone(): boolean {
    return this.#type === undefined;
  }

  /**
   * Copies what is needed of a buffer that goes, and has been read up to `at`.
   * @param from where in the next buffer the reading goes on.
   */
  leave(buffer: Uint8Array, at: number, from: number): void {
    if (this.isDone || !this.#isKeyRead) return;
    this.#held.keep();
    this.#wanted.leave(buffer, at, from);
  }

  #key(buffer: Uint8Array, at: number, to: number): number {
    const held = this.#held;
    const end = held.run(buffer, at, to, this.#limits.maxKeyBytes);
    if (held.isTooLong) {
      this.#fail(
        at,
        `a key of ${held.length} bytes is longer than the ${this.#limits.maxKeyBytes} that are held`,
      );
    }
    if (end === TOO_FEW || !held.isDone) return end;
    this.#valueByte = this.bufferByte + end;
    const entry = this.#entry;
    const { wants } = this.#handlers;
    if (wants !== undefined) {
      const key = held.buffer.subarray(held.from, held.to);
      if (wants.call(this.#handlers, entry.db, key, entry.opcode)) this.#wanted.start(end);
    }
    this.#walk.start(this.#type!.program);
    this.#isKeyRead = true;
    return end;
  }

  #value(buffer: Uint8Array, at: number, to: number): number {
    const end = this.#walk.run(buffer, at, to);
    if (this.#walk.isDone) this.#endEntry(buffer, end);
    return end === at && !this.#walk.isDone ? TOO_FEW : end;
  }

  #endEntry(buffer: Uint8Array, at: number): void {
    const entry = this.#entry;
    const walk = this.#walk;
    const held = this.#held;
    const type = this.#type!;
    entry.keyBuffer = held.buffer;
    entry.keyStart = held.from;
    entry.keyEnd = held.to;
    entry.kind = type.kind;
    entry.encoding = walk.encoding ?? this.#encodingOf(type);
    entry.elements = walk.elements < 0 ? undefined : walk.elements;
    entry.stringBytes = walk.stringBytes < 0 ? undefined : walk.stringBytes;
    entry.module = walk.module;
    entry.startByte = this.#entryByte;
    entry.endByte = this.bufferByte + at;
    entry.valueBytes = entry.endByte - this.#valueByte;
    this.keys++;
    if (entry.expiresAtMs !== undefined) this.expires++;
    const value = this.#standing(this.#wanted.end(buffer, at), at);
    this.#type = undefined;
    this.#handlers.entry(entry, value);
    this.#entryByte = -1;
    entry.expiresAtMs = undefined;
    entry.idleSeconds = undefined;
    entry.frequency = undefined;
  }

  /** A value that RESTORE takes, which may need what stands elsewhere in the RDB. */
  #standing(value: Uint8Array | undefined, at: number): Uint8Array | undefined {
    if (value === undefined) return undefined;
    const standing = this.#templates.standing(this.#entry.opcode, value);
    if (standing === undefined) return this.#fail(at, "the template of a hash isn't there");
    this.#entry.opcode = standing.opcode;
    return standing.value;
  }

  #encodingOf(type: ValueType): string {
    const isListpack = this.#knowsShortLists && type.kind === "list" && this.#walk.isSingleListpack;
    return isListpack ? "listpack" : type.encoding;
  }
}

/** 4 bytes, little-endian, with a sign. */
function int32(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

/** A time of 8 bytes. */
function milliseconds(bytes: Uint8Array, at: number): number {
  return (int32(bytes, at) >>> 0) + int32(bytes, at + 4) * 2 ** 32;
}
