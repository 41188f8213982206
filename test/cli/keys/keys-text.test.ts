import { describe, expect, test } from "bun:test";
import { bar } from "../../../src/cli/keys/bar.ts";
import { keysToCsv } from "../../../src/cli/keys/keys-csv.ts";
import { keysToJson } from "../../../src/cli/keys/keys-json.ts";
import type { KeysReport, ReadSnapshot } from "../../../src/cli/keys/keys-report.ts";
import { keysToText } from "../../../src/cli/keys/keys-text.ts";
import type { KeyEntry } from "../../../src/inspect/keys/key-entry.ts";
import { KeyReport, type KeyReportOptions } from "../../../src/inspect/keys/key-report.ts";
import { entryOf } from "../../inspect/keys/made-entry.ts";

const AT_MS = Date.UTC(2026, 0, 31, 12);
const PLAIN = { columns: undefined, hasColors: false };

const snapshot: ReadSnapshot = {
  shard: undefined,
  generation: 2,
  offset: 88_150_742,
  logBytes: 1_000,
  format: "REDIS0012",
  server: "redis 8.0.2",
  atMs: AT_MS,
  atFrom: "snapshot",
  readBytes: 2_000,
  rdbBytes: 2_000,
  functionLibraries: 0,
  damage: undefined,
};

function reportOf(
  entries: readonly KeyEntry[],
  more: Partial<KeysReport> & { readonly how?: Partial<KeyReportOptions> } = {},
): KeysReport {
  const { how, ...rest } = more;
  const report = new KeyReport({
    prefixDepth: 1,
    separators: Buffer.from(":"),
    top: 10,
    selects: undefined,
    seed: 1,
    ...how,
  });
  const { snapshots = [snapshot] } = more;
  for (const { atMs } of snapshots) {
    report.begin(atMs);
    for (const entry of entries) report.add(entry);
  }
  return {
    source: "/data",
    snapshots,
    found: report.found(),
    prefixDepth: 1,
    separators: ":",
    db: undefined,
    match: undefined,
    ...rest,
  };
}

const FEW = [
  entryOf("user:1", { kind: "hash", encoding: "listpack", elements: 4, bytes: 600 }),
  entryOf("user:2", { kind: "hash", encoding: "hashtable", elements: 900, bytes: 900, db: 3 }),
  entryOf("page", { elements: undefined, bytes: 400, expiresAtMs: AT_MS + 90_000 }),
  entryOf("doc:1", { kind: "module", module: "ReJSON-RL", elements: undefined, bytes: 100 }),
];

test("without a terminal, figures are plain and stand below each other", () => {
  expect(keysToText(reportOf(FEW), PLAIN)).toBe(
    `/data: the snapshot of generation 2, REDIS0012 of redis 8.0.2, 2.0 KiB, of 2026-01-31T12:00:00.000Z
4 keys, 2.0 KiB (2000 bytes)

By type
type              keys  bytes  elements
hash                 2   1500       904
string               1    400         -
module ReJSON-RL     1    100         -

By encoding
type and encoding  keys  bytes  elements
hash hashtable        1    900       900
hash listpack         1    600         4
string raw            1    400         -
module ReJSON-RL      1    100         -

By database
database  keys  bytes  elements
db0          3   1100         4
db3          1    900       900

By time to live, as of 2026-01-31T12:00:00.000Z
time to live  keys  bytes  elements
no expiry        3   1600       904
under 1 h        1    400         -

Prefixes by size
prefix       keys  bytes  elements
user:           2   1500       904
(no prefix)     1    400         -
doc:            1    100         -

Prefixes by keys
prefix       keys  bytes  elements
user:           2   1500       904
(no prefix)     1    400         -
doc:            1    100         -

2 prefixes in all (--prefix-depth 1 --separators :)

Biggest keys by size
bytes  elements  type              encoding   db  expires                   key
  900       900  hash              hashtable   3  never                     user:2
  600         4  hash              listpack    0  never                     user:1
  400         -  string            raw         0  2026-01-31T12:01:30.000Z  page
  100         -  module ReJSON-RL  -           0  never                     doc:1

Biggest keys by elements
bytes  elements  type  encoding   db  expires  key
  900       900  hash  hashtable   3  never    user:2
  600         4  hash  listpack    0  never    user:1
`,
  );
});

