import { ReplicaError } from "../../base/errors.ts";
import { parsePreamble, type RdbHeader } from "../header.ts";
import { formatOf } from "../made-by.ts";
import { Entries } from "./entries.ts";
import type { RdbHandlers, RdbReaderOptions } from "./entry.ts";
import { HashTemplates } from "./hash-templates.ts";
import { HeldString } from "./held-string.ts";
import { lengthRead, NO_LENGTH, readLength, TOO_FEW } from "../values/length.ts";
import * as opcodes from "./opcodes.ts";
import { RdbError } from "./rdb-error.ts";
import { WantedValue } from "./wanted-value.ts";
import { ValueWalk } from "../values/value-walk.ts";

const PREAMBLE_BYTES = 9;
const CHECKSUM_BYTES = 8;
/** Older RDBs end with the EOF opcode. */
const FIRST_VERSION_WITH_CHECKSUM = 5;
/** What proto-max-bulk-len allows by default; nobody raises it for a key. */
const DEFAULT_MAX_BYTES = 512 * 1024 * 1024;
/** Servers write less than 100 bytes; a script of old servers may be of any length. */
const MAX_AUX_BYTES = 64 * 1024;

/** What the reader is in the middle of. */
type At =
  | "preamble"
  | "opcode"
  | "entry"
  | "aux-name"
  | "aux-value"
  | "function"
  | "aside"
  | "checksum"
  | "end";

/** Reads what an RDB consists of, step by step, from buffers that its reader gives it. */
export class Records {
  readonly #handlers: RdbHandlers;
  readonly #maxValueBytes: number;
  readonly #templates = new HashTemplates();
  readonly #fail = (at: number, what: string): never => this.fail(at, what);
  readonly #entries: Entries;
  /** Passes over what isn't a key. */
  readonly #walk = new ValueWalk(this.#fail, this.#templates.counts);
  readonly #held = new HeldString(this.#fail);
  /** The names of the fields of the template that is read, where values are wanted. */
  readonly #fields: WantedValue;
  #templateId = 0;
  #at: At = "preamble";
  #auxName = "";

  header: Pick<RdbHeader, "magic" | "version"> | undefined;
  format: string | undefined;
  /** Where the RDB ends, without its checksum, and the checksum that it states. */
  summedBytes = Infinity;
  stated = 0n;
  libraries = 0;

  constructor(handlers: RdbHandlers, options: RdbReaderOptions) {
    this.#handlers = handlers;
    this.#maxValueBytes = options.maxValueBytes ?? DEFAULT_MAX_BYTES;
    const limits = {
      maxKeyBytes: options.maxKeyBytes ?? DEFAULT_MAX_BYTES,
      maxValueBytes: this.#maxValueBytes,
    };
    this.#fields = new WantedValue(this.#fail, this.#maxValueBytes);
    this.#entries = new Entries(handlers, limits, this.#fail, this.#templates);
  }

  /** How many keys have been read, and how many of them expire. */
  get keys(): number {
    return this.#entries.keys;
  }

  get expires(): number {
    return this.#entries.expires;
  }

  /** The position in the RDB of the first byte of the buffer that is read. */
  set bufferByte(byte: number) {
    this.#entries.bufferByte = byte;
  }

  get bufferByte(): number {
    return this.#entries.bufferByte;
  }

  get isWhole(): boolean {
    return this.#at === "end";
  }

  /** Ends the reading with an error about the position `at` of the buffer. */
  fail(at: number, what: string): never {
    throw new RdbError("BAD_PAYLOAD", { byte: this.bufferByte + at, format: this.format }, what);
  }

  /**
   * Copies what is needed of a buffer that goes, and has been read up to `at`.
   * @param from where in the next buffer the reading goes on.
   */
  leave(buffer: Uint8Array, at: number, from: number): void {
    this.#entries.leave(buffer, at, from);
    this.#fields.leave(buffer, at, from);
  }

