import { ReplicaError } from "../../base/errors.ts";

/** Something in a data directory that is not as it was written. */
export interface Damage {
  readonly file: string;
  /** The byte of the file where it is, or the first of the range that it is in; undefined: unknown. */
  readonly byte: number | undefined;
  readonly what: string;
  /** What it means for a restore. */
  readonly meaning: string;
}

/** One line: the file, the byte, what is wrong there, and what that means. */
export function describeDamage({ file, byte, what, meaning }: Damage): string {
  return `${file}${byte === undefined ? "" : `, byte ${byte}`}: ${what}; ${meaning}`;
}

/** DIRECTORY_DAMAGED, with the damage as its message. */
export function damageError(damage: Damage): ReplicaError {
  return new ReplicaError("DIRECTORY_DAMAGED", { retry: "never", message: describeDamage(damage) });
}
