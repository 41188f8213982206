import { ReplicaError } from "../base/errors.ts";
import { printableAscii } from "../base/printable.ts";
import { parseOffset, parseReplicationId, type Position } from "../base/history.ts";

/** The most bytes of a header: servers write a few hundred. */
export const MAX_HEADER_BYTES = 64 * 1024;

/** The length of magic and version, in both forms: `REDIS0011`, `VALKEY080`. */
const PREAMBLE_BYTES = 9;
const MAGICS = ["REDIS", "VALKEY"] as const;
const OPCODE_AUX = 0xfa;

/** The beginning of an RDB, before its first database. */
export interface RdbHeader {
  readonly magic: "REDIS" | "VALKEY";
  readonly version: number;
  /** The auxiliary fields, without compressed ones, which no caller asks for. */
  readonly aux: ReadonlyMap<string, string>;
  /** The position of the first opcode that isn't an auxiliary field. */
  readonly headerBytes: number;
}

/**
 * Parses an RDB's beginning, up to the first opcode that isn't an auxiliary field ("Redis, rdb.c":
 * rdbSaveInfoAuxFields, rdbLoadRioWithLoadingCtx).
 * @param head the RDB's first bytes, as many as have come.
 * @returns `undefined` where these are too few.
 * @throws ReplicaError BAD_PAYLOAD for another magic, a version that isn't a number, a malformed auxiliary
 * field, or a header longer than `maxHeaderBytes`.
 */
export function parseRdbHeader(
  head: Uint8Array,
  maxHeaderBytes = MAX_HEADER_BYTES,
): RdbHeader | undefined {
  const preamble = parsePreamble(head);
  if (preamble === undefined) return undefined;
  const aux = new Map<string, string>();
  let position = PREAMBLE_BYTES;
  while (position <= maxHeaderBytes && head[position] === OPCODE_AUX) {
    const key = readString(head, position + 1, maxHeaderBytes);
    // Old servers without a single key write their Lua scripts here, which may be of any length.
    if (key?.text === "lua") return { ...preamble, aux, headerBytes: position };
    const value = key && readString(head, key.end, maxHeaderBytes);
    if (key === undefined || value === undefined) {
      if (head.length > maxHeaderBytes) throw tooLong(maxHeaderBytes);
      return undefined;
    }
    if (key.text !== undefined && value.text !== undefined) aux.set(key.text, value.text);
    position = value.end;
  }
  if (position > maxHeaderBytes) throw tooLong(maxHeaderBytes);
  if (position >= head.length) return undefined;
  return { ...preamble, aux, headerBytes: position };
}

/** The auxiliary fields about replication; a missing or malformed one isn't an error. */
export function replicationAux(header: RdbHeader): {
  streamDb: number;
  position: Position | undefined;
  redisVersion: string | undefined;
} {
  const streamDb = Number(header.aux.get("repl-stream-db") || -1);
  return {
    streamDb: Number.isSafeInteger(streamDb) && streamDb >= 0 ? streamDb : 0,
    position: parsePosition(header.aux.get("repl-id"), header.aux.get("repl-offset")),
    redisVersion: header.aux.get("redis-ver") ?? header.aux.get("valkey-ver"),
  };
}

function parsePosition(
  replid: string | undefined,
  offset: string | undefined,
): Position | undefined {
  if (replid === undefined || offset === undefined) return undefined;
  try {
    return { replid: parseReplicationId(replid), offset: parseOffset(offset) };
  } catch (caught) {
    if (caught instanceof ReplicaError) return undefined;
    throw caught;
  }
}

/** What people pack their snapshots by, and the bytes that it begins with. */
const PACKINGS: readonly (readonly [string, string])[] = [
  ["\x1f\x8b", "what gzip makes: unpack it first, as in gzip -dc"],
  ["(\xb5\x2f\xfd", "what zstd makes: unpack it first, as in zstd -dc"],
  ["age-", "what age makes: decrypt it first, as in age -d"],
];

function packedBy(text: string): string | undefined {
  return PACKINGS.find(([beginning]) => text.startsWith(beginning))?.[1];
}

