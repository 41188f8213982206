import { expect, test } from "bun:test";
import { PAGE_STATES } from "../../support/page-states.ts";

test("the state is told as one would say it", () => {
  const told = Object.entries(PAGE_STATES).map(([name, make]) => {
    const { headline } = make();
    return [name, headline.tone, headline.state];
  });
  expect(told).toEqual([
    ["following", "good", "following"],
    ["receiving", "busy", "receiving 3.1 GiB of 8.0 GiB, 43 s left"],
    ["stale", "bad", "stale for 28 min"],
    ["behind", "bad", "behind by 1 min"],
    ["offline", "idle", "serving offline"],
    ["cluster", "bad", "2 of 3 shards ready"],
  ]);
});
