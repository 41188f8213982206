import { styleText } from "node:util";
import { configureSync, type LogLevel, type LogRecord } from "@logtape/logtape";
import type { Settings } from "../../config/settings.ts";
import type { Output } from "./output.ts";

/**
 * Sends all logs to `output`: as text, `2026-11-24T00:15:32.123Z info  message key=value`, or as one JSON
 * object per line with `time`, `level`, `message` and the properties. On a terminal text has colours, JSON never. Replaces
 * any earlier configuration.
 * @param options.level the lowest level to write; at `debug`, errors come with their stack.
 */
export function configureLogging(options: {
  level: Settings["logLevel"];
  format: Settings["logFormat"];
  output: Output;
}): void {
  const withStack = options.level === "debug";
  const { hasColors } = options.output;
  const format = (record: LogRecord) =>
    options.format === "json"
      ? jsonLine(record, withStack)
      : textLine(record, withStack, hasColors);
  configureSync({
    reset: true,
    sinks: { output: (record) => options.output.write(format(record)) },
    loggers: [
      {
        category: ["replica"],
        lowestLevel: options.level === "warn" ? "warning" : options.level,
        sinks: ["output"],
      },
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["output"] },
    ],
  });
}

/** A level by the name that --log-level uses. */
function levelName(level: LogLevel): string {
  switch (level) {
    case "trace":
      return "debug";
    case "warning":
      return "warn";
    case "fatal":
      return "error";
    default:
      return level;
  }
}

const levelColors: Readonly<Record<string, Parameters<typeof styleText>[0]>> = {
  debug: "gray",
  info: "green",
  warn: ["bold", "yellow"],
  error: ["bold", "red"],
};

function textLine(record: LogRecord, withStack: boolean, hasColors: boolean): string {
  const paint = (format: Parameters<typeof styleText>[0], text: string): string =>
    hasColors && text !== "" ? styleText(format, text, { validateStream: false }) : text;
  // Doubled braces are literal.
  const template = String(record.rawMessage).replaceAll("{{", "").replaceAll("}}", "");
  const pairs = Object.entries(record.properties)
    // Properties that the message already contains are left out.
    .filter(([name, value]) => value !== undefined && !template.includes(`{${name}}`))
    .map(([name, value]) => ` ${name}=${textValue(value, withStack)}`);
  const time = new Date(record.timestamp).toISOString();
  const level = levelName(record.level);
  const shown = paint(levelColors[level] ?? "reset", level.padEnd(5));
  return `${paint("dim", time)} ${shown} ${messageText(record)}${paint("dim", pairs.join(""))}\n`;
}

function jsonLine(record: LogRecord, withStack: boolean): string {
  const line: Record<string, unknown> = {
    time: new Date(record.timestamp).toISOString(),
    level: levelName(record.level),
    message: messageText(record),
  };
  for (const [name, value] of Object.entries(record.properties)) {
    line[Object.hasOwn(line, name) ? `${name}_` : name] = value;
  }
  return `${toJson(line, withStack)}\n`;
}

/** The message on one line: with a line end in it, a peer's text could pass for a log line. */
function messageText(record: LogRecord): string {
  const parts = record.message.map((part) => (typeof part === "string" ? part : toText(part)));
  return escapeControls(parts.join(""));
}

function textValue(value: unknown, withStack: boolean): string {
  const text = value instanceof Error && withStack ? (value.stack ?? value.message) : toText(value);
  return /^[^\s"=\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text);
}

function toText(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.message;
  if (typeof value === "bigint") return value.toString();
  return toJson(value, false);
}

function toJson(value: unknown, withStack: boolean): string {
  const text: string | undefined = JSON.stringify(value, (_name, part: unknown) => {
    if (typeof part === "bigint") return part.toString();
    if (!(part instanceof Error)) return part;
    const code = "code" in part ? { code: part.code } : {};
    return { message: part.message, ...code, ...(withStack ? { stack: part.stack } : {}) };
  });
  return text ?? String(value);
}

function escapeControls(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => JSON.stringify(control).slice(1, -1));
}
