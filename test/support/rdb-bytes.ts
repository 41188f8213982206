import { Crc64 } from "../../src/rdb/crc64.ts";

/*
 * RDBs written by hand, byte for byte as the format demands, for what no server at hand writes: independent of the
 * program's own reading of it.
 */

export type Text = string | Uint8Array;

const toBytes = (text: Text): Buffer =>
  typeof text === "string" ? Buffer.from(text, "latin1") : Buffer.from(text);

/** Bytes by their numbers, and others as they are. */
export function raw(...parts: (number | Text)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === "number" ? Buffer.from([part]) : toBytes(part))),
  );
}

/** A number of so many bytes, little-endian. */
export function little(value: number | bigint, bytes: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigInt64LE(BigInt.asIntN(64, BigInt(value)));
  return out.subarray(0, bytes);
}

/** A length in its shortest form, or in the one that is asked for: of 1, 2, 5 or 9 bytes. */
export function len(value: number | bigint, form?: 1 | 2 | 5 | 9): Buffer {
  const shortest = value < 64 ? 1 : value < 16_384 ? 2 : value < 2 ** 32 ? 5 : 9;
  const out = Buffer.alloc(9);
  switch (form ?? shortest) {
    case 1:
      return Buffer.from([Number(value)]);
    case 2:
      return Buffer.from([0x40 | (Number(value) >>> 8), Number(value) & 0xff]);
    case 5:
      out[0] = 0x80;
      out.writeUInt32BE(Number(value), 1);
      return out.subarray(0, 5);
    case 9:
      out[0] = 0x81;
      out.writeBigUInt64BE(BigInt(value), 1);
      return out;
  }
}

/** A string as a length and bytes. */
export function str(text: Text): Buffer {
  const bytes = toBytes(text);
  return Buffer.concat([len(bytes.length), bytes]);
}

/** A string that is a number of 1, 2 or 4 bytes. */
export function int(value: number, bytes: 1 | 2 | 4): Buffer {
  return raw(bytes === 1 ? 0xc0 : bytes === 2 ? 0xc1 : 0xc2, little(value, bytes));
}

/** LZF: what stood before at most 8 KiB ago is named by distance and length, all else as it is. */
export function compressed(text: Text): Buffer {
  const bytes = toBytes(text);
  const out: number[] = [];
  const seen = new Map<number, number>();
  let literals: number[] = [];
  const flush = () => {
    if (literals.length > 0) out.push(literals.length - 1, ...literals);
    literals = [];
  };
  for (let at = 0; at < bytes.length;) {
    const three = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    const source = at + 2 < bytes.length ? seen.get(three) : undefined;
    seen.set(three, at);
    if (source === undefined || at - source > 8192) {
      literals.push(bytes[at]!);
      if (literals.length === 32) flush();
      at++;
      continue;
    }
    let length = 3;
    while (
      length < 264 &&
      at + length < bytes.length &&
      bytes[source + length] === bytes[at + length]
    )
      length++;
    flush();
    const [far, coded] = [at - source - 1, length - 2];
    if (coded < 7) out.push((coded << 5) | (far >>> 8));
    else out.push((7 << 5) | (far >>> 8), coded - 7);
    out.push(far & 0xff);
    at += length;
  }
  flush();
  return Buffer.from(out);
}

/** A compressed string. */
export function lzf(text: Text): Buffer {
  const packed = compressed(text);
  return Buffer.concat([raw(0xc3), len(packed.length), len(toBytes(text).length), packed]);
}

function backLength(bytes: number): Buffer {
  const parts: number[] = [];
  let left = bytes;
  do {
    parts.unshift(left & 127);
    left >>>= 7;
  } while (left > 0);
  return Buffer.from(parts.map((part, place) => (place === 0 ? part : part | 128)));
}

