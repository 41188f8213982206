import { expect, test } from "bun:test";
import { restoreCommand, shellWord } from "../../../src/monitor/browser/command.ts";
import { coveredSpans, gapAt, generationAt } from "../../../src/monitor/browser/covered.ts";
import type { GenerationEntry, TimelineEntry } from "../../../src/monitor/browser/document.ts";
import { ageText, countText, momentText, sizeText } from "../../../src/monitor/browser/words.ts";
import { runProgram } from "../../support/run-program.ts";

const AT_MS = Date.UTC(2026, 11, 1, 16, 40, 12, 987);

test("the command names the source, a new target, and the second, rounded down", () => {
  expect(restoreCommand("s3://backups/orders", AT_MS)).toBe(
    "replica restore s3://backups/orders restored-20261201T164012Z --at 2026-12-01T16:40:12Z",
  );
  expect(restoreCommand("-rf", AT_MS)).toStartWith("replica restore ./-rf ");
});

test("a shell takes each word as it is, whatever is in it", async () => {
  const words = [
    "/var/lib/a",
    "a b",
    "it's",
    "$(touch x)",
    "`id`",
    "a\nb",
    "*",
    "~",
    "é",
    "",
    '"',
    "\\",
    "a;b",
    "-x",
  ];
  const { stdout } = await runProgram(
    ["sh", "-c", `printf '%s\\0' ${words.map((word) => shellWord(word)).join(" ")}`],
    { timeoutMs: 60_000, env: {} },
  );
  expect(stdout.split("\0").slice(0, -1)).toEqual(words);
});

function generation(id: number, from_ms: number, to_ms: number): GenerationEntry {
  const state = id === 2 ? "current" : "sealed";
  const rest = {
    sealed_reason: null,
    from_offset: 0,
    to_offset: 1,
    rdb_bytes: 1,
    archived: "none",
  } as const;
  return { id, state, from_ms, to_ms, ...rest };
}

test("what is covered is what the generations span, without the gaps", () => {
  const timeline: TimelineEntry = {
    oldest_ms: 100,
    newest_ms: 1_000,
    archived_ms: null,
    generations: [generation(1, 100, 400), generation(2, 500, 900)],
    gaps: [
      { from_ms: 200, to_ms: 250 },
      { from_ms: 400, to_ms: 500 },
    ],
  };
  expect(coveredSpans(timeline)).toEqual([
    { fromMs: 100, toMs: 200 },
    { fromMs: 250, toMs: 400 },
    { fromMs: 500, toMs: 1_000 },
  ]);
  expect(gapAt(timeline, 450)).toEqual({ from_ms: 400, to_ms: 500 });
  expect([gapAt(timeline, 400), gapAt(timeline, 999)]).toEqual([undefined, undefined]);
  expect([99, 100, 450, 500].map((ms) => generationAt(timeline, ms)?.id)).toEqual([
    undefined,
    1,
    1,
    2,
  ]);
  expect(coveredSpans({ ...timeline, newest_ms: null })).toEqual([]);
  // A cluster names none.
  expect(coveredSpans({ ...timeline, generations: [], gaps: [] })).toEqual([
    { fromMs: 100, toMs: 1_000 },
  ]);
});

test("sizes, ages, counts and moments read as in the rest of the program", () => {
  expect([0, 1023, 1024, 8 * 1024 ** 3].map(sizeText)).toEqual([
    "0 B",
    "1023 B",
    "1.0 KiB",
    "8.0 GiB",
  ]);
  expect([999, 60_000, 3_600_000 * 25, -5].map(ageText)).toEqual([
    "0 s",
    "1 min",
    "1 d 1 h",
    "0 s",
  ]);
  expect(countText(1_234_567)).toBe("1\u202f234\u202f567");
  expect(momentText(AT_MS)).toBe("2026-12-01 16:40:12 UTC");
});
