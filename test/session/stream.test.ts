import { describe, expect, test } from "bun:test";
import { bytes, GETACK, REPLID, TO_PSYNC, Walk } from "./walk.ts";

const resumed = () =>
  Walk.said({ resume: { replid: REPLID, offset: 100 } }, ...TO_PSYNC, "+CONTINUE");

describe("stream: REPLCONF GETACK", () => {
  test("is acknowledged at once, itself included, however it is cut in three", () => {
    const all = bytes(`before${GETACK}after`);
    const end = 100 + "before".length + GETACK.length;
    for (let a = 0; a <= all.length; a++) {
      for (let b = a; b <= all.length; b++) {
        const walk = resumed();
        for (const piece of [all.subarray(0, a), all.subarray(a, b), all.subarray(b)]) {
          walk.say(piece);
        }
        expect(walk.acknowledged()).toEqual([100, end]);
        expect(walk.state).toMatchObject({ receivedOffset: 100 + all.length });
      }
    }
  });

  test("is part of the stream: every byte of it counts and is kept", () => {
    const walk = resumed();
    walk.say(GETACK);
    expect(walk.stream()).toBe(GETACK);
  });

  test("its bytes are kept before they are acknowledged", () => {
    const done = resumed().say(GETACK);
    expect(done.map((effect) => effect.do)).toEqual(["stream", "acknowledge"]);
  });

  test("half of one is forgotten with its link", () => {
    const walk = resumed();
    walk.say(GETACK.slice(0, 20));
    walk.step({ type: "leave" });
    walk.step({ type: "follow" });
    walk.attempt();
    walk.step({ type: "opened", nowMs: 0 });
    for (const line of [...TO_PSYNC, "+CONTINUE"]) walk.say(`${line}\r\n`);
    const before = walk.acknowledged().length;
    walk.say(GETACK.slice(20));
    expect(walk.acknowledged()).toHaveLength(before);
  });
});

test("stream: an ACK goes out every second; a GETACK, which may have to wait, doesn't put it off", () => {
  const walk = resumed();
  const count = () => walk.acknowledged().length;
  expect(count()).toBe(1);
  walk.tick(600);
  walk.say(GETACK);
  expect(count()).toBe(2);
  walk.tick(400);
  expect(count()).toBe(3);
  walk.tick(600);
  expect(count()).toBe(3);
});

test("stream: an empty chunk changes nothing", () => {
  expect(resumed().say("")).toEqual([]);
});
