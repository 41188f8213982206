import { expect, test } from "bun:test";
import { Gathering } from "../../../src/upstream/link/gathering.ts";

/** A link that is given chunks at times that the test says, and the rests that it is told to take. */
class FakeLink {
  nowMs = 0;
  isResting = false;
  readonly rests: number[] = [];
  readonly #ends: (() => void)[] = [];
  readonly gathering = new Gathering({
    monotonicMs: () => this.nowMs,
    sleep: (ms) => {
      this.rests.push(ms);
      return new Promise((resolve) => void this.#ends.push(resolve));
    },
  });

  rest(): void {
    this.isResting = true;
  }

  goOn(): void {
    this.isResting = false;
  }

  /** A chunk comes; returns how long the link rests after it, and lets that time pass. */
  async comes(bytes: number): Promise<number> {
    this.gathering.after(bytes, this);
    const restMs = this.rests.pop() ?? 0;
    expect(this.isResting).toBe(restMs > 0);
    this.nowMs += restMs;
    for (const end of this.#ends.splice(0)) end();
    await Promise.resolve();
    await Promise.resolve();
    expect(this.isResting).toBe(false);
    return restMs;
  }

  /** So many chunks, with so much time between their ends of rest. */
  async restsOf(chunks: number, bytes: number, everyMs: number): Promise<number[]> {
    const found: number[] = [];
    for (let chunk = 0; chunk < chunks; chunk++) {
      const restMs = await this.comes(bytes);
      found.push(restMs);
      this.nowMs += Math.max(0, everyMs - restMs);
    }
    return found;
  }
}

test("of a steady stream of small chunks, each that comes close behind another is followed by a rest of 50 ms", async () => {
  // What was gathered comes at the end of the rest.
  expect(await new FakeLink().restsOf(5, 64, 10)).toEqual([0, 50, 0, 50, 0]);
});

test("chunks that come seldom are read as they come", async () => {
  expect(await new FakeLink().restsOf(5, 64, 20)).toEqual([0, 0, 0, 0, 0]);
});

test("the faster the stream, the shorter the rest: the primary never has to wait for room", async () => {
  // 1.6 MB/s: 32 KiB come in 20 ms.
  expect(await new FakeLink().restsOf(2, 16_384, 10)).toEqual([0, 20]);
  // 64 MB/s.
  expect(await new FakeLink().restsOf(5, 65_536, 1)).toEqual([0, 0, 0, 0, 0]);
});

test("after a GETACK nothing rests for ten minutes", async () => {
  const link = new FakeLink();
  link.gathering.asked();
  expect(await link.restsOf(4, 64, 10)).toEqual([0, 0, 0, 0]);
  link.nowMs = 599_000;
  expect(await link.restsOf(4, 64, 10)).toEqual([0, 0, 0, 0]);
  link.nowMs = 600_001;
  expect(await link.restsOf(4, 64, 10)).toEqual([0, 50, 0, 50]);
});

test("a rest that is ended lets what has come be read, and one that isn't there costs nothing", () => {
  const link = new FakeLink();
  expect(link.gathering.end(link)).toBeUndefined();
  link.rest();
  expect(link.gathering.end(link)).toBeInstanceOf(Promise);
  expect(link.isResting).toBe(false);
});
