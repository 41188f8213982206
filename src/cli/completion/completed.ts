import { aboutSetting, wordsOf } from "../../config/schema/about-settings.ts";
import type { SettingName } from "../../config/schema/settings-schema.ts";
import type { Command, CommandForm, Completed } from "../commands/command.ts";

/** A flag, as a shell completes it. */
export interface CompletedFlag {
  readonly name: string;
  /** The value's placeholder; empty for a switch. */
  readonly value: string;
  /** A few words about it. */
  readonly brief: string;
  /** Whether it may be given more than once. */
  readonly isList: boolean;
  /** What the shell offers as its value; undefined: nothing. */
  readonly completes: Completed | undefined;
}

/** A command, as a shell completes it. */
export interface CompletedCommand extends CommandForm {
  readonly flags: readonly CompletedFlag[];
}

/** The command that is meant where none is named. */
export const DEFAULT_COMMAND = "follow";

/** For every command. */
const helpFlag = switchFlag("help", "show help");
const configFlag: CompletedFlag = {
  name: "config",
  value: "FILE",
  brief: "a settings file (TOML)",
  isList: false,
  completes: "file",
};

/** Where no command is named. */
export const versionFlag: CompletedFlag = switchFlag("version", "show the version");

/** What the shells complete, from the table of commands and the schema of settings; `questions` have no flags. */
export function completedCommands(
  commands: readonly Command[],
  questions: readonly CommandForm[],
): CompletedCommand[] {
  return [
    ...commands.map((command) => ({ ...command, flags: flagsOf(command) })),
    ...questions.map((question) => ({ ...question, flags: [] })),
  ];
}

/** Every flag of these commands that takes a value, once, by its name. */
export function flagsWithValue(commands: readonly CompletedCommand[]): CompletedFlag[] {
  const flags = commands.flatMap((command) => command.flags).filter(({ value }) => value !== "");
  return [...new Map(flags.map((flag) => [flag.name, flag])).values()];
}

function flagsOf({ options, takes }: Command): CompletedFlag[] {
  const own = options.map(({ name, value, help, isList = false, completes }) => {
    return { name, value, brief: briefly(help), isList, completes };
  });
  return [...own, ...takes.map(settingFlag), configFlag, helpFlag];
}

function settingFlag(name: SettingName): CompletedFlag {
  const { value, help, kind, completes } = aboutSetting(name);
  const words = wordsOf(name);
  return {
    name,
    value,
    brief: briefly(help),
    isList: kind === "list",
    completes: completes ?? (words.length === 0 ? undefined : words),
  };
}

function switchFlag(name: string, brief: string): CompletedFlag {
  return { name, value: "", brief, isList: false, completes: undefined };
}

/** What comes before details begin is short, but says something from here on: "with --into" doesn't. */
const BRIEF_CHARACTERS = 18;

/** Shells show a line: what stands before the first details. */
function briefly(help: string): string {
  const length = help.slice(BRIEF_CHARACTERS).search(/[;:] | \(| \[/);
  return length === -1 ? help : help.slice(0, BRIEF_CHARACTERS + length);
}
