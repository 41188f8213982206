import { expect, test } from "bun:test";
import type { FollowEvent } from "bun-replica";
import { EventBuffer } from "../../src/library/event-buffer.ts";

const moved = (received: number): FollowEvent => ({
  type: "moved",
  atMs: 1,
  received,
  written: received,
  durable: received,
});
const note = (text: string): FollowEvent => ({ type: "event", atMs: 2, kind: "break", text });

/** All that a buffer holds when it has ended. */
async function all(buffer: EventBuffer): Promise<FollowEvent[]> {
  return await Array.fromAsync(buffer.read());
}

test("keeps the order, and of cursors only the newest", async () => {
  const buffer = new EventBuffer();
  for (const event of [moved(1), note("a"), moved(2), moved(3), note("b")]) buffer.push(event);
  buffer.end(undefined);
  expect(await all(buffer)).toEqual([note("a"), moved(3), note("b")]);
});

test("drops the oldest beyond its bound, and says how many", async () => {
  const buffer = new EventBuffer();
  for (let n = 0; n < 1234; n++) buffer.push(note(String(n)));
  buffer.end(undefined);
  const [first, ...rest] = await all(buffer);
  expect(first).toMatchObject({ type: "dropped", count: 234 });
  expect(rest).toHaveLength(1000);
  expect(rest[0]).toEqual(note("234"));
});

test("a reader waits for what comes; the next one goes on where it stopped", async () => {
  const buffer = new EventBuffer();
  const waiting = buffer.read();
  const next = waiting.next();
  buffer.push(note("a"));
  expect((await next).value).toEqual(note("a"));
  await waiting.return();
  buffer.push(note("b"));
  const failure = new Error("over");
  buffer.end(failure);
  const reader = buffer.read();
  expect((await reader.next()).value).toEqual(note("b"));
  expect(await reader.next().catch((error: unknown) => error)).toBe(failure);
});
