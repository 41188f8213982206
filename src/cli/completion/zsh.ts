import { VERSION } from "../../base/version.ts";
import type { Argument, Completed } from "../commands/command.ts";
import {
  type CompletedCommand,
  type CompletedFlag,
  DEFAULT_COMMAND,
  flagsWithValue,
  versionFlag,
} from "./completed.ts";

/** The completion for zsh, as a file that is named _replica and stands in a folder of $fpath. */
export function zshScript(commands: readonly CompletedCommand[]): string {
  const withValue = flagsWithValue(commands).map(({ name }) => `--${name}`);
  const described = commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`);
  return `#compdef replica
# zsh completion for replica ${VERSION}, made by "replica completion zsh".

_replica_commands() {
  local -a commands
  commands=(
${described.join("\n")}
  )
  _describe -t commands command commands
}

_replica() {
  local command= context state line
  local -i at
  typeset -A opt_args
  for ((at = 2; at < CURRENT; at++)); do
    case $words[at] in
      ${withValue.join(" | ")}) ((at++)) ;;
      -*) ;;
      ${commands.map(({ name }) => name).join(" | ")})
        command=$words[at]
        # What follows completes as if the command's name weren't there.
        words[at]=()
        ((CURRENT--))
        break
        ;;
      *)
        command=${DEFAULT_COMMAND}
        break
        ;;
    esac
  done
  case $command in
${commands.map(caseOf).join("\n")}
    *)
      _arguments \\
${specs(defaultFlags(commands), "        ")} \\
        '1: :_replica_commands'
      ;;
  esac
}

_replica "$@"
`;
}

function defaultFlags(commands: readonly CompletedCommand[]): CompletedFlag[] {
  const flags = commands.find(({ name }) => name === DEFAULT_COMMAND)?.flags ?? [];
  return [...flags, versionFlag];
}

function caseOf({ name, flags, arguments: all }: CompletedCommand): string {
  const positions = all.map((argument, index) => positionSpec(all, argument, index));
  const lines = [specs(flags, "        "), ...positions.map((one) => `        ${one}`)];
  const given = lines.filter((line) => line !== "");
  const body =
    given.length === 0 ? "      ;;" : `      _arguments \\\n${given.join(" \\\n")}\n      ;;`;
  return `    ${name})\n${body}`;
}

function specs(flags: readonly CompletedFlag[], indent: string): string {
  return flags.map((flag) => indent + flagSpec(flag)).join(" \\\n");
}

function flagSpec({ name, value, brief, isList, completes }: CompletedFlag): string {
  const text = escaped(brief, /[\\[\]]/g);
  if (name === "help") return `'(- *)'{-h,--help}${quoted(`[${text}]`)}`;
  if (value === "") return quoted(`--${name}[${text}]`);
  const repeated = isList ? "*" : "";
  return quoted(
    `${repeated}--${name}=[${text}]:${escaped(value, /[\\:]/g)}:${actionOf(completes)}`,
  );
}

/** Where an argument may be left out, the next one may stand in its place. */
function positionSpec(
  all: readonly Argument[],
  { name, isOptional, completes }: Argument,
  index: number,
) {
  const next = isOptional === true ? all[index + 1] : undefined;
  const label = escaped(next === undefined ? name : `${name} or ${next.name}`, /[\\:]/g);
  const action = actionOf(completes ?? next?.completes);
  return quoted(`${index + 1}:${label}:${action}`);
}

/** A blank completes nothing, and shows what is wanted. */
function actionOf(completes: Completed | undefined): string {
  if (completes === undefined) return " ";
  if (completes === "file") return "_files";
  if (completes === "directory") return "_files -/";
  return `(${completes.join(" ")})`;
}

function escaped(text: string, special: RegExp): string {
  return text.replaceAll(special, (character) => `\\${character}`);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
