import type { Settings } from "../../config/settings.ts";
import type { Output } from "../terminal/output.ts";
import type { SettingName } from "../../config/settings-schema.ts";

/** What a command is given. */
export interface CommandContext {
  /** All settings; the files of those that the command doesn't take are not read. */
  readonly settings: Settings;
  /** The arguments after the command's name, as many as it allows; a URL still has its password. */
  readonly args: readonly string[];
  /** The command's own options as given, by name; a switch that is on has some value. */
  readonly options: ReadonlyMap<string, string>;
  /** The variables; a command takes out what no child of this process is to have. */
  readonly env: Record<string, string | undefined>;
  /** Aborts at the first SIGINT, SIGTERM or SIGHUP; a second one, no SIGHUP, ends the process with 1 at once. */
  readonly signal: AbortSignal;
  /** What a program reads. Its write throws OutputClosed when the reader has gone; main then ends with 0. */
  readonly stdout: Output;
  /** Logs, progress and errors. */
  readonly stderr: Output;
}

/**
 * A command's body. It resolves to the exit code: 0 done, 1 failed, 3 what was checked is damaged.
 * It may throw instead: ReplicaError USAGE ends in 2, DIRECTORY_DAMAGED in 3, STOPPED once the signal
 * has aborted in 0, everything else in 1.
 */
export type RunCommand = (context: CommandContext) => Promise<number>;

/** An option that is no setting. */
export interface CommandOption {
  readonly name: string;
  /** The value's placeholder in help; empty for a switch. */
  readonly value: string;
  readonly help: string;
}

/** A command as help and the command line know it; its body is loaded when it is asked for. */
export interface Command {
  readonly name: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  /** The arguments as help shows them: `[URL] OUT`. */
  readonly usage: string;
  /** Further paragraphs of its own help. */
  readonly about: string;
  /** How many arguments it needs, and how many it can take. */
  readonly minArgs: number;
  readonly maxArgs: number;
  /** The settings that mean something to it; the flag of another is an error. */
  readonly takes: readonly SettingName[];
  /** What it takes beside settings: of this command alone, and from the command line alone. */
  readonly options: readonly CommandOption[];
  load(): Promise<RunCommand>;
}
