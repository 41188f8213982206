import { ReplicaError, unreachable } from "../base/errors.ts";
import { printableAscii } from "../base/printable.ts";
import { splitInline } from "./inline.ts";

const LF = 0x0a;
const CR = 0x0d;
const NUL = 0x00;
/** The first byte of a TLS handshake. */
const TLS_HANDSHAKE = 0x16;
const STAR = 0x2a;
const DOLLAR = 0x24;
const EMPTY = new Uint8Array(0);
const FIRST_BUFFER_BYTES = 256;

export interface CommandLimits {
  /** The longest inline command, `*<count>` or `$<length>` line, without its line end. */
  readonly maxLineBytes: number;
  /** The most arguments of one command, its name included. */
  readonly maxArgs: number;
  /** The longest single argument. */
  readonly maxArgBytes: number;
  /** The most bytes of all arguments of one command together. */
  readonly maxCommandBytes: number;
}

/** Which part of a command comes next. */
type At =
  | { at: "command" }
  | { at: "argument-length"; missing: number }
  | { at: "argument"; missing: number; bytes: number };

/** The next state, and the command that became whole, if one did. */
interface Step {
  readonly state: At;
  readonly args?: Uint8Array[];
}

/**
 * Reads the commands that a client sends to our own port: arrays of bulk strings, and inline
 * commands, pipelined and split anywhere ("Redis, networking.c": processInputBuffer). Error messages are
 * Redis's own, to be sent after `-ERR `.
 *
 * Holds at most one unfinished command, and what was pushed and not yet taken. After a throw, reply with
 * the error and close, as Redis does.
 */
export class CommandReader {
  /** May change between two commands. */
  limits: CommandLimits;
  #state: At = { at: "command" };
  #args: Uint8Array[] = [];
  #argBytes = 0;
  /** The bytes from #start to #end are unread. */
  #buffer: Uint8Array = EMPTY;
  #start = 0;
  #end = 0;
  /** Whether the reader may write to #buffer; false: it is a view of a chunk that was pushed. */
  #owned = false;
  /** No line end lies between #start and here: a line that comes byte by byte isn't searched twice. */
  #searched = 0;

  constructor(limits: CommandLimits) {
    this.limits = limits;
  }

