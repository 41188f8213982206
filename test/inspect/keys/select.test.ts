import { expect, test } from "bun:test";
import { nthSmallest } from "../../../src/inspect/keys/select.ts";
import { Random } from "../../support/fill.ts";
import { seedOf } from "../../support/sweep.ts";

test("finds what sorting would put at a place", () => {
  const random = new Random(seedOf("SELECT_SEED"));
  for (let run = 0; run < 2_000; run++) {
    const range = [1, 2, 10, 1_000_000][random.below(4)]!;
    const values = Float64Array.from({ length: 1 + random.below(200) }, () => random.below(range));
    const n = random.below(values.length);
    expect(nthSmallest(values.slice(), n)).toBe(values.toSorted()[n]!);
  }
});

/** An order in which the middle of three is always among the smallest (Musser, "Introspective sorting", 1997). */
function killerOf(half: number): Float64Array {
  const odd = Array.from({ length: half }, (_, n) => (n % 2 === 0 ? n + 1 : half + n));
  const even = Array.from({ length: half }, (_, n) => 2 * (n + 1));
  return Float64Array.from([...odd, ...even]);
}

test("takes no long time for values in the worst order", () => {
  const values = killerOf(200_000);
  const sorted = values.toSorted();
  const n = values.length - 5;
  expect(nthSmallest(values, n)).toBe(sorted[n]!);
});
