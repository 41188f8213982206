import { parseArgs } from "node:util";
import { aboutSetting, isSetting, settingNames } from "../config/schema/about-settings.ts";
import { usageError } from "../base/errors.ts";
import { didYouMean } from "../base/nearest.ts";
import { redactUrl } from "../config/primary-url.ts";
import { BETWEEN_VALUES, type Command, type CommandForm, synopsisOf } from "./commands/command.ts";
import { commands, findCommand, questions } from "./command-table.ts";

/** A parsed command line. */
export type Invocation =
  | { readonly ask: "version" }
  | { readonly ask: "help"; readonly command: Command | undefined }
  | {
      readonly ask: "run";
      readonly command: Command;
      readonly args: readonly string[];
      /** Settings as given, for `loadSettings`; may include `config`. */
      readonly flags: ReadonlyMap<string, string>;
      /** The command's own options; a switch that is off is left out. */
      readonly options: ReadonlyMap<string, string>;
    };

/** Flags that are not settings. */
const generalFlags = ["config", "help", "version"];

/** The options of all commands; a name means the same in each, though its help may tell what it means there. */
const optionsByName = new Map(
  commands.flatMap(({ options }) => options.map((option) => [option.name, option])),
);

/**
 * Parses the command line: `--flag value` and `--flag=value`, a switch alone or with `=true|false`, and
 * `--` before arguments that begin with a dash. Of a repeated flag the last one counts, but for a list. The default
 * command is `follow`.
 * @param argv the arguments, without the program's name.
 * @throws ReplicaError USAGE if anything is unknown, missing or unexpected.
 */
export function parseCommandLine(argv: readonly string[]): Invocation {
  const { flags, positionals } = readTokens(argv);
  const [first, ...rest] = positionals;
  const named = first === undefined ? undefined : findCommand(first);
  const question = questions.find(({ name }) => name === first);
  if (question !== undefined) checkArguments(question, rest);
  if (isOn(flags, "help") || first === "help") {
    const topic = question === undefined ? first : rest[0];
    const isGeneral = topic === undefined || questions.some(({ name }) => name === topic);
    return { ask: "help", command: isGeneral ? undefined : commandOf(topic) };
  }
  if (isOn(flags, "version") || first === "version") return { ask: "version" };

  const command = named ?? commandOf(first);
  const args = named === undefined ? positionals : rest;
  checkArguments(command, args);
  for (const name of ["help", "version"]) flags.delete(name);
  const options = takeOptions(command, flags);
  for (const name of flags.keys()) {
    if (isSetting(name) && !command.takes.includes(name)) {
      throw usageError(
        `${command.name} doesn't take --${name}; replica ${command.name} --help lists what it takes`,
      );
    }
  }
  return { ask: "run", command, args, flags, options };
}

/** Moves the options that are not settings out of `flags`. */
function takeOptions(command: Command, flags: Map<string, string>): Map<string, string> {
  const options = new Map<string, string>();
  for (const [name, option] of optionsByName) {
    const value = flags.get(name);
    flags.delete(name);
    const isGiven =
      option.value === "" ? isOn(new Map([[name, value ?? "false"]]), name) : value !== undefined;
    if (!isGiven) continue;
    if (!command.options.some((own) => own.name === name))
      throw usageError(`${command.name} doesn't take --${name}`);
    options.set(name, value ?? "true");
  }
  return options;
}

function isSwitch(name: string): boolean {
  if (isSetting(name)) return aboutSetting(name).kind === "switch";
  return name !== "config" && (optionsByName.get(name)?.value ?? "") === "";
}

/** What stands between the values of a flag that was given more than once; undefined where the last one counts. */
function separatorOf(name: string): string | undefined {
  if (isSetting(name)) return aboutSetting(name).kind === "list" ? "," : undefined;
  return optionsByName.get(name)?.isList === true ? BETWEEN_VALUES : undefined;
}

function readTokens(argv: readonly string[]): {
  flags: Map<string, string>;
  positionals: string[];
} {
  const known = [...settingNames, ...generalFlags, ...optionsByName.keys()];
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: {
      ...Object.fromEntries(
        known.map((name) => [name, { type: isSwitch(name) ? "boolean" : "string" }]),
      ),
      help: { type: "boolean", short: "h" },
      version: { type: "boolean", short: "V" },
    },
  });
  const flags = new Map<string, string>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    if (rawName.startsWith("--") ? !known.includes(name) : !/^-[hV]$/.test(rawName)) {
      throw usageError(`unknown flag ${rawName}${didYouMean(name, known, "--")}`);
    }
    if (isSwitch(name)) {
      flags.set(name, value ?? "true");
    } else if (value === undefined || (!inlineValue && value.startsWith("-"))) {
      throw usageError(`--${name} needs a value; write one that begins with a dash as --${name}=…`);
    } else {
      const separator = separatorOf(name);
      const before = flags.get(name);
      const isFirst = separator === undefined || before === undefined;
      flags.set(name, isFirst ? value : before + separator + value);
    }
  }
  return { flags, positionals };
}

function isOn(flags: ReadonlyMap<string, string>, name: string): boolean {
  const value = flags.get(name);
  if (value === undefined || value === "false") return false;
  if (value !== "true") throw usageError(`--${name} takes no value`);
  return true;
}

/** The command meant by a first word, or by a topic of help: `follow` for a URL, and for what should be one. */
function commandOf(word: string | undefined): Command {
  const named = word === undefined ? undefined : findCommand(word);
  if (named !== undefined) return named;
  const names = [...commands, ...questions].map(({ name }) => name);
  // "localhost" could be either; a colon, a slash or a dot means an address, a number a port.
  if (word === undefined || word === "" || /[:/@.[]|^\d+$/.test(word))
    return findCommand("follow") ?? unknown("follow", names);
  return unknown(word, names);
}

function unknown(word: string, names: readonly string[]): never {
  const close = didYouMean(word, names);
  const list = `: the commands are ${names.join(", ")}; to follow a primary, give redis://HOST`;
  throw usageError(`unknown command ${word}${close === "" ? list : close}`);
}

function checkArguments(command: CommandForm, args: readonly string[]): void {
  const form = synopsisOf(command);
  const needed = command.arguments.filter(({ isOptional }) => isOptional !== true);
  if (args.length < needed.length)
    throw usageError(`${command.name} needs more arguments: ${form}`);
  // "$URL", where no such variable is set.
  if (args.includes("")) throw usageError(`an argument of ${command.name} is empty: ${form}`);
  const extra = args[command.arguments.length];
  if (extra !== undefined) {
    throw usageError(`unexpected argument ${redactUrl(extra)}: ${form}`);
  }
}
