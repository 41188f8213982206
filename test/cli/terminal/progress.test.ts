import { expect, test } from "bun:test";
import { Progress } from "../../../src/cli/terminal/progress.ts";
import { Screen } from "../commands/screen.ts";

const mebibyte = 1024 * 1024;

/** The last line drawn after these steps, a second apart. */
function lastLine(totalBytes: number | undefined, steps: readonly number[]): string {
  const screen = new Screen({ isTty: true });
  let nowMs = 1000;
  const progress = new Progress({ output: screen.output, enabled: true, nowMs: () => nowMs });
  progress.begin("snapshot", totalBytes);
  for (const bytes of steps) {
    nowMs += 1000;
    progress.update(bytes);
  }
  progress.end();
  return screen.plain.split("\r").findLast((line) => line !== "") ?? screen.plain;
}

test("shows bytes, share, rate and time left if the length is known", () => {
  const line = lastLine(100 * mebibyte, [10 * mebibyte, 25 * mebibyte]);
  expect(line).toContain(" 25%  25.0 MiB of 100.0 MiB  12.5 MiB/s  0:06 left");
  expect(line).toContain("snapshot [====---");
});

test("shows bytes and rate if the length is unknown ($EOF)", () => {
  expect(lastLine(undefined, [3 * mebibyte])).toContain("snapshot  3.0 MiB  3.0 MiB/s");
});

test("shows an estimate of what is left where there is one, from when it is known on", () => {
  const screen = new Screen({ isTty: true });
  let nowMs = 0;
  const progress = new Progress({ output: screen.output, enabled: true, nowMs: () => nowMs });
  const shown = () => screen.plain.split("\r").findLast((line) => line !== "") ?? "";
  progress.begin("snapshot", undefined);
  expect(shown()).toContain("snapshot  0 B  0 B/s");
  nowMs = 1000;
  progress.update(mebibyte, 4 * mebibyte);
  progress.end();
  expect(shown()).toContain("snapshot  1.0 MiB of about 4.0 MiB  1.0 MiB/s  0:03 left (estimate)");
  // The estimate was too low: it is no more.
  progress.begin("snapshot", undefined);
  progress.update(5 * mebibyte);
  nowMs = 2000;
  progress.end();
  expect(shown()).toContain("snapshot  5.0 MiB  5.0 MiB/s");
});

test("shows what is waited for, and for how long", () => {
  const screen = new Screen({ isTty: true });
  let nowMs = 1000;
  const progress = new Progress({ output: screen.output, enabled: true, nowMs: () => nowMs });
  progress.wait("the primary forks");
  expect(screen.plain).toContain("the primary forks  0:00");
  nowMs += 65_900;
  progress.begin("snapshot", 100);
  progress.end();
  expect(screen.plain).toContain("the primary forks  1:05");
  expect(screen.plain.indexOf("snapshot [")).toBeGreaterThan(screen.plain.indexOf("forks  1:05"));
});

test("fits into 80 columns, however large the numbers are", () => {
  const screen = new Screen({ isTty: true, columns: 200 });
  let nowMs = 0;
  const progress = new Progress({ output: screen.output, enabled: true, nowMs: () => nowMs });
  const huge = 1000 * 1024 ** 4;
  for (const totalBytes of [huge, undefined]) {
    progress.begin("snapshot", totalBytes);
    nowMs += 1_000_000_000;
    progress.update(huge / 2, huge);
    progress.end();
  }
  const lines = screen.plain.split("\r").filter((line) => line.includes("left"));
  expect(lines.length).toBeGreaterThan(1);
  for (const line of lines) expect([line, line.trimEnd().length <= 80]).toEqual([line, true]);
});

test("shows no time left at the start, or while nothing arrives", () => {
  expect(lastLine(mebibyte, [])).toContain("0%  0 B of 1.0 MiB  0 B/s  --:-- left");
  expect(lastLine(mebibyte, [0, 0])).toContain("--:-- left");
});

test("shows 100 % for an empty transfer, and never more", () => {
  expect(lastLine(0, [0])).toContain("100%");
  expect(lastLine(10, [20])).toContain("100%");
});

test("shows hours", () => {
  expect(lastLine(10_000 * mebibyte, [mebibyte])).toContain("2:46:39 left");
});

test("cuts the line at the terminal's width", () => {
  const screen = new Screen({ isTty: true, columns: 20 });
  const progress = new Progress({ output: screen.output, enabled: true });
  progress.begin("snapshot", 100);
  progress.end();
  for (const line of screen.plain.split("\r")) expect(line.length).toBeLessThanOrEqual(20);
});

test("clears the line at the end and leaves the summary", () => {
  const screen = new Screen({ isTty: true });
  const progress = new Progress({ output: screen.output, enabled: true });
  progress.begin("snapshot", 100);
  progress.end("all there");
  progress.end("said once");
  expect(screen.text).toEndWith("\r\x1b[Kall there\n");
});

test("redraws the line below text that is written meanwhile", async () => {
  const screen = new Screen({ isTty: true });
  const progress = new Progress({ output: screen.output, enabled: true, nowMs: () => 0 });
  progress.begin("snapshot", 100);
  screen.output.write("a log line\n");
  expect(screen.text).toEndWith("\r\x1b[Ka log line\n");
  const soFar = screen.text.length;
  // The bar redraws ten times per second on its own timer.
  while (screen.text.length === soFar) await Bun.sleep(5);
  expect(screen.plain.slice(-100)).toContain("snapshot [");
  progress.end();
  // Saving and restoring the cursor would overwrite the log line.
  expect(screen.text).not.toContain("\x1b7");
  expect(screen.text).not.toContain("\x1b8");
});

test.each([
  ["no terminal", false, true],
  ["--no-progress", true, false],
])("%s: nothing at all", (_name, isTty, enabled) => {
  const screen = new Screen({ isTty });
  const progress = new Progress({ output: screen.output, enabled });
  progress.begin("snapshot", 100);
  progress.update(50);
  progress.end("summary");
  expect(screen.text).toBe("");
});
