import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  jsonLine,
  printable,
  printableAscii,
  printableBytes,
  printableName,
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

describe("jsonLine", () => {
  const hostile = "\x1b[31m \x7f \x85 \x9b31m \u2028 \u202e \ufeff \u{e0041} \ud800 ä 😀";

  test("means what JSON means", () => {
    expect(JSON.parse(jsonLine({ [hostile]: [hostile, 1, null] }))).toEqual({
      [hostile]: [hostile, 1, null],
    });
  });

  test("holds nothing that a terminal acts on", () => {
    const text = jsonLine(hostile);
    expect(printable(text)).toBe(text);
    expect(text).toContain("\\u009b31m");
    expect(text).toContain("ä 😀");
  });
});

describe("printableName", () => {
  test.each([
    ["user:42:name", "user:42:name"],
    ["Größe 大きさ 😀", "Größe 大きさ 😀"],
    ["", '""'],
    [" ", '" "'],
    ["a ", '"a "'],
    ["\u{feff}a", String.raw`"\xef\xbb\xbfa"`],
    ['say "a"', String.raw`"say \"a\""`],
    [String.raw`a\n`, String.raw`"a\\n"`],
    ["a\r\n\tb\0", String.raw`"a\r\n\tb\x00"`],
    ["a\u202eb", String.raw`"a\xe2\x80\xaeb"`],
  ])("shows %j as %s", (name, shown) => {
    expect(printableName(Buffer.from(name))).toBe(shown);
  });

  test.each([
    [[0xff, 0x61], String.raw`"\xffa"`],
    [[0x61, 0xc3], String.raw`"a\xc3"`],
    [[0xc3, 0xa4, 0x80, 0xf0, 0x9f, 0x98], '"ä\\x80\\xf0\\x9f\\x98"'],
    [[0xc0, 0x80], String.raw`"\xc0\x80"`],
  ])("shows the bytes %j as %s", (name, shown) => {
    expect(printableName(Uint8Array.from(name))).toBe(shown);
  });

  test("shows no two names alike, and never more than one line", () => {
    const all = new Map<string, string>();
    const bytes = fc.uint8Array({ maxLength: 6 });
    const few = fc.array(fc.constantFrom(0x22, 0x5c, 0x6e, 0x78, 0x0a, 0x20, 0xc3, 0xa4));
    fc.assert(
      fc.property(fc.oneof(bytes, few), (given) => {
        const name = Uint8Array.from(given);
        const shown = printableName(name);
        const hex = Buffer.from(name).toString("hex");
        expect(all.get(shown) ?? hex).toBe(hex);
        all.set(shown, hex);
        expect(printable(shown)).toBe(shown);
      }),
      { numRuns: 5_000 },
    );
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
