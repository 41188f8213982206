import { ReplicaError, invariant } from "../base/errors.ts";
import { findVerb, LONGEST_VERB, type Verb } from "./verbs.ts";

const CR = 0x0d;
const LF = 0x0a;
const STAR = 0x2a;
const DOLLAR = 0x24;
const ZERO = 0x30;
const EMPTY = new Uint8Array(0);

/** BAD_FRAME: the log is damaged at this byte of the file. */
export class FrameError extends ReplicaError {
  readonly byte: number;

  constructor(byte: number, message: string) {
    super("BAD_FRAME", { retry: "never", message });
    this.byte = byte;
  }
}

export interface FrameLimits {
  /** The most arguments of one command, its verb included. */
  readonly maxArgs: number;
  /** The longest single argument. */
  readonly maxArgBytes: number;
}

// What comes next. Numbers rather than objects: a command takes some twenty steps.
const COMMAND = 0;
const COUNT = 1;
const COUNT_LF = 2;
const ARGUMENT = 3;
const LENGTH = 4;
const LENGTH_LF = 5;
const BODY = 6;
const BODY_CR = 7;
const BODY_LF = 8;

/** No chunk holds a longer word; times ten it still is a small integer. */
const MAX_PLAIN_BYTES = 100_000_000;

/**
 * Finds the commands of a log: arrays of bulk strings and nothing else, as primaries stream them and
 * servers load them ("Redis, aof.c": loadSingleAppendOnlyFile). A bare line end, an inline command or an
 * annotation is damage: primaries send none. The scanner is as strict as redis-check-aof, and about numbers
 * as strict as a server is with its clients ("Redis, networking.c").
 *
 * It skips arguments in place and holds none of them, however long they are.
 */
export class FrameScanner {
  readonly #limits: FrameLimits;
  #chunk: Uint8Array = EMPTY;
  /** Where the chunk begins, in bytes of the log's file. */
  #chunkByte: number;
  /** How much of the chunk is read. */
  #at = 0;
  #step = COMMAND;
  /** The number that is being read, and its digits so far. */
  #value = 0;
  #digits = 0;
  /** The command that is being read: where it begins, its words, and how many of them are whole. */
  #begin: number;
  #count = 0;
  #whole = 0;
  #missingBytes = 0;
  /** The beginning of its verb or, after SELECT, of the database number; and that word's whole length. */
  readonly #word = new Uint8Array(LONGEST_VERB);
  #wordBytes = 0;
  #nextVerb: Verb | undefined = undefined;
  #damage: FrameError | undefined = undefined;

  #start: number;
  #end: number;
  #args = 0;
  #verb: Verb | undefined = undefined;
  #db = 0;
  #inTransaction = false;
  #lastSafeCut: number;

  /**
   * @param options.fromByte the byte of the file to be pushed first; a command begins there, in database 0.
   * @param options.inTransaction whether a transaction is open there; by default none is.
   */
  constructor(options: { limits: FrameLimits; fromByte?: number; inTransaction?: boolean }) {
    this.#limits = options.limits;
    this.#inTransaction = options.inTransaction ?? false;
    const from = options.fromByte ?? 0;
    this.#chunkByte = this.#begin = this.#start = this.#end = this.#lastSafeCut = from;
  }

  /** The command's first byte. */
  get start(): number {
    return this.#start;
  }

  /** The byte after the command's last one; before the first command, where the scan began. */
  get end(): number {
    return this.#end;
  }

  /** The number of words in the command, its verb included. */
  get args(): number {
    return this.#args;
  }

  /** The command's verb in upper case; undefined for a verb that no caller asks for. */
  get verb(): Verb | undefined {
    return this.#verb;
  }

  /** The database that the command works in; for SELECT, the one it selects. */
  get db(): number {
    return this.#db;
  }

  /** Whether a transaction is still open after the command: after MULTI it is, after EXEC it is not. */
  get inTransaction(): boolean {
    return this.#inTransaction;
  }

  /** The last safe cut: the byte after the last whole command outside a transaction. */
  get lastSafeCut(): number {
    return this.#lastSafeCut;
  }

  /** After `next` returned false: whether the bytes so far end at the end of a command. */
  get atBoundary(): boolean {
    return this.#step === COMMAND;
  }

