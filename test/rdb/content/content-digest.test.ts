import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import { ContentDigester, isSameContent } from "../../../src/rdb/content/content-digest.ts";
import {
  int,
  intset,
  len,
  listpack,
  little,
  lzf,
  raw,
  str,
  ziplist,
  zipmap,
} from "../../support/rdb-bytes.ts";

type Magic = "REDIS" | "VALKEY";
type Form = readonly [opcode: number, value: Uint8Array, magic?: Magic | undefined];

const digester = new ContentDigester();
const digestOf = ([opcode, value, magic = "REDIS"]: Form) =>
  digester.digest({ magic }, opcode, value).digest;

const LONG = "abcd".repeat(5000);
const item = "long".repeat(30);
const small = "-1.5";
const double = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
};
/** A score in digits, and the bytes of one that has none. */
const digits = (text: string): Buffer => raw(text.length, text);

/** When fields expire: the second one never. */
const [SOON_MS, LATE_MS] = [1_700_000_000_000, 4_102_444_800_000];
const TRIPLES = ["a", 1, SOON_MS, "b", 2, 0, "c", item, LATE_MS];

const streamNode = (ms: number, ...entries: (string | number)[]): Buffer => {
  const master = Buffer.alloc(16);
  master.writeBigUInt64BE(BigInt(ms));
  return raw(str(master), str(listpack(entries)));
};
/** Two entries: one with the fields of the master, one with its own; and perhaps one that was deleted. */
const ENTRIES = [2, 0, 1, "f", 0, 2, 1, 0, "x", 4, 0, 5, 7, 1, "g", 9, 6] as const;
const WITH_DELETED = [
  2,
  1,
  1,
  "f",
  0,
  2,
  1,
  0,
  "x",
  4,
  3,
  2,
  0,
  "gone",
  4,
  0,
  5,
  7,
  1,
  "g",
  9,
  6,
] as const;
const LAST_ID = raw(len(105), len(7));
const COUNTERS = raw(len(101), len(0), len(0), len(0), len(9));
interface Group {
  readonly version: number;
  readonly seen?: number;
  readonly delivered?: number;
  readonly consumer?: string;
}
const group = ({ version, seen = 5, delivered = 6, consumer = "one" }: Group): Buffer =>
  raw(
    raw(len(1), str("group"), LAST_ID, version >= 2 ? len(2n ** 64n - 1n, 9) : ""),
    raw(len(1), Buffer.alloc(16, 1), little(delivered, 8), len(3)),
    raw(len(1), str(consumer), little(seen, 8), version >= 3 ? little(seen, 8) : ""),
    raw(len(1), Buffer.alloc(16, 1)),
  );
const stream = (about: Group, nodes: Buffer = raw(len(1), streamNode(100, ...ENTRIES))): Buffer =>
  raw(nodes, len(2), LAST_ID, about.version >= 2 ? COUNTERS : "", group(about));

const SAME: Readonly<Record<string, readonly Form[]>> = {
  "a number": [
    [0, str("-300")],
    [0, int(-300, 2)],
    [0, int(-300, 4)],
  ],
  "a long string": [
    [0, str(LONG)],
    [0, lzf(LONG)],
  ],
  "a list": [
    [1, raw(len(3), str("a"), int(7, 1), lzf(item))],
    [10, str(ziplist(["a", 7, item]))],
    [10, lzf(ziplist(["a", "7", item]))],
    [14, raw(len(2), str(ziplist(["a"])), str(ziplist([7, item])))],
    [18, raw(len(2), len(2), str(listpack(["a", 7])), len(1), str(item))],
  ],
  "a set of numbers": [
    [2, raw(len(3), int(1, 1), int(-2, 1), str("300"))],
    [11, str(intset(2, [-2, 1, 300]))],
    [11, str(intset(8, [-2, 1, 300]))],
    [20, str(listpack([300, 1, "-2"]))],
  ],
  "a set": [
    [2, raw(len(2), str("x"), str(item))],
    [2, raw(len(2), lzf(item), str("x"))],
    [20, str(listpack([item, "x"]))],
  ],
  "a sorted set": [
    [3, raw(len(4), str("m"), digits(small), str("n"), digits("2"), str("p"), 254, str("q"), 255)],
    [
      5,
      raw(
        raw(len(4), str("q"), double(-Infinity), str("m"), double(-1.5)),
        raw(str("p"), double(Infinity), str("n"), double(2)),
      ),
    ],
    [12, str(ziplist(["q", "-inf", "m", small, "n", 2, "p", "inf"]))],
    [17, lzf(listpack(["q", "-inf", "m", small, "n", 2, "p", "inf"]))],
  ],
  zero: [
    [5, raw(len(1), str("m"), double(-0))],
    [17, str(listpack(["m", 0]))],
  ],
  "a hash": [
    [4, raw(len(2), str("f"), int(1, 1), str("g"), str(item))],
    [
      9,
      str(
        zipmap([
          ["g", item],
          ["f", "1"],
        ]),
      ),
    ],
    [
      9,
      str(
        zipmap(
          [
            ["f", "1"],
            ["g", item],
          ],
          3,
        ),
      ),
    ],
    [13, str(ziplist(["f", 1, "g", item]))],
    [16, str(listpack(["g", item, "f", 1]))],
    [24, raw(little(0, 8), len(2), len(0), str("g"), str(item), len(0), str("f"), str("1"))],
    [
      22,
      raw(len(2), str("f"), str("1"), little(-1, 8), str("g"), str(item), little(-1, 8)),
      "VALKEY",
    ],
  ],
  "a hash whose fields expire": [
    [23, str(listpack(TRIPLES))],
    [25, raw(little(SOON_MS, 8), str(listpack(TRIPLES)))],
    [
      22,
      raw(
        raw(len(3), len(LATE_MS), str("c"), str(item), len(SOON_MS), str("a"), str("1")),
        raw(len(0), str("b"), int(2, 1)),
      ),
    ],
    [
      24,
      raw(
        raw(little(SOON_MS, 8), len(3), len(1), str("a"), str("1"), len(0), str("b"), int(2, 1)),
        raw(len(LATE_MS - SOON_MS + 1), str("c"), str(item)),
      ),
    ],
    [
      22,
      raw(
        raw(len(3), str("b"), str("2"), little(-1, 8), str("a"), str("1"), little(SOON_MS, 8)),
        raw(str("c"), str(item), little(LATE_MS, 8)),
      ),
      "VALKEY",
    ],
  ],
  "a stream": [
    [15, stream({ version: 1 })],
    [19, stream({ version: 2 })],
    [21, stream({ version: 3 })],
    [21, stream({ version: 3, seen: 1234 })],
    [21, stream({ version: 3 }, raw(len(1), streamNode(100, ...WITH_DELETED)))],
    [
      21,
      stream(
        { version: 3 },
        raw(
          raw(len(2), streamNode(101, 1, 0, 1, "f", 0, 2, 0, 0, "x", 4)),
          streamNode(105, 1, 0, 1, "h", 0, 0, 0, 7, 1, "g", 9, 6),
        ),
      ),
    ],
  ],
};

