import {
  INT8,
  LZF,
  lengthRead,
  NO_LENGTH,
  readInteger,
  readLength,
  readStringHead,
  stringHead,
  TOO_FEW,
} from "./length.ts";

import type { Fail } from "./packed-string.ts";
import { decimalLength, encodingByLength, INTEGER_CHARACTERS, textEncoding } from "./text.ts";
import { Loops } from "./loops.ts";
import { moduleName } from "./module-name.ts";
import { PackedString } from "./packed-string.ts";
import * as program from "./program.ts";

/** A list of one node up to this size becomes a listpack when it is loaded (list-max-listpack-size -2). */
const SINGLE_LISTPACK_BYTES = 8192;

/* What a node of a quicklist is ("Redis, quicklist.h"). */
const PLAIN_NODE = 1;
const PACKED_NODE = 2;

/* What a module wrote ("Redis, rdb.h": RDB_MODULE_OPCODE_…). */
const MODULE_EOF = 0;
const MODULE_INTEGERS = [1, 2];
const MODULE_FLOAT = 3;
const MODULE_DOUBLE = 4;
const MODULE_STRING = 5;

/* What an item of an array is ("Redis 8.8, array.h": AR_RDB_TAG_…): these are 8 bytes, the others strings. */
const ARRAY_NUMBERS = [1, 2];
const ARRAY_STRINGS = [0, 3];

/**
 * Passes over a value by its program, in pieces of any length, and notes what it says of itself. It holds a few
 * numbers, never a part of the value.
 */
export class ValueWalk {
  readonly #fail: Fail;
  /** Of each template how many fields it has, by its id. */
  readonly #templates: ReadonlyMap<number, number>;
  readonly #packed: PackedString;
  #program: Uint8Array = new Uint8Array(1);
  #at = 0;
  /** Bytes that are passed over before the next step. */
  #skipBytes = 0;
  readonly #loops = new Loops();
  #isWalking = false;
  /** Of the packed string that is walked. */
  #perElement = 1;
  /** How many of its entries stand before the elements. */
  #firstEntries = 0;
  #nodes = 0;
  #lastNodeBytes = 0;

  isDone = true;
  /** How many elements were counted; -1 where it has none. */
  elements = -1;
  /** The length of a value that is a string; -1 for all else. */
  stringBytes = -1;
  /** The encoding that the content decides: of a string, and of a list with a single node. */
  encoding: string | undefined;
  module: string | undefined;

  constructor(fail: Fail, templates: ReadonlyMap<number, number>) {
    this.#fail = fail;
    this.#templates = templates;
    this.#packed = new PackedString(fail);
  }

  /** Begins a value. */
  start(steps: Uint8Array): void {
    this.#program = steps;
    this.#at = 0;
    this.#skipBytes = 0;
    this.#loops.clear();
    this.#isWalking = false;
    this.#firstEntries = 0;
    this.#nodes = 0;
    this.isDone = false;
    this.elements = -1;
    this.stringBytes = -1;
    this.encoding = undefined;
    this.module = undefined;
  }

