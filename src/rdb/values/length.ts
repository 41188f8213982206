/** The most bytes of a length, and of the lengths of a compressed string. */
export const MAX_LENGTH_BYTES = 9;

/** The first byte of a string that isn't a length ("Redis, rdb.h": RDB_ENC_INT8 and following). */
export const INT8 = 0xc0;
export const INT16 = 0xc1;
export const INT32 = 0xc2;
export const LZF = 0xc3;

/** Too few bytes are there. */
export const TOO_FEW = -1;
/** No length begins so. */
export const NO_LENGTH = -2;

/** A length that was read, beside where it ends. One that has no exact number is larger than any file. */
export const lengthRead = { value: 0 };

/**
 * Reads a length ("Redis, rdb.c": rdbLoadLenByRef) into `lengthRead`.
 * @param to where the bytes end that are there.
 * @returns where it ends; TOO_FEW or NO_LENGTH.
 */
export function readLength(bytes: Uint8Array, at: number, to: number): number {
  if (at >= to) return TOO_FEW;
  const first = bytes[at]!;
  if (first < 0x40) {
    lengthRead.value = first;
    return at + 1;
  }
  if (first < 0x80) {
    if (at + 2 > to) return TOO_FEW;
    lengthRead.value = ((first & 0x3f) << 8) | bytes[at + 1]!;
    return at + 2;
  }
  if (first === 0x80) {
    if (at + 5 > to) return TOO_FEW;
    lengthRead.value = uint32BE(bytes, at + 1);
    return at + 5;
  }
  if (first === 0x81) {
    if (at + 9 > to) return TOO_FEW;
    lengthRead.value = uint32BE(bytes, at + 1) * 2 ** 32 + uint32BE(bytes, at + 5);
    return at + 9;
  }
  return NO_LENGTH;
}

function uint32BE(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
  );
}

/** What stands before the bytes of a string, as `readStringHead` found it. */
export const stringHead = {
  /** Its first byte. */
  first: 0,
  /** How many bytes follow in the RDB. */
  bytes: 0,
  /** How long the string is; of a number 0. */
  plainBytes: 0,
};

/**
 * Reads what stands before a string's bytes into `stringHead`: its length, that it is a number, or the lengths of a
 * compressed one ("Redis, rdb.c": rdbGenericLoadStringObject).
 * @returns where it ends; TOO_FEW or NO_LENGTH.
 */
export function readStringHead(bytes: Uint8Array, at: number, to: number): number {
  if (at >= to) return TOO_FEW;
  const first = bytes[at]!;
  stringHead.first = first;
  if (first < INT8) {
    const end = readLength(bytes, at, to);
    stringHead.bytes = lengthRead.value;
    stringHead.plainBytes = lengthRead.value;
    return end;
  }
  if (first > LZF) return NO_LENGTH;
  if (first < LZF) {
    stringHead.bytes = first === INT8 ? 1 : first === INT16 ? 2 : 4;
    stringHead.plainBytes = 0;
    return at + 1;
  }
  const middle = readLength(bytes, at + 1, to);
  if (middle < 0) return middle;
  const compressed = lengthRead.value;
  const end = readLength(bytes, middle, to);
  stringHead.bytes = compressed;
  stringHead.plainBytes = lengthRead.value;
  return end;
}

/** The number that a string is kept as: of 1, 2 or 4 bytes, little-endian, with a sign. */
export function readInteger(first: number, bytes: Uint8Array, at: number): number {
  if (first === INT8) return (bytes[at]! << 24) >> 24;
  const low = bytes[at]! | (bytes[at + 1]! << 8);
  if (first === INT16) return (low << 16) >> 16;
  return low | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
