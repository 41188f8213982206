import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Clock, realClock } from "../../../src/base/clock.ts";
import { momentOf } from "../../../src/cli/commands/moment-options.ts";
import { restore } from "../../../src/cli/commands/restore.ts";
import { TIME_FORMS } from "../../../src/cli/times/parse-time.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { follow } from "../../support/following.ts";
import { ModelPrimary } from "../../support/model-primary.ts";
import { runReplica, startReplica } from "../../support/replica-process.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";
import { inZone } from "../times/in-zone.ts";
import { Screen } from "./screen.ts";

const HOUR_MS = 60 * 60 * 1000;
/** Half an hour ahead of a whole hour, and of the zone that any machine is likely to have. */
const ZONE = { TZ: "Asia/Kolkata" };
const UNDERSTOOD = /^--at (\S+) is (\S+Z), which is (\S+\+05:30) in local time\n/;

/** A history whose primary wrote two hours ago, an hour ago and now, and the last offset of each. */
let dir: TempDir;
const ends: number[] = [];

beforeAll(async () => {
  dir = tempDir("times");
  await using primary = new ModelPrimary();
  for (const behindMs of [2 * HOUR_MS, HOUR_MS, 0]) {
    const clock: Clock = { ...realClock, now: () => realClock.now() - behindMs };
    await using replica = follow(primary.url, realDisk, dir, {}, undefined, clock);
    await replica.connected();
    primary.write("SET", "behind", behindMs);
    await until(() => replica.replica.log?.durableOffset === primary.offset, { what: "a mark" });
    ends.push(primary.offset);
  }
});

afterAll(() => {
  dir[Symbol.dispose]();
});

/** What `replica snapshots` says of the only generation. */
async function keptTimes(): Promise<{ from_time: string; to_time: string }> {
  const { stdout } = await runReplica(["snapshots", dir.file("data"), "--json"]);
  return JSON.parse(stdout).generations[0];
}

function context(nowMs: number, given: Record<string, string>, logFormat = "text") {
  const flags = new Map([["log-format", logFormat]]);
  return {
    settings: loadSettings({ flags, env: {} }),
    args: [],
    options: new Map(Object.entries(given)),
    env: {},
    clock: { ...realClock, now: () => nowMs },
    signal: new AbortController().signal,
    stdout: new Screen(),
    stderr: new Screen(),
  };
}

/** Reads the options as a command does; returns the moment and what was told of it. */
async function read(given: Record<string, string>, from = "/nonexistent", nowMs = 0) {
  const { stdout, stderr, ...more } = context(nowMs, given);
  const streams = { stdout: stdout.output, stderr: stderr.output };
  const moment = await momentOf({ ...more, ...streams }, from);
  return { moment, stdout: stdout.text, stderr: stderr.text };
}

describe("the options", () => {
  const nowMs = Date.parse("2026-01-31T12:34:56.789Z");

  test("tell a time once, in UTC and in local time", async () => {
    const told = await inZone("Europe/Berlin", () =>
      read({ at: "now-15m" }, "/nonexistent", nowMs),
    );
    expect(told).toEqual({
      moment: { atMs: nowMs - 15 * 60_000, offset: undefined, generation: undefined },
      stdout: "",
      stderr:
        "--at now-15m is 2026-01-31T12:19:56.789Z, which is 2026-01-31T13:19:56.789+01:00 in local time\n",
    });
  });

  test("tell nothing where no time is given", async () => {
    const { moment, stdout, stderr } = await read({ offset: "5", generation: "2" });
    expect(moment).toEqual({ atMs: undefined, offset: 5, generation: 2 });
    expect([stdout, stderr]).toEqual(["", ""]);
  });

  test("name the forms where the source can't be read", async () => {
    const error = await rejectionOf(() => read({ at: "yesterday" }));
    expect(error.code).toBe("USAGE");
    expect(error.message).toBe(`--at is "yesterday": it takes ${TIME_FORMS}`);
    for (const form of [
      "ISO 8601",
      "unix seconds",
      "(13 digits)",
      "now-90s",
      "now-15m",
      "now-2h",
    ]) {
      expect(TIME_FORMS).toContain(form);
    }
  });

  test("name the forms and the kept times where it can", async () => {
    const kept = await keptTimes();
    const range = `the kept times are from ${kept.from_time} to ${kept.to_time}`;
    const given: [Record<string, string>, string][] = [
      [{ at: "" }, '"": it takes '],
      [{ at: "now-1h30m" }, '"now-1h30m": give one amount: 90m, not 1h30m; it takes '],
      [{ at: "now+5m", generation: "1" }, '"now+5m": what is kept ends before now; it takes '],
    ];
    for (const [options, told] of given) {
      const error = await rejectionOf(() => read(options, dir.file("data")));
      expect(error.message).toBe(`--at is ${told}${TIME_FORMS}; ${range}`);
    }
    const other = await rejectionOf(() => read({ at: "x", generation: "7" }, dir.file("data")));
    expect(other.message).toEndWith(TIME_FORMS);
  });

  test("quote no more than a hundred characters of a wrong time", async () => {
    const error = await rejectionOf(() => read({ at: "x".repeat(5_000) }));
    expect(error.message).toStartWith(`--at is "${"x".repeat(100)}": it takes `);
  });
});

