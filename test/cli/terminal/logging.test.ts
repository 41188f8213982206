import { getLogger, resetSync } from "@logtape/logtape";
import { afterEach, expect, test } from "bun:test";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { Screen } from "../commands/screen.ts";

afterEach(resetSync);

type Options = Parameters<typeof configureLogging>[0];

function logging(level: Options["level"], format: Options["format"], screen = new Screen()) {
  configureLogging({ level, format, output: screen.output });
  return { screen, logger: getLogger(["replica"]) };
}

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /;

test("text: time, level, message, key=value", () => {
  const { screen, logger } = logging("info", "text");
  logger.info("resumed", { offset: 12, from: "a b", nothing: undefined, list: [1, "x"], big: 5n });
  logger.warn("slow");
  const [first = "", second = ""] = screen.text.split("\n");
  expect(first).toMatch(time);
  expect(first.replace(time, "")).toBe(
    'info  resumed offset=12 from="a b" list="[1,\\"x\\"]" big=5',
  );
  expect(second.replace(time, "")).toBe("warn  slow");
});

test("leaves out properties that the message contains; doubled braces are literal", () => {
  const { screen, logger } = logging("info", "text");
  logger.info("to {host}", { host: "h", port: 1 });
  logger.info("a {{port}}", { port: 1 });
  const lines = screen.text.split("\n").map((line) => line.replace(time, ""));
  expect(lines).toEqual(["info  to h port=1", "info  a {port} port=1", ""]);
});

test("one line, whatever a peer sends", () => {
  const { screen, logger } = logging("info", "text");
  logger.error("it said {line}", { line: "a\r\n2026 info forged\x1b[2J", other: "x\ny" });
  expect(screen.text.trimEnd().split("\n")).toHaveLength(1);
  expect(screen.text).not.toContain("\x1b");
  expect(screen.text).toContain("it said a\\r\\n2026 info forged\\u001b[2J");
});

test("json: one object per line", () => {
  const { screen, logger } = logging("info", "json");
  logger.info("to {host}", { host: "h\n", bytes: 5n, level: "mine" });
  logger.warn("again", { error: new ReplicaError("TIMED_OUT", { message: "no reply" }) });
  const [first, second] = screen.text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(first.time).toMatch(/Z$/);
  expect(first).toMatchObject({ level: "info", message: "to h\\n", bytes: "5", host: "h\n" });
  expect(first).toHaveProperty("level_", "mine");
  expect(second).toMatchObject({
    level: "warn",
    message: "again",
    error: { message: "no reply", code: "TIMED_OUT" },
  });
  expect(second.error.stack).toBeUndefined();
});

test.each([
  ["debug", ["debug", "info", "warn", "error"]],
  ["info", ["info", "warn", "error"]],
  ["warn", ["warn", "error"]],
  ["error", ["error"]],
] as const)("--log-level %s", (level, written) => {
  const { screen, logger } = logging(level, "json");
  logger.debug("x");
  logger.info("x");
  logger.warn("x");
  logger.error("x");
  const lines = screen.text.trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line).level)).toEqual([...written]);
});

test("errors come with their stack only at debug", () => {
  const cause = new Error("no reply");
  for (const [level, has] of [
    ["debug", true],
    ["info", false],
  ] as const) {
    for (const format of ["text", "json"] as const) {
      const { screen, logger } = logging(level, format);
      logger.error("failed", { cause });
      expect(screen.text.includes("logging.test.ts")).toBe(has);
      expect(screen.text.trimEnd()).not.toContain("\n");
    }
  }
});

test("a terminal gets colours by the level, and the same text", () => {
  const screen = new Screen({ isTty: true, hasColors: true });
  const { logger } = logging("debug", "text", screen);
  logger.debug("a");
  logger.info("b", { offset: 12 });
  logger.warn("c");
  logger.error("d \x1b[31m");
  const lines = screen.text.trimEnd().split("\n");
  // What stands before the level, behind the time's end.
  const colors = lines.map((line) => /Z\S* (.*?m)(?:debug|info|warn|error)/.exec(line)?.[1]);
  expect(new Set(colors).size).toBe(4);
  for (const color of colors) expect(color).toStartWith("\x1b[");
  expect(screen.plain.split("\n").map((line) => line.replace(time, ""))).toEqual([
    "debug a",
    "info  b offset=12",
    "warn  c",
    // What a peer sends colours nothing.
    "error d \\u001b[31m",
    "",
  ]);
});

test.each([
  ["not a terminal", { isTty: false, hasColors: true }, "text"],
  ["NO_COLOR", { isTty: true, hasColors: false }, "text"],
  ["JSON", { isTty: true, hasColors: true }, "json"],
] as const)("no colours: %s", (_, options, format) => {
  const screen = new Screen(options);
  const { logger } = logging("debug", format, screen);
  logger.warn("slow", { offset: 12 });
  logger.error("gone");
  expect(screen.text).toContain("slow");
  expect(screen.text).not.toContain("\x1b");
});
