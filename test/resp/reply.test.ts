import { expect, test } from "bun:test";
import {
  array,
  bool,
  bulk,
  error,
  integer,
  map,
  nil,
  push,
  simple,
  verbatim,
} from "../../src/resp/reply.ts";

test.each<[string, Uint8Array, string]>([
  ["simple", simple("OK"), "+OK\r\n"],
  ["simple, of two lines", simple("a\r\nb"), "+a b\r\n"],
  ["error", error("ERR no\r\n"), "-ERR no \r\n"],
  ["integer", integer(-5), ":-5\r\n"],
  ["integer of 64 bits", integer(2n ** 63n - 1n), ":9223372036854775807\r\n"],
  ["bulk, its length in bytes", bulk("é"), "$2\r\né\r\n"],
  ["bulk of bytes", bulk(Uint8Array.of(65)), "$1\r\nA\r\n"],
  ["bulk, null", bulk(null), "$-1\r\n"],
  ["nil, 2", nil(2), "$-1\r\n"],
  ["nil, 3", nil(3), "_\r\n"],
  ["bool, 2", bool(true, 2), ":1\r\n"],
  ["bool, 3", bool(false, 3), "#f\r\n"],
  ["array", array([integer(1), array([])]), "*2\r\n:1\r\n*0\r\n"],
  ["map, 2", map([[bulk("a"), integer(1)]], 2), "*2\r\n$1\r\na\r\n:1\r\n"],
  ["map, 3", map([[bulk("a"), integer(1)]], 3), "%1\r\n$1\r\na\r\n:1\r\n"],
  ["verbatim, 2", verbatim("é", 2), "$2\r\né\r\n"],
  ["verbatim, 3", verbatim("é", 3), "=6\r\ntxt:é\r\n"],
  ["push, 2", push([integer(1)], 2), "*1\r\n:1\r\n"],
  ["push, 3", push([integer(1)], 3), ">1\r\n:1\r\n"],
])("%s", (_name, encoded, expected) => {
  expect(Buffer.from(encoded).toString()).toBe(expected);
});
