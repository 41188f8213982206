import { VERSION } from "../../base/version.ts";
import type { Argument, Completed } from "../commands/command.ts";
import {
  type CompletedCommand,
  DEFAULT_COMMAND,
  flagsWithValue,
  versionFlag,
} from "./completed.ts";

/** What is the same whatever there is to complete. */
const completer = `_replica() {
  local rest=$COMP_LINE piece word words n=0 i
  words=() COMPREPLY=()
  # Bash splits words at "=" and ":", too. What stands together belongs together.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    piece=\${COMP_WORDS[i]}
    if ((i == 0)) || [[ $rest == [[:space:]]* ]]; then
      words[n]=$piece
      n=$((n + 1))
    else
      words[n - 1]+=$piece
    fi
    rest=\${rest#"\${rest%%[![:space:]]*}"}
    rest=\${rest#"$piece"}
  done

  local current=\${words[n - 1]} command= count=0 only_arguments= flag= kind= flags=
  for ((i = 1; i < n - 1; i++)); do
    word=\${words[i]}
    if [[ -n $flag ]]; then
      flag=
    elif [[ -z $only_arguments && $word == -- ]]; then
      only_arguments=1
    elif [[ -z $only_arguments && $word == -* ]]; then
      _replica_value "$word"
      [[ -n $kind ]] && flag=$word
    elif [[ -z $command ]]; then
      if _replica_knows "$word"; then
        command=$word
      else
        command=${DEFAULT_COMMAND}
        count=1
      fi
    else
      count=$((count + 1))
    fi
  done

  local before= value=$current
  if [[ -n $flag ]]; then
    _replica_value "$flag"
  elif [[ -z $only_arguments && $current == --*=* ]]; then
    before=\${current%%=*}=
    value=\${current#*=}
    _replica_value "\${current%%=*}"
  elif [[ -z $only_arguments && $current == -* ]]; then
    _replica_flags "$command"
    kind=$flags
  else
    _replica_argument "$command" "$count"
  fi

  # Readline replaces only what stands after the last "=" or ":" at which it splits.
  [[ $piece == [=:] ]] && piece=
  local kept=\${current%"$piece"} options found
  value=\${value#[\\"\\']}
  value=\${value//\\\\/}
  case $kind in
    any | '') return ;;
    file | directory)
      options=-f
      [[ $kind == directory ]] && options=-d
      # Adds the slash to a folder, and quotes blanks; bash 3.2 lacks it.
      type compopt >/dev/null 2>&1 && compopt -o filenames 2>/dev/null
      ;;
  esac
  while IFS= read -r found; do
    found=$before$found
    COMPREPLY+=("\${found#"$kept"}")
  done < <(
    if [[ -n $options ]]; then
      compgen "$options" -- "$value"
    else
      compgen -W "$kind" -- "$value"
    fi
  )
}
`;

/** The completion for bash, from 3.2 on (macOS), with or without the package bash-completion. */
export function bashScript(commands: readonly CompletedCommand[]): string {
  const names = commands.map(({ name }) => name);
  return `# bash completion for replica ${VERSION}, made by "replica completion bash".

# Whether $1 is a command.
_replica_knows() {
  case $1 in
    ${names.join(" | ")}) ;;
    *) return 1 ;;
  esac
}

# What the value of the flag $1 may be: sets kind to file, directory, any, or words; empty for a switch.
_replica_value() {
  case $1 in
${valueCases(commands)}
    *) kind= ;;
  esac
}

# The flags of the command $1.
_replica_flags() {
  case $1 in
${commands.map(({ name, flags }) => `    ${name}) flags='${flags.map(dashed).join(" ")}' ;;`).join("\n")}
    *) flags='${[...defaultFlags(commands), versionFlag].map(dashed).join(" ")}' ;;
  esac
}

# What the next argument of the command $1 may be, after $2 others.
_replica_argument() {
  case $1:$2 in
    :*) kind='${names.join(" ")}' ;;
${commands.flatMap(argumentCases).join("\n")}
    *) kind=any ;;
  esac
}

${completer}
complete -F _replica replica
`;
}

const dashed = ({ name }: { readonly name: string }) => `--${name}`;

function defaultFlags(commands: readonly CompletedCommand[]) {
  return commands.find(({ name }) => name === DEFAULT_COMMAND)?.flags ?? [];
}

/** A case for each kind of value, and one for each list of words. */
function valueCases(commands: readonly CompletedCommand[]): string {
  const byKind = Map.groupBy(flagsWithValue(commands), ({ completes }) => kindOf(completes));
  return [...byKind]
    .map(([kind, flags]) => `    ${flags.map(dashed).join(" | ")}) kind='${kind}' ;;`)
    .join("\n");
}

/** Where an argument may be left out, the next one may stand in its place. */
function argumentCases({ name, arguments: all }: CompletedCommand): string[] {
  return all.flatMap((_, index) => {
    const kind = offeredAt(all, index);
    return kind === undefined ? [] : [`    ${name}:${index}) kind='${kindOf(kind)}' ;;`];
  });
}

function offeredAt(all: readonly Argument[], index: number): Completed | undefined {
  const argument = all[index];
  if (argument === undefined) return undefined;
  return (
    argument.completes ?? (argument.isOptional === true ? offeredAt(all, index + 1) : undefined)
  );
}

function kindOf(completes: Completed | undefined): string {
  if (completes === undefined) return "any";
  return typeof completes === "string" ? completes : completes.join(" ");
}
