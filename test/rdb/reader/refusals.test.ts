import { describe, expect, test } from "bun:test";
import type { RdbReaderOptions } from "../../../src/rdb/reader/entry.ts";
import { RdbError } from "../../../src/rdb/reader/rdb-error.ts";
import { RdbReader } from "../../../src/rdb/reader/rdb-reader.ts";
import { errorOf } from "../../support/error-of.ts";
import {
  compressed,
  int,
  intset,
  len,
  listpack,
  little,
  lzf,
  raw,
  rdbOf,
  str,
  type Text,
  ziplist,
  zipmap,
} from "../../support/rdb-bytes.ts";

const MIB = 1024 * 1024;
/** What a refusal may take besides what was there before: the buffers of a reader. */
const ROOM_BYTES = 16 * MIB;

function readAll(rdb: Uint8Array, options: RdbReaderOptions = {}, isWanted = false): number {
  let keys = 0;
  const reader = new RdbReader({ entry: () => keys++, wants: () => isWanted }, options);
  reader.push(rdb);
  reader.finish();
  return keys;
}

interface Refusal {
  readonly name: string;
  readonly format?: string;
  readonly parts: readonly (number | Text)[];
  readonly says: RegExp;
  /** Where in `parts`; the magic stands before. */
  readonly byte: number;
  readonly options?: RdbReaderOptions;
  readonly isWanted?: boolean;
}

/** A key named "k" of this type. */
const key = (type: number, ...value: (number | Text)[]): Buffer => raw(type, str("k"), ...value);
/** Where the value of such a key begins. */
const VALUE = 3;
const ID = raw(0x81, Buffer.alloc(8, 77));
const huge = len(2n ** 60n, 9);
/** 200 bytes that claim to have been 4 GB. */
const bomb = raw(0xc3, len(200), len(2 ** 32 - 1, 5), Buffer.alloc(200, 0xff));

/** A listpack that says that it has 50 bytes, and ends before. */
const SHORT = compressed(raw(little(50, 4), little(65_535, 2), 5, 1, 6, 1, 0xff));

