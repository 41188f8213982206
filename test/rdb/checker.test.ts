import { describe, expect, test } from "bun:test";
import { RdbChecker, type RdbSummary } from "../../src/rdb/checker.ts";
import { crc64 } from "../../src/rdb/crc64.ts";
import { errorOf } from "../support/error-of.ts";

/** Written by Redis 7.0.15: two keys in database 0, one in database 3. */
const THREE_KEYS_7_0 = Uint8Array.fromBase64(
  "UkVESVMwMDEw+glyZWRpcy12ZXIGNy4wLjE1+gpyZWRpcy1iaXRzwED6BWN0aW1lwmTpBGv6CHVzZWQtbWVtwpB2DwD6CGFvZi1iYXNlwAD+APsCAAABYsMOIwZoZWxsbyBo4BEFAWxvAAFhwAH+A/sBAAABY8AF/6j/mR9HaF4w",
);
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));

function check(pieces: Uint8Array[], options = {}): RdbSummary {
  const checker = new RdbChecker(options);
  for (const piece of pieces) checker.push(piece);
  return checker.finish();
}

/** An RDB with its own checksum, or with another. */
function rdb(body: string, stated = crc64(bytes(body))): Uint8Array {
  const trailer = Buffer.alloc(8);
  trailer.writeBigUInt64LE(stated);
  return Buffer.concat([bytes(body), trailer]);
}

function headIsIn(piece: Uint8Array): boolean {
  const checker = new RdbChecker();
  checker.push(piece);
  return checker.isHeadRead;
}

