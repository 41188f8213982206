import { expect, test } from "bun:test";
import { isIP as nodeIsIP } from "node:net";
import fc from "fast-check";
import { isIP } from "../../src/base/address.ts";

const SEED = 20260106;
const parts = ["::", ":", "1", "ffff", "12345", "0", "1.2.3.4", "256.1.1.1", "01.2.3.4"];
const tails = ["", "%eth0", "%", "%1:2", ".", "\n", "]"];

test.each([
  ["127.0.0.1", 4],
  ["255.255.255.255", 4],
  ["1.2.3", 0],
  ["1.2.3.4.", 0],
  ["1.2.3.256", 0],
  ["01.2.3.4", 0],
  ["::", 6],
  ["::1", 6],
  ["1:2:3:4:5:6:7::", 6],
  ["1:2:3:4:5:6:7:8::", 0],
  ["1::2::3", 0],
  ["::ffff:1.2.3.4", 6],
  ["1.2.3.4::", 0],
  ["fe80::1%eth0", 6],
  ["localhost", 0],
  ["", 0],
])("%s is an address of version %p", (text, version) => {
  expect<number>(isIP(text)).toBe(version);
});

test("agrees with node:net", () => {
  const written = fc
    .tuple(fc.array(fc.constantFrom(...parts), { maxLength: 12 }), fc.constantFrom(...tails))
    .map(([groups, tail]) => groups.join("") + tail);
  fc.assert(
    fc.property(fc.oneof(written, fc.ipV4(), fc.ipV6(), fc.string()), (text) => {
      expect<number>(isIP(text)).toBe(nodeIsIP(text));
    }),
    { seed: SEED, numRuns: 2000 },
  );
});
