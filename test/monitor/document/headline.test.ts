import { expect, test } from "bun:test";
import { headlineOf } from "../../../src/monitor/document/headline.ts";
import { FOLLOWING, PAGE_STATES } from "../../support/page-states.ts";

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

test("what the primary doesn't tell of a snapshot is an estimate, and its fork is told", () => {
  const of = (link: Partial<typeof FOLLOWING.link>) => {
    const bytesPerSecond = { ...FOLLOWING.bytesPerSecond, received: 2 ** 20 };
    const { state, text } = headlineOf(
      { ...FOLLOWING, link: { ...FOLLOWING.link, state: "transfer", ...link }, bytesPerSecond },
      undefined,
    );
    return `${state}: ${text}`;
  };
  const transfer = { readBytes: 2 ** 30, totalBytes: undefined, expectedBytes: 1.1 * 2 ** 30 };
  expect(of({ transfer })).toStartWith(
    "receiving 1.0 GiB of about 1.1 GiB, about 1 min left (estimate): ",
  );
  const unknown = of({ transfer: { ...transfer, expectedBytes: undefined } });
  expect(unknown).toStartWith("receiving 1.0 GiB: ");
  expect(of({ preparingSeconds: 12.4 })).toContain("the primary is preparing it (fork), for 12 s");
  expect(of({})).toContain("the primary has not begun to send it");
});
