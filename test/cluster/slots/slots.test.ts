import { expect, test } from "bun:test";
import { keySlot } from "../../../src/cluster/slots/key-slot.ts";
import {
  countSlots,
  formatRanges,
  hasSlot,
  parseRanges,
  rangesWhere,
} from "../../../src/cluster/slots/slot-ranges.ts";
import { keySlot as slotBitByBit } from "../../support/key-slot.ts";

test.each([
  ["123456789", 0x31c3 % 16_384],
  ["foo", 12_182],
  ["{user1000}.following", 3443],
  ["{user1000}.followers", 3443],
  ["foo{}{bar}", 8363],
  ["", 0],
])("the slot of %j is the one that the specification tells", (key, slot) => {
  expect(keySlot(Buffer.from(key))).toBe(slot);
});

test("the slot is the same as bit by bit, with braces anywhere", () => {
  const letters = ["{", "}", "a", "b", "é"];
  for (let number = 0; number < 3000; number++) {
    const digits = number.toString(letters.length).split("");
    const key = digits.map((digit) => letters[Number(digit)]).join("");
    expect(keySlot(Buffer.from(key)), key).toBe(slotBitByBit(key));
  }
});

test("ranges are the fewest, and are written and read as in nodes.conf", () => {
  const ranges = rangesWhere((slot) => slot < 3 || slot === 7 || slot > 16_380);
  expect(ranges).toEqual([
    [0, 2],
    [7, 7],
    [16_381, 16_383],
  ]);
  expect(formatRanges(ranges)).toBe("0-2 7 16381-16383");
  expect(parseRanges("0-2 7 16381-16383")).toEqual(ranges);
  expect(countSlots(ranges)).toBe(7);
  expect(hasSlot(ranges, 7)).toBe(true);
  expect(hasSlot(ranges, 8)).toBe(false);
  expect(parseRanges("")).toEqual([]);
  for (const wrong of ["1-", "16384", "5-3", "a", "[7->-x]", "-1"]) {
    expect(parseRanges(wrong), wrong).toBeUndefined();
  }
});