  /**
   * Passes over what is there of the value.
   * @returns how far: less than `to` where the value is done, or where the next step needs more bytes.
   */
  run(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    for (;;) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, to - at);
        this.#skipBytes -= skipped;
        at += skipped;
        if (this.#skipBytes > 0) return at;
      }
      if (this.#isWalking) {
        at = this.#packed.walk(bytes, at, to);
        if (!this.#packed.isDone) return at;
        this.#isWalking = false;
        this.#addEntries(this.#packed.count, at);
      }
      at = this.#shortSteps(bytes, at, to);
      if (this.#program[this.#at] === program.END) {
        this.isDone = true;
        return at;
      }
      const next = this.#step(bytes, at, to);
      if (next === TOO_FEW) return at;
      if (next === NO_LENGTH) this.#fail(at, `no length begins with 0x${bytes[at]!.toString(16)}`);
      at = next;
    }
  }

  /** Takes steps that are common and short, as long as they come: this is where a large hash spends its time. */
  #shortSteps(bytes: Uint8Array, from: number, to: number): number {
    const steps = this.#program;
    let place = this.#at;
    let at = from;
    for (;;) {
      const step = steps[place]!;
      if (step === program.STRING) {
        if (at >= to) break;
        const length = bytes[at]!;
        if (length >= 0x40 || at + 1 + length > to) break;
        at += 1 + length;
        place++;
      } else if (step === program.AGAIN) place = this.#loops.again(place);
      else if (step === program.BYTES) {
        const end = at + steps[place + 1]!;
        if (end > to) break;
        at = end;
        place += 2;
      } else break;
    }
    this.#at = place;
    return at;
  }

  /** Takes one step. @returns where it ends; TOO_FEW where it can't be taken yet, NO_LENGTH where it is malformed. */
  #step(bytes: Uint8Array, at: number, to: number): number {
    const steps = this.#program;
    switch (steps[this.#at]) {
      case program.STRING:
        return this.#string(bytes, at, to);
      case program.LENGTH:
      case program.ELEMENTS: {
        const end = readLength(bytes, at, to);
        if (end < 0) return end;
        if (steps[this.#at] === program.ELEMENTS) this.elements = lengthRead.value;
        this.#at++;
        return end;
      }
      case program.BYTES:
        this.#skipBytes = steps[this.#at + 1]!;
        this.#at += 2;
        return at;
      case program.PACKED:
        return this.#packedString(bytes, at, to);
      case program.NODE:
        return this.#node(bytes, at, to);
      case program.TEXT:
        return this.#text(bytes, at, to);
      case program.TEXT_SCORE:
        return this.#textScore(bytes, at, to);
      case program.REPEAT:
      case program.REPEAT_ELEMENTS:
      case program.REPEAT_FIELDS:
        return this.#repeat(bytes, at, to);
      case program.REPEAT_AS_MANY:
        this.#enter(this.elements);
        return at;
      default:
        return this.#rareStep(bytes, at, to);
    }
  }

  #rareStep(bytes: Uint8Array, at: number, to: number): number {
    switch (this.#program[this.#at]) {
      case program.MODULE_ID:
        return this.#moduleId(bytes, at, to);
      case program.MODULE_DATA:
        return this.#moduleData(bytes, at, to);
      case program.OPTIONAL_LENGTH:
        return this.#optionalLength(bytes, at, to);
      case program.ARRAY_ITEM:
        return this.#arrayItem(bytes, at, to);
      case program.FIELD_NAMES:
        return this.#fieldNames(bytes, at, to);
      default:
        return this.#templateListpack(bytes, at, to);
    }
  }

  #repeat(bytes: Uint8Array, at: number, to: number): number {
    const end = readLength(bytes, at, to);
    if (end < 0) return end;
    const step = this.#program[this.#at];
    let times = lengthRead.value;
    if (step === program.REPEAT_FIELDS) {
      const fields = this.#templates.get(times);
      if (fields === undefined) return this.#fail(at, `no template of a hash has the id ${times}`);
      times = fields;
    }
    if (step !== program.REPEAT) this.elements = times;
    this.#enter(times);
    return end;
  }

  #enter(times: number): void {
    const length = this.#program[this.#at + 1]!;
    this.#at = this.#loops.enter(this.#at + 2, length, times);
  }

  /** The names of fields: a listpack of them, or a count and strings. */
  #fieldNames(bytes: Uint8Array, at: number, to: number): number {
    const next = readLength(bytes, at, to);
    if (next < 0) return next;
    const form = lengthRead.value;
    if (form > 1) this.#fail(at, `no fields of a hash have the form ${form}`);
    if (form === 1) return this.#repeat(bytes, next, to);
    const end = this.#packed.start(bytes, next, to, program.LISTPACK);
    if (end < 0) return end;
    this.#perElement = 1;
    this.#enter(0);
    return this.#passPacked(end);
  }

  #string(bytes: Uint8Array, at: number, to: number): number {
    const end = readStringHead(bytes, at, to);
    if (end < 0) return end;
    this.#skipBytes = stringHead.bytes;
    this.#at++;
    return end;
  }

  #packedString(bytes: Uint8Array, at: number, to: number): number {
    const end = this.#packed.start(bytes, at, to, this.#program[this.#at + 1]!);
    if (end < 0) return end;
    this.#perElement = this.#program[this.#at + 2]!;
    this.#at += 3;
    return this.#passPacked(end);
  }

  /** Passes over a packed string by its head, or walks it. */
  #passPacked(end: number): number {
    if (this.#packed.isDone) {
      this.#addEntries(this.#packed.count, end);
      this.#skipBytes = this.#packed.bytes;
    } else this.#isWalking = true;
    return end;
  }

  #addEntries(count: number, at: number): void {
    if (count % this.#perElement !== 0) {
      this.#fail(at, `${count} packed entries are no whole number of elements`);
    }
    if (this.elements < 0) this.elements = 0;
    this.elements += count / this.#perElement - this.#firstEntries;
  }

  #node(bytes: Uint8Array, at: number, to: number): number {
    const next = readLength(bytes, at, to);
    if (next < 0) return next;
    const container = lengthRead.value;
    this.#perElement = 1;
    if (container === PLAIN_NODE) {
      const end = readStringHead(bytes, next, to);
      if (end < 0) return end;
      this.#skipBytes = stringHead.bytes;
      if (this.elements < 0) this.elements = 0;
      this.elements++;
      this.#noteNode(Infinity);
      return end;
    }
    if (container !== PACKED_NODE) {
      this.#fail(at, `no node of a list is of kind ${container}`);
    }
    const end = this.#packed.start(bytes, next, to, program.LISTPACK);
    if (end < 0) return end;
    this.#noteNode(this.#packed.plainBytes);
    return this.#passPacked(end);
  }

  #noteNode(plainBytes: number): void {
    this.#nodes++;
    this.#lastNodeBytes = plainBytes;
    this.#at++;
  }

  /** Whether a list has a single node, which servers from 7.2 on keep as a listpack. */
  get isSingleListpack(): boolean {
    return this.#nodes === 1 && this.#lastNodeBytes <= SINGLE_LISTPACK_BYTES;
  }

  #text(bytes: Uint8Array, at: number, to: number): number {
    const end = readStringHead(bytes, at, to);
    if (end < 0) return end;
    const { first, bytes: length, plainBytes } = stringHead;
    if (first >= INT8 && first < LZF) {
      if (end + length > to) return TOO_FEW;
      this.encoding = "int";
      this.stringBytes = decimalLength(readInteger(first, bytes, end));
    } else {
      const mayBeInteger = first !== LZF && plainBytes <= INTEGER_CHARACTERS;
      if (mayBeInteger && end + length > to) return TOO_FEW;
      this.encoding = mayBeInteger
        ? textEncoding(bytes, end, end + length)
        : encodingByLength(plainBytes);
      this.stringBytes = plainBytes;
    }
    this.#skipBytes = length;
    this.#at++;
    return end;
  }

  /** A length of one byte and a number in digits; 253 to 255 stand for no number and the infinite ones. */
  #textScore(bytes: Uint8Array, at: number, to: number): number {
    if (at >= to) return TOO_FEW;
    const length = bytes[at]!;
    if (length === 253) this.#fail(at, "a score is no number");
    this.#skipBytes = length > 253 ? 0 : length;
    this.#at++;
    return at + 1;
  }

  #moduleId(bytes: Uint8Array, at: number, to: number): number {
    const end = readLength(bytes, at, to);
    if (end < 0) return end;
    // A name takes nearly all of 64 bits, so it always stands in the longest form.
    if (end - at !== 9) this.#fail(at, "no module has such an id");
    this.module = moduleName(bytes, at + 1);
    this.#at++;
    return end;
  }

  #moduleData(bytes: Uint8Array, at: number, to: number): number {
    const next = readLength(bytes, at, to);
    if (next < 0) return next;
    const opcode = lengthRead.value;
    if (opcode === MODULE_EOF) {
      this.#at++;
      return next;
    }
    if (MODULE_INTEGERS.includes(opcode)) return readLength(bytes, next, to);
    if (opcode === MODULE_STRING) {
      const end = readStringHead(bytes, next, to);
      if (end > 0) this.#skipBytes = stringHead.bytes;
      return end;
    }
    if (opcode === MODULE_FLOAT) this.#skipBytes = 4;
    else if (opcode === MODULE_DOUBLE) this.#skipBytes = 8;
    else this.#fail(at, `nothing that a module writes has the opcode ${opcode}`);
    return next;
  }

  #optionalLength(bytes: Uint8Array, at: number, to: number): number {
    const next = readLength(bytes, at, to);
    if (next < 0) return next;
    const isThere = lengthRead.value === 1;
    if (!isThere && lengthRead.value !== 0)
      this.#fail(at, "an array's insertion point is malformed");
    const end = isThere ? readLength(bytes, next, to) : next;
    if (end > 0) this.#at++;
    return end;
  }

  #arrayItem(bytes: Uint8Array, at: number, to: number): number {
    const next = readLength(bytes, at, to);
    if (next < 0) return next;
    const tag = lengthRead.value;
    if (ARRAY_NUMBERS.includes(tag)) {
      this.#skipBytes = 8;
      this.#at++;
      return next;
    }
    if (!ARRAY_STRINGS.includes(tag)) this.#fail(at, `no item of an array is of kind ${tag}`);
    return this.#string(bytes, next, to);
  }

  #templateListpack(bytes: Uint8Array, at: number, to: number): number {
    const end = this.#packed.start(bytes, at, to, program.LISTPACK);
    if (end < 0) return end;
    this.#at++;
    this.#perElement = 1;
    this.#firstEntries = 1;
    return this.#passPacked(end);
  }
}
