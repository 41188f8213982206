import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { join } from "node:path";
import { Random } from "../../src/demo/random.ts";
import { Crc64, crc64, crc64OfBoth, FOLD_FROM_BYTES } from "../../src/rdb/crc64.ts";
import {
  FOLD_BYTES,
  sharedFolder,
  HISTORY_BYTES,
  LANE_BYTES,
  SPARSE_MULTIPLE,
  vectorFolder,
  wordFolder,
} from "../../src/rdb/crc64-fold.ts";

const SEED = 20260105;

/** Bit by bit, as the polynomial is written, reflected in and out. */
function reference(bytes: Uint8Array): bigint {
  const reflect = (value: bigint, bits: number) =>
    BigInt(`0b${value.toString(2).padStart(bits, "0").split("").reverse().join("")}`);
  let crc = 0n;
  for (const byte of bytes) {
    crc ^= reflect(BigInt(byte), 8) << 56n;
    for (let bit = 0; bit < 8; bit++) {
      crc = BigInt.asUintN(64, crc >> 63n === 1n ? (crc << 1n) ^ 0xad93d23594c935a9n : crc << 1n);
    }
  }
  return reflect(crc, 64);
}

const TABLE = Array.from({ length: 256 }, (_, byte) => reference(Uint8Array.of(byte)));

/** The same, a byte at a time: fast enough for long inputs. */
function byteByByte(bytes: Uint8Array): bigint {
  let crc = 0n;
  for (const byte of bytes) crc = TABLE[Number(crc & 0xffn) ^ byte]! ^ (crc >> 8n);
  return crc;
}

