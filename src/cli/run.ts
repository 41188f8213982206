import { realClock } from "../base/clock.ts";
import { logger } from "../base/logger.ts";
import { loadSettings } from "../config/load-settings.ts";
import { bareUrl } from "../config/primary-url.ts";
import type { CommandContext } from "./commands/command.ts";
import { parseCommandLine } from "./flags.ts";
import { commandHelp, generalHelp } from "./help.ts";
import { withoutLinux } from "./platform.ts";
import { configureLogging } from "./terminal/logging.ts";
import { version } from "./version.ts";

/** What a command line runs with. */
export interface Surroundings extends Pick<CommandContext, "env" | "signal" | "stdout" | "stderr"> {
  /** The operating system, as Node names it. */
  readonly platform: string;
  /** Called once the settings are known, before the command runs, with whether to print stacks. */
  readonly onDebug: (debug: boolean) => void;
  readonly onHangup: NonNullable<CommandContext["onHangup"]>;
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
  const { env, signal, stdout, stderr, platform, onDebug, onHangup } = surroundings;
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
      const lack = command.takes.includes("io") ? withoutLinux(platform) : undefined;
      if (lack !== undefined) logger.warn(lack);
      if (
        command.takes.includes("password-file") &&
        args.some((one) => bareUrl(one) !== undefined)
      ) {
        logger.warn(
          "others on this machine can read the password in the URL in the process list, from this process for a moment and from what started it for longer: put it into a file, for --password-file",
        );
      }
      const run = await command.load();
      // The compiled program starts with a reluctant JIT (see `build` in package.json), because what loads it runs once.
      Bun.unsafe.setJITPolicy?.(1);
      const streams = { stdout, stderr };
      return await run({
        settings,
        args,
        options,
        env,
        clock: realClock,
        signal,
        onHangup,
        ...streams,
      });
    }
  }
}
