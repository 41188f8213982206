import { expect, test } from "bun:test";
import { MAX_DATABASES, MAX_MODULES } from "../../../src/inspect/keys/breakdown.ts";
import type { KeyEntry } from "../../../src/inspect/keys/key-entry.ts";
import {
  KeyReport,
  type KeyReportOptions,
  MAX_NAME_BYTES,
} from "../../../src/inspect/keys/key-report.ts";
import { PREFIX_LOOK_BYTES, PrefixCut } from "../../../src/inspect/keys/prefix-cut.ts";
import { LifeTimes } from "../../../src/inspect/keys/time-to-live.ts";
import { Random } from "../../support/fill.ts";
import { seedOf } from "../../support/sweep.ts";
import { entryOf } from "./made-entry.ts";

const NOW_MS = Date.UTC(2026, 0, 31);

function reportOf(entries: Iterable<KeyEntry>, options: Partial<KeyReportOptions> = {}) {
  const report = new KeyReport({
    prefixDepth: 1,
    separators: Buffer.from(":"),
    top: 10,
    selects: undefined,
    seed: 1,
    ...options,
  });
  report.begin(NOW_MS);
  for (const entry of entries) report.add(entry);
  return report.found();
}

const KINDS: readonly string[] = ["string", "list", "set", "zset", "hash", "stream", "module"];

