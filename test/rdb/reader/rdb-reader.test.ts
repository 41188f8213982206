import { describe, expect, test } from "bun:test";
import { RdbError } from "../../../src/rdb/reader/rdb-error.ts";
import { errorOf } from "../../support/error-of.ts";
import { rdbOf } from "../../support/rdb-bytes.ts";
import { read } from "./read.ts";
import { CASES } from "./written-rdbs.ts";

/** What is larger is cut at a few places only. */
const LARGE_BYTES = 50_000;

describe.each(CASES)("$name", ({ format, parts, told, events, values }) => {
  const rdb = rdbOf(format, ...parts);
  const whole = read(rdb, [rdb.length]);
  const step = rdb.length > LARGE_BYTES ? rdb.length >>> 4 : Math.ceil(rdb.length / 200);

  test("is read as it was written", () => {
    expect(whole.told).toMatchObject([...told]);
    if (events !== undefined) expect(whole.events).toEqual([...events]);
    const given = values?.map((value) => Buffer.from(value).toString("latin1"));
    expect(whole.values).toEqual(given ?? whole.standing);
    const { keys, bytes, checked } = whole.summary;
    expect({ keys, bytes, checked }).toEqual({
      keys: told.length,
      bytes: rdb.length,
      checked: !/REDIS000[1-4]/.test(format),
    });
  });

  test("is the same in pieces of any length", () => {
    const lengths = rdb.length > LARGE_BYTES ? [3, 1000] : [1, 2, 3, 7, 64, 1000];
    for (const length of lengths) expect(read(rdb, [length])).toEqual(whole);
    for (let cut = 1; cut < rdb.length; cut += step) {
      expect(read(rdb, [cut, rdb.length])).toEqual(whole);
    }
  });

  test("cut anywhere, it ends too early", () => {
    for (let bytes = 0; bytes < rdb.length; bytes += step) {
      const error = errorOf(() => read(rdb.subarray(0, bytes), [rdb.length]));
      expect(error).toBeInstanceOf(RdbError);
      expect(error).toMatchObject({ code: "BAD_PAYLOAD", byte: bytes });
      expect(String(error)).toContain("ends too early");
    }
  });
});