function listpackEntry(entry: Text | number | bigint): Buffer {
  if (typeof entry === "string" || entry instanceof Uint8Array) {
    const bytes = toBytes(entry);
    const { length } = bytes;
    if (length < 64) return raw(0x80 | length, bytes);
    if (length < 4096) return raw(0xe0 | (length >>> 8), length & 0xff, bytes);
    return raw(0xf0, little(length, 4), bytes);
  }
  if (entry >= 0 && entry < 128) return raw(Number(entry));
  if (entry >= -4096 && entry < 4096) {
    const bits = Number(entry) & 0x1fff;
    return raw(0xc0 | (bits >>> 8), bits & 0xff);
  }
  for (const [first, bytes] of [
    [0xf1, 2],
    [0xf2, 3],
    [0xf3, 4],
  ] as const) {
    const limit = 2 ** (8 * bytes - 1);
    if (entry >= -limit && entry < limit) return raw(first, little(entry, bytes));
  }
  return raw(0xf4, little(entry, 8));
}

/** A listpack of strings and numbers. @param count what its head says. */
export function listpack(entries: readonly (Text | number | bigint)[], count?: number): Buffer {
  const body = Buffer.concat(
    entries.flatMap((entry) => {
      const bytes = listpackEntry(entry);
      return [bytes, backLength(bytes.length)];
    }),
  );
  const told = count ?? Math.min(entries.length, 65_535);
  return raw(little(body.length + 7, 4), little(told, 2), body, 0xff);
}

function ziplistEntry(entry: Text | number | bigint): Buffer {
  if (typeof entry === "string" || entry instanceof Uint8Array) {
    const bytes = toBytes(entry);
    const { length } = bytes;
    if (length < 64) return raw(length, bytes);
    if (length < 16_384) return raw(0x40 | (length >>> 8), length & 0xff, bytes);
    const big = Buffer.alloc(4);
    big.writeUInt32BE(length);
    return raw(0x80, big, bytes);
  }
  if (entry >= 0 && entry <= 12) return raw(0xf1 + Number(entry));
  for (const [first, bytes] of [
    [0xfe, 1],
    [0xc0, 2],
    [0xf0, 3],
    [0xd0, 4],
  ] as const) {
    const limit = 2 ** (8 * bytes - 1);
    if (entry >= -limit && entry < limit) return raw(first, little(entry, bytes));
  }
  return raw(0xe0, little(entry, 8));
}

/** A ziplist of strings and numbers. @param count what its head says. */
export function ziplist(entries: readonly (Text | number | bigint)[], count?: number): Buffer {
  let before = 0;
  let tail = 10;
  let bytes = 10;
  const parts = entries.map((entry) => {
    const body = ziplistEntry(entry);
    const whole = before < 254 ? raw(before, body) : raw(0xfe, little(before, 4), body);
    tail = bytes;
    bytes += whole.length;
    before = whole.length;
    return whole;
  });
  const told = count ?? Math.min(entries.length, 65_535);
  return raw(little(bytes + 1, 4), little(tail, 4), little(told, 2), ...parts, 0xff);
}

/** A zipmap of fields and values, each value with so many free bytes behind it. */
export function zipmap(pairs: readonly (readonly [Text, Text])[], free = 0): Buffer {
  const length = (bytes: number) => (bytes < 254 ? raw(bytes) : raw(254, little(bytes, 4)));
  const parts = pairs.flatMap(([field, value]) => {
    const [one, other] = [toBytes(field), toBytes(value)];
    return [length(one.length), one, length(other.length), raw(free), other, Buffer.alloc(free)];
  });
  return raw(Math.min(pairs.length, 254), ...parts, 0xff);
}

/** An intset of numbers of 2, 4 or 8 bytes. */
export function intset(width: 2 | 4 | 8, numbers: readonly (number | bigint)[]): Buffer {
  return raw(
    little(width, 4),
    little(numbers.length, 4),
    ...numbers.map((number) => little(number, width)),
  );
}

/** A whole RDB of this format, with its checksum where the format has one. */
export function rdbOf(format: string, ...parts: (number | Text)[]): Buffer {
  const body = raw(format, ...parts, 0xff);
  if (/^REDIS000[1-4]$/.test(format)) return body;
  const crc = new Crc64();
  crc.update(body);
  const sum = Buffer.alloc(8);
  sum.writeBigUInt64LE(crc.value);
  return Buffer.concat([body, sum]);
}
