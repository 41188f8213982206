import type { ValueKind } from "../values/value-types.ts";

/** The kind of a value, as TYPE names it; a module's own types are all "module". */
export type RdbKind = ValueKind;

/**
 * A key and what an RDB says of it. The reader fills one and the same object for every key: take from it what is to be
 * kept.
 */
export class RdbEntry {
  /** The database. */
  db = 0;
  /**
   * Where the key lies: `keyBuffer` from `keyStart` on, up to `keyEnd`. Valid until the handler returns. What looks at
   * millions of keys saves a view of each.
   */
  keyBuffer: Uint8Array = NOTHING;
  keyStart = 0;
  keyEnd = 0;
  kind: RdbKind = "string";
  /** The type of the value in the RDB ("Redis, rdb.h": RDB_TYPE_…). It has another meaning in Valkey's own RDBs. */
  opcode = 0;
  /**
   * As `OBJECT ENCODING` names it after a load; where servers don't have the encoding any more, its own name: ziplist,
   * zipmap, linkedlist.
   */
  encoding = "";
  /** Unix time. */
  expiresAtMs: number | undefined = undefined;
  /** How long ago it was used when the RDB was written, where the server evicts by LRU. */
  idleSeconds: number | undefined = undefined;
  /** How often it is used, from 0 to 255, where the server evicts by LFU. */
  frequency: number | undefined = undefined;
  /** Items, members, fields or stream entries; undefined for strings and modules' values. */
  elements: number | undefined = undefined;
  /** The length of a string, uncompressed; undefined for all else. */
  stringBytes: number | undefined = undefined;
  /** How long the value is in the RDB, after type and key. */
  valueBytes = 0;
  /** The module's name for a type of its own; undefined for all else. */
  module: string | undefined = undefined;
  /** Where it begins in the RDB, with the opcodes about it (expiry, idle time), and where it ends. */
  startByte = 0;
  endByte = 0;

  /** A view of the key, LZF undone. It is gone once the handler returns. */
  get key(): Uint8Array {
    return this.keyBuffer.subarray(this.keyStart, this.keyEnd);
  }
}

const NOTHING = new Uint8Array(0);

/** What is done with what a reader finds, in the order of the RDB. Views are valid until the handler returns. */
export interface RdbHandlers {
  /**
   * A key.
   * @param value what stands in the RDB behind type and key, if `wants` asked for it: a byte of type, this, the RDB's
   * version (2 bytes, little-endian) and a CRC64 of all that is what RESTORE takes. A hash whose fields stand elsewhere
   * in the RDB (Redis 8.10) gets them, and the opcode of that form. What modules attach to a key (8.6) isn't part of it.
   */
  entry(entry: RdbEntry, value: Uint8Array | undefined): void;
  /** Whether the value of this key is to be given to `entry`. Without it no value is. */
  wants?(db: number, key: Uint8Array, opcode: number): boolean;
  /** An auxiliary field; `value` is undefined where it is longer than 64 KiB. */
  aux?(name: string, value: Uint8Array | undefined): void;
  /** The code of a library of functions, as FUNCTION LOAD takes it. */
  functionLibrary?(code: Uint8Array): void;
  /** Valkey 9: slots are being moved into this server. Their keys are in the RDB, and become its own if that ends well. */
  slotImport?(): void;
  /** What a module keeps beside the keys. */
  moduleAux?(module: string): void;
  selectDb?(db: number): void;
  /** How many keys the database that was selected has, and how many of them expire, as the server says. */
  resizeDb?(keys: number, expires: number): void;
}

export interface RdbReaderOptions {
  /** Whether to compare the checksum: some 0.15 ms of CPU per MB. Default: true. */
  readonly checksum?: boolean;
  /** The longest key, in bytes. Default: 512 MiB, which is all that servers accept (proto-max-bulk-len). */
  readonly maxKeyBytes?: number;
  /**
   * The longest value that is collected, as it stands in the RDB, and the longest library of functions. Default:
   * 512 MiB.
   */
  readonly maxValueBytes?: number;
}

/** What a whole RDB held. */
export interface RdbReaderSummary {
  /** `REDIS0011`, `VALKEY080`. */
  readonly format: string;
  readonly version: number;
  readonly bytes: number;
  readonly keys: number;
  /** How many of the keys expire. */
  readonly expires: number;
  readonly functionLibraries: number;
  /** Computed; with `checksum: false`, the one that the RDB states; 0 where it states none. */
  readonly crc64: bigint;
  /** Whether it was compared with the one that the RDB states. */
  readonly checked: boolean;
}
