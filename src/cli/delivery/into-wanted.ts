import { usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { type Password, passwordInFile } from "../../config/password.ts";
import { parseSource, type Source } from "../../config/primary-source.ts";
import { intoOptions } from "./into-options.ts";

/** What the options say. */
export interface IntoWanted {
  readonly source: Source;
  readonly password: Password | undefined;
  readonly replace: boolean;
  /** The address by which the target was named once more. */
  readonly confirm: string | undefined;
  readonly isDryRun: boolean;
  readonly isJson: boolean;
}

/** The options that are about a folder of files. */
const ABOUT_FILES = ["layout", "for", "check", "digest", "serve", "addresses", "mode"];

/**
 * Reads the options about --into. Warns of a password that others can read.
 * @returns undefined without --into.
 * @throws ReplicaError USAGE where they don't go together, or the URL or the password's file can't be used.
 */
export function intoOf(
  args: readonly string[],
  options: ReadonlyMap<string, string>,
): IntoWanted | undefined {
  const url = options.get("into");
  if (url === undefined) {
    const given = intoOptions.find(({ name }) => options.has(name));
    if (given === undefined) return undefined;
    throw usageError(`--${given.name} goes with --into URL, the running server to bring keys into`);
  }
  if (!options.has("keys")) {
    throw usageError(
      "--into needs --keys PATTERN, the keys to bring back: --keys '*' means every one",
    );
  }
  if (args.length > 1) {
    throw usageError("give --into or the folder TARGET, not both");
  }
  const aboutFiles = ABOUT_FILES.find((name) => options.has(name));
  if (aboutFiles !== undefined) {
    throw usageError(
      `--${aboutFiles} is about the folder TARGET, and --into brings keys into a server`,
    );
  }
  const source = parseSource(url);
  if (source.password !== undefined) {
    logger.warn(
      "others on this machine can read the password in --into in the process list, from this process for a moment and from what started it for longer: put it into a file, for --into-password-file",
    );
  }
  const file = options.get("into-password-file");
  const flag = "--into-password-file";
  return {
    source,
    password: file === undefined ? undefined : passwordInFile(file, flag, flag),
    replace: options.has("replace"),
    confirm: options.get("confirm"),
    isDryRun: options.has("dry-run"),
    isJson: options.has("json"),
  };
}
