import { expect, test } from "bun:test";
import { DurableAge } from "../../src/replica/durable-age.ts";

/** An age by a clock of the test's. */
function aged(fsync: "always" | "everysec" | "no" = "everysec") {
  let nowMs = 0;
  const age = new DurableAge(() => nowMs, fsync);
  return { age, pass: (ms: number) => void (nowMs += ms) };
}

test("the age is that of the oldest byte that is not durable", () => {
  const { age, pass } = aged();
  const log = { receivedOffset: 10, writtenOffset: 10, durableOffset: 10 };
  age.sample(log);
  pass(1000);
  expect(age.seconds(log)).toBe(0);
  log.receivedOffset = 20;
  age.sample(log);
  pass(2000);
  log.receivedOffset = 30;
  age.sample(log);
  pass(1000);
  expect(age.seconds(log)).toBe(3);
  log.durableOffset = 20;
  expect(age.seconds(log)).toBe(1);
  log.durableOffset = 30;
  expect(age.seconds(log)).toBe(0);
});

test("starts afresh for a log of lower offsets", () => {
  const { age, pass } = aged();
  const before = { receivedOffset: 1_000_000, writtenOffset: 5, durableOffset: 5 };
  age.sample(before);
  pass(2000);
  // Away while it is opened again.
  age.sample(undefined);
  expect(age.seconds(undefined)).toBe(2);
  const after = { receivedOffset: 100, writtenOffset: 100, durableOffset: 100 };
  expect(age.seconds(after)).toBe(0);
  age.sample(after);
  after.receivedOffset = 200;
  age.sample(after);
  pass(4000);
  expect(age.seconds(after)).toBe(4);
  after.durableOffset = 200;
  expect(age.seconds(after)).toBe(0);
});

test("with --fsync no, which syncs nothing, a written byte counts as kept", () => {
  const { age, pass } = aged("no");
  const log = { receivedOffset: 20, writtenOffset: 10, durableOffset: 0 };
  age.sample(log);
  pass(2000);
  expect(age.seconds(log)).toBe(2);
  log.writtenOffset = 20;
  expect(age.seconds(log)).toBe(0);
});
