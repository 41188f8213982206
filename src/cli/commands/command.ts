import type { Clock } from "../../base/clock.ts";
import type { Settings } from "../../config/settings.ts";
import type { Output } from "../terminal/output.ts";
import type { PathKind } from "../../config/schema/setting.ts";
import type { SettingName } from "../../config/schema/settings-schema.ts";

/** What a command works with. */
export interface CommandContext {
  /** All settings; files of settings that the command doesn't take are not read. */
  readonly settings: Settings;
  /** The arguments after the command's name, in a number that it allows; URLs include the password. */
  readonly args: readonly string[];
  /** The command's own options by name; a switch is present if it is on, with any value. */
  readonly options: ReadonlyMap<string, string>;
  /** The environment; a command removes what no child process may inherit. */
  readonly env: Record<string, string | undefined>;
  readonly clock: Clock;
  /** Aborts on the first SIGINT, SIGTERM or SIGHUP. A second SIGINT or SIGTERM exits with 1 at once. */
  readonly signal: AbortSignal;
  /** From now on SIGHUP calls `renew` and stops nothing, unless it says that the terminal was closed. */
  readonly onHangup?: (renew: () => void) => void;
  /** Output for programs. Writing throws OutputClosed once the reader is gone; main then exits with 0. */
  readonly stdout: Output;
  /** Logs, progress and errors. */
  readonly stderr: Output;
}

/**
 * A command's body. It resolves to the exit code: 0 done, 1 failed, 3 what was checked is damaged. Errors
 * become exit codes too: USAGE 2, DIRECTORY_DAMAGED and RESTORE_UNUSABLE 3, all others 1. STOPPED is one of them: what
 * was stopped isn't done, and a script must not go on as if it were. What goes on until it is stopped resolves to 0.
 */
export type RunCommand = (context: CommandContext) => Promise<number>;

/** An option of one command that is not a setting. */
export interface CommandOption {
  readonly name: string;
  /** The value's placeholder in help; empty for a switch. */
  readonly value: string;
  readonly help: string;
  /** Whether it may be given more than once; `valuesOf` reads it. */
  readonly isList?: true;
  /** What the shell offers as its value. */
  readonly completes?: Completed;
}

/** What the shell offers: paths, or these words. */
export type Completed = PathKind | readonly string[];

/** An argument of a command. */
export interface Argument {
  /** Its placeholder in help: `URL`. */
  readonly name: string;
  readonly isOptional?: true;
  /** What the shell offers for it; undefined: nothing. */
  readonly completes?: Completed;
}

/** A command line that help shows. */
export interface Example {
  /** What it is for, without a capital and a full stop. */
  readonly does: string;
  readonly line: string;
}

/** A command and its arguments, as help shows them: `replica backup [URL] OUT`. */
export function synopsisOf({ name, arguments: all }: CommandForm): string {
  const shown = all.map((one) => (one.isOptional === true ? `[${one.name}]` : one.name));
  return ["replica", name, ...shown].join(" ");
}

/** What stands between the values of an option that may be given more than once: no argument can hold it. */
export const BETWEEN_VALUES = "\0";

/** The values of an option that may be given more than once, in their order. */
export function valuesOf(options: ReadonlyMap<string, string>, name: string): string[] {
  return options.get(name)?.split(BETWEEN_VALUES) ?? [];
}

/** What help, completion and the command line know of any first word, also of those that only ask for help. */
export interface CommandForm {
  readonly name: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  readonly arguments: readonly Argument[];
}

/** What help and the command line know about a command; its body is loaded on demand. */
export interface Command extends CommandForm {
  /** The further paragraphs of its help; lines are joined and wrapped anew, but for those that begin with two blanks. */
  readonly about: string;
  readonly examples: readonly Example[];
  /** The settings that it uses; flags of others are an error. */
  readonly takes: readonly SettingName[];
  /** Its own options; they come from the command line only. */
  readonly options: readonly CommandOption[];
  load(): Promise<RunCommand>;
}
