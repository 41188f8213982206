import { statSync } from "node:fs";
import { ReplicaError, usageError } from "../base/errors.ts";
import { limits } from "./limits.ts";
import { readSmallText } from "./read-file.ts";

/** A password that is looked up each time it is used, so that a rotated one needs no restart. */
export interface Password {
  /** Where it comes from, for errors: `--password-file` or `REPLICA_PASSWORD`. */
  readonly from: string;
  /**
   * Returns the password of this moment.
   * @throws ReplicaError AUTH_FAILED if its file can't be read, is empty, or is no text. What the file held
   * before is not used then: it may have been revoked.
   */
  read(): string;
}

/** A password that can't change while the program runs. */
export function fixedPassword(from: string, password: string): Password {
  return { from, read: () => password };
}

/**
 * A password in a file. It is read now, and anew each time it is used; a pipe or a terminal, which can be
 * read only once, keeps the password that it held at the start.
 * @param from the flag, as later errors name it.
 * @param source the flag, variable or setting that named the file, as errors at the start name it.
 * @throws ReplicaError USAGE if it can't be read now, is empty, or is no text.
 */
export function passwordInFile(file: string, from: string, source: string): Password {
  const canBeReadOnce = isPipe(file);
  const atStart = readPassword(file, source);
  if (canBeReadOnce) return fixedPassword(from, atStart);
  return {
    from,
    read: () => {
      try {
        // Opening a pipe that nobody writes to would hang.
        if (isPipe(file)) throw usageError(`${source}: ${file} has become a pipe`);
        return readPassword(file, source);
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new ReplicaError("AUTH_FAILED", {
          message: `the password is not known now: ${why}`,
          cause,
        });
      }
    },
  };
}

function readPassword(file: string, source: string): string {
  const password = readSmallText(file, limits.passwordFileBytes, source).replace(/\r?\n$/, "");
  if (password === "") throw usageError(`${source}: ${file} is empty; write the password into it`);
  return password;
}

/** Whether reading it takes what it holds. False where it can't be looked at: reading it says why. */
function isPipe(file: string): boolean {
  try {
    const about = statSync(file);
    return about.isFIFO() || about.isSocket() || about.isCharacterDevice();
  } catch {
    return false;
  }
}
