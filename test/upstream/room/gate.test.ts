import { expect, test } from "bun:test";
import { FIRST_BYTES, RoomGate } from "../../../src/upstream/room/gate.ts";

const CHUNK = FIRST_BYTES / 4;

/** A gate to a writer of the test's; `answer` says how much room there is for what is asked. */
function gated(answer: (bytes: number) => number | Promise<number>, totalBytes?: number) {
  const seen = { asked: [] as number[], written: [] as number[], rooms: 0 };
  const gate = new RoomGate({
    totalBytes,
    roomFor: (bytes) => {
      seen.asked.push(bytes);
      return answer(bytes);
    },
    writer: { write: (bytes) => void seen.written.push(bytes[0]!), queuedBytes: 0 },
    onRoom: () => void seen.rooms++,
  });
  let sent = 0;
  const send = (bytes: number) => {
    for (; bytes > 0; bytes -= CHUNK) {
      gate.pass(new Uint8Array(Math.min(CHUNK, bytes)).fill(sent++ % 256));
    }
  };
  return { gate, seen, send };
}

test("room is looked for before the first byte, and then for as much again as has come, up to a limit", () => {
  const { gate, seen, send } = gated((bytes) => bytes);
  send(300 * FIRST_BYTES);
  const mib = seen.asked.map((bytes) => bytes / FIRST_BYTES);
  expect(mib).toEqual([1, 1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
  expect(seen.written).toHaveLength(1200);
  expect(gate.isWaiting).toBe(false);
});

test("never for more than is still to come", () => {
  const { seen, send } = gated((bytes) => bytes, 3 * FIRST_BYTES + 10);
  send(3 * FIRST_BYTES + 10);
  expect(seen.asked).toEqual([FIRST_BYTES, FIRST_BYTES, FIRST_BYTES + 10]);
});

test("bytes are held while room is made, and go on in their order", async () => {
  let made = Promise.withResolvers<number>();
  const { gate, seen, send } = gated(() => made.promise);
  send(2 * CHUNK);
  expect(gate.isWaiting).toBe(true);
  expect(seen.written).toEqual([]);
  const settled = gate.settled();
  const { resolve } = made;
  made = Promise.withResolvers();
  resolve(CHUNK);
  while (seen.written.length === 0) await Promise.resolve();
  // There was room for the first one alone.
  expect(seen.written).toEqual([0]);
  expect(gate.isWaiting).toBe(true);
  send(CHUNK);
  made.resolve(FIRST_BYTES);
  await settled;
  expect(seen).toMatchObject({ written: [0, 1, 2], rooms: 2 });
  expect(gate.isWaiting).toBe(false);
});

test("where there is no room at all they go on, for the disk to say so", async () => {
  const { gate, seen, send } = gated(async () => -5);
  send(2 * FIRST_BYTES);
  await gate.settled();
  expect(seen.written).toHaveLength(8);
  expect(seen.asked).toHaveLength(2);
});

test("what is given up goes nowhere", async () => {
  const { gate, seen, send } = gated(async (bytes) => bytes);
  send(CHUNK);
  gate.giveUp();
  await gate.settled();
  expect(seen.written).toEqual([]);
  expect(gate.isWaiting).toBe(false);
});

test("whoever gives up doesn't wait for the room", async () => {
  const made = Promise.withResolvers<number>();
  const { gate, seen, send } = gated(() => made.promise);
  send(CHUNK);
  const settled = gate.settled();
  gate.giveUp();
  await settled;
  made.resolve(FIRST_BYTES);
  await made.promise;
  expect(seen.written).toEqual([]);
});
