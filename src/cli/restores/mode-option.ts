import { usageError } from "../../base/errors.ts";

/** Who may read what is written. */
export const modeOption = {
  name: "mode",
  value: "MODE",
  help: "the mode of what is written, such as 640; folders can be entered by whoever may read",
} as const;

/** The mode that the options give; undefined where they give none. @throws ReplicaError USAGE. */
export function modeOf(options: ReadonlyMap<string, string>): number | undefined {
  const text = options.get("mode");
  if (text === undefined) return undefined;
  // Whoever writes it must be able to read it and to write it again.
  if (/^0?[67][0-7]{2}$/.test(text)) return Number.parseInt(text, 8);
  throw usageError(
    `--mode is ${JSON.stringify(text.slice(0, 100))}: it takes three octal digits from 600 to 777, such as 640`,
  );
}
