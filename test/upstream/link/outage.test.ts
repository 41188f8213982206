import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../../src/base/errors.ts";
import { type Clock, realClock } from "../../../src/base/clock.ts";
import { LinkHistory } from "../../../src/upstream/link/link-history.ts";
import { Outage } from "../../../src/upstream/link/outage.ts";

/** A clock that stands still until it is moved. */
class StillClock implements Clock {
  ms = Date.UTC(2026, 0, 1);
  now = () => this.ms;
  monotonicMs = () => this.ms;
  sleep = realClock.sleep;
  random = () => 0.5;
}

const refused = new ReplicaError("CONNECT_FAILED", { message: "connection refused" });
const lost = new ReplicaError("LINK_LOST", { message: "the primary closed the link" });

test("an outage of half an hour is told once, each minute at first, then each ten minutes", () => {
  const clock = new StillClock();
  const outage = new Outage(clock);
  const told: (readonly [second: number, line: string])[] = [];
  for (let second = 0; second < 1_800; second += 4) {
    if (second > 0) outage.failedAttempts++;
    const line = outage.line(refused, "connection refused", false);
    if (line !== undefined) told.push([second, line]);
    clock.ms += 4_000;
  }
  const since = "no link since 2026-01-01T00:00:00.000Z";
  expect(told[0]).toEqual([0, "connection refused"]);
  expect(told[1]).toEqual([60, `connection refused; ${since}, 15 failed attempts so far`]);
  expect(told.map(([second]) => second)).toEqual([
    ...Array.from({ length: 10 }, (_, minute) => minute * 60),
    540 + 600,
    540 + 1_200,
  ]);
  expect(outage.cost(false)).toBe(
    "after 30 min without one: 449 failed attempts, then a partial resync",
  );
});

test("another error is told at once, but not without end where its text varies", () => {
  const clock = new StillClock();
  const outage = new Outage(clock);
  expect(outage.line(lost, "the primary closed the link", false)).toBeDefined();
  expect(outage.line(refused, "connection refused", false)).toBe("connection refused");
  for (const error of [lost, refused]) {
    expect(outage.line(error, error.message, false)).toBeUndefined();
  }
  const varied = Array.from({ length: 100 }, (_, n) => {
    const message = `-ERR at ${n}`;
    return outage.line(new ReplicaError("PRIMARY_REFUSED", { message }), message, false);
  });
  expect(varied.filter((line) => line !== undefined)).toHaveLength(6);
});

test("each attempt that cost the primary a fork is told", () => {
  const outage = new Outage(new StillClock());
  for (let count = 0; count < 20; count++) {
    expect(outage.line(lost, "after 1 GiB", true)).toBe("after 1 GiB");
  }
});

test("one outage is one break, by its first error; the attempts are counted apart", () => {
  const clock = new StillClock();
  const links = new LinkHistory(clock);
  const ended = { from: { at: "connecting" }, isFull: false, pausedMs: 0 } as const;
  const connected = { at: "connected", replid: undefined, receivedOffset: 1 } as const;
  // The primary is away at the start.
  links.failed(refused, ended);
  links.failed(refused, ended);
  expect([links.counts.get("CONNECT_FAILED"), links.failedAttempts.get("CONNECT_FAILED")]).toEqual([
    1, 2,
  ]);
  links.moved(connected, 0);
  expect(links.ended()?.cost(true)).toBe(
    "after 0.0 s without one: 2 failed attempts, then a full resync",
  );
  expect(links.ended()).toBeUndefined();

  links.failed(lost, { ...ended, from: connected });
  clock.ms += 28 * 60_000;
  for (let count = 0; count < 463; count++) links.failed(refused, ended);
  expect(Object.fromEntries(links.counts)).toEqual({ CONNECT_FAILED: 1, LINK_LOST: 1 });
  expect(Object.fromEntries(links.failedAttempts)).toEqual({ CONNECT_FAILED: 465 });
  links.moved(connected, 0);
  expect(links.ended()?.cost(false)).toContain("after 28 min without one: 463 failed attempts");

  // Another primary is another matter.
  links.failed(refused, ended);
  links.forget();
  links.moved(connected, 0);
  expect(links.ended()).toBeUndefined();
});