  /** Reads a buffer step by step, until it has come to `until`. @returns where it is. */
  run(buffer: Uint8Array, from: number, to: number, until: number): number {
    let at = from;
    while (at < until) {
      if (this.#at === "opcode") {
        at = this.#entries.quick(buffer, at, to, until);
        if (at >= until) break;
      }
      const next = this.#step(buffer, at, to);
      if (next === TOO_FEW) return at;
      if (next === NO_LENGTH) this.#fail(at, `no length begins here`);
      at = next;
    }
    return at;
  }

  #step(buffer: Uint8Array, at: number, to: number): number {
    switch (this.#at) {
      case "opcode":
        return this.#opcode(buffer, at, to);
      case "entry":
        return this.#entry(buffer, at, to);
      case "preamble":
        return this.#preamble(buffer, at, to);
      case "aux-name":
      case "aux-value":
        return this.#aux(buffer, at, to);
      case "function":
        return this.#function(buffer, at, to);
      case "aside":
        return this.#aside(buffer, at, to);
      case "checksum":
        return this.#checksum(buffer, at, to);
      case "end":
        return this.#fail(at, "the RDB goes on after its end");
    }
  }

  #entry(buffer: Uint8Array, at: number, to: number): number {
    const end = this.#entries.run(buffer, at, to);
    if (this.#entries.isDone) this.#at = "opcode";
    return end;
  }

  #preamble(buffer: Uint8Array, at: number, to: number): number {
    const head = buffer.subarray(at, Math.min(to, at + PREAMBLE_BYTES));
    try {
      this.header = parsePreamble(head);
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      return this.#fail(at, error.message);
    }
    if (this.header === undefined) return TOO_FEW;
    this.format = formatOf(this.header);
    this.#entries.expect(this.header);
    this.#at = "opcode";
    return at + PREAMBLE_BYTES;
  }

  #opcode(buffer: Uint8Array, at: number, to: number): number {
    const opcode = buffer[at]!;
    if (this.#entries.begin(opcode, at)) {
      this.#at = "entry";
      return at + 1;
    }
    switch (opcode) {
      case opcodes.EXPIRETIME_MS:
      case opcodes.EXPIRETIME:
      case opcodes.IDLE:
      case opcodes.FREQ:
        return this.#entries.about(opcode, buffer, at, to);
      case opcodes.AUX:
        this.#held.start();
        this.#at = "aux-name";
        return at + 1;
      case opcodes.FUNCTION2:
        this.#held.start();
        this.#at = "function";
        return at + 1;
      case opcodes.EOF:
        return this.#eof(at);
      case opcodes.SELECTDB: {
        const end = readLength(buffer, at + 1, to);
        if (end > 0) this.#selectDb(at, lengthRead.value);
        return end;
      }
      case opcodes.RESIZEDB: {
        const middle = readLength(buffer, at + 1, to);
        const keys = lengthRead.value;
        const end = middle < 0 ? middle : readLength(buffer, middle, to);
        if (end > 0) this.#handlers.resizeDb?.(keys, lengthRead.value);
        return end;
      }
      case opcodes.SLOT_INFO: {
        // The slot, its keys, and how many of them expire.
        let end = at + 1;
        for (let field = 0; field < 3 && end > 0; field++) end = readLength(buffer, end, to);
        return end;
      }
      default:
        return this.#rareOpcode(opcode, buffer, at, to);
    }
  }

  #rareOpcode(opcode: number, buffer: Uint8Array, at: number, to: number): number {
    const isValkey = this.header?.magic === "VALKEY";
    if (opcode === opcodes.MODULE_AUX) return this.#beginAside(opcodes.MODULE_AUX_PROGRAM, at + 1);
    if (opcode === opcodes.KEY_META) {
      if (isValkey) this.#handlers.slotImport?.();
      else this.#entries.beginAt(at);
      const steps = isValkey ? opcodes.SLOT_IMPORT_PROGRAM : opcodes.KEY_META_PROGRAM;
      return this.#beginAside(steps, at + 1);
    }
    if (opcode === opcodes.HASH_TEMPLATE && !isValkey) return this.#template(buffer, at, to);
    const hex = `0x${opcode.toString(16).padStart(2, "0")}`;
    if (opcode === opcodes.MODULE_1) {
      this.#fail(at, `a module's value of the old kind (opcode ${hex}) has no end that others see`);
    }
    return this.#fail(at, `the opcode ${hex} is unknown in this version of the RDB`);
  }

  #template(buffer: Uint8Array, at: number, to: number): number {
    const middle = readLength(buffer, at + 1, to);
    const id = lengthRead.value;
    const end = middle < 0 ? middle : readLength(buffer, middle, to);
    if (end < 0) return end;
    if (!this.#templates.add(id, lengthRead.value)) {
      this.#fail(at, "the RDB has more templates of hashes than are held");
    }
    this.#templateId = id;
    if (this.#handlers.wants !== undefined) this.#fields.start(middle);
    return this.#beginAside(opcodes.HASH_TEMPLATE_PROGRAM, middle);
  }

  #selectDb(at: number, db: number): void {
    if (!Number.isSafeInteger(db)) this.#fail(at, "a database has an impossible number");
    this.#entries.selectDb(db);
    this.#handlers.selectDb?.(db);
  }

  #aux(buffer: Uint8Array, at: number, to: number): number {
    const held = this.#held;
    const end = held.run(buffer, at, to, MAX_AUX_BYTES);
    if (end === TOO_FEW || !held.isDone) return end;
    const bytes = held.isTooLong ? undefined : held.buffer.subarray(held.from, held.to);
    if (this.#at === "aux-name") {
      if (bytes === undefined) return this.#fail(at, "the name of an auxiliary field is too long");
      this.#auxName = Buffer.from(bytes).toString("utf8");
      this.#at = "aux-value";
      held.start();
    } else {
      this.#at = "opcode";
      this.#handlers.aux?.(this.#auxName, bytes);
    }
    return end;
  }

  #function(buffer: Uint8Array, at: number, to: number): number {
    const held = this.#held;
    const isWanted = this.#handlers.functionLibrary !== undefined;
    const end = held.run(buffer, at, to, isWanted ? this.#maxValueBytes : 0);
    if (isWanted && held.isTooLong) {
      this.#fail(
        at,
        `a library of functions is longer than the ${this.#maxValueBytes} bytes that are held`,
      );
    }
    if (end === TOO_FEW || !held.isDone) return end;
    this.libraries++;
    this.#at = "opcode";
    if (isWanted) this.#handlers.functionLibrary?.(held.buffer.subarray(held.from, held.to));
    return end;
  }

  #beginAside(steps: Uint8Array, end: number): number {
    this.#walk.start(steps);
    this.#at = "aside";
    return end;
  }

  /** What isn't a key and is passed over. */
  #aside(buffer: Uint8Array, at: number, to: number): number {
    const end = this.#walk.run(buffer, at, to);
    if (!this.#walk.isDone) return end === at ? TOO_FEW : end;
    this.#at = "opcode";
    const fields = this.#fields.end(buffer, end);
    if (fields !== undefined && !this.#templates.addFields(this.#templateId, fields)) {
      this.#fail(at, "the templates of hashes take more memory than is held");
    }
    if (this.#walk.module !== undefined) this.#handlers.moduleAux?.(this.#walk.module);
    return end;
  }

  #eof(at: number): number {
    const { magic, version } = this.header!;
    const isSummed = magic === "VALKEY" || version >= FIRST_VERSION_WITH_CHECKSUM;
    this.summedBytes = this.bufferByte + at + 1;
    this.#at = isSummed ? "checksum" : "end";
    return at + 1;
  }

  #checksum(buffer: Uint8Array, at: number, to: number): number {
    const end = at + CHECKSUM_BYTES;
    if (end > to) return TOO_FEW;
    this.stated = new DataView(buffer.buffer, buffer.byteOffset).getBigUint64(at, true);
    this.#at = "end";
    return end;
  }
}
