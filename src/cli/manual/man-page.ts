import { VERSION } from "../../base/version.ts";
import {
  aboutSetting,
  groupNames,
  inGroups,
  settingNames,
  variableOf,
} from "../../config/schema/about-settings.ts";
import { settingGroups } from "../../config/schema/setting.ts";
import type { SettingName } from "../../config/schema/settings-schema.ts";
import {
  type Command,
  type CommandForm,
  type Example,
  type RunCommand,
  synopsisOf,
} from "../commands/command.ts";
import { continuedLines, paragraphsOf } from "./paragraphs.ts";
import { example, item, literal, request } from "./roff.ts";
import { configFlag, defaultOf, exitCodes, flagOf, settingSources, tagline } from "./words.ts";

/** Examples stand 14 columns in, on a page of 80. */
const EXAMPLE_COLUMNS = 64;

const description = `replica attaches to a Redis or Valkey primary, or to every shard of a cluster, as an ordinary replica does. It takes the full snapshot, then follows the replication stream, durably, in a small amount of memory whatever the size of the data. What it keeps is plain Redis files, so a stock server starts from them, as of any moment in the kept history. It feeds other replicas from disk, tells the primary what is durable, and carries all of it to an object store.`;

const files: readonly (readonly [string, string])[] = [
  [
    "DIR/current",
    "the newest whole snapshot and the log after it: a Redis 7 append-only directory",
  ],
  ["DIR/generations/", "all of these, the earlier ones too"],
  ["DIR/replica.db", "what is durable, and when it came; SQLite"],
  ["DIR/replica.lock", "held by the process that owns DIR"],
];

const variables: readonly (readonly [string, string])[] = [
  ["REPLICA_...", "a setting: its name in capitals, with _ for -"],
  ["REPLICA_CONFIG", "the settings file, as with --config"],
  ["REPLICA_PASSWORD", "the primary's password, where neither the URL nor --password-file has one"],
  ["AWS_...", "credentials, region and endpoint of an s3:// archive, as every S3 tool takes them"],
  ["NO_COLOR", "where it is set and not empty, terminals get no colors"],
];

/**
 * `replica man`: prints the manual page, in roff with the macros man(7).
 * @param questions what is answered beside the commands.
 */
export function man(commands: readonly Command[], questions: readonly CommandForm[]): RunCommand {
  return async ({ stdout }) => {
    stdout.write(manPage(commands, questions));
    return 0;
  };
}

/** The manual page of the whole program, for section 1. It ends with a line end. */
export function manPage(commands: readonly Command[], questions: readonly CommandForm[]): string {
  const forms = [...commands, ...questions];
  const parts = [
    `.\\" Made by "replica man".`,
    // No hyphenation: a URL with a hyphen in it is another one. No blanks to fill lines with, either.
    ".nr HY 0",
    ".ds AD l",
    // Without a date, the same version gives the same page.
    `.TH REPLICA 1 "" ${JSON.stringify(`replica ${VERSION}`)} "User Commands"`,
    request("SH", "NAME"),
    `replica \\- ${literal(tagline)}`,
    request("SH", "SYNOPSIS"),
    ...forms.flatMap((form, index) => (index === 0 ? [synopsis(form)] : [".br", synopsis(form)])),
    request("SH", "DESCRIPTION"),
    literal(description),
    ".PP",
    literal("Without a command's name, it follows."),
    request("SH", "COMMANDS"),
    ...commands.flatMap(aboutCommand),
    ...questions.flatMap((form) => [
      request("SS", synopsisOf(form)),
      literal(`${capital(form.summary)}.`),
    ]),
    request("SH", "SETTINGS"),
    literal(settingSources),
    item(flagOf(configFlag), `${capital(configFlag.help)}.`),
    ...groupNames.flatMap((group) => [
      request("SS", settingGroups[group].title),
      literal(`${capital(settingGroups[group].about)}.`),
      ...(inGroups(settingNames).find((one) => one.group === group)?.names ?? []).map(settingItem),
    ]),
    request("SH", "EXIT STATUS"),
    ...exitCodes.map(([code, meaning]) => item(String(code), `${capital(meaning)}.`)),
    request("SH", "ENVIRONMENT"),
    ...variables.map(([name, about]) => item(name, `${capital(about)}.`)),
    request("SH", "FILES"),
    ...files.map(([name, about]) => item(name, `${capital(about)}.`)),
    request("SH", "EXAMPLES"),
    // A heading begins a paragraph by itself.
    ...groupNames.flatMap((group) => exampleOf(settingGroups[group].example)).slice(1),
    request("SH", "SEE ALSO"),
    seeAlso("redis-server", "redis-cli", "valkey-server", "age", "zstd"),
  ];
  return `${parts.join("\n")}\n`;
}

function synopsis(form: CommandForm): string {
  const [program = "", name = "", ...args] = synopsisOf(form).split(" ");
  const shown = args.map((one) => ` \\fI${literal(one)}\\fR`).join("");
  return `\\fB${literal(`${program} ${name}`)}\\fR${shown}`;
}

function aboutCommand(command: Command): string[] {
  const { options, takes } = command;
  const all = options.map(({ name, value, help }) => item(flagOf({ name, value }), capital(help)));
  const taken =
    takes.length === settingNames.length ? "all" : takes.map((name) => `--${name}`).join(", ");
  const settings = takes.length === 0 ? [] : [".PP", literal(`Settings that it takes: ${taken}.`)];
  return [
    request("SS", synopsisOf(command)),
    literal(`${capital(command.summary)}.`),
    ...prose(command.about),
    ...all,
    ...settings,
    ...command.examples.flatMap(exampleOf),
  ];
}

function exampleOf({ does, line }: Example): string[] {
  return [
    ".PP",
    literal(`${capital(does)}:`),
    example(continuedLines(line, EXAMPLE_COLUMNS).join("\n")),
  ];
}

function prose(text: string): string[] {
  return paragraphsOf(text).flatMap((one) => [
    ".PP",
    one.isVerbatim ? example(one.text) : literal(one.text),
  ]);
}

function settingItem(name: SettingName): string {
  const about = aboutSetting(name);
  const preset = defaultOf(name);
  const unset = preset === undefined ? "" : ` Default: ${preset}.`;
  return item(
    flagOf({ name, value: about.value }),
    `${capital(about.help)}.${unset} Variable: ${variableOf(name)}.`,
  );
}

function seeAlso(...pages: readonly string[]): string {
  return pages
    .map((page, index) => `.BR ${literal(page)} (1)${index < pages.length - 1 ? " ," : ""}`)
    .join("\n");
}

/** Sentences begin with a capital; names of commands and flags don't. */
function capital(text: string): string {
  return /^[a-z']+(?:[ ,]|$)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
}
