import { loadSettings } from "../config/load-settings.ts";
import type { CommandContext } from "./commands/command.ts";
import { parseCommandLine } from "./flags.ts";
import { commandHelp, generalHelp, version } from "./help.ts";
import { configureLogging } from "./terminal/logging.ts";

/** What a command line runs with. */
export interface Surroundings extends Pick<CommandContext, "env" | "signal" | "stdout" | "stderr"> {
  /** Called once the settings are known, before the command runs, with whether to print stacks. */
  readonly onDebug: (debug: boolean) => void;
}

/**
 * Runs a command line: prints help or the version, or runs a command with its settings and logging.
 * @param argv the arguments, without the program's name.
 * @returns the exit code.
 * @throws ReplicaError USAGE for a wrong command line or setting; also what the command throws.
 */
export async function runCommandLine(
  argv: readonly string[],
  surroundings: Surroundings,
): Promise<number> {
  const { env, signal, stdout, stderr, onDebug } = surroundings;
  const invocation = parseCommandLine(argv);
  switch (invocation.ask) {
    case "version":
      stdout.write(`${version}\n`);
      return 0;
    case "help":
      stdout.write(
        invocation.command === undefined ? generalHelp() : commandHelp(invocation.command),
      );
      return 0;
    case "run": {
      const { command, args, flags, options } = invocation;
      const settings = loadSettings({ flags, env, takes: command.takes });
      onDebug(settings.logLevel === "debug");
      configureLogging({ level: settings.logLevel, format: settings.logFormat, output: stderr });
      const run = await command.load();
      return await run({ settings, args, options, env, signal, stdout, stderr });
    }
  }
}
