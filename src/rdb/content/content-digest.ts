import type { RdbFormat } from "../releases.ts";
import { LZF } from "../values/length.ts";
import { LzfStream } from "../values/lzf.ts";
import type { PackedKind } from "../values/packed.ts";
import { contentError } from "./content-error.ts";
import { OrderedDigest, UnorderedDigest } from "./digest.ts";
import { eachEntry } from "./packed-entries.ts";
import { digestStream, streamVersion } from "./stream-content.ts";
import { ValueBytes } from "./value-bytes.ts";

/** A digest of what a value holds, however it is encoded. */
export interface ContentDigest {
  /**
   * One or more digests, each of DIGEST_BYTES: what more than the first one says is known from some version of the form on,
   * and counts where both values have it.
   */
  readonly digest: Uint8Array;
  /** Whether it is one of the bytes in the RDB: the value's form isn't known well enough, as with a module's. */
  readonly isOfBytes: boolean;
}

/** Whether two digests are of values that hold the same. */
export function isSameContent(one: Uint8Array, other: Uint8Array): boolean {
  const common = Math.min(one.length, other.length);
  return Buffer.compare(one.subarray(0, common), other.subarray(0, common)) === 0;
}

/** Digests what values hold, one after the other. */
export class ContentDigester {
  readonly #digest = new OrderedDigest();

  /**
   * Digests what a value holds, so that two values have the same digest exactly where no client could tell them apart: the
   * order of a set's members or a hash's fields doesn't count, nor how it is encoded or compressed, nor the server's version.
   * The times at which fields of a hash expire do count, and so do a stream's groups.
   * @param value as it stands in the RDB behind type and key.
   * @throws ReplicaError BAD_PAYLOAD for one that is malformed, or is of a form that can't be compared.
   */
  digest({ magic }: Pick<RdbFormat, "magic">, opcode: number, value: Uint8Array): ContentDigest {
    const digest = this.#digest;
    digest.reset();
    const bytes = new ValueBytes(value);
    const isKnown = opcode <= LAST_COMMON || magic === "REDIS";
    const version = isKnown ? streamVersion(opcode) : undefined;
    if (version !== undefined) {
      return whole(bytes, Buffer.concat(digestStream(bytes, version, digest)));
    }
    const form = formOf(magic, opcode);
    if (form === "template") {
      throw contentError(
        `a hash whose field names stand elsewhere in the RDB (type ${opcode}) can't be compared`,
      );
    }
    if (form === undefined) {
      digest.number(opcode);
      digest.add(value);
      return { digest: digest.finish(), isOfBytes: true };
    }
    return whole(bytes, form(bytes, digest));
  }
}

function whole(bytes: ValueBytes, digest: Uint8Array): ContentDigest {
  if (!bytes.isAtEnd) throw contentError("a value is malformed: bytes are left at its end");
  return { digest, isOfBytes: false };
}

/** Digests what a value of one form holds. */
type Form = (value: ValueBytes, digest: OrderedDigest) => Uint8Array;

/** Redis and Valkey number types alike up to here ("Redis, rdb.h": RDB_TYPE_…). */
const LAST_COMMON = 21;

const COMMON: Readonly<Record<number, Form>> = {
  0: text,
  1: (value, digest) => {
    for (let left = value.length(); left > 0; left--) digest.add(value.string());
    return digest.finish();
  },
  2: unordered((value, digest) => digest.add(value.string())),
  3: unordered((value, digest) => {
    digest.add(value.string());
    score(textScore(value), digest);
  }),
  4: unordered((value, digest) => field(digest, value.string(), value.string())),
  5: unordered((value, digest) => {
    digest.add(value.string());
    score(value.double(), digest);
  }),
  9: packed("zipmap", 2, hashEntry),
  10: (value, digest) => list(value, digest, 1),
  11: packed("intset", 1, setEntry),
  12: packed("ziplist", 2, zsetEntry),
  13: packed("ziplist", 2, hashEntry),
  14: (value, digest) => list(value, digest, value.length()),
  16: packed("listpack", 2, hashEntry),
  17: packed("listpack", 2, zsetEntry),
  18: quicklist,
  20: packed("listpack", 1, setEntry),
};

const REDIS: Readonly<Record<number, Form | "template">> = {
  22: unordered((value, digest) => {
    const expiresAtMs = BigInt(value.length());
    field(digest, value.string(), value.string(), expiresAtMs);
  }),
  23: packed("listpack", 3, expiringEntry),
  24: (value, digest) => {
    const earliestMs = value.int64();
    // 0: it doesn't expire; else its distance from the earliest one, and one.
    return unordered((each, into) => {
      const distance = BigInt(each.length());
      const expiresAtMs = distance === 0n ? 0n : earliestMs + distance - 1n;
      field(into, each.string(), each.string(), expiresAtMs);
    })(value, digest);
  },
  25: (value, digest) => {
    value.int64();
    return packed("listpack", 3, expiringEntry)(value, digest);
  },
  30: "template",
  32: "template",
};

