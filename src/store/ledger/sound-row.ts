import { ReplicaError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";

/** The last moment that a date can hold, in milliseconds since 1970 (ECMAScript, 21.4.1.1). */
const MAX_TIME_MS = 8.64e15;

/** A column that is counted bears its unit. */
const IS_NUMBER = /(?:^id|^generation|[oO]ffset|Ms|Bytes|[fF]rom|Db)$/;

/** A column for a query of `marks`: where the generation's stream begins, which no mark comes before. */
export const BASE_OFFSET =
  "(SELECT base_offset FROM generations WHERE generations.id = marks.generation) AS baseOffset";

/**
 * A row of `replica.db` as the program may use it: whoever could write the file chose what is in it. Numbers are ones
 * that a replica records, so that offsets can be reckoned with and times be shown, and text is safe to show on one line.
 * @throws ReplicaError DIRECTORY_DAMAGED for a number that can't be.
 */
export function soundRow<Row>(path: string, row: Row): Row {
  const fields = row as Record<string, unknown>;
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === "string" && !IS_NUMBER.test(name)) fields[name] = printable(value);
    else if (value !== null && !isCount(name, value)) throw impossible(path, name, value);
  }
  const { baseOffset, durableOffset } = fields;
  if (isBefore(durableOffset, baseOffset)) throw impossible(path, "durableOffset", durableOffset);
  return row;
}

function isCount(name: string, value: unknown): boolean {
  const most = name.endsWith("Ms") ? MAX_TIME_MS : Number.MAX_SAFE_INTEGER;
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
}

function isBefore(one: unknown, other: unknown): boolean {
  return typeof one === "number" && typeof other === "number" && one < other;
}

function impossible(path: string, name: string, value: unknown): ReplicaError {
  const column = name.replaceAll(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`);
  return new ReplicaError("DIRECTORY_DAMAGED", {
    retry: "never",
    message: `${path} is damaged: it holds the ${column} ${printable(String(value))}, which can't be: restore it from a copy, or move it and its -wal away and restore from the files (replica restore)`,
  });
}
