import type { PackedKind } from "../values/packed.ts";
import { PACKED_HEAD_BYTES } from "../values/packed.ts";
import { contentError } from "./content-error.ts";

/** Takes an entry: the bytes that it stands for, numbers in digits. A view, valid until it returns. */
export type TakeEntry = (entry: Uint8Array) => void;

/**
 * Hands on the entries of a packed value in their order ("Redis, listpack.c, ziplist.c, intset.c, zipmap.c"); fields and
 * values of a hash are two.
 * @param bytes all of it.
 * @throws ReplicaError BAD_PAYLOAD.
 */
export function eachEntry(kind: PackedKind, bytes: Uint8Array, take: TakeEntry): void {
  if (bytes.length < PACKED_HEAD_BYTES[kind]) throw malformed(kind);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    READERS[kind](bytes, view, take);
  } catch (cause) {
    // A view reports so what lies beyond its end.
    if (cause instanceof RangeError) throw malformed(kind);
    throw cause;
  }
}

type Reader = (bytes: Uint8Array, view: DataView, take: TakeEntry) => void;

const READERS: Readonly<Record<PackedKind, Reader>> = { listpack, ziplist, intset, zipmap };

const END = 0xff;

function listpack(bytes: Uint8Array, view: DataView, take: TakeEntry): void {
  for (let at = PACKED_HEAD_BYTES.listpack; view.getUint8(at) !== END;) {
    const begin = at;
    const head = bytes[at]!;
    if (head < 0x80) {
      take(digits(head));
      at += 1;
    } else if (head < 0xc0) {
      at = string(bytes, at + 1, head & 0x3f, take);
    } else if (head < 0xe0) {
      const low = view.getUint8(at + 1);
      const number = ((head & 0x1f) << 8) | low;
      // 13 bits with a sign.
      take(digits(number >= 4096 ? number - 8192 : number));
      at += 2;
    } else if (head < 0xf0) {
      at = string(bytes, at + 2, ((head & 0x0f) << 8) | view.getUint8(at + 1), take);
    } else if (head === 0xf0) {
      at = string(bytes, at + 5, view.getUint32(at + 1, true), take);
    } else {
      const width = head === 0xf1 ? 2 : head === 0xf2 ? 3 : head === 0xf3 ? 4 : 8;
      if (head > 0xf4) throw malformed("listpack");
      take(integer(view, at + 1, width));
      at += 1 + width;
    }
    at += backBytes(at - begin);
  }
}

/** How long the length behind an entry is, which is for reading backwards. */
function backBytes(entryBytes: number): number {
  if (entryBytes <= 127) return 1;
  if (entryBytes < 16383) return 2;
  if (entryBytes < 2097151) return 3;
  return entryBytes < 268435455 ? 4 : 5;
}

function ziplist(bytes: Uint8Array, view: DataView, take: TakeEntry): void {
  for (let at = PACKED_HEAD_BYTES.ziplist; view.getUint8(at) !== END;) {
    at += bytes[at] === 0xfe ? 5 : 1;
    const head = view.getUint8(at);
    if (head < 0x40) at = string(bytes, at + 1, head, take);
    else if (head < 0x80) {
      at = string(bytes, at + 2, ((head & 0x3f) << 8) | view.getUint8(at + 1), take);
    } else if (head === 0x80) at = string(bytes, at + 5, view.getUint32(at + 1), take);
    else if (head >= 0xf1 && head <= 0xfd) {
      take(digits((head & 0x0f) - 1));
      at += 1;
    } else {
      const width = ZIPLIST_WIDTHS[head];
      if (width === undefined) throw malformed("ziplist");
      take(integer(view, at + 1, width));
      at += 1 + width;
    }
  }
}

/** The bytes of a ziplist's number, by what stands before it. */
const ZIPLIST_WIDTHS: Readonly<Record<number, number>> = {
  0xc0: 2,
  0xd0: 4,
  0xe0: 8,
  0xf0: 3,
  0xfe: 1,
};

function intset(_: Uint8Array, view: DataView, take: TakeEntry): void {
  const width = view.getUint32(0, true);
  if (width !== 2 && width !== 4 && width !== 8) throw malformed("intset");
  const count = view.getUint32(4, true);
  for (let place = 0; place < count; place++) {
    take(integer(view, PACKED_HEAD_BYTES.intset + place * width, width));
  }
}

function zipmap(bytes: Uint8Array, view: DataView, take: TakeEntry): void {
  let isValue = false;
  for (let at = PACKED_HEAD_BYTES.zipmap; view.getUint8(at) !== END; isValue = !isValue) {
    const isLong = bytes[at] === 0xfe;
    const length = isLong ? view.getUint32(at + 1, true) : bytes[at]!;
    at += isLong ? 5 : 1;
    // Behind a value some bytes may be free.
    const free = isValue ? view.getUint8(at) : 0;
    at = string(bytes, isValue ? at + 1 : at, length, take) + free;
  }
}

/** @returns where it ends. */
function string(bytes: Uint8Array, at: number, length: number, take: TakeEntry): number {
  const end = at + length;
  if (end > bytes.length) throw new RangeError("beyond the end");
  take(bytes.subarray(at, end));
  return end;
}

/** A number with a sign, little-endian, as digits. */
function integer(view: DataView, at: number, width: number): Uint8Array {
  switch (width) {
    case 1:
      return digits(view.getInt8(at));
    case 2:
      return digits(view.getInt16(at, true));
    case 3:
      return digits(
        (view.getUint8(at) | (view.getUint8(at + 1) << 8)) + view.getInt8(at + 2) * 65536,
      );
    case 4:
      return digits(view.getInt32(at, true));
    default:
      return digits(view.getBigInt64(at, true));
  }
}

function digits(number: number | bigint): Uint8Array {
  return Buffer.from(String(number));
}

function malformed(kind: PackedKind): Error {
  return contentError(`a ${kind} is malformed`);
}
