/** How many keys a snapshot's first database holds, as the snapshot itself says. */
export interface FirstDatabase {
  /** Its number; undefined where the snapshot holds no database at all. */
  readonly db: number | undefined;
  readonly keys: number;
}

/* Opcodes before the first key ("Redis, rdb.h"). */
const OPCODE_FUNCTION2 = 0xf5;
const OPCODE_AUX = 0xfa;
const OPCODE_RESIZEDB = 0xfb;
const OPCODE_SELECTDB = 0xfe;
const OPCODE_EOF = 0xff;

/** An opcode, two lengths and what follows them: more is never looked at in one go. */
const MAX_LOOK_BYTES = 32;

/** What was read, and where the next thing begins. */
interface Read {
  readonly value: number;
  readonly end: number;
}

/**
 * Reads how many keys an RDB's first database holds (`RESIZEDB`, from version 7 on), from the bytes after its
 * header. It passes over functions, which stand before the databases, and holds no more than a few bytes. An RDB
 * whose end comes at once holds no key. What it can't read (a module's data, an older version) is unknown.
 */
export class FirstDatabaseReader {
  #look: Uint8Array = new Uint8Array(0);
  /** Bytes of strings that are passed over. */
  #skipBytes = 0;
  /** Strings that follow the one that is passed over. */
  #strings = 0;
  #db: number | undefined;
  #hasFunctions = false;
  #found: FirstDatabase | undefined;
  #expires = 0;
  #isDone = false;

  /** True once nothing more need be pushed. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Undefined while it is unknown, and where it stays so. */
  get found(): FirstDatabase | undefined {
    return this.#found;
  }

  /** How many of the keys that were found have an expiry. */
  get expires(): number {
    return this.#expires;
  }

  /** Takes the next bytes, and keeps no view of them. */
  push(bytes: Uint8Array): void {
    let at = 0;
    while (!this.#isDone && at < bytes.length) {
      const skipped = Math.min(this.#skipBytes, bytes.length - at);
      this.#skipBytes -= skipped;
      at += skipped;
      if (at === bytes.length) return;
      const held = this.#look.length;
      const look = Buffer.concat([this.#look, bytes.subarray(at, at + MAX_LOOK_BYTES - held)]);
      const used = this.#step(look);
      if (used === undefined) {
        this.#look = look;
        at += look.length - held;
        if (look.length === MAX_LOOK_BYTES) this.#isDone = true;
      } else {
        this.#look = new Uint8Array(0);
        at += used - held;
      }
    }
  }

  /** How many bytes were understood; undefined where they are too few. */
  #step(look: Buffer): number | undefined {
    if (this.#strings > 0) {
      const read = readStringHead(look, 0);
      if (read === undefined) return undefined;
      if (!Number.isSafeInteger(read.value)) return this.#giveUp();
      this.#strings--;
      this.#skipBytes = read.value;
      return read.end;
    }
    switch (look[0]) {
      case OPCODE_FUNCTION2:
        this.#hasFunctions = true;
        this.#strings = 1;
        return 1;
      case OPCODE_AUX:
        this.#strings = 2;
        return 1;
      case OPCODE_SELECTDB: {
        const db = readLength(look, 1);
        if (db === undefined) return undefined;
        if (!Number.isSafeInteger(db.value)) return this.#giveUp();
        this.#db = db.value;
        return db.end;
      }
      case OPCODE_RESIZEDB: {
        const keys = readLength(look, 1);
        const expires = keys && readLength(look, keys.end);
        if (keys === undefined || expires === undefined) return undefined;
        this.#expires = expires.value;
        if (Number.isSafeInteger(keys.value)) this.#found = { db: this.#db, keys: keys.value };
        return this.#giveUp();
      }
      case OPCODE_EOF:
        // Functions are worth something too, though no key.
        if (!this.#hasFunctions) this.#found = { db: undefined, keys: 0 };
        return this.#giveUp();
      default:
        return this.#giveUp();
    }
  }

  #giveUp(): number {
    this.#isDone = true;
    return 1;
  }
}

/** A length ("Redis, rdb.c": rdbLoadLen); NaN for what is none. */
function readLength(look: Buffer, at: number): Read | undefined {
  const first = look[at];
  if (first === undefined) return undefined;
  if (first < 0x40) return { value: first, end: at + 1 };
  const bytes = first < 0x80 ? 2 : first === 0x80 ? 5 : first === 0x81 ? 9 : 1;
  if (look.length < at + bytes) return undefined;
  const end = at + bytes;
  if (bytes === 2) return { value: look.readUInt16BE(at) & 0x3fff, end };
  if (bytes === 5) return { value: look.readUInt32BE(at + 1), end };
  if (bytes === 9) return { value: Number(look.readBigUInt64BE(at + 1)), end };
  return { value: Number.NaN, end };
}

/** What stands before a string's bytes; the value is how many of those there are. */
function readStringHead(look: Buffer, at: number): Read | undefined {
  const first = look[at];
  if (first === undefined) return undefined;
  if (first < 0xc0) return readLength(look, at);
  // A number of 1, 2 or 4 bytes, or a compressed string: its length, and the one that it had.
  if (first < 0xc3) return { value: 2 ** (first - 0xc0), end: at + 1 };
  if (first > 0xc3) return { value: Number.NaN, end: at + 1 };
  const compressed = readLength(look, at + 1);
  const plain = compressed && readLength(look, compressed.end);
  return plain && { value: compressed.value, end: plain.end };
}
