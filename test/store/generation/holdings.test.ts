import { expect, test } from "bun:test";
import { type Carrier, Holdings } from "../../../src/store/generation/holdings.ts";
import type { Ledger } from "../../../src/store/ledger/ledger.ts";

/** An archive that has what a test says. */
function holdings() {
  const archived = new Map<number, number>();
  const whole = new Set<number>();
  const told: (number | "changed")[] = [];
  const carrier: Carrier = {
    moved: (settledOffset) => void told.push(settledOffset),
    changed: () => void told.push("changed"),
    archivedOffset: (id) => archived.get(id),
    has: (id) => whole.has(id),
    want: () => undefined,
  };
  // Nothing of it is asked here.
  const held = new Holdings({} as Ledger);
  held.carrier = carrier;
  return { held, archived, whole, told };
}

const mark = (durableOffset: number) => ({ atMs: 0, durableOffset });

test("while a new base is not archived, the stream is, as far as the generations before it are", () => {
  const { held, archived, whole } = holdings();
  expect(held.archivedOffset).toBe(0);
  held.begin(1, mark(100));
  held.add(1, mark(500));
  expect(held.archivedOffset).toBe(0);
  archived.set(1, 400);
  expect(held.archivedOffset).toBe(400);
  held.begin(2, mark(450), true);
  expect(held.archivedOffset).toBe(400);
  // All of the first is there, and the archive is at the base of the second.
  archived.delete(1);
  whole.add(1);
  expect(held.archivedOffset).toBe(500);
  held.add(2, mark(700));
  held.begin(3, mark(650), true);
  expect(held.archivedOffset).toBe(500);
  archived.set(2, 600);
  expect(held.archivedOffset).toBe(600);
  archived.set(3, 650);
  expect(held.archivedOffset).toBe(650);
});

test("what is archived of another history counts for nothing", () => {
  const { held, archived, whole } = holdings();
  held.begin(1, mark(5_000));
  archived.set(1, 5_000);
  held.begin(2, mark(100));
  archived.delete(1);
  whole.add(1);
  expect(held.archivedOffset).toBe(0);
});

test("the archive is told how far the marks of the current generation are settled", () => {
  const { held, told } = holdings();
  const asked: number[] = [];
  const log = (settledOffset: number) => ({
    settledOffset,
    settle: (to: number) => asked.push(to),
  });
  held.begin(1, mark(100));
  // Nothing comes of a log that isn't open.
  expect(held.settledOffset(1)).toBeUndefined();
  const first = log(100);
  held.opened(1, first);
  held.add(1, mark(200));
  first.settledOffset = 150;
  held.settled(1);
  expect(told).toEqual(["changed", 150]);
  held.settle(1, 180);
  expect(asked).toEqual([180]);
  // While a log that failed is being closed, its last mark may still be replaced.
  const second = log(200);
  held.opened(1, second);
  expect(held.settledOffset(1)).toBe(150);
  held.closed(1, first);
  expect([held.settledOffset(1), told]).toEqual([200, ["changed", 150]]);
  held.begin(2, mark(300));
  held.settled(1);
  held.closed(1, second);
  expect([held.settledOffset(1), told]).toEqual([
    undefined,
    ["changed", 150, "changed", "changed"],
  ]);
});
