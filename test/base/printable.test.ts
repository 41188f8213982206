import { describe, expect, test } from "bun:test";
import {
  printable,
  printableAscii,
  printableBytes,
  withoutSecret,
} from "../../src/base/printable.ts";

describe("printable", () => {
  test.each([
    ["control characters", "a\x1b[2Jb\x07\x9bc", "a?[2Jb??c"],
    ["line ends of every kind", "a\rb\nc\u2028d\u2029e", "a?b?c?d?e"],
    ["characters that reorder text, and invisible ones", "a\u202eb\u2066c\u200bd", "a?b?c?d"],
    ["halves of surrogate pairs", "a\ud83db\ude00c", "a?b?c"],
  ])("replaces %s", (_what, text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  test("keeps letters of every script, and emoji", () => {
    expect(printable("Größe 大きさ 😀")).toBe("Größe 大きさ 😀");
  });
});

test("printableAscii replaces all but printable ASCII, and cuts", () => {
  expect(printableAscii('+OK\r\n\x1b~ "\x7f\xff', 100)).toBe('+OK???~ "??');
  expect(printableAscii("abcdef", 3)).toBe("abc");
});

test("printableBytes cuts the line short, and replaces unprintable bytes", () => {
  expect(printableBytes(Buffer.from("a\x00\x1b\xffz", "latin1"))).toBe("a???z");
  expect(printableBytes(Buffer.from("x".repeat(200)))).toBe(`${"x".repeat(120)}…`);
});

test("an empty secret hides nothing", () => {
  expect(withoutSecret("-ERR AUTH failed…", "")).toBe("-ERR AUTH failed…");
});

describe("withoutSecret", () => {
  test.each([
    ["repeated", "-ERR AUTH s3cret s3cret", "-ERR AUTH *** ***"],
    ["cut short", "-ERR AUTH s3c…", "-ERR AUTH ***…"],
    ["not there", "-ERR AUTH failed…", "-ERR AUTH failed…"],
  ])("hides what is %s", (_what, text, shown) => {
    expect(withoutSecret(text, "s3cret")).toBe(shown);
  });

  test("hides it in each form in which it is shown", () => {
    const secret = "pä\x07ß";
    const said = Buffer.from(`-ERR ${secret}`);
    expect(withoutSecret(printableBytes(said), secret)).toBe("-ERR ***");
    expect(withoutSecret(printable(`-ERR ${secret}`), secret)).toBe("-ERR ***");
    expect(withoutSecret(printableAscii(`-ERR ${secret}`), secret)).toBe("-ERR ***");
  });

  test("without a secret nothing is hidden", () => {
    expect(withoutSecret("-ERR no", undefined)).toBe("-ERR no");
  });
});