  /** Adds a chunk. Take commands with `next` until it returns `undefined` before pushing another. */
  push(chunk: Uint8Array): void {
    const unread = this.#end - this.#start;
    if (unread === 0) {
      this.#buffer = chunk;
      this.#owned = false;
      this.#start = 0;
      this.#end = chunk.length;
      this.#searched = 0;
      return;
    }
    if (!this.#owned || this.#end + chunk.length > this.#buffer.length) {
      this.#makeRoom(unread + chunk.length);
    }
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /**
   * Takes the next command: its name and arguments, as copies. Skips empty commands (`*0`, `*-1`, an empty
   * line), as Redis does.
   * @returns `undefined` where the rest has not come; then no pushed chunk is held any more.
   * @throws ReplicaError PROTOCOL for bytes that aren't a command, or exceed a limit.
   */
  next(): Uint8Array[] | undefined {
    for (;;) {
      const { state, args } = this.#step(this.#state) ?? {};
      if (state === undefined) {
        // Unread bytes must not keep the large chunk that they came in alive.
        if (this.#end === this.#start) this.push(EMPTY);
        else if (!this.#owned) this.#makeRoom(this.#end - this.#start);
        return undefined;
      }
      this.#state = state;
      if (args !== undefined && args.length > 0) return args;
    }
  }

  /** The bytes held now: unread ones, and the arguments of an unfinished command. */
  get heldBytes(): number {
    return this.#end - this.#start + this.#argBytes;
  }

  /** How many arguments of an unfinished command are held. Each takes memory beside its bytes. */
  get heldArgs(): number {
    return this.#args.length;
  }

  /** Whether a command has begun that was not taken yet. */
  get hasBegun(): boolean {
    return this.#state.at !== "command" || this.#end > this.#start;
  }

  /** Takes one line or argument; `undefined` where its rest has not come. */
  #step(state: At): Step | undefined {
    switch (state.at) {
      case "command":
        return this.#onCommandLine();
      case "argument-length":
        return this.#onArgumentLength(state.missing);
      case "argument":
        return this.#onArgument(state.missing, state.bytes);
      default:
        return unreachable(state);
    }
  }

  #onCommandLine(): Step | undefined {
    this.#passEmptyLines();
    // What a ClientHello carries may be commands, chosen by whoever made somebody else's client connect here.
    if (this.#start < this.#end && this.#buffer[this.#start] === TLS_HANDSHAKE) {
      throw malformed("TLS, which this port doesn't speak");
    }
    const isArray = this.#buffer[this.#start] === STAR;
    const line = this.#takeLine(isArray ? "too big mbulk count string" : "too big inline request");
    if (line === undefined) return undefined;
    if (line[0] !== STAR) return { state: { at: "command" }, args: this.#parseInline(line) };
    const count = parseInteger(line);
    if (count === undefined || count > this.limits.maxArgs) {
      throw malformed("invalid multibulk length");
    }
    return { state: count > 0 ? { at: "argument-length", missing: count } : { at: "command" } };
  }

  /** Allocates nothing: half of the input may be empty lines. */
  #passEmptyLines(): void {
    for (;;) {
      const isLong = this.#buffer[this.#start] === CR;
      const at = this.#start + (isLong ? 1 : 0);
      if (at >= this.#end || this.#buffer[at] !== LF) break;
      this.#start = at + 1;
    }
    this.#searched = Math.max(this.#searched, this.#start);
  }

  #onArgumentLength(missing: number): Step | undefined {
    const line = this.#takeLine("too big bulk count string");
    if (line === undefined) return undefined;
    return { state: { at: "argument", missing, bytes: this.#parseArgumentLength(line) } };
  }

  #onArgument(missing: number, bytes: number): Step | undefined {
    if (this.#end - this.#start < bytes + 2) return undefined;
    this.#takeArgument(bytes);
    if (missing > 1) return { state: { at: "argument-length", missing: missing - 1 } };
    const args = this.#args;
    this.#args = [];
    this.#argBytes = 0;
    return { state: { at: "command" }, args };
  }

  #parseInline(line: Uint8Array): Uint8Array[] {
    // Nor is any other protocol a line of text.
    if (line.includes(NUL)) throw malformed("NUL in an inline request");
    const args = splitInline(line);
    if (args === undefined) throw malformed("unbalanced quotes in request");
    if (
      args.length > this.limits.maxArgs ||
      args.some((arg) => arg.length > this.limits.maxArgBytes) ||
      line.length > this.limits.maxCommandBytes
    ) {
      throw malformed("too big inline request");
    }
    return args;
  }

  #parseArgumentLength(line: Uint8Array): number {
    if (line[0] !== DOLLAR) {
      const got = printableAscii(String.fromCharCode(line[0] ?? CR));
      throw malformed(`expected '$', got '${got}'`);
    }
    const bytes = parseInteger(line);
    if (
      bytes === undefined ||
      bytes < 0 ||
      bytes > this.limits.maxArgBytes ||
      this.#argBytes + bytes > this.limits.maxCommandBytes
    ) {
      throw malformed("invalid bulk length");
    }
    return bytes;
  }

  #takeArgument(bytes: number): void {
    const end = this.#start + bytes;
    // Redis skips these two bytes unseen; a client that sends others is out of step.
    if (this.#buffer[end] !== CR || this.#buffer[end + 1] !== LF) {
      throw malformed("expected CRLF after a bulk string");
    }
    this.#args.push(Uint8Array.from(this.#buffer.subarray(this.#start, end)));
    this.#argBytes += bytes;
    this.#start = this.#searched = end + 2;
  }

  #takeLine(tooLong: string): Uint8Array | undefined {
    const found = this.#buffer.subarray(0, this.#end).indexOf(LF, this.#searched);
    const end = found === -1 ? this.#end : found;
    const content = this.#buffer[end - 1] === CR && end > this.#start ? end - 1 : end;
    if (content - this.#start > this.limits.maxLineBytes) throw malformed(tooLong);
    if (end === this.#end) {
      this.#searched = end;
      return undefined;
    }
    const line = this.#buffer.subarray(this.#start, content);
    this.#start = this.#searched = end + 1;
    return line;
  }

  #makeRoom(bytes: number): void {
    const target =
      this.#owned && 2 * bytes <= this.#buffer.length
        ? this.#buffer
        : new Uint8Array(Math.max(2 * bytes, FIRST_BUFFER_BYTES));
    target.set(this.#buffer.subarray(this.#start, this.#end));
    this.#searched -= this.#start;
    this.#end -= this.#start;
    this.#start = 0;
    this.#buffer = target;
    this.#owned = true;
  }
}

/** The number after a line's first byte, as strict as Redis's string2ll. */
function parseInteger(line: Uint8Array): number | undefined {
  const text = Buffer.from(line.buffer, line.byteOffset + 1, line.byteLength - 1).toString(
    "latin1",
  );
  const value = Number(text);
  return /^(?:0|-?[1-9]\d*)$/.test(text) && Number.isSafeInteger(value) ? value : undefined;
}

function malformed(what: string): ReplicaError {
  return new ReplicaError("PROTOCOL", { message: `Protocol error: ${what}` });
}
