import { expect, test } from "bun:test";
import { decimalLength, isInteger, textEncoding } from "../../../src/rdb/values/text.ts";
import { Random } from "../../support/fill.ts";
import { seedOf } from "../../support/sweep.ts";

const isOne = (text: string): boolean => {
  const bytes = Buffer.from(`[${text}]`);
  return isInteger(bytes, 1, bytes.length - 1);
};

test("a number of 64 bits is one as it is printed, and in no other form", () => {
  for (const text of ["0", "7", "-1", "10", "9223372036854775807", "-9223372036854775808"]) {
    expect(isOne(text)).toBe(true);
  }
  for (const text of [
    "",
    "-",
    "-0",
    "00",
    "01",
    "+1",
    " 1",
    "1 ",
    "1.0",
    "1e3",
    "0x1",
    "--1",
    "1-",
    "9223372036854775808",
    "-9223372036854775809",
    "9999999999999999999",
    "10000000000000000000",
    "92233720368547758070",
    "\u0661",
    "12a",
  ]) {
    expect(isOne(text)).toBe(false);
  }
  const random = new Random(seedOf("INTEGER_SEED"));
  const [least, most] = [-(2n ** 63n), 2n ** 63n - 1n];
  for (let n = 0; n < 2000; n++) {
    const near = random.below(2) === 0 ? most : least;
    const value = near + BigInt(random.below(2000) - 1000);
    expect(isOne(String(value))).toBe(value >= least && value <= most);
  }
});

test("a number's length is that of its text", () => {
  for (const value of [0, 5, -5, 9, 10, -10, 99, 100, 2_147_483_647, -2_147_483_648]) {
    expect(decimalLength(value)).toBe(String(value).length);
  }
});

test("a string's encoding follows from its length unless it is a number", () => {
  const encoding = (text: string) => textEncoding(Buffer.from(text), 0, text.length);
  expect(encoding("123")).toBe("int");
  expect(encoding("x".repeat(44))).toBe("embstr");
  expect(encoding("x".repeat(45))).toBe("raw");
  expect(encoding("1".repeat(45))).toBe("raw");
});