describe("crc64", () => {
  test("has the check value of CRC-64/Jones", () => {
    expect(crc64(Buffer.from("123456789"))).toBe(0xe9c6d914c4b8d9can);
    expect(crc64(new Uint8Array(0))).toBe(0n);
  });

  test("equals the bitwise CRC for any bytes, at any alignment, in any pieces", () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(bytes, fc.nat(8), fc.array(fc.nat(200)), (bytes, offset, cuts) => {
        const shifted = new Uint8Array(bytes.length + 8).subarray(offset, offset + bytes.length);
        shifted.set(bytes.subarray(0, shifted.length));
        const crc = new Crc64();
        const edges = [...cuts.map((at) => at % (shifted.length + 1)), shifted.length];
        edges.sort((a, b) => a - b);
        edges.forEach((edge, index) => crc.update(shifted.subarray(edges[index - 1] ?? 0, edge)));
        expect(crc.value).toBe(reference(shifted));
        expect(crc64(shifted)).toBe(crc.value);
      }),
      { seed: SEED, numRuns: 1_000 },
    );
  });

  test("equals the bytewise CRC for every length up to 3000, whole and in two", () => {
    const random = new Random(SEED);
    const bytes = Uint8Array.from({ length: 3000 }, () => random.below(256));
    for (let length = 0; length <= bytes.length; length++) {
      const whole = bytes.subarray(0, length);
      const expected = byteByByte(whole);
      expect(crc64(whole)).toBe(expected);
      const crc = new Crc64();
      const cut = random.below(length + 1);
      for (const piece of [whole.subarray(0, cut), whole.subarray(cut)]) crc.update(piece);
      expect(crc.value).toBe(expected);
    }
  });

  test("equals the bytewise CRC wherever the fold begins, read at any moment", () => {
    const random = new Random(SEED);
    const bytes = Uint8Array.from({ length: 2 * FOLD_FROM_BYTES }, () => random.below(256));
    for (let round = 0; round < 60; round++) {
      // The piece that reaches the border begins before it by as little as one byte, and ends after it by as little.
      const before = FOLD_FROM_BYTES - random.below(random.below(2) === 0 ? 20 : FOLD_FROM_BYTES);
      const edges = [before];
      while (edges.at(-1)! < bytes.length && edges.length < 6)
        edges.push(edges.at(-1)! + random.below(random.below(2) === 0 ? 20 : 30_000));
      const crc = new Crc64();
      let from = 0;
      for (const edge of edges) {
        crc.update(bytes.subarray(from, edge));
        from = edge;
        if (random.below(2) === 0)
          expect(crc.value).toBe(byteByByte(bytes.subarray(0, Math.min(edge, bytes.length))));
      }
      expect(crc.value).toBe(byteByByte(bytes.subarray(0, Math.min(from, bytes.length))));
    }
  });

  test("of two runs in a row equals that of their bytes", () => {
    const run = fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.uint8Array({ maxLength: 3_000, size: "max" }),
    );
    fc.assert(
      fc.property(fc.array(run, { maxLength: 6 }), (runs) => {
        let whole = 0n;
        for (const bytes of runs) whole = crc64OfBoth(whole, crc64(bytes), bytes.length);
        expect(whole).toBe(byteByByte(Buffer.concat(runs)));
      }),
      { seed: SEED, numRuns: 500 },
    );
    // Longer than any log: by two different ways.
    const far = crc64OfBoth(crc64OfBoth(5n, 0n, 2 ** 52 - 1), 0n, 2 ** 51 + 3);
    expect(far).toBe(crc64OfBoth(5n, 0n, 2 ** 52 + 2 ** 51 + 2));
  });

  test("takes runs by their own checksums, between bytes and after them", () => {
    const random = new Random(SEED);
    for (let round = 0; round < 60; round++) {
      const crc = new Crc64();
      const other = new Crc64();
      const all: Uint8Array[] = [];
      for (let run = 0; run < 6; run++) {
        const length = random.below([20, 30_000, 3 * FOLD_FROM_BYTES][random.below(3)]!);
        const bytes = Uint8Array.from({ length }, () => random.below(256));
        all.push(bytes);
        if (random.below(2) === 0) crc.update(bytes);
        else crc.append(crc64(bytes), bytes.length);
        // It takes the fold's memory meanwhile.
        if (random.below(2) === 0) other.update(Buffer.alloc(FOLD_FROM_BYTES, 1));
      }
      expect(crc.value).toBe(byteByByte(Buffer.concat(all)));
    }
  });

  test("keeps two folds apart that take turns", () => {
    const random = new Random(SEED);
    const bytes = Uint8Array.from({ length: 3 * FOLD_FROM_BYTES }, () => random.below(256));
    const halves = [bytes, bytes.toReversed()] as const;
    const folds = [new Crc64(), new Crc64()] as const;
    for (let at = 0; at < bytes.length; at += 50_001) {
      folds.forEach((crc, n) => crc.update(halves[n]!.subarray(at, at + 50_001)));
    }
    expect(folds.map((crc) => crc.value)).toEqual(halves.map((half) => byteByByte(half)));
  });

  test("is 0 for bytes followed by their own checksum", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const crc = new Crc64();
        crc.update(bytes);
        const own = new DataView(new ArrayBuffer(8));
        own.setBigUint64(0, crc.value, true);
        crc.update(new Uint8Array(own.buffer));
        expect(crc.value).toBe(0n);
      }),
      { seed: SEED },
    );
  });

  test("the sparse multiple is a multiple of the polynomial", () => {
    let sum = 0n;
    for (const exponent of SPARSE_MULTIPLE) {
      let power = 1n;
      for (let n = 0; n < exponent; n++) {
        const doubled = BigInt.asUintN(64, power << 1n);
        power = power >> 63n === 1n ? doubled ^ 0xad93d23594c935a9n : doubled;
      }
      sum ^= power;
    }
    expect(sum).toBe(0n);
  });

  test("folding by words equals folding by vectors", () => {
    const [vectors, words] = [vectorFolder(), wordFolder()];
    const random = new Random(SEED);
    for (const { memory } of [vectors, words])
      expect(memory.length).toBe(sharedFolder().memory.length);
    for (let round = 0; round < 5; round++) {
      const bytes = Uint8Array.from({ length: sharedFolder().memory.length }, () =>
        random.below(256),
      );
      const at = LANE_BYTES * random.below(100);
      const end = at + LANE_BYTES * (1 + random.below(5000));
      for (const { memory, fold } of [vectors, words]) {
        memory.set(bytes);
        fold(at, end);
      }
      expect(Buffer.from(words.memory).equals(Buffer.from(vectors.memory))).toBe(true);
    }
  });

  test("works without vectors", () => {
    const check = `import { crc64 } from "./src/rdb/crc64.ts"; console.log(crc64(Buffer.alloc(300_000, "x")).toString(16))`;
    const child = Bun.spawnSync([process.execPath, "-e", check], {
      cwd: join(import.meta.dir, "../.."),
      env: { ...process.env, BUN_JSC_useWasmSIMD: "0" },
    });
    expect(child.stdout.toString().trim()).toBe(crc64(Buffer.alloc(300_000, "x")).toString(16));
  });

  test("equals the bytewise CRC for lengths around a fold, in one piece and in many", () => {
    const random = new Random(SEED);
    const bytes = Uint8Array.from({ length: HISTORY_BYTES + 2 * FOLD_BYTES + 40 }, () =>
      random.below(256),
    );
    const edges = [
      LANE_BYTES,
      HISTORY_BYTES,
      FOLD_BYTES,
      HISTORY_BYTES + FOLD_BYTES,
      2 * FOLD_BYTES,
    ];
    for (const edge of edges) {
      for (let length = edge - 17; length <= edge + 17; length++) {
        if (length < 0) continue;
        const whole = bytes.subarray(random.below(9)).subarray(0, length);
        const expected = byteByByte(whole);
        expect(crc64(whole)).toBe(expected);
        const [crc, other] = [new Crc64(), new Crc64()];
        for (let at = 0; at < length;) {
          const next = at + 1 + random.below(random.below(2) === 0 ? 30 : 60_000);
          crc.update(whole.subarray(at, next));
          // Another checksum in between.
          other.update(whole.subarray(0, random.below(100)));
          at = next;
        }
        expect(crc.value).toBe(expected);
        expect(crc.value).toBe(expected);
      }
    }
  });
});
