import { expect, test } from "bun:test";
import { type Carrier, Holdings } from "../../../src/store/generation/holdings.ts";
import type { Ledger } from "../../../src/store/ledger/ledger.ts";

/** An archive that has what a test says. */
function holdings() {
  const archived = new Map<number, number>();
  const whole = new Set<number>();
  const carrier: Carrier = {
    moved: () => undefined,
    changed: () => undefined,
    archivedOffset: (id) => archived.get(id),
    has: (id) => whole.has(id),
    want: () => undefined,
  };
  // Nothing of it is asked here.
  const held = new Holdings({} as Ledger);
  held.carrier = carrier;
  return { held, archived, whole };
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
