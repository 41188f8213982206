import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { realClock } from "../../../src/base/clock.ts";
import type { CommandContext } from "../../../src/cli/commands/command.ts";
import { fileProgress } from "../../../src/cli/commands/file-progress.ts";
import { keys } from "../../../src/cli/commands/keys.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { rejectionOf } from "../../support/error-of.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";
import { Screen } from "./screen.ts";

let dir: TempDir;
let file: string;

beforeAll(() => {
  dir = tempDir("keys-command");
  file = dir.file("small.rdb");
  const parts = [Buffer.from("REDIS0009"), Buffer.from([0xfe, 0])];
  for (let n = 0; n < 400; n++) {
    const key = Buffer.from(n % 4 === 0 ? `order:${n}` : `user:${n}`);
    parts.push(Buffer.from([0, key.length]), key, Buffer.from([1, 0x78]));
  }
  parts.push(Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 0]));
  writeFileSync(file, Buffer.concat(parts));
});
afterAll(() => dir.remove());

function contextOf(screen: Screen, given: Record<string, string>, signal: AbortSignal) {
  const context: CommandContext = {
    settings: loadSettings({ flags: new Map(), env: {} }),
    args: [file],
    options: new Map(Object.entries(given)),
    env: {},
    clock: realClock,
    signal,
    stdout: screen.output,
    stderr: new Screen().output,
  };
  return context;
}

const never = new AbortController().signal;

describe("the report", () => {
  test("on a terminal has bars and colours", async () => {
    const screen = new Screen({ isTty: true, hasColors: true, columns: 90 });
    expect(await keys(contextOf(screen, {}, never))).toBe(0);
    expect(screen.text).toContain("\x1b[36m█");
    expect(screen.plain).toMatch(/\nuser: +300 .* 75% █{18}\norder: +100 .* 25% █{6}\n/);
  });

  test("on a terminal without colours has bars of ASCII", async () => {
    const screen = new Screen({ isTty: true, hasColors: false, columns: 90 });
    await keys(contextOf(screen, {}, never));
    expect(screen.text).toMatch(/\nuser: +300 .* 75% #{18}\n/);
    expect(screen.text).toMatch(/^[\n -~]*$/);
  });

  test("elsewhere has neither, nor has JSON on a terminal", async () => {
    const pipe = new Screen({ isTty: false });
    await keys(contextOf(pipe, {}, never));
    expect(pipe.text).toMatch(/\nuser: +300 +\d+ +-\n/);
    expect(pipe.text).not.toMatch(/[█#%]/);
    const terminal = new Screen({ isTty: true, hasColors: true });
    await keys(contextOf(terminal, { json: "true" }, never));
    expect(JSON.parse(terminal.text)).toMatchObject({ keys: 400 });
  });
});

test("prefixes end where --separators and --prefix-depth say, and --top limits them", async () => {
  const prefixes = async (given: Record<string, string>) => {
    const screen = new Screen();
    await keys(contextOf(screen, { json: "true", ...given }, never));
    const found = JSON.parse(screen.text) as {
      prefixes: { by_keys: { prefix: string; keys: number }[] } | null;
    };
    return found.prefixes?.by_keys.map(({ prefix, keys: count }) => `${prefix} ${count}`);
  };
  expect(await prefixes({})).toEqual(["user: 300", "order: 100"]);
  expect(await prefixes({ top: "1" })).toEqual(["user: 300"]);
  expect(await prefixes({ separators: "e" })).toEqual(["use 300", "orde 100"]);
  expect(await prefixes({ separators: "se", "prefix-depth": "2" })).toEqual([
    "use 300",
    "orde 100",
  ]);
  expect(await prefixes({ "prefix-depth": "0" })).toBeUndefined();
});

test("a stop ends it without a report", async () => {
  const screen = new Screen();
  const stopped = new ReplicaError("STOPPED", { message: "stopped by SIGINT", retry: "never" });
  const error = await rejectionOf(() => keys(contextOf(screen, {}, AbortSignal.abort(stopped))));
  expect([error, screen.text]).toEqual([stopped, ""]);
});

test("what is read without an end that is known shows its bytes and its rate, once there are many", () => {
  const screen = new Screen({ isTty: true });
  const progress = fileProgress(screen.output, true);
  progress.look("standard input", 1_000, undefined);
  expect(screen.text).toBe("");
  progress.look("standard input", 100 * 1024 * 1024, undefined);
  progress.end();
  expect(screen.plain).toContain("standard input  100.0 MiB  ");
});