test("every breakdown adds up to the same keys, bytes and elements", () => {
  const random = new Random(seedOf("REPORT_SEED"));
  const entries = Array.from({ length: 5_000 }, (_, n): KeyEntry => {
    const kind = KINDS[random.below(KINDS.length)]!;
    return entryOf(`${["user", "order", ""][random.below(3)]}:${n}`, {
      db: random.below(4),
      kind,
      module: kind === "module" ? ["json", "bloom", undefined][random.below(3)] : undefined,
      encoding: ["listpack", "raw"][random.below(2)]!,
      elements: kind === "module" || kind === "string" ? undefined : random.below(100),
      expiresAtMs: random.below(2) === 0 ? undefined : NOW_MS + random.below(1e10) - 1e8,
      bytes: 5 + random.below(1_000),
    });
  });
  const found = reportOf(entries, { top: 100 });
  const counted = entries.filter(({ elements }) => elements !== undefined).length;
  const total = {
    keys: 5_000,
    bytes: entries.reduce((sum, { startByte, endByte }) => sum + endByte - startByte, 0),
    elements: entries.reduce((sum, { elements = 0 }) => sum + elements, 0),
    counted,
  };
  expect(found.total).toEqual(total);
  for (const parts of [
    found.types,
    found.databases,
    found.encodings,
    found.lifeTimes,
    found.snapshots,
  ]) {
    const sum = (name: keyof typeof total) => parts.reduce((all, one) => all + one[name], 0);
    expect({
      keys: sum("keys"),
      bytes: sum("bytes"),
      elements: sum("elements"),
      counted: sum("counted"),
    }).toEqual(total);
  }
  expect(found.prefixes?.byBytes.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(total.bytes);
  expect(found.types.map(({ kind, module }) => `${kind} ${module}`).toSorted()).toEqual([
    "hash undefined",
    "list undefined",
    "module bloom",
    "module json",
    "module undefined",
    "set undefined",
    "stream undefined",
    "string undefined",
    "zset undefined",
  ]);
  const sizes = entries.map(({ startByte, endByte }) => endByte - startByte);
  const byBytes = sizes.toSorted((a, b) => b - a).slice(0, 100);
  expect(found.byBytes.map(({ bytes }) => bytes)).toEqual(byBytes);
  const lengths = entries.flatMap(({ elements }) => elements ?? []).toSorted((a, b) => b - a);
  expect(found.byElements.map(({ elements }) => elements)).toEqual(lengths.slice(0, 100));
});

test("counts databases and modules apart up to a bound, and the others together", () => {
  const many = MAX_DATABASES + 50;
  const found = reportOf(
    Array.from({ length: many * 2 }, (_, n) => entryOf("k", { db: n % many })),
  );
  expect(found.databases.length).toBe(MAX_DATABASES + 1);
  expect(found.databases.at(-1)).toMatchObject({ db: undefined, keys: 100 });
  expect(found.databases[0]).toMatchObject({ db: 0, keys: 2 });
  const modules = reportOf(
    Array.from({ length: MAX_MODULES + 5 }, (_, n) =>
      entryOf("k", { kind: "module", module: `module${n}`, elements: undefined }),
    ),
  );
  expect(modules.types.length).toBe(MAX_MODULES + 1);
  expect(modules.types.find(({ module }) => module === undefined)).toMatchObject({ keys: 5 });
});

test("keeps the beginning of a long name, and its length", () => {
  const key = Buffer.alloc(100_000, "k");
  const [big] = reportOf([entryOf(key, { bytes: 100_010 })]).byBytes;
  expect(big).toMatchObject({ keyBytes: 100_000, bytes: 100_010 });
  expect(big?.key.length).toBe(MAX_NAME_BYTES);
});

test("keeps no view of a key that is gone after the call", () => {
  const key = Buffer.from("user:1");
  const report = new KeyReport({
    prefixDepth: 1,
    separators: Buffer.from(":"),
    top: 1,
    selects: undefined,
    seed: 1,
  });
  report.begin(NOW_MS);
  report.add(entryOf(key));
  key.fill(0);
  const found = report.found();
  report.add(entryOf("x:"));
  expect(Buffer.from(found.byBytes[0]!.key).toString()).toBe("user:1");
  expect(Buffer.from(found.prefixes!.byKeys[0]!.prefix).toString()).toBe("user:");
});

test("counts only what is selected, and says what it passed over", () => {
  const found = reportOf([entryOf("a"), entryOf("b"), entryOf("a", { db: 1 })], {
    selects: ({ db, keyBuffer, keyStart }) => db === 0 && keyBuffer[keyStart] === 0x61,
  });
  expect([found.total.keys, found.passedOver]).toEqual([1, 2]);
});

test("tells the snapshots apart, each with its own moment", () => {
  const report = new KeyReport({
    prefixDepth: 0,
    separators: Buffer.from(":"),
    top: 10,
    selects: undefined,
    seed: 1,
  });
  for (const atMs of [1_000, 3_000]) {
    report.begin(atMs);
    report.add(entryOf(`at ${atMs}`, { expiresAtMs: 2_000 }));
  }
  const { lifeTimes, snapshots, byBytes, prefixes } = report.found();
  expect(lifeTimes.filter(({ keys }) => keys > 0).map(({ span }) => span)).toEqual([
    "expired",
    "under_1m",
  ]);
  expect(snapshots.map(({ keys }) => keys)).toEqual([1, 1]);
  expect(byBytes.map(({ snapshot }) => snapshot)).toEqual([0, 1]);
  expect(prefixes).toBeUndefined();
});

test.each([
  [undefined, "no_expiry"],
  [-1, "expired"],
  [0, "expired"],
  [1, "under_1m"],
  [59_999, "under_1m"],
  [60_000, "under_1h"],
  [3_599_999, "under_1h"],
  [3_600_000, "under_1d"],
  [86_400_000, "under_7d"],
  [7 * 86_400_000, "under_30d"],
  [30 * 86_400_000 - 1, "under_30d"],
  [30 * 86_400_000, "30d_or_more"],
  [Number.MAX_SAFE_INTEGER - NOW_MS, "30d_or_more"],
] as const)("a key that has %p ms left counts as %s", (leftMs, span) => {
  const times = new LifeTimes();
  times.add(leftMs === undefined ? undefined : NOW_MS + leftMs, NOW_MS, 7, 3);
  const found = times.amounts().filter(({ keys }) => keys > 0);
  expect(found).toEqual([{ span, keys: 1, bytes: 7, elements: 3, counted: 1 }]);
});

/** A key amid other bytes, as a reader has it. */
function placeOf(key: Uint8Array) {
  const keyBuffer = Buffer.concat([Buffer.from("::"), key, Buffer.from("::")]);
  return { keyBuffer, keyStart: 2, keyEnd: keyBuffer.length - 2 };
}

test.each([
  [1, ":", "user:42:name", "user:"],
  [2, ":", "user:42:name", "user:42:"],
  [9, ":", "user:42:name", "user:42:"],
  [1, ":", "plain", ""],
  [1, ":", "", ""],
  [1, ":", ":", ":"],
  [2, ":", "a::b", "a::"],
  [1, "/:", "a/b:c", "a/"],
  [2, "/:", "a/b:c", "a/b:"],
  [1, ".", "user:42.x", "user:42."],
])("at depth %d with %p, the prefix of %p is %p", (depth, separators, key, prefix) => {
  const cut = new PrefixCut(depth, Buffer.from(separators));
  expect(key.slice(0, cut.lengthIn(placeOf(Buffer.from(key))))).toBe(prefix);
});

test("looks for a prefix in the beginning of a key alone", () => {
  const cut = new PrefixCut(2, Buffer.from(":"));
  const key = Buffer.alloc(PREFIX_LOOK_BYTES * 2, "k");
  key.write(":", PREFIX_LOOK_BYTES);
  expect(cut.lengthIn(placeOf(key))).toBe(0);
  key.write(":", PREFIX_LOOK_BYTES - 1);
  expect(cut.lengthIn(placeOf(key))).toBe(PREFIX_LOOK_BYTES);
  key.write(":", 3);
  expect(cut.lengthIn(placeOf(key))).toBe(PREFIX_LOOK_BYTES);
});