const different = (...forms: Form[]): readonly Form[] => forms;
const DIFFERENT: Readonly<Record<string, readonly Form[]>> = {
  strings: different([0, str("")], [0, str("0")], [0, str("00")], [0, int(1, 1)]),
  "the order of a list": different(
    [18, raw(len(1), len(2), str(listpack(["a", "b"])))],
    [18, raw(len(1), len(2), str(listpack(["b", "a"])))],
    [18, raw(len(1), len(2), str(listpack(["ab"])))],
    [18, raw(len(1), len(2), str(listpack(["a", "b", ""])))],
  ),
  "fields and values": different(
    [16, str(listpack(["a", "b"]))],
    [16, str(listpack(["b", "a"]))],
    [16, str(listpack(["a", "b", "c", "d"]))],
    [16, str(listpack(["a", "d", "c", "b"]))],
  ),
  scores: different(
    [17, str(listpack(["a", 1]))],
    [17, str(listpack(["a", "1.0000000000000002"]))],
    [17, str(listpack(["a", "inf"]))],
    [5, raw(len(1), str("a"), double(-1))],
  ),
  "times at which fields expire": different(
    [16, str(listpack(["a", 1]))],
    [23, str(listpack(["a", 1, SOON_MS]))],
    [23, str(listpack(["a", 1, LATE_MS]))],
    [24, raw(little(SOON_MS, 8), len(1), len(2), str("a"), str("1"))],
    [22, raw(len(1), str("a"), str("1"), little(SOON_MS + 9, 8)), "VALKEY"],
  ),
  streams: different(
    [21, stream({ version: 3 })],
    [21, stream({ version: 3, delivered: 7 })],
    [21, stream({ version: 3, consumer: "two" })],
    [21, raw(len(1), streamNode(100, ...ENTRIES), len(2), LAST_ID, COUNTERS, len(0))],
    [
      21,
      raw(
        raw(len(1), streamNode(100, ...ENTRIES), len(2), LAST_ID),
        raw(len(101), len(0), len(101), len(0), len(9), group({ version: 3 })),
      ),
    ],
    [21, stream({ version: 3 }, raw(len(1), streamNode(101, ...ENTRIES)))],
  ),
};

describe("what holds the same has the same digest:", () => {
  test.each(Object.entries(SAME))("%s", (_, forms) => {
    const first = digestOf(forms[0]!);
    forms.forEach((form, at) =>
      expect([at, isSameContent(digestOf(form), first)]).toEqual([at, true]),
    );
  });
});

describe("what differs has another digest:", () => {
  test.each(Object.entries(DIFFERENT))("%s", (_, forms) => {
    const digests = forms.map((form) => Buffer.from(digestOf(form)).toString("hex"));
    expect(new Set(digests).size).toBe(forms.length);
  });
});

test("a module's value, and what isn't known, is told by its bytes", () => {
  for (const opcode of [7, 28, 200]) {
    const [one, other] = ["a", "b"].map((text) =>
      digester.digest({ magic: "REDIS" }, opcode, Buffer.from(text)),
    );
    expect(one).toMatchObject({ isOfBytes: true });
    expect(one!.digest).not.toEqual(other!.digest);
  }
});

test("a hash whose names stand elsewhere is refused, and no guess is made", () => {
  for (const opcode of [30, 32]) {
    expect(() => digestOf([opcode, raw(len(1))])).toThrow("can't be compared");
  }
});

test("a value that is cut off or goes on is refused, wherever it is; a changed byte never breaks more", () => {
  for (const [opcode, value, magic] of Object.values(SAME).flat()) {
    if (value.length > 2000) continue;
    for (let at = 0; at < value.length; at++) {
      expect(() => digestOf([opcode, value.subarray(0, at), magic])).toThrow(ReplicaError);
      for (const change of [0x01, 0x80, 0xff]) {
        const changed = Uint8Array.from(value);
        changed[at]! ^= change;
        try {
          digestOf([opcode, changed, magic]);
        } catch (error) {
          expect(error).toBeInstanceOf(ReplicaError);
        }
      }
    }
    expect(() => digestOf([opcode, raw(value, 0), magic])).toThrow("bytes are left");
  }
});
