import { usageError } from "../../base/errors.ts";

/** The keys that are restored alone. */
export const keysOption = {
  name: "keys",
  value: "PATTERN",
  help: "only the keys that this glob matches (* ? [a-z] [^a], \\ before a literal one); may be given more than once",
  isList: true,
} as const;

/** The database to look in. */
export const dbOption = {
  name: "db",
  value: "N",
  help: "with --keys: only those of this database [all]",
};

/** A pattern is tried against every key, and longer ones are mistakes. */
const MAX_PATTERN_BYTES = 64 * 1024;

/** Refuses patterns that are too long. @throws ReplicaError USAGE. */
export function refuseLong(patterns: readonly string[], option: string = keysOption.name): void {
  for (const pattern of patterns) {
    const bytes = Buffer.byteLength(pattern);
    if (bytes <= MAX_PATTERN_BYTES) continue;
    throw usageError(
      `a pattern of --${option} has ${bytes} bytes: it takes up to ${MAX_PATTERN_BYTES}`,
    );
  }
}