/** Parses magic and version, the first 9 bytes; undefined where they are too few. @throws ReplicaError BAD_PAYLOAD. */
export function parsePreamble(head: Uint8Array): Pick<RdbHeader, "magic" | "version"> | undefined {
  const text = latin1(head.subarray(0, PREAMBLE_BYTES));
  const magic = MAGICS.find((known) => known.startsWith(text.slice(0, known.length)));
  if (magic === undefined) {
    throw new ReplicaError("BAD_PAYLOAD", {
      message: `an RDB begins with REDIS or VALKEY, this payload with ${packedBy(text) ?? quote(text)}`,
    });
  }
  if (text.length < PREAMBLE_BYTES) return undefined;
  const digits = text.slice(magic.length);
  const version = Number(digits);
  if (!/^\d+$/.test(digits) || version === 0) {
    throw new ReplicaError("BAD_PAYLOAD", {
      message: `an RDB's version is a number, this one's is ${quote(digits)}`,
    });
  }
  return { magic, version };
}

/** An RDB string and where it ends; `text` is undefined for a compressed one. */
interface RdbString {
  readonly text: string | undefined;
  readonly end: number;
}

function readString(head: Uint8Array, at: number, limitBytes: number): RdbString | undefined {
  const first = head[at];
  if (first === undefined) return undefined;
  if (first >>> 6 === 3) return readEncodedString(head, at, limitBytes);
  const length = readLength(head, at);
  return length && takeBytes(head, length.end, length.value, limitBytes, true);
}

/** Reads a string that isn't a length and bytes ("Redis, rdb.h": RDB_ENC_INT8 and following). */
function readEncodedString(
  head: Uint8Array,
  at: number,
  limitBytes: number,
): RdbString | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const start = at + 1;
  switch (head[at]) {
    case 0xc0:
      if (head.length < start + 1) return undefined;
      return { text: String(view.getInt8(start)), end: start + 1 };
    case 0xc1:
      if (head.length < start + 2) return undefined;
      return { text: String(view.getInt16(start, true)), end: start + 2 };
    case 0xc2:
      if (head.length < start + 4) return undefined;
      return { text: String(view.getInt32(start, true)), end: start + 4 };
    case 0xc3: {
      const compressed = readLength(head, start);
      const plain = compressed && readLength(head, compressed.end);
      return plain && takeBytes(head, plain.end, compressed.value, limitBytes, false);
    }
    default:
      throw badEncoding(head, at);
  }
}

function takeBytes(
  head: Uint8Array,
  start: number,
  length: number,
  limitBytes: number,
  plain: boolean,
): RdbString | undefined {
  const end = start + length;
  if (end > limitBytes) throw tooLong(limitBytes);
  if (end > head.length) return undefined;
  return { text: plain ? utf8(head.subarray(start, end)) : undefined, end };
}

function readLength(head: Uint8Array, at: number): { value: number; end: number } | undefined {
  const first = head[at];
  if (first === undefined) return undefined;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (first < 0x40) return { value: first, end: at + 1 };
  if (first < 0x80) {
    if (head.length < at + 2) return undefined;
    return { value: view.getUint16(at) & 0x3fff, end: at + 2 };
  }
  if (first === 0x80) {
    if (head.length < at + 5) return undefined;
    return { value: view.getUint32(at + 1), end: at + 5 };
  }
  if (first === 0x81) {
    if (head.length < at + 9) return undefined;
    return { value: Number(view.getBigUint64(at + 1)), end: at + 9 };
  }
  throw badEncoding(head, at);
}

function badEncoding(head: Uint8Array, at: number): ReplicaError {
  return new ReplicaError("BAD_PAYLOAD", {
    message: `an auxiliary field of the RDB is malformed: no string begins with 0x${head[at]!.toString(16)} (byte ${at})`,
  });
}

function tooLong(limitBytes: number): ReplicaError {
  return new ReplicaError("BAD_PAYLOAD", {
    message: `the auxiliary fields of the RDB take more than ${limitBytes} bytes`,
  });
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function utf8(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}

function quote(text: string): string {
  return `'${printableAscii(text)}'`;
}