const VALKEY: Readonly<Record<number, Form>> = {
  22: unordered((value, digest) => {
    const [name, content, expiresAtMs] = [value.string(), value.string(), value.int64()];
    // -1: it doesn't expire.
    field(digest, name, content, expiresAtMs < 0n ? 0n : expiresAtMs);
  }),
};

function formOf(magic: RdbFormat["magic"], opcode: number): Form | "template" | undefined {
  return COMMON[opcode] ?? (magic === "VALKEY" ? VALKEY : REDIS)[opcode];
}

/** A compressed string that is longer is undone piece by piece: else it would be held twice, and may have 512 MB. */
const HELD_BYTES = 64 * 1024;

function text(value: ValueBytes, digest: OrderedDigest): Uint8Array {
  const { first, bytes, plainBytes } = value.peekString();
  if (first !== LZF || plainBytes <= HELD_BYTES) {
    digest.add(value.string());
    return digest.finish();
  }
  value.stringHead();
  digest.number(plainBytes);
  const lzf = new LzfStream();
  const isSound = lzf.push(value.take(bytes), 0, bytes, (piece, from, to) =>
    digest.bytes(piece.subarray(from, to)),
  );
  if (!isSound || !lzf.isWhole || lzf.bytes !== plainBytes) {
    throw contentError("a compressed string is malformed");
  }
  return digest.finish();
}

function unordered(each: (value: ValueBytes, digest: OrderedDigest) => void): Form {
  return (value, digest) => {
    const sum = new UnorderedDigest();
    for (let left = value.length(); left > 0; left--) {
      each(value, digest);
      digest.finishInto(sum);
    }
    return sum.finish(digest);
  };
}

/** A value whose elements consist of so many packed entries, and in which their order doesn't count. */
function packed(
  kind: PackedKind,
  perElement: number,
  add: (digest: OrderedDigest, entries: readonly Uint8Array[]) => void,
): Form {
  return (value, digest) => {
    const sum = new UnorderedDigest();
    let entries: Uint8Array[] = [];
    eachEntry(kind, value.string(), (entry) => {
      entries.push(entry);
      if (entries.length < perElement) return;
      add(digest, entries);
      digest.finishInto(sum);
      entries = [];
    });
    if (entries.length > 0) throw contentError(`a ${kind} ends within an element`);
    return sum.finish(digest);
  };
}

function setEntry(digest: OrderedDigest, [member]: readonly Uint8Array[]): void {
  digest.add(member!);
}

function zsetEntry(digest: OrderedDigest, [member, points]: readonly Uint8Array[]): void {
  digest.add(member!);
  score(parsedScore(points!), digest);
}

function hashEntry(digest: OrderedDigest, [name, content]: readonly Uint8Array[]): void {
  field(digest, name!, content!);
}

function expiringEntry(digest: OrderedDigest, entries: readonly Uint8Array[]): void {
  const [name, content, time] = entries;
  const expiresAt = latin1(time!);
  if (!/^-?\d{1,20}$/.test(expiresAt)) throw contentError("the expiry of a field is malformed");
  field(digest, name!, content!, BigInt(expiresAt));
}

/** @param expiresAtMs Unix time; 0: it doesn't expire. */
function field(digest: OrderedDigest, name: Uint8Array, content: Uint8Array, expiresAtMs = 0n) {
  digest.add(name);
  digest.add(content);
  digest.add(Buffer.from(String(expiresAtMs)));
}

/** So many nodes of packed items. */
function list(value: ValueBytes, digest: OrderedDigest, nodes: number): Uint8Array {
  for (let left = nodes; left > 0; left--) {
    eachEntry("ziplist", value.string(), (item) => digest.add(item));
  }
  return digest.finish();
}

/* What a node of a quicklist is ("Redis, quicklist.h"). */
const PLAIN_NODE = 1;
const PACKED_NODE = 2;

function quicklist(value: ValueBytes, digest: OrderedDigest): Uint8Array {
  for (let nodes = value.length(); nodes > 0; nodes--) {
    const container = value.length();
    if (container === PLAIN_NODE) digest.add(value.string());
    else if (container === PACKED_NODE)
      eachEntry("listpack", value.string(), (item) => digest.add(item));
    else throw contentError(`no node of a list is of kind ${container}`);
  }
  return digest.finish();
}

/** A packed one has lost the sign of zero, so it doesn't count. */
function score(points: number, digest: OrderedDigest): void {
  digest.number(points === 0 ? 0 : points);
}

/** A length of one byte and a number in digits; 253 to 255 stand for no number and the infinite ones. */
function textScore(value: ValueBytes): number {
  const length = value.take(1)[0]!;
  if (length === 254) return Infinity;
  if (length === 255) return -Infinity;
  return parsedScore(value.take(length));
}

const INFINITE: Readonly<Record<string, number>> = { inf: Infinity, "-inf": -Infinity };

function parsedScore(bytes: Uint8Array): number {
  const digits = latin1(bytes);
  const points = INFINITE[digits] ?? (digits === "" ? NaN : Number(digits));
  if (Number.isNaN(points)) throw contentError("a score is no number");
  return points;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
