import { join } from "node:path";
import type { Command } from "../../src/cli/commands/command.ts";
import { parseCommandLine } from "../../src/cli/flags.ts";
import { loadSettings } from "../../src/config/load-settings.ts";
import type { Settings } from "../../src/config/settings.ts";

/** The ports that everything in deploy/ agrees on: those that the image exposes. */
export const { ownPort, httpPort } = await exposedPorts();

async function exposedPorts() {
  const dockerfile = await Bun.file(join(import.meta.dir, "../../deploy/Dockerfile")).text();
  const [, own, http] = /^EXPOSE (\d+) (\d+)$/m.exec(dockerfile) ?? [];
  return { ownPort: Number(own), httpPort: Number(http) };
}

/**
 * Reads a command line of the program as the program itself does.
 * @param args the words after the program's name.
 * @param env the variables that it gets.
 * @throws ReplicaError USAGE for what it would refuse.
 */
export function programCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): { readonly command: Command; readonly args: readonly string[]; readonly settings: Settings } {
  const invocation = parseCommandLine(args);
  if (invocation.ask !== "run") throw new Error(`${args.join(" ")} asks for ${invocation.ask}`);
  const { command, flags } = invocation;
  const settings = loadSettings({ flags, env, takes: command.takes });
  return { command, args: invocation.args, settings };
}
