import { expect, test } from "bun:test";
import { SnapshotGate } from "../../../src/cluster/follow/snapshot-gate.ts";

const never = new AbortController().signal;

test("lets in as many as there are places, then whoever waits longest", async () => {
  const gate = new SnapshotGate(2);
  const [one, two] = [await gate.enter(never), await gate.enter(never)];
  const order: number[] = [];
  const third = gate.enter(never).then((free) => (order.push(3), free));
  const fourth = gate.enter(never).then((free) => (order.push(4), free));
  await Promise.resolve();
  expect([gate.waiting, order]).toEqual([2, []]);
  one!();
  // Once more changes nothing.
  one!();
  (await third)!();
  await fourth;
  expect([gate.waiting, order]).toEqual([0, [3, 4]]);
  two!();
  expect(await gate.enter(never)).toBeFunction();
});

test("whoever gives up waiting takes no place", async () => {
  const gate = new SnapshotGate(1);
  const free = await gate.enter(never);
  const giving = new AbortController();
  const given = gate.enter(giving.signal);
  const next = gate.enter(never);
  giving.abort();
  expect(await given).toBeUndefined();
  expect(gate.waiting).toBe(1);
  free!();
  expect(await next).toBeFunction();
  expect(await gate.enter(giving.signal)).toBeUndefined();
});
