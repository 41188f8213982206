import { expect, spyOn, test } from "bun:test";
import { realClock } from "../../src/base/clock.ts";
import { logger } from "../../src/base/logger.ts";
import { Told, TOLD_LINES, TOLD_MS } from "../../src/downstream/told.ts";

test("however many replicas attach, the log gets so many lines a minute, and how many were left out", () => {
  using info = spyOn(logger, "info").mockImplementation(() => undefined);
  const lines = () => info.mock.calls.map(([message]) => message);
  let nowMs = 1_000;
  const told = new Told({ ...realClock, monotonicMs: () => nowMs });
  for (let line = 0; line < TOLD_LINES + 7; line++) told.info(`line ${line}`, {});
  expect(lines()).toEqual(Array.from({ length: TOLD_LINES }, (_, line) => `line ${line}`));
  nowMs += TOLD_MS - 1;
  told.tick();
  told.info("still too many", {});
  expect(lines()).toHaveLength(TOLD_LINES);
  nowMs += 1;
  told.tick();
  told.info("one more", { offset: 5 });
  expect(lines().slice(TOLD_LINES)).toEqual([
    "8 more lines about downstreams were left out",
    "one more",
  ]);
  expect(info.mock.lastCall).toEqual(["one more", { offset: 5 }]);
  nowMs += TOLD_MS;
  told.tick();
  expect(lines()).toHaveLength(TOLD_LINES + 2);
});
