/**
 * The verbs that bound a transaction, select the database, may carry a relative expiry, set, lift or depend on the
 * expiry of a hash field, or that not every server loads.
 */
const VERBS = [
  "CLUSTER",
  "EXEC",
  "EXPIRE",
  "GETEX",
  "HINCRBY",
  "HPERSIST",
  "HPEXPIREAT",
  "HSETEX",
  "MULTI",
  "OPINFO",
  "PEXPIRE",
  "PSETEX",
  "RESTORE",
  "RESTORE-ASKING",
  "SELECT",
  "SET",
  "SETEX",
  "SORT",
  "TRIMSLOTS",
] as const;
export type Verb = (typeof VERBS)[number];

export const LONGEST_VERB = Math.max(...VERBS.map((verb) => verb.length));

const VERBS_BY_LENGTH = Array.from({ length: LONGEST_VERB + 1 }, (_, length) =>
  VERBS.filter((verb) => verb.length === length).map((verb) => ({
    verb,
    upper: Buffer.from(verb),
    lower: Buffer.from(verb.toLowerCase()),
  })),
);

/** The verb that `length` bytes from `at` on spell, in upper or lower case; undefined for any other word. */
export function findVerb(bytes: Uint8Array, at: number, length: number): Verb | undefined {
  const candidates = VERBS_BY_LENGTH[length];
  if (candidates === undefined) return undefined;
  for (let index = 0; index < candidates.length; index++) {
    const { verb, upper, lower } = candidates[index]!;
    let same = 0;
    while (
      same < length &&
      (bytes[at + same] === upper[same] || bytes[at + same] === lower[same])
    ) {
      same++;
    }
    if (same === length) return verb;
  }
  return undefined;
}
