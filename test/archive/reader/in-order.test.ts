import { describe, expect, test } from "bun:test";
import { thrownBy } from "../../support/error-of.ts";
import { inOrder } from "../../../src/archive/reader/in-order.ts";
import { Random } from "../../../src/demo/random.ts";

const never = new AbortController().signal;

/** Work that ends when the test says so, for each item. */
class Works {
  readonly begun: number[] = [];
  readonly ended: number[] = [];
  readonly #ends = new Map<number, PromiseWithResolvers<number>>();

  readonly work = (item: number, signal: AbortSignal): Promise<number> => {
    this.begun.push(item);
    const end = Promise.withResolvers<number>();
    this.#ends.set(item, end);
    signal.addEventListener("abort", () => {
      this.ended.push(item);
      end.reject(signal.reason as Error);
    });
    return end.promise;
  };

  finish(item: number): void {
    this.#ends.get(item)!.resolve(item);
  }

  fail(item: number, error: Error): void {
    this.#ends.get(item)!.reject(error);
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("inOrder", () => {
  test("gives the results in the order of the items, whichever work ends first", async () => {
    const random = new Random(7);
    const items = Array.from({ length: 50 }, (_, n) => n);
    const work = async (item: number) => {
      for (let turns = random.below(20); turns > 0; turns--) await settled();
      return item * 2;
    };
    const found: number[] = [];
    for await (const result of inOrder(items, { things: 7, bytes: 100 }, () => 1, work, never))
      found.push(result);
    expect(found).toEqual(items.map((item) => item * 2));
  });

  test("never has more under way than things and bytes allow, but always one", async () => {
    const works = new Works();
    const costs = [6, 3, 50, 1, 1, 1];
    const results = inOrder(
      [0, 1, 2, 3, 4, 5],
      { things: 2, bytes: 10 },
      (n) => costs[n]!,
      works.work,
      never,
    );
    const first = results.next();
    await settled();
    expect(works.begun).toEqual([0, 1]);
    works.finish(0);
    expect((await first).value).toBe(0);
    const second = results.next();
    await settled();
    // Item 2 costs more than all that is allowed, and waits until it is alone.
    expect(works.begun).toEqual([0, 1]);
    works.finish(1);
    expect((await second).value).toBe(1);
    const third = results.next();
    await settled();
    expect(works.begun).toEqual([0, 1, 2]);
    works.finish(2);
    expect((await third).value).toBe(2);
    const fourth = results.next();
    await settled();
    expect(works.begun).toEqual([0, 1, 2, 3, 4]);
    works.finish(3);
    await fourth;
    await results.return(undefined);
    expect(works.ended).toContain(4);
  });

  test("throws the first error in the order of the items, and ends the work that is under way", async () => {
    const works = new Works();
    const results = inOrder([0, 1, 2], { things: 3, bytes: 10 }, () => 1, works.work, never);
    const first = results.next();
    await settled();
    works.fail(1, new Error("the second"));
    works.finish(0);
    expect((await first).value).toBe(0);
    expect(await thrownBy(results.next())).toThrow("the second");
    expect(works.ended).toContain(2);
    expect((await results.next()).done).toBe(true);
  });

  test("ends with the reason of its signal, and waits for no work that goes on", async () => {
    const works = new Works();
    const stop = new AbortController();
    const results = inOrder([0, 1], { things: 2, bytes: 10 }, () => 1, works.work, stop.signal);
    const first = results.next();
    await settled();
    stop.abort(new Error("stopped"));
    expect(await thrownBy(first)).toThrow("stopped");
    expect(works.ended.toSorted()).toEqual([0, 1]);
  });
});
