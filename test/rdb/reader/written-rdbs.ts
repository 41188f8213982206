import {
  int,
  intset,
  len,
  listpack,
  little,
  lzf,
  raw,
  str,
  type Text,
  ziplist,
  zipmap,
} from "../../support/rdb-bytes.ts";

/*
 * RDBs written by hand: every type and encoding of every version, with what is to be told of them. "Redis, rdb.c":
 * rdbLoadObject, and each encoding's own file.
 */

/** What is told of a key, without what is undefined. */
interface Told {
  readonly key: string;
  readonly kind: string;
  readonly encoding: string;
  readonly elements?: number;
  readonly stringBytes?: number;
  readonly [more: string]: unknown;
}

export interface Case {
  readonly name: string;
  readonly format: string;
  readonly parts: readonly (number | Text)[];
  readonly told: readonly Told[];
  /** Everything else that handlers hear. */
  readonly events?: readonly unknown[];
  /** The values that are handed on, where that isn't what stands in the RDB. */
  readonly values?: readonly Uint8Array[];
}

/** A key of this type, with its value. */
const key = (type: number, name: Text, ...value: (number | Text)[]): Buffer =>
  raw(type, str(name), ...value);
const text = (name: string, encoding: string, stringBytes: number): Told => ({
  key: name,
  kind: "string",
  encoding,
  stringBytes,
});
const of = (kind: string, encoding: string, elements: number, name = "k"): Told => ({
  key: name,
  kind,
  encoding,
  elements,
});
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const ofNoLru = { idleSeconds: undefined, frequency: undefined };
/** 8 bytes of a time or a double. */
const eight = little(1234n, 8);
const id = Buffer.alloc(16, 7);
/** A module's id: 9 characters of 6 bits each, and 10 bits for the version of its encoding. */
const module = raw(
  0x81,
  Buffer.from(
    [..."ReJSON-RL"]
      .reduce((bits, letter) => (bits << 6n) | BigInt(ALPHABET.indexOf(letter)), 0n)
      .toString(2)
      .padStart(54, "0")
      .concat("0000000011")
      .match(/.{8}/g)!
      .map((bits) => Number.parseInt(bits, 2)),
  ),
);

const single = (name: string, format: string, part: Uint8Array, told: Told): Case => ({
  name,
  format,
  parts: [part],
  told: [told],
});

const STRINGS: Case = {
  name: "strings in every form",
  format: "REDIS0006",
  parts: [
    key(0, "plain", str("hello")),
    key(0, "", str("")),
    key(0, "int8", int(-5, 1)),
    key(0, "int16", int(-12_345, 2)),
    key(0, "int32", int(-2_147_483_648, 4)),
    key(0, "digits", str("9223372036854775807")),
    key(0, "tooLarge", str("9223372036854775808")),
    key(0, "smallest", str("-9223372036854775808")),
    key(0, "tooSmall", str("-9223372036854775809")),
    key(0, "zeros", str("007")),
    key(0, "minus", str("-")),
    key(0, "44", str("x".repeat(44))),
    key(0, "45", str("x".repeat(45))),
    key(0, "14 bits", str("y".repeat(5000))),
    key(0, "32 bits", len(70, 5), "z".repeat(70)),
    key(0, "64 bits", len(20, 9), "z".repeat(20)),
    key(0, "lzf44", lzf("a".repeat(44))),
    key(0, "lzf", lzf("abcd".repeat(500))),
    raw(0, int(42, 1), str("of a number")),
    raw(0, int(-70_000, 4), str("of a large one")),
    raw(0, lzf(`long${"k".repeat(100)}`), str("of a long name")),
    raw(0, len(3, 9), "odd", str("form")),
  ],
  told: [
    text("plain", "embstr", 5),
    text("", "embstr", 0),
    text("int8", "int", 2),
    text("int16", "int", 6),
    text("int32", "int", 11),
    text("digits", "int", 19),
    text("tooLarge", "embstr", 19),
    text("smallest", "int", 20),
    text("tooSmall", "embstr", 20),
    text("zeros", "embstr", 3),
    text("minus", "embstr", 1),
    text("44", "embstr", 44),
    text("45", "raw", 45),
    text("14 bits", "raw", 5000),
    text("32 bits", "raw", 70),
    text("64 bits", "embstr", 20),
    text("lzf44", "embstr", 44),
    text("lzf", "raw", 2000),
    text("42", "embstr", 11),
    text("-70000", "embstr", 14),
    text(`long${"k".repeat(100)}`, "embstr", 14),
    text("odd", "embstr", 4),
  ],
};