const REFUSALS: readonly Refusal[] = [
  {
    name: "an opcode that nobody knows",
    parts: [0xf0],
    says: /the opcode 0xf0 is unknown .*REDIS0011/,
    byte: 0,
  },
  {
    name: "a type that was never given",
    parts: [key(0, str("v")), key(8, str("v"))],
    says: /the opcode 0x08 is unknown/,
    byte: 5,
  },
  {
    name: "a type of newer servers",
    parts: [key(40, str("v"))],
    says: /the opcode 0x28 is unknown/,
    byte: 0,
  },
  {
    name: "a type of Redis's in an RDB of Valkey's",
    format: "VALKEY080",
    parts: [key(24, str("v"))],
    says: /0x18 is unknown .*VALKEY080/,
    byte: 0,
  },
  {
    name: "a template in an RDB of Valkey's",
    format: "VALKEY080",
    parts: [0xf2, 0, 0],
    says: /0xf2 is unknown/,
    byte: 0,
  },
  {
    name: "functions of 7.0's candidates",
    parts: [0xf6, str("x")],
    says: /0xf6 is unknown/,
    byte: 0,
  },
  {
    name: "a module's value of the old kind",
    parts: [key(6, ID)],
    says: /a module's value of the old kind \(opcode 0x06\)/,
    byte: 0,
  },
  {
    name: "a module's opcode that nobody knows",
    parts: [key(7, ID, 9)],
    says: /opcode 9 /,
    byte: VALUE + 9,
  },
  {
    name: "a module without an id",
    parts: [key(7, len(5), 0)],
    says: /no module has such an id/,
    byte: VALUE,
  },
  {
    name: "a key that begins like no string",
    parts: [0, 0xc7],
    says: /no string begins with 0xc7/,
    byte: 1,
  },
  {
    name: "a value that begins like no string",
    parts: [key(0, 0xc4)],
    says: /begins with 0xc4/,
    byte: VALUE,
  },
  {
    name: "a length that begins like none",
    parts: [key(4, 0x82)],
    says: /begins with 0x82/,
    byte: VALUE,
  },
  {
    name: "a database without a number",
    parts: [0xfe, 0xc0, 1],
    says: /no length begins/,
    byte: 0,
  },
  {
    name: "a database that can't be",
    parts: [0xfe, huge],
    says: /a database has an impossible number/,
    byte: 0,
  },
  {
    name: "a score that is no number",
    format: "REDIS0003",
    parts: [key(3, 1, str("m"), 253)],
    says: /a score is no number/,
    byte: VALUE + 3,
  },
  {
    name: "a node of no kind",
    parts: [key(18, 1, 3, str("x"))],
    says: /no node of a list is of kind 3/,
    byte: VALUE + 1,
  },
  {
    name: "an item of an array of no kind",
    parts: [key(28, 1, 0, 0, 4)],
    says: /no item of an array is of kind 4/,
    byte: VALUE + 3,
  },
  {
    name: "an insertion point of no kind",
    parts: [key(28, 1, 2)],
    says: /insertion point/,
    byte: VALUE + 1,
  },
  {
    name: "a template that isn't there",
    parts: [key(32, 5)],
    says: /no template of a hash has the id 5/,
    byte: VALUE,
  },
  {
    name: "a listpack that is a number",
    parts: [key(16, int(5, 1))],
    says: /no length begins with 0xc0/,
    byte: VALUE,
  },
  {
    name: "a listpack shorter than its head",
    parts: [key(16, str("abc"))],
    says: /a listpack of 3 bytes is malformed/,
    byte: VALUE,
  },
  {
    name: "a listpack that says another length",
    parts: [key(16, str(raw(listpack(["a", "b"]), 0xff)))],
    says: /listpack of 14 bytes is malformed/,
    byte: VALUE,
  },
  {
    name: "a ziplist that says another length",
    parts: [key(13, str(raw(ziplist(["a", "b"]), 0)))],
    says: /ziplist of 18 bytes is malformed/,
    byte: VALUE,
  },
  {
    name: "an intset that says another count",
    parts: [key(11, str(raw(intset(2, [1]), 0, 0)))],
    says: /intset of 12 bytes is malformed/,
    byte: VALUE,
  },
  {
    name: "an intset of 3 bytes each",
    parts: [key(11, str(raw(little(3, 4), little(1, 4), 1, 2, 3)))],
    says: /intset of 11 bytes/,
    byte: VALUE,
  },
  {
    name: "a hash of three entries",
    parts: [key(16, str(listpack(["a", "b", "c"])))],
    says: /3 packed entries are no whole number/,
    byte: VALUE + 1,
  },
  {
    name: "a listpack without its end",
    parts: [key(20, str(raw(little(9, 4), little(65_535, 2), 5, 1, 6)))],
    says: /listpack of 9 bytes/,
    byte: VALUE + 1,
  },
  {
    name: "a listpack with an end in between",
    parts: [key(20, str(raw(little(9, 4), little(65_535, 2), 0xff, 5, 1)))],
    says: /listpack of 9 bytes/,
    byte: VALUE + 1,
  },
  {
    name: "a listpack with an entry of no kind",
    parts: [key(20, str(raw(little(9, 4), little(65_535, 2), 0xf7, 5, 0xff)))],
    says: /listpack of 9 bytes/,
    byte: VALUE + 1,
  },
  {
    name: "a ziplist with an entry of no kind",
    parts: [key(10, str(raw(little(14, 4), little(10, 4), little(65_535, 2), 0, 0x90, 0, 0xff)))],
    says: /ziplist of 14 bytes/,
    byte: VALUE + 1,
  },
  {
    name: "a zipmap that ends after a field",
    parts: [key(9, str(raw(254, 1, "a", 0xff)))],
    says: /zipmap of 4 bytes/,
    byte: VALUE + 1,
  },
  {
    name: "a zipmap without an end",
    parts: [
      key(9, str(zipmap(Array.from({ length: 300 }, () => ["f", "v"] as const)).subarray(0, -1))),
    ],
    says: /zipmap of 1801 bytes|zipmap of 1501 bytes/,
    byte: VALUE + 2,
  },
  {
    name: "a compressed listpack that reaches back before its beginning",
    parts: [key(16, raw(0xc3, len(4), len(30), 0xe0, 5, 200, 1))],
    says: /listpack of 30 bytes is malformed/,
    byte: VALUE,
  },
  {
    name: "a compressed listpack that makes less than it claims",
    parts: [key(16, raw(0xc3, len(SHORT.length), len(50), SHORT))],
    says: /listpack of 50 bytes is malformed/,
    byte: VALUE + 3,
  },
  {
    name: "a name that claims to have been 4 GB",
    parts: [0, bomb],
    says: /a key of 4294967295 bytes is longer than|a compressed string of 4294967295 bytes is malformed/,
    byte: 1,
  },
  {
    name: "a listpack that claims so",
    parts: [key(16, bomb)],
    says: /listpack of 4294967295 bytes is malformed/,
    byte: VALUE,
  },
  {
    name: "a name that is compressed wrongly",
    parts: [0, raw(0xc3, len(3), len(20), 0x20, 9, 9)],
    says: /a compressed string of 20 bytes is malformed/,
    byte: 1,
  },
  {
    name: "a key that is longer than may be",
    parts: [0, str("k".repeat(101)), str("v")],
    says: /a key of 101 bytes is longer than the 100 that are held/,
    byte: 1,
    options: { maxKeyBytes: 100 },
  },
  {
    name: "a short key that is longer than may be",
    parts: [0, str("k".repeat(11)), str("a value".repeat(3))],
    says: /a key of 11 bytes is longer than the 10 that are held/,
    byte: 1,
    options: { maxKeyBytes: 10 },
  },
  {
    name: "a compressed key that is longer",
    parts: [0, lzf("k".repeat(101)), str("v")],
    says: /a key of 101 bytes is longer/,
    byte: 1,
    options: { maxKeyBytes: 100 },
  },
  {
    name: "a value that is longer than may be held",
    parts: [key(0, str("v".repeat(101)))],
    says: /a value is longer than the 100 bytes that are held/,
    byte: VALUE + 103,
    options: { maxValueBytes: 100 },
    isWanted: true,
  },
  {
    name: "more after the end",
    parts: [0xff, Buffer.alloc(8)],
    says: /the RDB goes on after its end/,
    byte: 9,
  },
];

