import { usageError } from "../../base/errors.ts";
import type { Wanted } from "../../store/restore/restore-point.ts";
import type { CommandOption } from "./command.ts";
import { parseTime } from "./parse-time.ts";

/** The options that choose a kept moment. */
export const momentOptions: readonly CommandOption[] = [
  {
    name: "at",
    value: "TIME",
    help: "as of this time: ISO 8601 (local time unless it has a zone) or unix seconds",
  },
  { name: "offset", value: "N", help: "as of this replication offset" },
  {
    name: "generation",
    value: "ID",
    help: "from this generation instead of the newest that fits",
  },
];

/** The moment that the options choose. @throws ReplicaError USAGE. */
export function momentOf(options: ReadonlyMap<string, string>): Wanted {
  const [at, offset, generation] = ["at", "offset", "generation"].map((name) => options.get(name));
  if (at !== undefined && offset !== undefined) throw usageError("give --at or --offset, not both");
  return {
    atMs: at === undefined ? undefined : timeOf(at),
    offset: wholeNumber("offset", offset),
    generation: wholeNumber("generation", generation),
  };
}

function timeOf(text: string): number {
  const atMs = parseTime(text);
  if (atMs !== undefined) return atMs;
  throw usageError(
    `--at is ${JSON.stringify(text.slice(0, 100))}: it takes a time such as 2026-01-31T12:00:00Z, or unix seconds`,
  );
}

/** Parses an option's value as a whole number. @throws ReplicaError USAGE. */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value;
  throw usageError(`--${name} is ${JSON.stringify(text.slice(0, 100))}: it takes a whole number`);
}