const many = Array.from({ length: 66_000 }, (_, n) => (n % 3 === 0 ? `item ${n}` : n * 7));
const wide = [1, "a", 300, "b".repeat(100), 70_000, "c".repeat(5000), -1, 2 ** 40, -(2 ** 20)];

const PACKED: readonly Case[] = [
  single(
    "a list in a ziplist",
    "REDIS0002",
    key(10, "k", str(ziplist(wide))),
    of("list", "ziplist", 9),
  ),
  single(
    "a compressed ziplist",
    "REDIS0006",
    key(13, "k", lzf(ziplist(["a", "x".repeat(99), "b", 2]))),
    of("hash", "ziplist", 2),
  ),
  single(
    "a sorted set in a ziplist",
    "REDIS0006",
    key(12, "k", str(ziplist(["m", "1.5", "n", 2]))),
    of("zset", "ziplist", 2),
  ),
  single(
    "a ziplist whose head can't count",
    "REDIS0006",
    key(10, "k", str(ziplist(many))),
    of("list", "ziplist", 66_000),
  ),
  single(
    "a compressed one",
    "REDIS0006",
    key(10, "k", lzf(ziplist(many))),
    of("list", "ziplist", 66_000),
  ),
  single(
    "a short ziplist that says so too",
    "REDIS0006",
    key(10, "k", str(ziplist(wide, 65_535))),
    of("list", "ziplist", 9),
  ),
  single(
    "a zipmap",
    "REDIS0002",
    key(
      9,
      "k",
      str(
        zipmap([
          ["f", "v"],
          ["g", "w".repeat(300)],
        ]),
      ),
    ),
    of("hash", "zipmap", 2),
  ),
  single(
    "a zipmap whose head can't count, with free bytes",
    "REDIS0002",
    key(
      9,
      "k",
      str(
        zipmap(
          Array.from({ length: 400 }, (_, n) => [`f${n}`, "v".repeat(n % 300)] as const),
          3,
        ),
      ),
    ),
    of("hash", "zipmap", 400),
  ),
  single(
    "an intset of 2 bytes",
    "REDIS0002",
    key(11, "k", str(intset(2, [1, 2, 3]))),
    of("set", "intset", 3),
  ),
  single(
    "an intset of 8 bytes",
    "REDIS0006",
    key(11, "k", str(intset(8, [-(2n ** 63n), 5]))),
    of("set", "intset", 2),
  ),
  single(
    "a compressed intset",
    "REDIS0006",
    key(
      11,
      "k",
      lzf(
        intset(
          4,
          Array.from({ length: 90 }, (_, n) => n),
        ),
      ),
    ),
    of("set", "intset", 90),
  ),
  single(
    "a set in a listpack",
    "REDIS0011",
    key(20, "k", str(listpack(wide))),
    of("set", "listpack", 9),
  ),
  single(
    "a hash in a listpack",
    "REDIS0010",
    key(16, "k", str(listpack(["f", 1, "g", 2]))),
    of("hash", "listpack", 2),
  ),
  single(
    "a sorted set in a listpack",
    "REDIS0010",
    key(17, "k", str(listpack(["m", "1.5"]))),
    of("zset", "listpack", 1),
  ),
  single(
    "a listpack whose head can't count",
    "REDIS0010",
    key(16, "k", str(listpack(many))),
    of("hash", "listpack", 33_000),
  ),
  single(
    "a compressed one, too",
    "REDIS0010",
    key(16, "k", lzf(listpack(many))),
    of("hash", "listpack", 33_000),
  ),
  single(
    "a listpack of entries of every length",
    "REDIS0011",
    key(20, "k", str(listpack(wide, 65_535))),
    of("set", "listpack", 9),
  ),
  single(
    "a hash whose fields expire, of 7.4's candidates",
    "REDIS0012",
    key(23, "k", str(listpack(["f", 1, 0, "g", 2, 5]))),
    of("hash", "listpackex", 2),
  ),
  single(
    "a hash whose fields expire",
    "REDIS0012",
    key(25, "k", eight, str(listpack(["f", 1, 0]))),
    of("hash", "listpackex", 1),
  ),
];

