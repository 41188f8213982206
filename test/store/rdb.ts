import { crc64 } from "../../src/rdb/crc64.ts";

/** A sound RDB of some `bytes` bytes: one made-up body between its header and its checksum. */
export function rdbOf(bytes: number): Uint8Array {
  const body = Buffer.alloc(Math.max(20, bytes - 8), "value ");
  body.write("REDIS0010", 0, "latin1");
  // An opcode that is no auxiliary field, and the EOF opcode.
  body[9] = 0xfe;
  body[body.length - 1] = 0xff;
  const trailer = Buffer.alloc(8);
  trailer.writeBigUInt64LE(crc64(body));
  return new Uint8Array(Buffer.concat([body, trailer]));
}

/** Splits bytes into pieces. */
export function pieces(all: Uint8Array, pieceBytes: number): Uint8Array[] {
  const count = Math.ceil(all.length / pieceBytes);
  return Array.from({ length: count }, (_, n) =>
    all.subarray(n * pieceBytes, (n + 1) * pieceBytes),
  );
}
