import { describe, expect, test } from "bun:test";
import { printable, printableAscii, printableBytes } from "../../src/base/printable.ts";

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
