import { usageError } from "../../base/errors.ts";
import { didYouMean } from "../../base/nearest.ts";
import type { Command, CommandForm, RunCommand } from "../commands/command.ts";
import { bashScript } from "./bash.ts";
import { type CompletedCommand, completedCommands } from "./completed.ts";
import { fishScript } from "./fish.ts";
import { type Shell, shells } from "./shells.ts";
import { zshScript } from "./zsh.ts";

const scripts: Readonly<Record<Shell, (commands: readonly CompletedCommand[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/**
 * `replica completion SHELL`: prints the script that completes replica's command line in that shell.
 * @param questions what is answered beside the commands.
 */
export function completion(
  commands: readonly Command[],
  questions: readonly CommandForm[],
): RunCommand {
  return async ({ args, stdout }) => {
    const [given = ""] = args;
    const shell = shells.find((name) => name === given);
    if (shell === undefined) {
      throw usageError(
        `there is no completion for ${JSON.stringify(given.slice(0, 100))}: replica completion takes ${shells.join(", ")}${didYouMean(given, shells)}`,
      );
    }
    stdout.write(scripts[shell](completedCommands(commands, questions)));
    return 0;
  };
}
