import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Crc64, crc64 } from "../../src/rdb/crc64.ts";

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

describe("crc64", () => {
  test("the check value", () => {
    expect(crc64(Buffer.from("123456789"))).toBe(0xe9c6d914c4b8d9can);
    expect(crc64(new Uint8Array(0))).toBe(0n);
  });

  test("any bytes at any alignment, in any pieces: as bit by bit", () => {
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

  test("of bytes followed by their own checksum it is 0", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const crc = new Crc64();
        crc.update(bytes);
        const own = new DataView(new ArrayBuffer(8));
        own.setBigUint64(0, crc.value, true);
        crc.update(new Uint8Array(own.buffer));
        expect(crc.isZero).toBe(true);
        expect(crc.value).toBe(0n);
      }),
      { seed: SEED },
    );
  });

  test("reset starts anew", () => {
    const crc = new Crc64();
    crc.update(Uint8Array.of(1, 2, 3));
    expect(crc.isZero).toBe(false);
    crc.reset();
    crc.update(Buffer.from("123456789"));
    expect(crc.value).toBe(0xe9c6d914c4b8d9can);
  });
});