const COUNTED: readonly Case[] = [
  single(
    "a linked list",
    "REDIS0001",
    key(1, "k", len(3), str("a"), int(5, 1), lzf("b".repeat(40))),
    of("list", "linkedlist", 3),
  ),
  single(
    "a set",
    "REDIS0001",
    key(2, "k", len(2), str("a"), str("b".repeat(100))),
    of("set", "hashtable", 2),
  ),
  single(
    "a sorted set with scores as text",
    "REDIS0003",
    key(3, "k", len(3), str("a"), 4, "-1.5", str("b"), 254, str("c"), 255),
    of("zset", "skiplist", 3),
  ),
  single(
    "a sorted set with binary scores",
    "REDIS0008",
    key(5, "k", len(2), str("a"), eight, str("b"), eight),
    of("zset", "skiplist", 2),
  ),
  single(
    "a hash",
    "REDIS0001",
    key(4, "k", len(2), str("f"), str("v"), str("g"), int(9, 2)),
    of("hash", "hashtable", 2),
  ),
  single("an empty hash", "REDIS0001", key(4, "k", len(0)), of("hash", "hashtable", 0)),
  single(
    "a hash whose fields expire, of 7.4's candidates",
    "REDIS0012",
    key(22, "k", len(2), len(0), str("f"), str("v"), len(2 ** 41, 9), str("g"), str("w")),
    of("hash", "hashtable", 2),
  ),
  single(
    "a hash whose fields expire",
    "REDIS0012",
    key(24, "k", eight, len(2), len(0), str("f"), str("v"), len(77), str("g"), str("w")),
    of("hash", "hashtable", 2),
  ),
  single(
    "a hash whose fields expire, of Valkey 9",
    "VALKEY080",
    key(22, "k", len(2), str("f"), str("v"), eight, str("g"), str("w"), eight),
    of("hash", "hashtable", 2),
  ),
  single(
    "a quicklist of ziplists",
    "REDIS0007",
    key(14, "k", len(2), str(ziplist([1, 2])), lzf(ziplist(["x".repeat(99), 4, 5]))),
    of("list", "quicklist", 5),
  ),
  single(
    "a quicklist of 7.0",
    "REDIS0010",
    key(18, "k", len(1), 2, str(listpack([1, 2]))),
    of("list", "quicklist", 2),
  ),
  single(
    "a short list of 7.2",
    "REDIS0011",
    key(18, "k", len(1), 2, str(listpack([1, 2]))),
    of("list", "listpack", 2),
  ),
  single(
    "a list with a plain node",
    "REDIS0011",
    key(18, "k", len(1), 1, str("x".repeat(9000))),
    of("list", "quicklist", 1),
  ),
  single(
    "a list of nodes of both kinds",
    "REDIS0011",
    key(
      18,
      "k",
      len(3),
      2,
      lzf(listpack(["x".repeat(200), 2])),
      1,
      lzf("y".repeat(9000)),
      2,
      str(listpack(wide, 65_535)),
    ),
    of("list", "quicklist", 12),
  ),
];

const node = raw(str(id), str(listpack([1, 2, 3])));
const pending = raw(id, eight, len(3));
const group = (version: number): Buffer =>
  raw(
    raw(str("group"), len(5), len(0), version >= 2 ? len(4) : ""),
    raw(len(2), pending, pending, len(1)),
    raw(str("consumer"), eight, version >= 3 ? eight : "", len(2), id, id),
    version >= 5 ? raw(len(1), id) : "",
  );
const stream = (version: number): Buffer =>
  raw(
    raw(len(2), node, node, len(42), len(9), len(1)),
    version >= 2 ? raw(len(1), len(1), len(0), len(0), len(50)) : "",
    raw(len(2), group(version), group(version)),
    version >= 4
      ? raw(
          raw(len(100), len(100), len(1), str("producer")),
          raw(
            len(2),
            str("iid"),
            len(2 ** 41, 9),
            len(0),
            str("other"),
            len(5),
            len(6),
            len(7),
            len(1),
          ),
        )
      : "",
  );

