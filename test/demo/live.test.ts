import { expect, test } from "bun:test";
import { LiveData } from "../../src/demo/live.ts";

const NOW_MS = 1_900_000_000_000;

test("makes the same writes from the same seed", () => {
  const first = new LiveData(3);
  const second = new LiveData(3);
  for (let n = 0; n < 500; n += 1) expect(first.next(NOW_MS)).toEqual(second.next(NOW_MS));
});

test("keeps the number of keys bounded", () => {
  const live = new LiveData(4);
  for (let n = 0; n < 50_000; n += 1) live.next(NOW_MS);
  expect(live.keysIn(0)).toBeLessThan(1000);
  expect(live.keysIn(1)).toBeLessThan(1000);
});

test("deletes expired keys with DEL, and leaves them out of snapshots", () => {
  const live = new LiveData(5);
  let sessions = 0;
  for (let n = 0; n < 500; n += 1) {
    const [command] = live.next(NOW_MS + n * 1000).commands;
    if (command?.[1]?.startsWith("live:session:")) sessions += 1;
  }
  expect(sessions).toBeGreaterThan(10);
  expect(live.expire(NOW_MS)).toEqual([]);
  const before = live.section(0);
  const some = live.expire(NOW_MS + 3_700_000);
  expect(some.length).toBeGreaterThan(0);
  expect(some.length).toBeLessThan(before.keysWithExpiry);
  expect(live.section(0).keysWithExpiry).toBe(before.keysWithExpiry - some.length);
  live.expire(NOW_MS + 10_000_000);
  expect(live.section(0).keysWithExpiry).toBe(0);
});
