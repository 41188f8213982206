import { expect, test } from "bun:test";
import { Biggest } from "../../../src/inspect/keys/biggest.ts";
import { Random } from "../../support/fill.ts";
import { seedOf } from "../../support/sweep.ts";

test("keeps what sorting would put first", () => {
  const random = new Random(seedOf("BIGGEST_SEED"));
  for (let run = 0; run < 200; run++) {
    const most = random.below(20);
    const sizes = Array.from({ length: random.below(200) }, () => random.below(50));
    const biggest = new Biggest<{ size: number; turn: number }>(most);
    for (const [turn, size] of sizes.entries()) biggest.add(size, { size, turn });
    const wanted = sizes
      .map((size, turn) => ({ size, turn }))
      .toSorted((a, b) => b.size - a.size || a.turn - b.turn)
      .slice(0, most);
    expect(biggest.items()).toEqual(wanted);
  }
});

test("says beforehand what it takes", () => {
  const biggest = new Biggest<string>(2);
  expect(biggest.takes(0)).toBe(true);
  biggest.add(5, "five");
  biggest.add(7, "seven");
  expect([biggest.takes(5), biggest.takes(6)]).toEqual([false, true]);
  expect(new Biggest(0).takes(1)).toBe(false);
});
