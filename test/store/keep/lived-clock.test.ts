import { expect, test } from "bun:test";
import { LivedClock, thisMachine } from "../../../src/store/keep/lived-clock.ts";
import { FakeMachine } from "../../support/fake-machine.ts";

const HOUR = 3_600_000;
const BEGAN = 1_700_000_000_000;

test("goes on from process to process in one boot, and begins where it is told", () => {
  const machine = new FakeMachine();
  const first = new LivedClock(machine, undefined, BEGAN);
  expect(first.now()).toBe(BEGAN);
  machine.pass(HOUR);
  expect(first.now()).toBe(BEGAN + HOUR);
  const { moment } = first;
  machine.pass(HOUR);
  const second = new LivedClock(machine, moment, 5);
  expect([second.now(), second.betweenMs]).toEqual([BEGAN + 2 * HOUR, HOUR]);
});

test("stands still from a process's last word to the next boot", () => {
  const machine = new FakeMachine();
  const { moment } = new LivedClock(machine, undefined, BEGAN);
  machine.pass(HOUR);
  machine.reboot();
  // Longer than the other boot had been.
  machine.pass(100 * HOUR);
  const next = new LivedClock(machine, moment, 5);
  expect([next.now(), next.betweenMs]).toEqual([BEGAN, 0]);
  machine.pass(HOUR);
  expect(next.now()).toBe(BEGAN + HOUR);
});

test("never goes back, as in a container that counts its uptime anew in the same boot", () => {
  const machine = new FakeMachine();
  const clock = new LivedClock(machine, undefined, BEGAN);
  machine.pass(-HOUR);
  expect(clock.now()).toBe(BEGAN);
  expect(new LivedClock(machine, { ...clock.moment, uptimeMs: 9e9 }, 5).now()).toBe(BEGAN);
  machine.pass(HOUR);
  expect(clock.now()).toBe(BEGAN + HOUR);
});

test("this machine has an uptime that doesn't fall, and a boot", () => {
  expect(thisMachine.bootId).not.toBe("");
  const before = thisMachine.uptimeMs();
  expect(before).toBeGreaterThan(0);
  expect(thisMachine.uptimeMs()).toBeGreaterThanOrEqual(before);
});
