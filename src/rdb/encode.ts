import { formatOf } from "./made-by.ts";
import type { RdbFormat } from "./releases.ts";

const OPCODE_IDLE = 0xf8;
const OPCODE_FREQUENCY = 0xf9;
const OPCODE_AUX = 0xfa;
const OPCODE_EXPIRES_MS = 0xfc;
const OPCODE_SELECT = 0xfe;
const OPCODE_EOF = 0xff;

/** What stands before a value in an RDB. */
export interface EntryHead {
  readonly key: Uint8Array;
  /** The type of the value ("Redis, rdb.h": RDB_TYPE_…). */
  readonly opcode: number;
  /** Unix time. */
  readonly expiresAtMs: number | undefined;
  readonly idleSeconds: number | undefined;
  /** From 0 to 255. */
  readonly frequency: number | undefined;
}

/** The beginning of an RDB: magic, version and auxiliary fields. */
export function encodeRdbHead(
  format: RdbFormat,
  aux: Iterable<readonly [name: string, value: string]>,
): Uint8Array {
  const pieces: Uint8Array[] = [Buffer.from(formatOf(format))];
  for (const [name, value] of aux) {
    pieces.push(Uint8Array.of(OPCODE_AUX), ...string(name), ...string(value));
  }
  return Buffer.concat(pieces);
}

/** The keys that follow are in this database. */
export function encodeSelect(db: number): Uint8Array {
  return Buffer.concat([Uint8Array.of(OPCODE_SELECT), encodeLength(db)]);
}

/** Everything of a key that stands before its value ("Redis, rdb.c": rdbSaveKeyValuePair). */
export function encodeEntryHead(entry: EntryHead): Uint8Array {
  const { key, opcode, expiresAtMs, idleSeconds, frequency } = entry;
  const pieces: Uint8Array[] = [];
  if (expiresAtMs !== undefined) {
    const bytes = new DataView(new ArrayBuffer(9));
    bytes.setUint8(0, OPCODE_EXPIRES_MS);
    bytes.setBigInt64(1, BigInt(expiresAtMs), true);
    pieces.push(new Uint8Array(bytes.buffer));
  }
  if (idleSeconds !== undefined) {
    pieces.push(Uint8Array.of(OPCODE_IDLE), encodeLength(idleSeconds));
  }
  if (frequency !== undefined) pieces.push(Uint8Array.of(OPCODE_FREQUENCY, frequency));
  pieces.push(Uint8Array.of(opcode), encodeLength(key.length), key);
  return Buffer.concat(pieces);
}

/** The last opcode of an RDB; the checksum of everything up to here follows. */
export const RDB_END: Uint8Array = Uint8Array.of(OPCODE_EOF);

/** The checksum at the end of an RDB. */
export function encodeChecksum(crc64: bigint): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setBigUint64(0, crc64, true);
  return new Uint8Array(bytes.buffer);
}

function string(text: string): Uint8Array[] {
  const bytes = Buffer.from(text);
  return [encodeLength(bytes.length), bytes];
}

/** A length as RDBs write it: in 6, 14, 32 or 64 bits ("Redis, rdb.c": rdbSaveLen). */
function encodeLength(length: number): Uint8Array {
  if (length < 1 << 6) return Uint8Array.of(length);
  if (length < 1 << 14) return Uint8Array.of(0x40 | (length >> 8), length & 0xff);
  const isShort = length < 2 ** 32;
  const bytes = new DataView(new ArrayBuffer(isShort ? 5 : 9));
  bytes.setUint8(0, isShort ? 0x80 : 0x81);
  if (isShort) bytes.setUint32(1, length);
  else bytes.setBigUint64(1, BigInt(length));
  return new Uint8Array(bytes.buffer);
}