const OTHERS: readonly Case[] = [
  ...([15, 19, 21, 26, 27] as const).map((type, n) =>
    single(
      `a stream of version ${n + 1}`,
      "REDIS0014",
      key(type, "k", stream(n + 1)),
      of("stream", "stream", 42),
    ),
  ),
  single(
    "an empty stream",
    "REDIS0009",
    key(15, "k", len(0), len(0), len(0), len(0), len(0)),
    of("stream", "stream", 0),
  ),
  single(
    "a module's value",
    "REDIS0009",
    key(
      7,
      "k",
      module,
      1,
      len(5),
      2,
      len(2 ** 40, 9),
      3,
      little(0, 4),
      4,
      eight,
      5,
      str("text"),
      5,
      lzf("t".repeat(99)),
      0,
    ),
    { key: "k", kind: "module", encoding: "raw", module: "ReJSON-RL" },
  ),
  {
    name: "an array",
    format: "REDIS0014",
    parts: [
      key(
        28,
        "k",
        len(4),
        1,
        len(49),
        len(0),
        1,
        eight,
        len(3),
        2,
        eight,
        len(9),
        3,
        str("small"),
        len(70_000),
        0,
        str("long"),
      ),
      key(28, "none", len(0), 0),
    ],
    told: [of("array", "sliced-array", 4), of("array", "sliced-array", 0, "none")],
  },
  {
    name: "hashes of templates in the forms that RESTORE takes",
    format: "REDIS0015",
    parts: [
      key(29, "strings", 1, len(2), str("a"), str("b"), str(listpack([7, "x", 5]))),
      key(29, "listpack", 0, str(listpack(["a", "b"])), str(listpack([7, "x", 5]))),
      key(31, "array", 1, len(2), str("a"), str("b"), str("x".repeat(70)), int(5, 1)),
      key(31, "array of a listpack", 0, lzf(listpack(["a".repeat(90), "b"])), str("x"), int(5, 1)),
    ],
    told: [
      of("hash", "template-listpack", 2, "strings"),
      of("hash", "template-listpack", 2, "listpack"),
      of("hash", "template-array", 2, "array"),
      of("hash", "template-array", 2, "array of a listpack"),
    ],
  },
  {
    name: "hashes with templates",
    format: "REDIS0015",
    parts: [
      raw(0xf2, len(0), len(2), str("age"), str("name")),
      raw(0xf2, len(7), len(3), str("a"), str("b"), str("c")),
      key(32, "array", len(7), str("x"), str("y"), int(5, 1)),
      key(30, "listpack", str(listpack([0, 42, "Edi"]))),
      raw(0xf2, len(70_000), len(1), str("field")),
      key(30, "compressed", lzf(listpack([70_000, "v".repeat(99)]))),
    ],
    told: [
      of("hash", "template-array", 3, "array"),
      of("hash", "template-listpack", 2, "listpack"),
      of("hash", "template-listpack", 1, "compressed"),
    ],
    values: [
      raw(1, len(3), str("a"), str("b"), str("c"), str("x"), str("y"), int(5, 1)),
      raw(1, len(2), str("age"), str("name"), str(listpack([0, 42, "Edi"]))),
      raw(1, len(1), str("field"), lzf(listpack([70_000, "v".repeat(99)]))),
    ],
  },
  {
    name: "what stands before keys and beside them",
    format: "REDIS0013",
    parts: [
      raw(0xfa, str("redis-ver"), str("8.6.0"), 0xfa, str("redis-bits"), int(64, 1)),
      raw(0xfa, str("lua"), str("-- ".repeat(30_000))),
      raw(0xf7, module, len(2), len(1), 5, str("of a module"), 0),
      raw(0xf5, str("#!lua name=one"), 0xf5, lzf(`#!lua name=two\n${"-".repeat(99)}`)),
      raw(0xfe, len(3), 0xfb, len(4), len(2), 0xf4, len(5000), len(3), len(1)),
      raw(0xfc, little(1_700_000_000_123n, 8), 0xf8, len(77), key(0, "a", str("x"))),
      raw(0xfd, little(1_700_000_000, 4), 0xf9, 255, key(2, "b", len(1), str("x"))),
      raw(0xfc, little(-5n, 8), key(0, "past", str("x"))),
      raw(0xf3, len(2), little(1, 4), 5, str("meta"), 0, little(2, 4), 0, key(0, "c", int(7, 1))),
      raw(0xfe, len(4), 0xfb, len(1), len(0), key(0, "d", str("x"))),
    ],
    told: [
      { ...text("a", "embstr", 1), db: 3, expiresAtMs: 1_700_000_000_123, idleSeconds: 77 },
      {
        ...of("set", "hashtable", 1, "b"),
        db: 3,
        expiresAtMs: 1_700_000_000_000,
        ...ofNoLru,
        frequency: 255,
      },
      { ...text("past", "embstr", 1), db: 3, expiresAtMs: -5, ...ofNoLru },
      { ...text("c", "int", 1), db: 3, expiresAtMs: undefined },
      { ...text("d", "embstr", 1), db: 4 },
    ],
    events: [
      ["aux", "redis-ver", "8.6.0"],
      ["aux", "redis-bits", "64"],
      ["aux", "lua", "long"],
      ["module", "ReJSON-RL"],
      ["function", "#!lua name=one"],
      ["function", `#!lua name=two\n${"-".repeat(99)}`],
      ["db", 3],
      ["resize", 4, 2],
      ["db", 4],
      ["resize", 1, 0],
    ],
  },
  {
    name: "the import of slots into a Valkey 9",
    format: "VALKEY080",
    parts: [
      raw(0xf3, str("0123456789".repeat(4)), len(2), len(0), len(5), len(100), len(16_383)),
      raw(0xf4, len(5), len(1), len(0), key(0, "k", str("v"))),
    ],
    told: [text("k", "embstr", 1)],
  },
];

/** All of them. */
export const CASES: readonly Case[] = [STRINGS, ...PACKED, ...COUNTED, ...OTHERS];