test("the present is the clock's: a moment is found in the history as of then", async () => {
  const kept = await keptTimes();
  // Before the second write by this clock, which is set back since.
  const { stdout, stderr, ...more } = context(Date.parse(kept.from_time) + HOUR_MS / 2, {
    at: "now",
  });
  const streams = { stdout: stdout.output, stderr: stderr.output };
  const args = [dir.file("data"), dir.file("then")];
  expect(await restore({ ...more, ...streams, args })).toBe(0);
  expect(stdout.text).toContain(` up to offset ${ends[0]}, as of `);
});

describe("restore", () => {
  test.each([
    ["now", 2],
    ["now-30m", 1],
    ["now-90m", 0],
    ["now-5400s", 0],
    ["unix milliseconds", 1],
  ])("--at %s restores what was there then", async (text, index) => {
    const at = text === "unix milliseconds" ? String(Date.now() - HOUR_MS / 2) : text;
    const argv = ["restore", dir.file("data"), dir.file(`at ${text}`), "--at", at, "--json"];
    const { exitCode, stdout, stderr } = await runReplica(argv, { env: ZONE });
    expect([exitCode, stderr]).toEqual([0, expect.stringMatching(UNDERSTOOD)]);
    expect(JSON.parse(stdout)).toMatchObject({ offset: ends[index] });
    const [, given, utc = "", local = ""] = UNDERSTOOD.exec(stderr)!;
    expect([given, Date.parse(local)]).toEqual([at, Date.parse(utc)]);
  });

  test("tells what it understood before it refuses a time that is not kept", async () => {
    const { from_time: from, to_time: to } = await keptTimes();
    const target = dir.file("none");
    const argv = ["restore", dir.file("data"), target, "--at", "now-1d", "--json"];
    const { exitCode, stdout, stderr } = await runReplica(argv, { env: ZONE });
    const [first = "", second = ""] = stderr.split("\n");
    expect([exitCode, stdout, `${first}\n`]).toEqual([2, "", expect.stringMatching(UNDERSTOOD)]);
    expect(second).toEndWith(` is not kept: the kept times are from ${from} to ${to}`);
    expect(existsSync(target)).toBe(false);
  });

  test("tells it as a log line where the log is JSON", async () => {
    const argv = ["restore", dir.file("data"), dir.file("logged"), "--at", "now-30m"];
    const { exitCode, stderr } = await runReplica([...argv, "--log-format", "json"], { env: ZONE });
    expect(exitCode).toBe(0);
    const lines = stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).message);
    expect(`${lines[0]}\n`).toMatch(UNDERSTOOD);
  });
});

test("follow --offline serves the moment, and tells first how it was understood", async () => {
  const argv = ["follow", "--offline", "--dir", dir.file("data"), "--port", "0"];
  const refused = await runReplica([...argv, "--at", "tomorrow"]);
  const { from_time: from } = await keptTimes();
  expect([refused.exitCode, refused.stderr]).toEqual([
    2,
    expect.stringContaining(`${TIME_FORMS}; the kept times are from ${from} to `),
  ]);
  await using replica = startReplica([...argv, "--at", "now-30m"], { env: ZONE });
  await replica.waitForLine(new RegExp(`serving generation \\d+ up to offset ${ends[1]}`));
  expect((await replica.stop()).exitCode).toBe(0);
  expect(replica.stderr).toMatch(UNDERSTOOD);
});
