import { VERSION } from "../../base/version.ts";
import type { Completed } from "../commands/command.ts";
import {
  type CompletedCommand,
  type CompletedFlag,
  DEFAULT_COMMAND,
  flagsWithValue,
} from "./completed.ts";

/** The completion for fish, from 3.0 on. */
export function fishScript(commands: readonly CompletedCommand[]): string {
  const withValue = flagsWithValue(commands).map(({ name }) => `--${name}`);
  return `# fish completion for replica ${VERSION}, made by "replica completion fish".

function __replica_command --description 'print the command of the command line, if it has one'
    set -l words (commandline -opc)
    set -e words[1]
    set -l skipped 0
    for word in $words
        if test $skipped = 1
            set skipped 0
            continue
        end
        switch $word
            case ${withValue.join(" ")}
                set skipped 1
            case '-*'
            case ${commands.map(({ name }) => name).join(" ")}
                echo $word
                return 0
            case '*'
                echo ${DEFAULT_COMMAND}
                return 0
        end
    end
    return 1
end

function __replica_lacks_command --description 'whether no command is named yet'
    not __replica_command >/dev/null
end

function __replica_in --description 'whether the command is one of these; ${DEFAULT_COMMAND} where none is named'
    set -l command (__replica_command; or echo ${DEFAULT_COMMAND})
    contains -- $command $argv
end

complete -c replica -f
${commands.map(({ name, summary }) => `complete -c replica -n __replica_lacks_command -a ${name} -d ${quoted(summary)}`).join("\n")}
complete -c replica -n __replica_lacks_command -s V -l version -d 'show the version'
complete -c replica -s h -l help -d 'show help'
${commands.flatMap(argumentLines).join("\n")}
${flagLines(commands).join("\n")}
`;
}

function argumentLines({ name, arguments: all }: CompletedCommand): string[] {
  const offered = all.flatMap(({ completes }) => (completes === undefined ? [] : [completes]));
  const lines = offered.map(
    (completes) =>
      `complete -c replica -n '__replica_in ${name}; and not __replica_lacks_command' ${offer(completes)}`,
  );
  return [...new Set(lines)];
}

/** A line for each flag and what it is about, with all commands that take it so. */
function flagLines(commands: readonly CompletedCommand[]): string[] {
  const all = commands.flatMap((command) => command.flags.map((flag) => ({ flag, command })));
  const own = all.filter(({ flag }) => flag.name !== "help");
  const alike = Map.groupBy(own, ({ flag }) => `${flag.name}\n${flag.brief}`);
  return [...alike.values()].map((those) => {
    const takers = those.map(({ command }) => command.name).join(" ");
    return `complete -c replica -n '__replica_in ${takers}' ${flagOf(those[0]!.flag)}`;
  });
}

function flagOf({ name, value, brief, completes }: CompletedFlag): string {
  const about = `-l ${name} -d ${quoted(brief)}`;
  if (value === "") return about;
  return completes === undefined ? `${about} -x` : `${about} -r ${offer(completes)}`;
}

function offer(completes: Completed): string {
  if (completes === "file") return "-F";
  if (completes === "directory") return "-f -a '(__fish_complete_directories)'";
  return `-f -a ${quoted(completes.join(" "))}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll(/[\\']/g, (character) => `\\${character}`)}'`;
}
