import { expect, test } from "bun:test";
import { inBatches } from "../../src/library/batches.ts";

const never = new AbortController().signal;

/** Gives whatever is ready now time to run. */
const settle = async () => await Bun.sleep(0);

test("a batch is made once the one before is read", async () => {
  let made = 0;
  const items = inBatches<number>(async (give) => {
    for (const batch of [[1, 2], [], [3], [4, 5]]) {
      made++;
      await give(batch);
    }
  }, never);
  const seen: [item: number, made: number][] = [];
  for await (const item of items) {
    await settle();
    seen.push([item, made]);
  }
  expect(seen).toEqual([
    [1, 1],
    [2, 1],
    [3, 3],
    [4, 4],
    [5, 4],
  ]);
});

test("what the producer throws comes after what it gave", async () => {
  const failure = new Error("broken");
  const seen: number[] = [];
  const read = async () => {
    for await (const item of inBatches<number>(async (give) => {
      await give([1, 2]);
      throw failure;
    }, never))
      seen.push(item);
  };
  expect(await read().catch((error: unknown) => error)).toBe(failure);
  expect(seen).toEqual([1, 2]);
  const atOnce = inBatches<number>(() => Promise.reject(failure), never);
  expect(await atOnce.next().catch((error: unknown) => error)).toBe(failure);
});

test("a reader that leaves ends the producer, and waits for its end", async () => {
  let ended = "";
  const items = inBatches<number>(async (give, signal) => {
    try {
      for (let n = 0; ; n++) {
        signal.throwIfAborted();
        await give([n, n]);
      }
    } finally {
      await settle();
      ended = signal.aborted ? "aborted" : "by itself";
    }
  }, never);
  for await (const item of items) if (item === 2) break;
  expect(ended).toBe("aborted");
});

test("nothing is produced before somebody reads, nor without end where nobody goes on", async () => {
  let made = 0;
  const items = inBatches<number>(async (give) => {
    for (; made < 10; made++) await give([made]);
  }, never);
  await settle();
  expect(made).toBe(0);
  expect(await items.next()).toEqual({ done: false, value: 0 });
  await settle();
  expect(made).toBe(0);
  await items.return();
  expect(made).toBeLessThan(3);
});
