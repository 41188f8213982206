import { usageError } from "../../base/errors.ts";

/** What `replica keys` takes where it compares, and nothing else of what chooses or shows keys. */
const NOT_HERE = ["offset", "generation", "prefix-depth", "separators", "top"];

/** The two times, as they were given. */
export interface ComparedTimes {
  readonly at: string;
  readonly compareTo: string;
}

/**
 * The times that the options compare; undefined where nothing is to be compared.
 * @throws ReplicaError USAGE for what doesn't go together.
 */
export function comparedTimes(options: ReadonlyMap<string, string>): ComparedTimes | undefined {
  const compareTo = options.get("compare-to");
  if (compareTo === undefined) {
    if (!options.has("server")) return undefined;
    throw usageError(
      "--server is for --compare-to: what a snapshot holds is told without a server",
    );
  }
  const at = options.get("at");
  if (at === undefined) {
    throw usageError(
      "--compare-to compares with the time of --at: add --at TIME, such as --at now-1h --compare-to now",
    );
  }
  if (options.has("json") && options.has("csv")) throw usageError("give --json or --csv, not both");
  const other = NOT_HERE.find((name) => options.has(name));
  if (other === undefined) return { at, compareTo };
  throw usageError(`--${other} doesn't go with --compare-to, which lists keys between two times`);
}
