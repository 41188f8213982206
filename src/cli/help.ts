import type { SettingName } from "../config/settings-schema.ts";
import type { Command } from "./commands/command.ts";
import { commands } from "./command-table.ts";
import { aboutSetting, settingNames, variableOf } from "../config/about-settings.ts";
import { version } from "./version.ts";

/** Help wraps at this width. */
const COLUMNS = 100;

const sources = `A setting comes from its flag, then its environment variable (REPLICA_ plus the flag's name in
capitals, such as ${variableOf("log-level")}), then the TOML file given with --config (same names), then its
default. Sizes: 8MiB (binary), 8MB (decimal), or a number of bytes. Times: 500ms, 60s, 5m, 1h, or a
number of seconds.`;

/** What `replica --help` prints: commands and settings. */
export function generalHelp(): string {
  const rows = commands.map((command): Row => [synopsis(command), command.summary]);
  return `${version}: a Redis/Valkey replica that lives on disk

${columns([
  ...rows,
  ["replica COMMAND --help", "show a command's arguments and settings"],
  ["replica --version", "show the version"],
])}

Settings:
${columns([["--config FILE", "a settings file (TOML)"], ...settingNames.map(settingRow)])}

${sources}

Exit codes: 0 done; 1 failed while running; 2 wrong command line or setting; 3 what was checked is
damaged.
`;
}

/** What `replica COMMAND --help` prints. */
export function commandHelp(command: Command): string {
  const own: Row[] = [
    ["--config FILE", "a settings file (TOML)"],
    ...command.options.map(({ name, value, help }): Row => [`--${name} ${value}`.trimEnd(), help]),
    ...command.takes.map(settingRow),
  ];
  return `${synopsis(command)}: ${command.summary}

${command.about}

Settings:
${columns(own)}

${sources}
`;
}

/** Every setting as a Markdown table, for docs/SETTINGS.md. */
export function settingsTable(): string {
  const rows = settingNames.map((name) => {
    const { value, help } = aboutSetting(name);
    const flag = `--${name}${value === "" ? "" : ` ${value}`}`;
    const { default: preset, unset } = shownDefault(name);
    const shown = preset === undefined ? (unset ?? "") : `\`${preset}\``;
    return `| \`${flag}\` | \`${variableOf(name)}\` | ${shown} | ${help.replaceAll("|", "\\|")} |`;
  });
  return ["| flag | variable | default | meaning |", "| --- | --- | --- | --- |", ...rows].join(
    "\n",
  );
}

type Row = readonly [string, string];

function synopsis(command: Command): string {
  const name = command.name === "follow" ? "[follow]" : command.name;
  return `replica ${name} ${command.usage}`.trimEnd();
}

function shownDefault(name: SettingName): { default?: string; unset?: string } {
  const about = aboutSetting(name);
  if (about.kind === "switch") return { unset: "off" };
  if (about.default === undefined) return { unset: about.unset ?? "none" };
  return { default: about.default };
}

function settingRow(name: SettingName): Row {
  const { kind, value, help } = aboutSetting(name);
  const { default: preset, unset } = shownDefault(name);
  const note = kind === "switch" ? "" : ` [${preset ?? unset ?? ""}]`;
  return [`--${name} ${value}`.trimEnd(), help + note];
}

/** Rows in two columns, the right one wrapped. */
function columns(rows: readonly Row[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows
    .flatMap(([left, right]) => {
      const lines = Bun.wrapAnsi(right, COLUMNS - width - 4).split("\n");
      return lines.map((line, n) => `  ${(n === 0 ? left : "").padEnd(width)}  ${line}`);
    })
    .join("\n");
}
