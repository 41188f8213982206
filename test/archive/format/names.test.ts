import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  baseFolder,
  generationKey,
  isEncryptedName,
  logFolder,
  newGenerationName,
  parseGenerationName,
  parsePieceName,
  parseSegmentName,
  pieceName,
  segmentName,
} from "../../../src/archive/format/names.ts";
import { assertKey } from "../../../src/archive/store/object-store.ts";

const offsets = fc.maxSafeNat().map((offset) => offset % 2 ** 52);

test("names say what was named", () => {
  const name = newGenerationName(Date.UTC(2026, 10, 30, 7, 5, 9, 123), () => 0.5);
  expect(name).toBe("20261130T070509Z-iiiiiiiiii");
  const startedMs = Date.UTC(2026, 10, 30, 7, 5, 9);
  expect(parseGenerationName(name)).toEqual({ startedMs, random: "iiiiiiiiii" });
  expect(generationKey(name)).toBe(`generations/${name}`);
  expect(generationKey(name, "base.json")).toBe(`generations/${name}/base.json`);
  expect([baseFolder(name), logFolder(name)]).toEqual([
    `generations/${name}/base`,
    `generations/${name}/log`,
  ]);
  expect([pieceName(0, false), pieceName(12, true)]).toEqual([
    "000000.rdb.zst",
    "000012.rdb.zst.age",
  ]);
  expect(segmentName({ from: 5, to: 4096, crc: 255n }, true)).toBe(
    "0000000000000005-0000000000004096-00000000000000ff.aof.zst.age",
  );
});

test("what was named is read back, and names sort as what they name does", () => {
  fc.assert(
    fc.property(
      offsets,
      offsets,
      fc.bigInt(0n, 2n ** 64n - 1n),
      fc.boolean(),
      (a, b, crc, isEncrypted) => {
        fc.pre(a !== b);
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        const name = segmentName({ from, to, crc }, isEncrypted);
        expect(parseSegmentName(name)).toEqual({ from, to, crc });
        expect(isEncryptedName(name)).toBe(isEncrypted);
        assertKey(`${logFolder("x")}/${name}`);
        const later = segmentName({ from: to, to: 2 ** 52, crc: 0n }, isEncrypted);
        expect(name < later).toBe(true);
      },
    ),
  );
  fc.assert(
    fc.property(fc.nat(999_999), fc.nat(999_999), fc.boolean(), (a, b, isEncrypted) => {
      expect(parsePieceName(pieceName(a, isEncrypted))).toBe(a);
      expect(pieceName(a, isEncrypted) < pieceName(b, isEncrypted)).toBe(a < b);
    }),
  );
  fc.assert(
    fc.property(
      fc.nat(4_000_000_000),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (seconds, random) => {
        const name = newGenerationName(seconds * 1000, () => random);
        expect(parseGenerationName(name)?.startedMs).toBe(seconds * 1000);
      },
    ),
  );
});

test.each([
  "",
  "README",
  ".writing-1-x",
  "0000000000000005-0000000000000004-00000000000000ff.aof.zst",
  "0000000000000005-0000000000000005-00000000000000ff.aof.zst",
  "0000000000000005-9999999999999999-00000000000000ff.aof.zst",
  "0000000000000005-0000000000000006-00000000000000FF.aof.zst",
  "5-6-00000000000000ff.aof.zst",
  "0000000000000005-0000000000000006-00000000000000ff.aof",
  "0000000000000005-0000000000000006-00000000000000ff.aof.zst.age.tmp",
  "000000.rdb",
  "0000000.rdb.zst",
  "20261130T070509Z",
  "20261330T070509Z-iiiiiiiiii",
  "20261130T070509Z-IIIIIIIIII",
])("%p is none of ours", (name) => {
  expect([parseSegmentName(name), parsePieceName(name), parseGenerationName(name)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});
