import {
  aboutSetting,
  inGroups,
  settingNames,
  variableOf,
} from "../config/schema/about-settings.ts";
import { settingGroups } from "../config/schema/setting.ts";
import type { SettingName } from "../config/schema/settings-schema.ts";
import { type Command, type Example, synopsisOf } from "./commands/command.ts";
import { commands, questions } from "./command-table.ts";
import { continuedLines, paragraphsOf } from "./manual/paragraphs.ts";
import {
  configFlag,
  defaultOf,
  exitCodes,
  flagOf,
  settingSources,
  tagline,
} from "./manual/words.ts";
import { version } from "./version.ts";

/** Help wraps at this width. */
const COLUMNS = 80;
/** What is longer has a line of its own, and what is said of it stands below. */
const LEFT_COLUMNS = 26;

/** What `replica --help` prints: commands, examples and settings. */
export function generalHelp(): string {
  const rows = [...commands, ...questions].map((one): Row => [synopsisOf(one), one.summary]);
  const codes = exitCodes.map(([code, meaning]) => `${code} ${meaning}`).join("; ");
  return sections(
    `${version}: ${tagline}`,
    titled("Commands:", columns(rows)),
    titled("Examples:", examples(Object.values(settingGroups).map(({ example }) => example))),
    ...settingSections(settingNames, true),
    wrapped(settingSources),
    wrapped(`Exit codes: ${codes}.`),
  );
}

/** What `replica COMMAND --help` prints. */
export function commandHelp(command: Command): string {
  const { about, options, takes } = command;
  const own = options.map((option): Row => [flagOf(option), option.help]);
  return sections(
    wrapped(`${synopsisOf(command)}: ${command.summary}`),
    ...paragraphsOf(about).map(({ isVerbatim, text }) => (isVerbatim ? text : wrapped(text))),
    titled("Examples:", examples(command.examples)),
    titled("Options:", columns([...own, [flagOf(configFlag), configFlag.help]])),
    ...settingSections(takes, false),
    wrapped(settingSources),
  );
}

/** Every setting as Markdown, a table for each group, for docs/SETTINGS.md. */
export function settingsTable(): string {
  return inGroups(settingNames)
    .map(({ group, names }) => {
      const { title, about } = settingGroups[group];
      return [
        `### ${title}`,
        "",
        `${about.charAt(0).toUpperCase()}${about.slice(1)}.`,
        "",
        tableOf(names),
      ].join("\n");
    })
    .join("\n\n");
}

function tableOf(names: readonly SettingName[]): string {
  const rows = names.map((name) => {
    const { default: preset, help } = aboutSetting(name);
    const shown = defaultOf(name) ?? "off";
    // What is no value, such as "the bound port", is no code.
    const isValue = preset !== undefined && preset === shown;
    return `| \`${flagOf({ name, value: aboutSetting(name).value })}\` | \`${variableOf(name)}\` | ${isValue ? `\`${shown}\`` : shown} | ${help.replaceAll("|", "\\|")} |`;
  });
  return ["| flag | variable | default | meaning |", "| --- | --- | --- | --- |", ...rows].join(
    "\n",
  );
}

type Row = readonly [string, string];

function sections(...parts: readonly string[]): string {
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function titled(title: string, text: string): string {
  return text === "" ? "" : `${title}\n${text}`;
}

function settingSections(names: readonly SettingName[], withAbout: boolean): string[] {
  return inGroups(names).map(({ group, names: those }) => {
    const { title, about } = settingGroups[group];
    const head = withAbout ? wrapped(`${title} settings: ${about}`) : `${title} settings:`;
    return titled(head, columns(those.map(settingRow)));
  });
}

function settingRow(name: SettingName): Row {
  const { value, help } = aboutSetting(name);
  const preset = defaultOf(name);
  return [flagOf({ name, value }), preset === undefined ? help : `${help} [${preset}]`];
}

function examples(all: readonly Example[]): string {
  return all
    .map(({ does, line }) => {
      const lines = continuedLines(line, COLUMNS - 4).map((one) => `    ${one}`);
      return [
        ...wrapped(does, COLUMNS - 2)
          .split("\n")
          .map((one) => `  ${one}`),
        ...lines,
      ].join("\n");
    })
    .join("\n");
}

function wrapped(text: string, columns = COLUMNS): string {
  return Bun.wrapAnsi(text, columns);
}

/** Rows in two columns, the right one wrapped. */
function columns(rows: readonly Row[]): string {
  const width = Math.min(LEFT_COLUMNS, Math.max(...rows.map(([left]) => left.length)));
  return rows
    .flatMap(([left, right]) => {
      const lines = wrapped(right, COLUMNS - width - 4).split("\n");
      const isLong = left.length > width;
      const shown = lines.map(
        (line, n) => `  ${(n === 0 && !isLong ? left : "").padEnd(width)}  ${line}`,
      );
      return isLong ? [`  ${left}`, ...shown] : shown;
    })
    .join("\n");
}