describe("on a terminal", () => {
  test("bars show shares, in blocks and colours", () => {
    const text = keysToText(reportOf(FEW), { columns: 100, hasColors: true });
    expect(Bun.stripANSI(text)).toContain(
      "hash                 2  1.5 KiB       904    75% ██████████████████\n",
    );
    expect(text).toContain("\x1b[36m██████████████████\x1b[39m");
    expect(text).toContain("\x1b[1mBy type\x1b[22m");
  });

  test("that has no colours, bars are ASCII", () => {
    const text = keysToText(reportOf(FEW), { columns: 100, hasColors: false });
    expect(text).toContain("hash                 2  1.5 KiB       904    75% ##################\n");
    expect(text).toMatch(/^[\n -~]*$/);
  });

  test.each([20, 40, 60, 80, 120, 300])(
    "of %d columns, bars and names fit as far as can be",
    (columns) => {
      const long = entryOf(`${"大".repeat(60)}:1`, { bytes: 5_000, elements: 1, kind: "set" });
      const text = keysToText(reportOf([...FEW, long]), { columns, hasColors: true });
      const tables = Bun.stripANSI(text).split("By type")[1]!.split("Biggest keys")[0]!;
      for (const line of tables.split("\n").filter((one) => !one.includes("prefixes in all")))
        expect(Bun.stringWidth(line)).toBeLessThanOrEqual(Math.max(columns, 72));
      expect(tables).toContain("…");
    },
  );
});

test("a bar is as long as its share, and what is there at all is seen", () => {
  expect(bar(1, 4, false)).toBe("████");
  expect(bar(0.5, 4, false)).toBe("██");
  expect(bar(0.53, 4, false)).toBe("██▏");
  expect(bar(0.000_001, 4, false)).toBe("▏");
  expect(bar(0, 4, false)).toBe("");
  expect(bar(1.5, 4, false)).toBe("████");
  expect(bar(0.5, 4, true)).toBe("##");
});

const HOSTILE: readonly (readonly [string, Uint8Array, string])[] = [
  ["a line end", Buffer.from("a\r\nb:x"), String.raw`"a\r\nb:x"`],
  ["an escape sequence", Buffer.from("\x1b[2J"), String.raw`"\x1b[2J"`],
  ["a control character of two bytes", Buffer.from("\x9b2J"), String.raw`"\xc2\x9b2J"`],
  ["no UTF-8", Buffer.from([0xff, 0x2c, 0x22]), String.raw`"\xff,\""`],
  ["a comma and quotes", Buffer.from('a,"b"'), String.raw`"a,\"b\""`],
];

describe.each(HOSTILE)("a key with %s", (_, key, shown) => {
  const report = reportOf([entryOf(key, { bytes: 50 })]);

  test("is escaped in text", () => {
    const text = keysToText(report, PLAIN);
    expect(text).toContain(`  never    ${shown}\n`);
    expect(text).toMatch(/^[\n -~]*$/);
  });

  test("is whole in JSON", () => {
    const json = JSON.parse(JSON.stringify(keysToJson(report))) as {
      biggest_by_bytes: { key: string | { base64: string }; key_bytes: number }[];
    };
    const { key: found, key_bytes } = json.biggest_by_bytes[0]!;
    const bytes =
      typeof found === "string" ? Buffer.from(found) : Buffer.from(found.base64, "base64");
    expect([...bytes]).toEqual([...key]);
    expect(key_bytes).toBe(key.length);
  });

  test("is whole in CSV", () => {
    const [titles, ...rows] = parseCsv(keysToCsv(report));
    const row = rows.find(([section]) => section === "biggest_by_bytes")!;
    const [text, base64] = [row[titles!.indexOf("name")]!, row[titles!.indexOf("name_base64")]!];
    const bytes = base64 === "" ? Buffer.from(text) : Buffer.from(base64, "base64");
    expect([...bytes]).toEqual([...key]);
    for (const one of rows) expect(one).toHaveLength(titles!.length);
    // Nothing that a terminal acts on.
    expect(keysToCsv(report)).toMatch(/^(?:\n|\P{Cc})*$/u);
  });
});