describe("refuses", () => {
  test.each(REFUSALS)("$name", ({ format = "REDIS0011", parts, says, byte, options, isWanted }) => {
    const rdb = rdbOf(format, ...parts);
    const error = errorOf(() => readAll(rdb, options, isWanted));
    expect(error).toBeInstanceOf(RdbError);
    expect(error).toMatchObject({ code: "BAD_PAYLOAD", retry: "never", byte: 9 + byte, format });
    expect(error.message).toMatch(says);
    expect(error.message).toContain(`byte ${9 + byte}`);
  });

  test("what begins like no RDB", () => {
    for (const head of ["REDIS00x1", "redis0011", "VALKEYabc", "\0\0\0\0\0\0\0\0\0", "REDIS0000"]) {
      const error = errorOf(() => readAll(raw(head, 0xff)));
      expect(error).toBeInstanceOf(RdbError);
      expect(error).toMatchObject({ code: "BAD_PAYLOAD", byte: 0, format: undefined });
    }
  });

  test("a flipped bit, unless told not to look", () => {
    const rdb = rdbOf("REDIS0011", key(0, str("value")), key(0, str("other")));
    rdb[14]! ^= 1;
    const error = errorOf(() => readAll(rdb));
    expect(error).toBeInstanceOf(RdbError);
    expect(error).toMatchObject({ code: "BAD_CHECKSUM" });
    expect(readAll(rdb, { checksum: false })).toBe(2);
  });

  test("a checksum of 0 is none", () => {
    const rdb = raw("REDIS0011", key(0, str("value")), 0xff, Buffer.alloc(8));
    expect(readAll(rdb)).toBe(1);
  });
});

describe("without taking memory or time by what is claimed", () => {
  const claims: Record<string, Buffer> = {
    "a key of 2^60 bytes": raw(0, huge),
    "a value of 2^60 bytes": key(0, huge, "v"),
    "a list of 2^60 items": key(1, huge, str("v")),
    "a hash of 2^60 fields": key(4, huge, str("v")),
    "a stream of 2^60 nodes": key(15, huge),
    "a stream of 2^60 groups": key(15, 0, huge, huge, huge, huge),
    "a list of 2^60 nodes": key(18, huge, 2),
    "an array of 2^60 items": key(28, huge, 0),
    "a template of 2^60 fields": raw(0xf2, 0, huge, str("f")),
    "metadata of 2^60 classes": raw(0xf3, huge, little(1, 4)),
    "a library of functions of 2^60 bytes": raw(0xf5, huge, "x"),
    "a field of 2^60 bytes": raw(0xfa, huge, "x"),
    "a compressed listpack of 2^60 bytes": key(16, raw(0xc3, huge, huge)),
  };
  for (const [name, part] of Object.entries(claims)) {
    test(name, () => {
      const rdb = raw("REDIS0015", part, Buffer.alloc(5 * MIB, 0x41));
      const handlers = {
        entry: () => undefined,
        wants: () => false,
        functionLibrary: () => undefined,
      };
      const before = process.memoryUsage().arrayBuffers;
      const reader = new RdbReader(handlers, { maxKeyBytes: 6 * MIB, maxValueBytes: 6 * MIB });
      let most = 0;
      const error = errorOf(() => {
        for (let at = 0; at < rdb.length; at += 64 * 1024) {
          reader.push(rdb.subarray(at, at + 64 * 1024));
          most = Math.max(most, process.memoryUsage().arrayBuffers - before);
        }
        reader.finish();
      });
      expect(error).toBeInstanceOf(RdbError);
      expect(most).toBeLessThan(ROOM_BYTES);
    });
  }

  test("a value of 512 MB passes through, and a wanted one is refused at its limit", () => {
    const head = raw("REDIS0011", 0, str("k"), len(512 * MIB, 5));
    const chunk = Buffer.alloc(MIB, 0x61);
    const pass = (isWanted: boolean) => {
      let value = 0;
      const before = process.memoryUsage().arrayBuffers;
      const entry = (entry: { readonly stringBytes: number | undefined }) => {
        value = entry.stringBytes!;
      };
      const reader = new RdbReader({ entry, wants: () => isWanted }, { maxValueBytes: MIB });
      reader.push(head);
      for (let n = 0; n < 512; n++) reader.push(chunk);
      reader.push(raw(0xff, Buffer.alloc(8)));
      expect(reader.finish().bytes).toBe(head.length + 512 * MIB + 9);
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(ROOM_BYTES);
      return value;
    };
    expect(pass(false)).toBe(512 * MIB);
    expect(errorOf(() => pass(true))).toMatchObject({
      code: "BAD_PAYLOAD",
      byte: head.length + MIB,
    });
  });
});