describe("RdbChecker", () => {
  test("accepts what a real server wrote, cut at every byte and every pair", () => {
    const all = THREE_KEYS_7_0;
    for (let a = 0; a <= all.length; a++) {
      for (let b = a; b <= all.length; b++) {
        const summary = check([all.subarray(0, a), all.subarray(a, b), all.subarray(b)]);
        expect(summary).toMatchObject({ checked: true, bytes: 129, crc64: 0x305e68471f99ffa8n });
      }
    }
  });

  test("returns the header as soon as its last byte has come", () => {
    const checker = new RdbChecker();
    THREE_KEYS_7_0.forEach((byte, index) => {
      checker.push(Uint8Array.of(byte));
      expect(checker.header?.headerBytes).toBe(index >= 80 ? 80 : undefined);
    });
    expect(checker.finish()).toMatchObject({ checked: true, header: { version: 10 } });
  });

  test("keeps no view of a chunk", () => {
    const checker = new RdbChecker();
    for (let at = 0; at < THREE_KEYS_7_0.length; at += 33) {
      const chunk = THREE_KEYS_7_0.slice(at, at + 33);
      checker.push(chunk);
      chunk.fill(0);
    }
    expect(checker.finish().checked).toBe(true);
  });

  test("takes any run between the head and the end by its checksum", () => {
    const all = THREE_KEYS_7_0;
    const wanted = check([all]);
    const first = [...all.keys()].find((at) => headIsIn(all.subarray(0, at)))!;
    expect(first).toBeLessThan(100);
    for (let from = first; from < all.length - 9; from++) {
      for (let to = from; to <= all.length - 9; to++) {
        for (const checksum of [true, false]) {
          const checker = new RdbChecker({ checksum });
          checker.push(all.subarray(0, from));
          checker.pushSummed(crc64(all.subarray(from, to)), to - from);
          checker.push(all.subarray(to));
          expect(checker.finish()).toEqual({ ...wanted, checked: checksum });
        }
      }
    }
  });

  test("finds a run with another checksum, and the end that does not follow it", () => {
    const all = THREE_KEYS_7_0;
    const checker = new RdbChecker();
    checker.push(all.subarray(0, 100));
    checker.pushSummed(crc64(all.subarray(100, 110)) ^ 1n, 10);
    checker.push(all.subarray(110));
    expect(errorOf(() => checker.finish()).code).toBe("BAD_CHECKSUM");
    const cut = new RdbChecker();
    cut.push(all.subarray(0, 100));
    cut.pushSummed(crc64(all.subarray(100)), all.length - 100);
    expect(errorOf(() => cut.finish()).message).toContain("without its last opcode");
  });

  test("finds every single flipped bit after the header", () => {
    for (let at = 80; at < THREE_KEYS_7_0.length; at++) {
      const damaged = THREE_KEYS_7_0.slice();
      damaged[at]! ^= 1 << (at & 7);
      const code = errorOf(() => check([damaged])).code;
      expect(code).toBe(at === 120 ? "BAD_PAYLOAD" : "BAD_CHECKSUM");
    }
  });

  test("names both values of a checksum that does not match", () => {
    const body = "REDIS0011\xff";
    const { code, message } = errorOf(() => check([rdb(body, 0x12n)]));
    expect(code).toBe("BAD_CHECKSUM");
    expect(message).toContain("0000000000000012");
    expect(message).toContain(crc64(bytes(body)).toString(16).padStart(16, "0"));
  });

  test("refuses an RDB truncated anywhere", () => {
    for (let length = 0; length < THREE_KEYS_7_0.length; length++) {
      const { code } = errorOf(() => check([THREE_KEYS_7_0.subarray(0, length)]));
      // A cut right after a 0xff byte would be BAD_CHECKSUM; this RDB has no such byte.
      expect(code).toBe("BAD_PAYLOAD");
    }
  });

  test("accepts the smallest RDB, with and without a checksum", () => {
    expect(check([rdb("REDIS0005\xff")])).toMatchObject({ checked: true, bytes: 18 });
    expect(check([rdb("VALKEY080\xff")])).toMatchObject({ checked: true, bytes: 18 });
    expect(check([rdb("VALKEY004\xff")])).toMatchObject({ checked: true });
    expect(check([bytes("REDIS0004\xff")])).toMatchObject({
      checked: false,
      bytes: 10,
      crc64: crc64(bytes("REDIS0004\xff")),
    });
    expect(errorOf(() => check([bytes("REDIS0004\xfe\x00")])).code).toBe("BAD_PAYLOAD");
    // Long enough for a trailer, but the header would be part of it.
    expect(errorOf(() => check([bytes("REDIS0011\xfa\x01k\x01\xff\xff234567")])).code).toBe(
      "BAD_PAYLOAD",
    );
  });

  test("accepts an RDB without a checksum, and says that it was not compared", () => {
    const body = "REDIS0011\xfe\x00\xff";
    expect(check([rdb(body, 0n)])).toMatchObject({ checked: false, crc64: crc64(bytes(body)) });
  });

  test("computes nothing with checksum: false, and returns the stated one", () => {
    const wrong = rdb("REDIS0011\xff", 7n);
    expect(check([wrong], { checksum: false })).toMatchObject({ checked: false, crc64: 7n });
    expect(errorOf(() => check([wrong.subarray(1)], { checksum: false })).code).toBe("BAD_PAYLOAD");
    expect(errorOf(() => check([wrong.subarray(0, 17)], { checksum: false })).code).toBe(
      "BAD_PAYLOAD",
    );
  });

  test("refuses another format at the first push, endless aux fields at a later one", () => {
    expect(errorOf(() => new RdbChecker().push(bytes("-ERR no"))).code).toBe("BAD_PAYLOAD");
    const checker = new RdbChecker();
    checker.push(bytes("REDIS0011"));
    const field = bytes("\xfa\x01k\x40\xc8".padEnd(205, "v"));
    const { message } = errorOf(() => {
      for (let i = 0; i < 1000; i++) checker.push(field);
    });
    expect(message).toContain("65536 bytes");
  });

  test("checks a long RDB in chunks of every alignment", () => {
    const all = rdb(`REDIS0011\xfe\x00${"\x01\x02\xff".repeat(300_000)}\xff`);
    for (const chunkBytes of [65_536, 65_537, 10_007, 9, 8]) {
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < all.length; at += chunkBytes) {
        pieces.push(all.subarray(at, at + chunkBytes));
      }
      expect(check(pieces)).toMatchObject({ checked: true, bytes: all.length });
    }
  });
});