/** Reads CSV as RFC 4180 has it. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [[]];
  for (const match of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\n|$)/g)) {
    if (match[0] === "" && match.index === text.length) break;
    rows.at(-1)!.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? "");
    if (match[3] === "\n") rows.push([]);
  }
  return rows.filter((row) => row.length > 0);
}

test("JSON tells everything, under names that stay", () => {
  const json = keysToJson(reportOf(FEW, { db: 3, match: "u*" }));
  expect(json).toMatchObject({
    source: "/data",
    complete: true,
    db: 3,
    match: "u*",
    keys: 4,
    bytes: 2_000,
    elements: 904,
    passed_over: 0,
    prefix_depth: 1,
    separators: ":",
  });
  expect(json).toMatchObject({
    snapshots: [
      {
        shard: null,
        generation: 2,
        offset: 88_150_742,
        log_bytes: 1_000,
        format: "REDIS0012",
        server: "redis 8.0.2",
        time: "2026-01-31T12:00:00.000Z",
        time_from: "snapshot",
        rdb_bytes: 2_000,
        function_libraries: 0,
        damage: null,
        keys: 4,
      },
    ],
    types: [
      { type: "hash", module: null, keys: 2, bytes: 1_500, elements: 904 },
      { type: "string", module: null, keys: 1, bytes: 400, elements: null },
      { type: "module", module: "ReJSON-RL", keys: 1, bytes: 100, elements: null },
    ],
    encodings: [
      { type: "hash", module: null, encoding: "hashtable", keys: 1, bytes: 900, elements: 900 },
      { type: "hash", encoding: "listpack" },
      { type: "string", encoding: "raw" },
      { type: "module", module: "ReJSON-RL" },
    ],
    databases: [
      { db: 0, keys: 3 },
      { db: 3, keys: 1 },
    ],
    prefixes: {
      exact: true,
      distinct: 2,
      keys_missed_at_most: 0,
      bytes_missed_at_most: 0,
      by_bytes: [
        { prefix: "user:", keys: 2, bytes: 1_500, elements: 904, keys_missed_at_most: 0 },
        { prefix: "" },
        { prefix: "doc:" },
      ],
    },
    biggest_by_bytes: [
      {
        shard: null,
        db: 3,
        key: "user:2",
        key_bytes: 6,
        key_is_cut: false,
        type: "hash",
        module: null,
        encoding: "hashtable",
        bytes: 900,
        elements: 900,
        expires_at_ms: null,
      },
      { key: "user:1" },
      { key: "page", elements: null, expires_at_ms: AT_MS + 90_000 },
      { key: "doc:1", type: "module", module: "ReJSON-RL" },
    ],
    biggest_by_elements: [{ key: "user:2" }, { key: "user:1" }],
  });
  expect((json as { time_to_live: object[] }).time_to_live.map(Object.values)).toEqual([
    ["no_expiry", 3, 1_600, 904],
    ["expired", 0, 0, null],
    ["under_1m", 0, 0, null],
    ["under_1h", 1, 400, null],
    ["under_1d", 0, 0, null],
    ["under_7d", 0, 0, null],
    ["under_30d", 0, 0, null],
    ["30d_or_more", 0, 0, null],
  ]);
});

test("CSV has a row a line, each with its section", () => {
  const [titles, ...rows] = parseCsv(keysToCsv(reportOf(FEW)));
  expect(titles).toEqual(
    "section,name,name_base64,shard,db,type,encoding,keys,bytes,elements,keys_missed_at_most,bytes_missed_at_most,name_bytes,expires_at_ms".split(
      ",",
    ),
  );
  const lines = rows.map((row) => row.join(","));
  expect(lines[0]).toBe("total,complete,,,,,,4,2000,904,,,,");
  expect(lines).toContain("type,module ReJSON-RL,,,,module ReJSON-RL,,1,100,,,,,");
  expect(lines).toContain("encoding,listpack,,,,hash,listpack,1,600,4,,,,");
  expect(lines).toContain("database,3,,,3,,,1,900,900,,,,");
  expect(lines).toContain("time_to_live,under_1h,,,,,,1,400,,,,,");
  expect(lines).toContain("prefix_by_bytes,user:,,,,,,2,1500,904,0,0,5,");
  expect(lines).toContain("biggest_by_bytes,page,,,0,string,raw,1,400,,,,4,1769860890000");
});

test("of more prefixes than are counted exactly, every form says how far off they are", () => {
  const many = Array.from({ length: 500 }, (_, n) => entryOf(`p${n}:x`, { bytes: 20 }));
  const heavy = Array.from({ length: 100 }, () => entryOf("heavy:x", { bytes: 20 }));
  const report = reportOf([...many, ...heavy], { how: { maxPrefixes: 64 } });
  const { prefixes } = report.found;
  expect(prefixes?.missedKeys).toBeGreaterThan(0);
  const text = keysToText(report, PLAIN);
  expect(text).toMatch(
    /\nprefix +keys +bytes +elements +keys at most +bytes at most\nheavy: +100 /,
  );
  expect(text).toContain(
    `more prefixes than are counted exactly (--prefix-depth 1 --separators :): each has at least what is shown first, and at most ${prefixes!.missedKeys} keys and ${prefixes!.missedBytes} bytes more; what may be as small as any other is left out`,
  );
  expect(text).not.toMatch(/^p\d+: /m);
  expect(keysToJson(report)).toMatchObject({
    prefixes: { exact: false, distinct: null, keys_missed_at_most: prefixes!.missedKeys },
  });
});

test("shards have rows of their own, and keys tell whose they are", () => {
  const report = reportOf(FEW.slice(0, 1), {
    snapshots: [
      { ...snapshot, shard: "0001" },
      { ...snapshot, shard: "0002", damage: "it ends too early" },
    ],
  });
  const text = keysToText(report, PLAIN);
  expect(text).toStartWith("shard 0001: the snapshot of generation 2, ");
  expect(text).toContain(
    "\nBy shard\nshard  keys  bytes  elements\n0001      1    600         4\n",
  );
  expect(text).toContain(
    "db  shard  expires  key\n  600         4  hash  listpack   0  0001   never    user:1\n",
  );
  expect(text).toEndWith(
    "damaged: it ends too early\n  what stands above was counted up to there of shard 0002\n",
  );
  expect(keysToJson(report)).toMatchObject({
    complete: false,
    snapshots: [
      { shard: "0001", keys: 1 },
      { shard: "0002", damage: "it ends too early" },
    ],
    biggest_by_bytes: [{ shard: "0001" }, { shard: "0002" }],
  });
  expect(keysToCsv(report)).toContain("\nshard,0002,,0002,,,,1,600,4,,,,\n");
  expect(keysToCsv(report)).toContain("\ntotal,partial,");
});

test("of a long key, the beginning and the length are told", () => {
  const key = Buffer.concat([Buffer.alloc(4_095, "k"), Buffer.from("ä".repeat(10))]);
  const report = reportOf([entryOf(key, { bytes: 5_000, elements: undefined })]);
  expect(keysToText(report, PLAIN)).toInclude(
    ` 5000         -  string  raw        0  never    ${"k".repeat(4_095)}… (4.0 KiB)\n`,
  );
  expect(keysToJson(report)).toMatchObject({
    biggest_by_bytes: [{ key: "k".repeat(4_095), key_bytes: 4_115, key_is_cut: true }],
  });
});

test("an expiry that no date can show is told in milliseconds", () => {
  const never = Number.MAX_SAFE_INTEGER;
  const report = reportOf([entryOf("k", { expiresAtMs: never })]);
  expect(keysToText(report, PLAIN)).toContain(`${never} ms  k\n`);
});

test("a snapshot without keys is told as one, and a choice says what it passed over", () => {
  expect(keysToText(reportOf([]), PLAIN).split("\n")[1]).toBe("0 keys, 0 bytes");
  const chosen = reportOf(FEW, { db: 3, match: "user:*", how: { selects: ({ db }) => db === 3 } });
  expect(keysToText(chosen, PLAIN).split("\n")[1]).toBe(
    "1 key in database 3 like user:*, 900 bytes; 3 other keys",
  );
});
