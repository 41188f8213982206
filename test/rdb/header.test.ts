import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { errorOf } from "../support/error-of.ts";
import { parsePreamble, parseRdbHeader, replicationAux } from "../../src/rdb/header.ts";
import type { ReplicationId } from "../../src/base/history.ts";

/** Written by Redis 7.0.15 with a backlog and no keys. */
const EMPTY_7_0 = Uint8Array.fromBase64(
  "UkVESVMwMDEw+glyZWRpcy12ZXIGNy4wLjE1+gpyZWRpcy1iaXRzwED6BWN0aW1lwhDpBGv6CHVzZWQtbWVtwtjFDwD6DnJlcGwtc3RyZWFtLWRiwAD6B3JlcGwtaWQoMGJmMTg5YzcxZDk1YjNiYmI3MWI5YmEyOWY5MjlhMGIzZDQwNDRmN/oLcmVwbC1vZmZzZXTAKfoIYW9mLWJhc2XAAP9z3ZldpeiuLw==",
);
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (caught) {
    if (caught instanceof ReplicaError) return caught.code;
    throw caught;
  }
  return "none";
}

describe("parseRdbHeader", () => {
  test("reads what a real server wrote", () => {
    const header = parseRdbHeader(EMPTY_7_0)!;
    expect(header).toMatchObject({ magic: "REDIS", version: 10, headerBytes: 163 });
    expect(Object.fromEntries(header.aux)).toMatchObject({
      "redis-ver": "7.0.15",
      "redis-bits": "64",
      "repl-stream-db": "0",
      "repl-offset": "41",
      "aof-base": "0",
    });
  });

  test("waits at every cut until the first other opcode has come", () => {
    for (let length = 0; length <= EMPTY_7_0.length; length++) {
      const header = parseRdbHeader(EMPTY_7_0.subarray(0, length));
      expect(header?.headerBytes).toBe(length > 163 ? 163 : undefined);
    }
  });

  test("reads Valkey's magic", () => {
    expect(parseRdbHeader(bytes("VALKEY080\xff"))).toEqual({
      magic: "VALKEY",
      version: 80,
      aux: new Map(),
      headerBytes: 9,
    });
  });

  test("refuses another magic at its first wrong byte, and a version that is no number", () => {
    for (const head of ["X", "REX", "VALKEX", "-ERR no", "REDIS00x1", "VALKEY0.1", "REDIS0000"]) {
      expect(codeOf(() => parseRdbHeader(bytes(head)))).toBe("BAD_PAYLOAD");
    }
    expect(parseRdbHeader(bytes("REDI"))).toBeUndefined();
    expect(() => parseRdbHeader(bytes("\x1b[0m\xff"))).toThrow("'?[0m?'");
  });

  test.each<[string, string, string | undefined]>([
    ["6 bits", "\x02ab", "ab"],
    ["14 bits", `\x41\x00${"y".repeat(256)}`, "y".repeat(256)],
    ["32 bits", "\x80\x00\x00\x00\x02ab", "ab"],
    ["64 bits", "\x81\x00\x00\x00\x00\x00\x00\x00\x02ab", "ab"],
    ["an int of 8 bits", "\xc0\xff", "-1"],
    ["an int of 16 bits", "\xc1\x01\x02", "513"],
    ["an int of 32 bits", "\xc2\x00\x00\x00\x80", "-2147483648"],
    ["compressed: left out", "\xc3\x04\x10\x00a\x20\x00", undefined],
    ["empty", "\x00", ""],
    ["UTF-8", "\x02\xc3\xa9", "é"],
  ])("a value of %s", (_name, encoded, value) => {
    const whole = bytes(`REDIS0011\xfa\x01k${encoded}\xfa\x01l\xc0\x07\xfe\x00`);
    const expected = new Map([...(value === undefined ? [] : [["k", value] as const]), ["l", "7"]]);
    expect(parseRdbHeader(whole)?.aux).toEqual(expected);
    expect(parseRdbHeader(whole)?.headerBytes).toBe(whole.length - 2);
    for (let length = 0; length < whole.length - 1; length++) {
      expect(parseRdbHeader(whole.subarray(0, length))).toBeUndefined();
    }
  });

  test("leaves out a field with a compressed key", () => {
    const header = parseRdbHeader(bytes("REDIS0011\xfa\xc3\x01\x01k\x01v\xff"));
    expect(header).toMatchObject({ headerBytes: 16 });
    expect(header?.aux.size).toBe(0);
  });

  test("refuses an unknown encoding", () => {
    for (const encoded of ["\xc4", "\xff", "\x82", "\xbf", "\xc3\xc0", "\xc3\x01\x82"]) {
      expect(codeOf(() => parseRdbHeader(bytes(`REDIS0011\xfa\x01k${encoded}`)))).toBe(
        "BAD_PAYLOAD",
      );
    }
  });

  test("stops before the Lua scripts of old servers, whatever their size", () => {
    const head = bytes("REDIS0009\xfa\x01k\x01v\xfa\x03lua\x80\x00\xff\xff\xff");
    expect(parseRdbHeader(head)).toMatchObject({ headerBytes: 14, aux: new Map([["k", "v"]]) });
  });

  test("refuses more than the limit, however much of it has come", () => {
    // 9 + 5 bytes for each field.
    const whole = bytes(`REDIS0011${"\xfa\x01k\x01v".repeat(4)}\xff`);
    expect(parseRdbHeader(whole, 29)?.headerBytes).toBe(29);
    for (const limit of [28, 25, 24, 23, 9]) {
      expect(codeOf(() => parseRdbHeader(whole, limit))).toBe("BAD_PAYLOAD");
      const cut = whole.subarray(0, limit + 1);
      expect(codeOf(() => parseRdbHeader(cut, limit))).toBe("BAD_PAYLOAD");
    }
    const huge = bytes("REDIS0011\xfa\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff");
    expect(codeOf(() => parseRdbHeader(huge))).toBe("BAD_PAYLOAD");
  });
});

