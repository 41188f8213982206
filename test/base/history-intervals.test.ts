import { expect, test } from "bun:test";
import {
  contains,
  historiesFrom,
  historyAfter,
  intervalOf,
  parseReplicationId,
  type ReplicationIdFrom,
} from "../../src/base/history.ts";

const [A, B, C] = ["a", "b", "c"].map((letter) => parseReplicationId(letter.repeat(40))) as [
  ReplicationIdFrom["replid"],
  ReplicationIdFrom["replid"],
  ReplicationIdFrom["replid"],
];
/** A stream that was in A from 100, in B from 200, in A again from 300. */
const histories: ReplicationIdFrom[] = [
  { replid: A, fromOffset: 100 },
  { replid: B, fromOffset: 200 },
  { replid: A, fromOffset: 300 },
];

test("an interval reaches from a history's beginning to the next one's, both included", () => {
  const interval = intervalOf(histories, B)!;
  expect(interval).toMatchObject({ fromOffset: 200, toOffset: 300 });
  const inside = [199, 200, 300, 301].map((offset) => contains(interval, offset));
  expect(inside).toEqual([false, true, true, false]);
});

test("the last interval counts where a stream was in a history twice, and has no end", () => {
  expect(intervalOf(histories, A)).toMatchObject({ fromOffset: 300, toOffset: Infinity });
  expect(intervalOf(histories, C)).toBeUndefined();
});

test("historyAfter names the history of the next byte", () => {
  const found = [99, 100, 199, 200, 300].map((offset) => historyAfter(histories, offset));
  expect(found).toEqual([undefined, A, A, B, A]);
});

test("historiesFrom begins at a position in the stream, and refuses one that is not in it", () => {
  expect(historiesFrom(histories, { replid: B, offset: 250 })).toEqual([
    { replid: B, fromOffset: 250 },
    { replid: A, fromOffset: 300 },
  ]);
  expect(historiesFrom(histories, { replid: B, offset: 199 })).toBeUndefined();
  expect(historiesFrom(histories, { replid: A, offset: 150 })).toBeUndefined();
  expect(historiesFrom(histories, { replid: C, offset: 250 })).toBeUndefined();
});