  /**
   * After `next` returned false: what is known of the command that has begun. Undefined where none has, or not even its
   * verb has come.
   */
  get unfinished(): { readonly verb: Verb | undefined; readonly args: number } | undefined {
    if (this.#step <= COUNT_LF || this.#whole === 0) return undefined;
    return { verb: this.#nextVerb, args: this.#count };
  }

  /** After `next` returned false: how many bytes are missing of the word in which the chunk ends. */
  get missingBytes(): number {
    return this.#step === BODY ? this.#missingBytes : 0;
  }

  /** Adds a chunk. It must not change until `next` has returned false; only then may another follow. */
  push(chunk: Uint8Array): void {
    invariant(this.#at === this.#chunk.length, "a chunk is read before the next one comes");
    this.#chunkByte += this.#at;
    this.#chunk = chunk;
    this.#at = 0;
  }

  /**
   * Finds the next whole command; the properties describe it until the next call.
   * @returns false where the rest of it comes with the next chunk.
   * @throws ReplicaError BAD_FRAME for bytes that aren't a command, a number past its limit, or a MULTI, EXEC
   * or SELECT out of place; every later call throws it again. The properties keep their values.
   */
  next(): boolean {
    if (this.#damage !== undefined) throw this.#damage;
    if (this.#step === COMMAND && this.#passWhole()) return true;
    const { length } = this.#chunk;
    let at = this.#at;
    while (at < length) {
      switch (this.#step) {
        case COMMAND:
          this.#begin = this.#chunkByte + at;
          at = this.#expect(at, STAR, "'*' and the number of words", COUNT);
          break;
        case COUNT:
          at = this.#readNumber(at, this.#limits.maxArgs, COUNT_LF);
          break;
        case COUNT_LF:
          at = this.#expect(at, LF, "a line feed", ARGUMENT);
          this.#onCount();
          break;
        case ARGUMENT:
          at = this.#expect(at, DOLLAR, "'$' and the length of a word", LENGTH);
          break;
        case LENGTH:
          at = this.#readNumber(at, this.#limits.maxArgBytes, LENGTH_LF);
          break;
        case LENGTH_LF:
          at = this.#expect(at, LF, "a line feed", BODY);
          this.#onLength();
          break;
        case BODY:
          at = this.#passBody(at);
          break;
        case BODY_CR:
          at = this.#expect(at, CR, "the end of a word", BODY_LF);
          break;
        default:
          at = this.#expect(at, LF, "the end of a word", ARGUMENT);
          if (++this.#whole < this.#count) break;
          this.#at = at;
          this.#step = COMMAND;
          this.#onCommand(this.#chunkByte + at);
          return true;
      }
    }
    this.#at = at;
    return false;
  }

  /**
   * Skips a plain command that lies whole in the chunk, as most do, in a third of the time.
   * @returns false for any other, with nothing changed: the steps then find out what it is.
   */
  #passWhole(): boolean {
    const chunk = this.#chunk;
    const { length } = chunk;
    const start = this.#at;
    // Never read past the end: a number that may be undefined makes this ten times as slow.
    if (start + 4 > length || chunk[start] !== STAR) return false;
    const count = chunk[start + 1]! - ZERO;
    if (count < 1 || count > 9 || count > this.#limits.maxArgs) return false;
    if (chunk[start + 2] !== CR || chunk[start + 3] !== LF) return false;
    let at = start + 4;
    let verb: Verb | undefined;
    for (let word = 0; word < count; word++) {
      if (at + 4 > length || chunk[at] !== DOLLAR) return false;
      let bytes = chunk[at + 1]! - ZERO;
      if (bytes < 0 || bytes > 9) return false;
      at += 2;
      while (at < length && chunk[at] !== CR) {
        const digit = chunk[at]! - ZERO;
        if (digit < 0 || digit > 9 || bytes === 0 || bytes > MAX_PLAIN_BYTES) return false;
        bytes = bytes * 10 + digit;
        at++;
      }
      if (at + 4 + bytes > length || chunk[at + 1] !== LF) return false;
      if (bytes > this.#limits.maxArgBytes) return false;
      at += 2;
      if (word === 0) {
        verb = findVerb(chunk, at, bytes);
        if (verb === "MULTI" || verb === "EXEC" || verb === "SELECT") return false;
      }
      at += bytes + 2;
      if (chunk[at - 2] !== CR || chunk[at - 1] !== LF) return false;
    }
    this.#at = at;
    this.#verb = verb;
    this.#start = this.#chunkByte + start;
    this.#end = this.#chunkByte + at;
    this.#args = count;
    if (!this.#inTransaction) this.#lastSafeCut = this.#end;
    return true;
  }

  /** Skips one byte, which must be `byte`. */
  #expect(at: number, byte: number, what: string, nextStep: number): number {
    if (this.#chunk[at] !== byte) throw this.#damaged(this.#chunkByte + at, what);
    this.#step = nextStep;
    return at + 1;
  }

  /** Skips digits and, where it has come, the CR after them. */
  #readNumber(from: number, max: number, nextStep: number): number {
    const chunk = this.#chunk;
    let value = this.#value;
    let digits = this.#digits;
    let at = from;
    for (; at < chunk.length; at++, digits++) {
      const digit = chunk[at]! - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      // No server writes a leading zero, or accepts one from a client (string2ll).
      if (value > max || (digits > 0 && value < 10)) {
        throw this.#damaged(this.#chunkByte + at, `a number up to ${max}`);
      }
    }
    this.#value = value;
    this.#digits = digits;
    if (at === chunk.length) return at;
    const what = digits === 0 ? "a digit" : "a digit or a carriage return";
    return this.#expect(at, digits === 0 ? ZERO : CR, what, nextStep);
  }

  #onCount(): void {
    if (this.#value === 0) throw this.#damaged(this.#begin, "at least one word in a command");
    this.#count = this.#value;
    this.#whole = 0;
    this.#value = this.#digits = 0;
  }

  #onLength(): void {
    this.#missingBytes = this.#wordBytes = this.#value;
    this.#value = this.#digits = 0;
    if (this.#missingBytes === 0) this.#step = BODY_CR;
  }

  /** Skips as much of a word as there is. */
  #passBody(at: number): number {
    const bytes = Math.min(this.#missingBytes, this.#chunk.length - at);
    if (this.#whole === 0) this.#keepVerb(at, bytes);
    else if (this.#whole === 1 && this.#nextVerb === "SELECT") this.#keep(at, bytes);
    this.#missingBytes -= bytes;
    if (this.#missingBytes === 0) this.#step = BODY_CR;
    return at + bytes;
  }

  #keepVerb(at: number, bytes: number): void {
    this.#keep(at, bytes);
    if (bytes === this.#missingBytes) this.#nextVerb = findVerb(this.#word, 0, this.#wordBytes);
  }

  #keep(at: number, bytes: number): void {
    const kept = this.#wordBytes - this.#missingBytes;
    const more = Math.min(bytes, LONGEST_VERB - kept);
    for (let index = 0; index < more; index++) this.#word[kept + index] = this.#chunk[at + index]!;
  }

  #onCommand(end: number): void {
    const verb = this.#nextVerb;
    if (verb !== undefined) this.#onVerb(verb);
    this.#verb = verb;
    this.#nextVerb = undefined;
    this.#start = this.#begin;
    this.#end = end;
    this.#args = this.#count;
    if (!this.#inTransaction) this.#lastSafeCut = end;
  }

  #onVerb(verb: Verb): void {
    switch (verb) {
      case "MULTI":
        if (this.#inTransaction) throw this.#damaged(this.#begin, "no MULTI inside a transaction");
        this.#inTransaction = true;
        break;
      case "EXEC":
        if (!this.#inTransaction) throw this.#damaged(this.#begin, "no EXEC without a MULTI");
        this.#inTransaction = false;
        break;
      case "SELECT":
        this.#db = this.#readDb();
        break;
      default:
    }
  }

  #readDb(): number {
    const text = Buffer.from(this.#word.subarray(0, this.#wordBytes)).toString("latin1");
    if (this.#count !== 2 || !/^\d{1,9}$/.test(text)) {
      throw this.#damaged(this.#begin, "SELECT with a database number");
    }
    return Number(text);
  }

  #damaged(byte: number, expected: string): FrameError {
    this.#damage = new FrameError(byte, `expected ${expected} at byte ${byte}`);
    return this.#damage;
  }
}