describe("replicationAux", () => {
  const REPLID = "0bf189c71d95b3bbb71b9ba29f929a0b3d4044f7";
  const of = (aux: Record<string, string>) =>
    replicationAux({
      magic: "REDIS",
      version: 11,
      aux: new Map(Object.entries(aux)),
      headerBytes: 9,
    });

  test("reads what a real server wrote", () => {
    expect(replicationAux(parseRdbHeader(EMPTY_7_0)!)).toEqual({
      streamDb: 0,
      position: { replid: REPLID as ReplicationId, offset: 41 },
      redisVersion: "7.0.15",
    });
  });

  test("finds nothing in an empty header", () => {
    expect(of({})).toEqual({ streamDb: 0, position: undefined, redisVersion: undefined });
  });

  test("reads the stream's database; 0 for none or nonsense", () => {
    expect(of({ "repl-stream-db": "7" }).streamDb).toBe(7);
    for (const db of ["-1", "", "x", "1.5", "1e400"]) {
      expect(of({ "repl-stream-db": db }).streamDb).toBe(0);
    }
  });

  test("reads a position only where both halves are sound", () => {
    expect(of({ "repl-id": REPLID }).position).toBeUndefined();
    expect(of({ "repl-offset": "1" }).position).toBeUndefined();
    expect(of({ "repl-id": "short", "repl-offset": "1" }).position).toBeUndefined();
    expect(of({ "repl-id": REPLID, "repl-offset": "-1" }).position).toBeUndefined();
  });

  test("reads Valkey's name for the version", () => {
    expect(of({ "valkey-ver": "9.0.0" }).redisVersion).toBe("9.0.0");
  });
});

test.each([
  ["gzip", Bun.gzipSync("REDIS0011"), "gzip -dc"],
  ["zstd", Bun.zstdCompressSync("REDIS0011"), "zstd -dc"],
  ["age", Buffer.from("age-encryption.org/v1\n"), "age -d"],
])("an RDB packed by %s is refused with how to unpack it", (_what, bytes, command) => {
  const error = errorOf(() => parsePreamble(bytes));
  expect(error).toMatchObject({ code: "BAD_PAYLOAD" });
  expect(error.message).toEndWith(`first, as in ${command}`);
});