test("what was found out about an error doesn't run into it", () => {
  const links = new LinkHistory(new StillClock());
  links.note(refused);
  links.explain("the primary was restarted: it has been up for 3 s");
  expect(links.lastCause).toBe(
    "connection refused; the primary was restarted: it has been up for 3 s",
  );
  links.note(lost, "after 1.0 MiB in 2.0 s");
  links.explain("its log says why");
  expect(links.lastCause).toBe(
    "the primary closed the link after 1.0 MiB in 2.0 s; its log says why",
  );
});

test("errors that take turns are news once in an outage, and again in the next one", () => {
  const links = new LinkHistory(new StillClock());
  const ended = { from: { at: "connecting" }, isFull: false, pausedMs: 0 } as const;
  const newsOf = (errors: readonly ReplicaError[]) =>
    errors
      .filter((error) => {
        const { isAnother } = links.failed(error, ended);
        links.takeNews();
        return isAnother;
      })
      .map(({ message }) => message);
  const turns = Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? lost : refused));
  expect(newsOf(turns)).toEqual([lost.message, refused.message]);
  links.moved({ at: "connected", replid: undefined, receivedOffset: 1 }, 0);
  links.ended();
  expect(newsOf(turns)).toEqual([lost.message, refused.message]);
  // The last one is not told twice, though the link was up in between.
  links.ended();
  expect(newsOf([refused, lost])).toEqual([lost.message]);
});

describe("a link that ends at the full disk again at once", () => {
  const full = new ReplicaError("DISK_FULL", { message: "the disk is full" });
  const connected = { at: "connected", replid: undefined, receivedOffset: 1 } as const;
  const ended = { from: connected, isFull: false, pausedMs: 0 } as const;
  const rig = () => {
    const clock = new StillClock();
    const links = new LinkHistory(clock);
    /** A link comes up, holds and ends. Returns what is told of it. */
    const flap = (error: ReplicaError, heldMs: number) => {
      links.moved(connected, 0);
      const isUpTold = links.ended() !== undefined;
      clock.ms += heldMs;
      const { isAnother } = links.failed(error, ended);
      const { level } = links.takeNews();
      links.moved({ at: "connect" }, 0);
      clock.ms += 100;
      return [isUpTold, isAnother, level];
    };
    return { clock, links, flap };
  };

  test("is one outage, told once, and over once a link holds", () => {
    const { clock, links, flap } = rig();
    expect(flap(full, 60_000)).toEqual([false, true, "warn"]);
    expect(flap(full, 50)).toEqual([true, false, "debug"]);
    for (let time = 0; time < 20; time++) expect(flap(full, 50)).toEqual([false, false, "debug"]);
    expect(links.isFlapping).toBe(true);
    expect(Object.fromEntries(links.counts)).toEqual({ DISK_FULL: 1 });
    links.moved(connected, 0);
    expect(links.ended()).toBeUndefined();
    clock.ms += 10_001;
    expect(links.ended()?.cost(false)).toContain("21 failed attempts");
    expect(links.ended()).toBeUndefined();
    links.failed(full, ended);
    expect(links.takeNews().level).toBe("warn");
    expect(Object.fromEntries(links.counts)).toEqual({ DISK_FULL: 2 });
    expect(links.isFlapping).toBe(false);
  });

  test.each([
    ["held for a while", full, 11_000],
    ["ended for another reason", lost, 50],
  ])("another one that %s is a new outage", (_, error, heldMs) => {
    const { links, flap } = rig();
    flap(full, 60_000);
    flap(error, heldMs);
    expect(links.counts.values().reduce((sum, count) => sum + count)).toBe(2);
    expect(links.isFlapping).toBe(false);
  });
});
