import { usageError } from "../../base/errors.ts";
import type { Wanted } from "../../store/restore/restore-point.ts";
import type { CommandOption } from "./command.ts";
import { parseTime } from "./parse-time.ts";

/** The options that name a kept moment. */
export const wantedOptions: readonly CommandOption[] = [
  {
    name: "at",
    value: "TIME",
    help: "as of then: ISO 8601, local without a zone, or unix seconds",
  },
  { name: "offset", value: "N", help: "up to this replication offset" },
  {
    name: "generation",
    value: "ID",
    help: "from this generation, not from the newest that fits",
  },
];

/** The moment that the options name. @throws ReplicaError USAGE. */
export function wantedOf(options: ReadonlyMap<string, string>): Wanted {
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
    `--at is ${JSON.stringify(text.slice(0, 100))}: it takes a time as 2026-01-31T12:00:00Z, or unix seconds`,
  );
}

/** An option's value as a number. @throws ReplicaError USAGE. */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value;
  throw usageError(`--${name} is ${JSON.stringify(text.slice(0, 100))}: it takes a whole number`);
}
