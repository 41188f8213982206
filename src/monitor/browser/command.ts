import { isoText } from "./words.ts";

/** A word as a POSIX shell takes it, whatever is in it. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(text) && !text.startsWith("-")
    ? text
    : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * The command that restores a moment.
 * @param source a data directory, or an archive's URL.
 */
export function restoreCommand(source: string, atMs: number): string {
  const at = isoText(atMs);
  // A path that begins with a dash would be an option.
  const from = source.startsWith("-") ? `./${source}` : source;
  const target = `restored-${at.replace(/[-:]/g, "")}`;
  return `replica restore ${shellWord(from)} ${target} --at ${at}`;
}
