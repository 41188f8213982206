import { expect, test } from "bun:test";
import { splitInline } from "../../src/resp/inline.ts";

const split = (line: string) =>
  splitInline(new Uint8Array(Buffer.from(line, "latin1")))?.map((arg) =>
    Buffer.from(arg).toString("latin1"),
  );

test.each<[string, string[] | undefined]>([
  ["", []],
  [" \t ", []],
  ["PING", ["PING"]],
  ["  SET  a\tb ", ["SET", "a", "b"]],
  ["\"\" ''", ["", ""]],
  ["\"a b\" 'c d'", ["a b", "c d"]],
  ['"\\n\\r\\t\\b\\a\\"\\\\\\q"', ['\n\r\t\b\x07"\\q']],
  ['"\\x41\\xfF\\x4g\\x"', ["A\xffx4gx"]],
  ["'\\n\\'a\\b'", ["\\n'a\\b"]],
  ["'a\\\\'", undefined],
  ['pre"fix ed"', ["prefix ed"]],
  ["a\\nb", ["a\\nb"]],
  ["a\x0bb \x0b c", ["a\x0bb", "c"]],
  ['"a"b', undefined],
  ["'a'b", undefined],
  ['"a', undefined],
  ["'a", undefined],
  ['"a\\"', undefined],
  ['"a\\', undefined],
  ['"\\x4', undefined],
])("%p", (line, args) => {
  expect(split(line)).toEqual(args);
});
