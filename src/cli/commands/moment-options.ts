import { usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import type { Wanted } from "../../store/restore/restore-point.ts";
import { shownTwice } from "../times/local-time.ts";
import { parseTime, TIME_FORMS } from "../times/parse-time.ts";
import type { CommandContext, CommandOption } from "./command.ts";

/** The options that choose a kept moment. */
export const momentOptions: readonly CommandOption[] = [
  { name: "at", value: "TIME", help: `as of this time: ${TIME_FORMS}` },
  { name: "offset", value: "N", help: "as of this replication offset" },
  {
    name: "generation",
    value: "ID",
    help: "from this generation instead of the newest that fits",
  },
];

/**
 * The moment that the options choose. Tells on standard error how a time was understood.
 * @param dir the data directory, which is read only to say what it keeps where a time is refused.
 * @throws ReplicaError USAGE.
 */
export async function momentOf(context: CommandContext, dir: string): Promise<Wanted> {
  const generation = wholeNumber("generation", context.options.get("generation"));
  const point = await pointOf(context, async () => await keptIn(dir, generation));
  return { ...point, generation };
}

/**
 * The same without the generation, which archives name in another way.
 * @param kept says which times there are, as a clause of its own; called where a time is refused.
 * @throws ReplicaError USAGE.
 */
export async function pointOf(
  context: CommandContext,
  kept: () => Promise<string>,
): Promise<Omit<Wanted, "generation">> {
  const { options } = context;
  const at = options.get("at");
  if (at !== undefined && options.has("offset")) {
    throw usageError("give --at or --offset, not both");
  }
  const offset = wholeNumber("offset", options.get("offset"));
  const atMs = at === undefined ? undefined : await timeOf("at", at, kept, context);
  return { atMs, offset };
}

/** The time that an option gives, in milliseconds since 1970. Tells how it was understood. @throws ReplicaError USAGE. */
export async function timeOf(
  option: string,
  text: string,
  kept: () => Promise<string>,
  context: Pick<CommandContext, "clock" | "settings" | "stderr">,
): Promise<number> {
  const parsed = parseTime(text, context.clock.now());
  if ("atMs" in parsed) {
    tell(`--${option} ${text} is ${shownTwice(parsed.atMs)}`, context);
    return parsed.atMs;
  }
  const why = [parsed.refused, `it takes ${TIME_FORMS}`, await kept()];
  throw usageError(
    `--${option} is ${JSON.stringify(text.slice(0, 100))}: ${why.filter((clause) => clause !== "").join("; ")}`,
  );
}

/** Writes one line for people; as a log line where a program reads the log, so that every line of it is JSON. */
export function tell(
  line: string,
  { settings, stderr }: Pick<CommandContext, "settings" | "stderr">,
): void {
  if (settings.logFormat === "json") logger.info(line);
  else stderr.write(`${line}\n`);
}

/** Says which times a source keeps; empty where it can't be read, or keeps none. */
export async function keptIn(dir: string, generation: number | undefined): Promise<string> {
  // A start needs neither of them, and has to be quick.
  const [{ Catalogue }, { keptTimes }] = await Promise.all([
    import("../../store/restore/catalogue.ts"),
    import("../../store/restore/restore-point.ts"),
  ]);
  try {
    using catalogue = new Catalogue(dir);
    return keptTimes(catalogue, generation) ?? "";
  } catch {
    // Whatever is wrong with the source is told once the time is right.
    return "";
  }
}

/** Parses an option's value as a whole number. @throws ReplicaError USAGE. */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value;
  throw usageError(`--${name} is ${JSON.stringify(text.slice(0, 100))}: it takes a whole number`);
}
